"""Turns the settings into the connections to Kafka and to the API. Passwords are read here."""

from __future__ import annotations

from pathlib import Path

from daemon import config
from daemon.config.secret_file import SecretError, read_secret
from daemon.kombo.api_key import ApiKeyFile
from daemon.kombo.client import KomboClient, KomboSetupError, Observe
from daemon.log.errors import LogError
from daemon.log.kafka.clients import KafkaConnection
from daemon.log.kafka.logins import OAuthClient


def kafka_connection(settings: config.KafkaSettings) -> KafkaConnection:
    """How to reach the cluster.

    Raises:
        LogError: the file of a secret cannot be used.
    """
    return KafkaConnection(
        bootstrap_servers=tuple(server.strip() for server in settings.bootstrap_servers.split(",")),
        security_protocol=settings.security_protocol,
        sasl_mechanism=settings.sasl_mechanism,
        sasl_username=settings.sasl_username,
        sasl_password=_secret("kafka.sasl_password_file", settings.sasl_password_file),
        sasl_oauth=_oauth(settings),
        sasl_aws_region=settings.sasl_aws_region,
        tls_ca_file=_text(settings.tls_ca_file),
        tls_certificate_file=_text(settings.tls_certificate_file),
        tls_key_file=_text(settings.tls_key_file),
        record_batch_bytes_max=settings.record_batch_bytes_max,
    )


def kombo_client(
    settings: config.Settings, api_key: ApiKeyFile, *, in_flight_max: int, observe: Observe | None = None
) -> KomboClient:
    """The client of the API.

    Raises:
        KomboSetupError: the password file of the proxy or the file of the certificate authorities cannot be used.
    """
    kombo = settings.kombo
    return KomboClient(
        kombo.base_url,
        api_key,
        settings.http.deadline,
        in_flight_max,
        proxy=kombo.proxy,
        proxy_password=_proxy_password(kombo.proxy_password_file),
        ca_file=kombo.ca_file,
        observe=observe,
    )


def _oauth(settings: config.KafkaSettings) -> OAuthClient | None:
    secret = _secret("kafka.sasl_oauth_client_secret_file", settings.sasl_oauth_client_secret_file)
    if secret is None:
        return None
    extensions = (settings.sasl_oauth_extensions or "").split(",")
    return OAuthClient(
        token_url=settings.sasl_oauth_token_url or "",
        client_id=settings.sasl_oauth_client_id or "",
        client_secret=secret,
        scope=settings.sasl_oauth_scope,
        extensions=tuple(_pair(extension) for extension in extensions if extension.strip()),
        ca_file=_text(settings.sasl_oauth_ca_file),
    )


def _pair(extension: str) -> tuple[str, str]:
    name, _, value = extension.strip().partition("=")
    return name, value


def _secret(setting: str, file: Path | None) -> str | None:
    try:
        return None if file is None else read_secret(file)
    except SecretError as error:
        raise LogError(f"{setting}: {error}") from None


def _proxy_password(file: Path | None) -> str | None:
    try:
        return None if file is None else read_secret(file)
    except SecretError as error:
        raise KomboSetupError(f"kombo.proxy_password_file: {error}") from None


def _text(file: Path | None) -> str | None:
    return None if file is None else str(file)
