"""All Kafka clients of the daemon, with the settings that its correctness depends on.

Every value is derived from the released code of kafka-python 3.0.12. Do not change one without reading what it protects
against. Constructors block (up to ``bootstrap_timeout_ms``) and start threads, so call them in a worker thread and never
before a fork.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.errors import KafkaError, RetriableError

from daemon import config
from daemon.codec.texts import describe
from daemon.log.errors import LogError
from daemon.log.kafka.connection_errors import UnreachableError, unreachable
from daemon.log.kafka.cures.connecting import CannotConnectError, failures_of
from daemon.log.kafka.cures.consumers import cure_group_consumer, cure_reader
from daemon.log.kafka.cures.leaking_constructor import construct
from daemon.log.kafka.cures.logged_password import Secret
from daemon.log.kafka.cures.partitioner import KeyPartitioner
from daemon.log.kafka.cures.slow_checksum import checksums_are_fast
from daemon.log.kafka.logins import OAuthClient, aws_provider, oauth_provider
from daemon.log.kafka.sizes import RECORD_BYTES_MAX

DELIVERY_TIMEOUT = 10.0
"""Seconds after which a record that the broker has not acknowledged fails its transaction."""

_EVERY_CLIENT: dict[str, Any] = {
    "client_id": "coursesyncd",
    # With the default of 30 s a client may sleep that long after a broker restart of 3 s.
    "reconnect_backoff_ms": 50,
    "reconnect_backoff_max_ms": 1000,
    "bootstrap_timeout_ms": 15_000,
}

_EVERY_CONSUMER: dict[str, Any] = {
    "enable_auto_commit": False,
    "isolation_level": "read_committed",
    # 'latest', the default, silently loses records; 'earliest' silently restarts at 0; 'none' raises.
    "auto_offset_reset": "none",
    # Larger polls hold the GIL long enough to delay the asyncio loop.
    "max_poll_records": 500,
    "allow_auto_create_topics": False,
    "metrics_enabled": False,
    "request_timeout_ms": 15_000,
}

_PRODUCER: dict[str, Any] = {
    "acks": "all",
    # The wait before a transactional request is retried after "concurrent transactions", which a commit that follows another
    # one at once often gets: the broker completes the earlier one within milliseconds.
    "retry_backoff_ms": 3,
    # The default of 16 KiB halves the throughput of transactions.
    "batch_size": 262_144,
    "partitioner": KeyPartitioner(),
    "linger_ms": 0,  # the records of a transaction are sent together anyway
    "compression_type": "lz4",
    "max_request_size": RECORD_BYTES_MAX,
    "request_timeout_ms": 5_000,
    "delivery_timeout_ms": int(DELIVERY_TIMEOUT * 1000),
    "transaction_timeout_ms": 15_000,
    "max_block_ms": 15_000,
    "allow_auto_create_topics": False,
    "metrics_enabled": False,
}

_ADMIN: dict[str, Any] = {"request_timeout_ms": 15_000}


@dataclass(frozen=True, slots=True)
class KafkaConnection:
    """How to reach the cluster. Files are PEM."""

    bootstrap_servers: tuple[str, ...]
    """``host:port`` each."""
    security_protocol: str = "PLAINTEXT"
    """PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL."""
    sasl_mechanism: str | None = None
    """PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER or AWS_MSK_IAM."""
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    sasl_oauth: OAuthClient | None = None
    sasl_aws_region: str | None = None
    tls_ca_file: str | None = None
    """None: the system's certificate authorities."""
    tls_certificate_file: str | None = None
    tls_key_file: str | None = None
    record_batch_bytes_max: int = config.KafkaSettings().record_batch_bytes_max
    """Maximum size of a decompressed record batch in bytes."""


class Clients:
    """Creates clients for one cluster. They share one TLS context.

    All methods block. They raise the library's `KafkaError`, or LogError for invalid settings.
    """

    def __init__(self, connection: KafkaConnection) -> None:
        """Check that the client library is complete, and read the TLS files.

        Raises:
            LogError: the CRC32C extension is missing, or the settings of the connection are invalid.
        """
        if not checksums_are_fast():
            raise LogError(
                "the Python package crc32c is not installed or has no compiled code: without it reading from "
                "Kafka is up to 26 times slower; install kafka-python[crc32c]"
            )
        if not connection.bootstrap_servers:
            raise LogError("no Kafka bootstrap server is configured")
        self._settings = _EVERY_CLIENT | _security(connection)
        self._protocol = connection.security_protocol
        self._login = _user(connection)
        self._settings["bootstrap_servers"] = list(connection.bootstrap_servers)
        self._record_batch_bytes_max = connection.record_batch_bytes_max

    def group_consumer(self, group_id: str, instance_id: str | None, session_timeout: float) -> KafkaConsumer:
        """A member of the consumer group, static if `instance_id` is set. `session_timeout` is in seconds."""
        session_timeout_ms = int(session_timeout * 1000)
        consumer: KafkaConsumer = self._make(
            KafkaConsumer,
            group_id=group_id,
            group_instance_id=instance_id,
            session_timeout_ms=session_timeout_ms,
            # A member learns of a rebalance from its next heartbeat, so a take-over takes this much longer than the
            # session time-out. The default is 3 s.
            heartbeat_interval_ms=min(1000, session_timeout_ms // 4),
            # How long a new partition or topic stays unnoticed. The default is 5 minutes.
            metadata_max_age_ms=30_000,
            **_EVERY_CONSUMER,
        )
        cure_group_consumer(consumer, self._record_batch_bytes_max)
        return consumer

    def reader(self, *, undecided: bool = False) -> KafkaConsumer:
        """A consumer outside any group, for manually assigned partitions. With ``undecided`` it also reads the records of
        open and aborted transactions."""
        isolation = {"isolation_level": "read_uncommitted"} if undecided else {}
        consumer: KafkaConsumer = self._make(KafkaConsumer, group_id=None, **_EVERY_CONSUMER | isolation)
        cure_reader(consumer, self._record_batch_bytes_max)
        return consumer

    def producer(self, transactional_id: str) -> KafkaProducer:
        return self._make(KafkaProducer, transactional_id=transactional_id, **_PRODUCER)

    def plain_producer(self) -> KafkaProducer:
        """For single records outside transactions. Nothing is sent a second time."""
        return self._make(
            KafkaProducer,
            enable_idempotence=False,
            acks=1,
            retries=0,
            request_timeout_ms=5_000,
            metrics_enabled=False,
        )

    def admin(self) -> KafkaAdminClient:
        return self._make(KafkaAdminClient, **_ADMIN)

    def explained(self, error: KafkaError, admin: KafkaAdminClient | None) -> str:
        """Describes an error of connecting or of an admin request: the failed connections, if that is the reason."""
        if isinstance(error, UnreachableError):
            return str(error)
        if admin is not None and isinstance(error, RetriableError) and (failures := failures_of(admin)):
            return str(self._unreachable(failures))
        return f"Kafka did not answer: {describe(error)}"

    def _unreachable(self, failures: Mapping[str, BaseException]) -> UnreachableError:
        return unreachable(failures, self._protocol, self._login)

    def _make(self, kind: Callable[..., Any], **settings: Any) -> Any:
        try:
            return construct(kind, **self._settings, **settings)
        except CannotConnectError as error:
            raise self._unreachable(error.failures) from error
        except ValueError as error:  # about the settings; problems of the cluster are KafkaErrors
            raise LogError(f"a Kafka client cannot be created: {error}") from error


_SECURITY_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")


def _security(connection: KafkaConnection) -> dict[str, Any]:
    # With an unknown protocol the library would continue without encryption.
    if connection.security_protocol not in _SECURITY_PROTOCOLS:
        raise LogError(f"the security protocol must be one of {', '.join(_SECURITY_PROTOCOLS)}")
    settings: dict[str, Any] = {"security_protocol": connection.security_protocol}
    if connection.security_protocol.startswith("SASL_"):
        settings |= _login(connection)
    if connection.security_protocol.endswith("SSL"):
        settings["ssl_context"] = _tls_context(connection)
    return settings


def _login(connection: KafkaConnection) -> dict[str, Any]:
    if connection.sasl_oauth is not None:
        provider = oauth_provider(connection.sasl_oauth)
    elif connection.sasl_aws_region is not None:
        provider = aws_provider(connection.sasl_aws_region)
    else:
        return {
            "sasl_mechanism": connection.sasl_mechanism,
            "sasl_plain_username": connection.sasl_username,
            "sasl_plain_password": Secret(connection.sasl_password or ""),
        }
    return {"sasl_mechanism": "OAUTHBEARER", "sasl_oauth_token_provider": provider}


def _user(connection: KafkaConnection) -> str:
    """For messages."""
    if connection.sasl_oauth is not None:
        user: str | None = connection.sasl_oauth.client_id
    else:
        user = connection.sasl_username or connection.sasl_aws_region
    return f"{connection.sasl_mechanism} of {user}"


def _tls_context(connection: KafkaConnection) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=connection.tls_ca_file)
        if connection.tls_certificate_file is not None:
            context.load_cert_chain(connection.tls_certificate_file, connection.tls_key_file)
    except OSError as error:  # ssl.SSLError is one
        named = [connection.tls_ca_file, connection.tls_certificate_file, connection.tls_key_file]
        files = ", ".join(name for name in named if name is not None)
        raise LogError(f"the TLS files for Kafka cannot be loaded ({files}): {error}") from error
    return context
