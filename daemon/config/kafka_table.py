"""The rows of the table of settings that concern Kafka: the connection, the login and the consumer group."""

# ruff: noqa: RUF009 - the column helpers return dataclasses.field(), as attrs' and pydantic's do
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from daemon.config.column import choice, duration, file, size, text


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """The connection to Kafka and the consumer group."""

    bootstrap_servers: str = text("", "Bootstrap brokers: `host:port`, separated by commas.", required=True)
    security_protocol: str = choice(
        "PLAINTEXT",
        ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"),
        "Protocol of the connections to the brokers.",
    )
    sasl_mechanism: str | None = choice(
        None,
        ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "AWS_MSK_IAM"),
        "With a `SASL_…` protocol: how to log in. `OAUTHBEARER` uses the client credentials flow of OpenID Connect "
        "(KIP-768), `AWS_MSK_IAM` the AWS role of the process.",
    )
    sasl_username: str | None = text(None, "With `PLAIN` and `SCRAM-…`: the user name.")
    sasl_password_file: Path | None = file(
        "With `PLAIN` and `SCRAM-…`: file that contains the password.", secret=True
    )
    sasl_oauth_token_url: str | None = text(
        None,
        "With `OAUTHBEARER`: the token endpoint of the identity provider. Proxy variables of the environment are ignored.",
    )
    sasl_oauth_client_id: str | None = text(None, "With `OAUTHBEARER`: the client id.")
    sasl_oauth_client_secret_file: Path | None = file(
        "With `OAUTHBEARER`: file that contains the client secret.", secret=True
    )
    sasl_oauth_scope: str | None = text(
        None,
        "With `OAUTHBEARER`: the scopes to ask for, separated by spaces, if the identity provider needs them.",
    )
    sasl_oauth_extensions: str | None = text(
        None,
        "With `OAUTHBEARER`: SASL extensions as `name=value`, separated by commas, if the brokers need them. For Confluent "
        "Cloud: `logicalCluster=lkc-…,identityPoolId=pool-…`.",
    )
    sasl_oauth_ca_file: Path | None = file(
        "With `OAUTHBEARER`: PEM file of the certificate authorities to trust for the token endpoint instead of those of "
        "the system."
    )
    sasl_aws_region: str | None = text(None, "With `AWS_MSK_IAM`: the AWS region of the cluster.")
    tls_ca_file: Path | None = file(
        "With `SSL` or `SASL_SSL`: PEM file of the certificate authorities to trust instead of those of the system."
    )
    tls_certificate_file: Path | None = file("PEM file of the client certificate chain, for mutual TLS.")
    tls_key_file: Path | None = file("PEM file of the client's private key, for mutual TLS.")
    group_id: str = text("course-sync-daemon", "The consumer group that all replicas join.")
    group_instance_id: str | None = text(
        None,
        "Name of this replica that stays the same across restarts (static membership). A replica that restarts within "
        "`kafka.session_timeout` gets its partitions back without a rebalance. Each replica needs its own name.",
    )
    session_timeout: float = duration(
        "45s",
        "6s",
        "30m",
        "A replica that sends no heartbeat for this long loses its partitions to the other replicas.",
    )
    record_batch_bytes_max: int = size(
        "32MiB",
        "4MiB",
        "1GiB",
        "Maximum decompressed size of a record batch (the records that a producer sent together). A larger batch "
        "blocks its partition. The default is 32 times the default limit of brokers, 1 MiB compressed. A process "
        "needs three times this much memory, however many partitions it holds.",
    )
