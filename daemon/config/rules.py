"""What must hold between settings, beyond each one's own bounds. Each broken rule is one sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import astuple, fields
from urllib.parse import SplitResult, urlsplit

from daemon.config.table import Settings
from daemon.config.units import format_duration, shown

_HOST_AND_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(\d{1,5})", re.ASCII)
_TOPIC_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}", re.ASCII)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def broken_rules(settings: Settings) -> Iterator[str]:
    """Sentences, each beginning with the name of the setting to change."""
    yield from _times(settings)
    yield from _numbers(settings)
    yield from _kafka(settings)
    yield from _topics(settings)
    yield from _kombo(settings)


def _times(settings: Settings) -> Iterator[str]:
    """Pairs (smaller, larger, may they be equal, why)."""
    s = settings
    pairs = (
        ("fence.lease", s.fence.lease, "kafka.session_timeout", s.kafka.session_timeout, False,
         "a replica must stop sending before another one may take over"),
        ("drain.timeout", s.drain.timeout, "kafka.session_timeout", s.kafka.session_timeout, False,
         "a replica that drains longer loses its partitions before it is back"),
        ("http.deadline", s.http.deadline, "task.timeout", s.task.timeout, False,
         "a task would be given up before a poll of it can end"),
        ("poll.first_after", s.poll.first_after, "poll.interval_max", s.poll.interval_max, True,
         "intervals grow from the first to the largest"),
        ("poll.interval_max", s.poll.interval_max, "task.timeout", s.task.timeout, True,
         "a time-out is told by a poll's answer, so polls must come more often"),
        ("retry.backoff_min", s.retry.backoff_min, "retry.backoff_max", s.retry.backoff_max, True,
         "waits grow from the first to the largest"),
        ("park.probe_min", s.park.probe_min, "park.probe_max", s.park.probe_max, True,
         "waits grow from the first to the largest"),
        ("park.probe_max", s.park.probe_max, "wait.age_max", s.wait.age_max, True,
         "changes of a parked integration would fail without a probe"),
    )  # fmt: skip
    for small_name, small, large_name, large, may_equal, why in pairs:
        if small > large or (small == large and not may_equal):
            relation = "at most" if may_equal else "less than"
            yield (
                f"{small_name}: {format_duration(small)} must be {relation} {large_name}, "
                f"which is {format_duration(large)}: {why}"
            )


def _numbers(settings: Settings) -> Iterator[str]:
    kept = int(settings.http.in_flight_max * settings.http.poll_share)
    if not 1 <= kept < settings.http.in_flight_max:
        yield (
            f"http.poll_share: {settings.http.poll_share:g} of http.in_flight_max ({settings.http.in_flight_max}) "
            f"keeps {kept} calls for polls; at least one must be for polls and one for submissions"
        )
    window = settings.window
    if window.batches_max > window.batches_max_per_partition:
        yield (
            f"window.batches_max: {window.batches_max} must be at most window.batches_max_per_partition, which is "
            f"{window.batches_max_per_partition}: one integration can not have more than all of them together"
        )


def _kafka(settings: Settings) -> Iterator[str]:
    kafka = settings.kafka
    for server in kafka.bootstrap_servers.split(",") if kafka.bootstrap_servers else ():
        match = _HOST_AND_PORT.fullmatch(server.strip())
        if match is None or not 1 <= int(match[2]) <= 65535:
            yield f"kafka.bootstrap_servers: {shown(server)} is not host:port"
    sasl = {
        "kafka.sasl_mechanism": kafka.sasl_mechanism,
        "kafka.sasl_username": kafka.sasl_username,
        "kafka.sasl_password_file": kafka.sasl_password_file,
    }
    uses_sasl = kafka.security_protocol.startswith("SASL_")
    for name, value in sasl.items():
        if uses_sasl and value is None:
            yield f"{name}: must be set, since kafka.security_protocol is {kafka.security_protocol}"
        if not uses_sasl and value is not None:
            yield (
                f"{name}: is set, but kafka.security_protocol is {kafka.security_protocol}, which does not log in; "
                "SASL_SSL does"
            )
    tls = {
        "kafka.tls_ca_file": kafka.tls_ca_file,
        "kafka.tls_certificate_file": kafka.tls_certificate_file,
        "kafka.tls_key_file": kafka.tls_key_file,
    }
    for name, value in tls.items():
        if value is not None and not kafka.security_protocol.endswith("SSL"):
            yield (
                f"{name}: is set, but kafka.security_protocol is {kafka.security_protocol}, which does not encrypt; "
                "SSL and SASL_SSL do"
            )
    if (kafka.tls_certificate_file is None) != (kafka.tls_key_file is None):
        missing = "tls_key_file" if kafka.tls_key_file is None else "tls_certificate_file"
        yield f"kafka.{missing}: must be set too: a certificate and its key belong together"


def _topics(settings: Settings) -> Iterator[str]:
    names = dict(zip((f.name for f in fields(settings.topics)), astuple(settings.topics), strict=True))
    for attribute, topic in names.items():
        if not _TOPIC_NAME.fullmatch(topic) or topic in (".", ".."):
            yield (
                f"topics.{attribute}: {shown(topic)} is not a topic's name: 1 to 249 of letters, digits, "
                "point, underscore and hyphen"
            )
    first_use: dict[str, str] = {}
    for attribute, topic in names.items():
        if topic in first_use:
            yield f"topics.{attribute}: {shown(topic)} is the name of topics.{first_use[topic]} too"
        first_use.setdefault(topic, attribute)


def _kombo(settings: Settings) -> Iterator[str]:
    url = _split_url(settings.kombo.base_url)
    if url is None or url.scheme not in ("http", "https") or url.username or url.query or url.fragment:
        yield (
            f"kombo.base_url: {shown(settings.kombo.base_url)} is not an address such as https://api.kombo.dev/v1 "
            "(no user name, no query)"
        )
    elif url.scheme == "http" and url.hostname not in _LOOPBACK:
        yield (
            f"kombo.base_url: {shown(settings.kombo.base_url)} would send the API key in clear text; use https "
            "(plain http is for 127.0.0.1 only)"
        )
    if settings.kombo.proxy is not None:
        proxy = _split_url(settings.kombo.proxy)
        if proxy is None or proxy.scheme != "http" or proxy.port is None:
            yield "kombo.proxy: is not an address such as http://proxy.example:3128"


def _split_url(text: str) -> SplitResult | None:
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        return None
    return url if url.hostname and port != 0 else None
