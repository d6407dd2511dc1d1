"""Relations between settings, beyond the bounds of each single setting.

Each rule describes itself for the reference page, and yields one sentence for each way in which it is broken.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass, fields
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from daemon.config.column import ValueKind
from daemon.config.table import Settings, all_settings
from daemon.config.units import format_duration

_HOST_AND_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(\d{1,5})", re.ASCII)
_HOST_NAME = re.compile(r"[A-Za-z0-9._-]{1,253}", re.ASCII)
_TOPIC_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}", re.ASCII)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_KINDS = {setting.name: setting.column.kind for setting in all_settings()}


@dataclass(frozen=True, slots=True)
class Order:
    """Two settings of which one must be less than the other, or at most as large."""

    smaller: str
    larger: str
    strict: bool
    """They may not be equal either."""
    reason: str


@dataclass(frozen=True, slots=True)
class Rule:
    description: str
    """What must hold, in Markdown, for the reference page."""
    broken: Callable[[Settings], Iterator[str]]
    """Sentences, each starting with the name of the setting to change; none if the rule holds."""
    order: Order | None = None
    """The rule as data, if it is an order: the Helm chart checks these as well."""


def broken_rules(settings: Settings) -> Iterator[str]:
    """Sentences, each starting with the name of the setting to change."""
    for rule in RULES:
        yield from rule.broken(settings)


def _less(smaller: str, larger: str, reason: str) -> Rule:
    return _ordered(Order(smaller, larger, strict=True, reason=reason))


def _at_most(smaller: str, larger: str, reason: str) -> Rule:
    return _ordered(Order(smaller, larger, strict=False, reason=reason))


def _ordered(order: Order) -> Rule:
    smaller, larger, reason = order.smaller, order.larger, order.reason
    sign, relation = ("<", "less than") if order.strict else ("≤", "at most")

    def broken(settings: Settings) -> Iterator[str]:
        low, high = _value(settings, smaller), _value(settings, larger)
        if low > high or (low == high and order.strict):
            yield (
                f"{smaller}: {_spelled(smaller, low)} must be {relation} {larger}, "
                f"which is {_spelled(larger, high)}: {reason}"
            )

    return Rule(f"`{smaller}` {sign} `{larger}`: {reason}", broken, order)


def _value(settings: Settings, name: str) -> Any:
    group, attribute = name.split(".")
    return getattr(getattr(settings, group), attribute)


def _spelled(name: str, value: Any) -> str:
    return format_duration(value) if _KINDS[name] is ValueKind.DURATION else str(value)


def _poll_share(settings: Settings) -> Iterator[str]:
    reserved = int(settings.http.in_flight_max * settings.http.poll_share)
    if not 1 <= reserved < settings.http.in_flight_max:
        yield (
            f"http.poll_share: {settings.http.poll_share:g} of http.in_flight_max ({settings.http.in_flight_max}) "
            f"reserves {reserved} calls for polls; polls and submissions need at least one call each"
        )


def brokers_mistakes(bootstrap_servers: str) -> Iterator[str]:
    """One sentence for each entry that is not valid. Entries are not quoted: they may contain a password."""
    for number, server in enumerate(bootstrap_servers.split(","), start=1):
        match = _HOST_AND_PORT.fullmatch(server.strip())
        if match is None or not 1 <= int(match[2]) <= 65535:
            yield f"entry {number} is not host:port"


def _brokers(settings: Settings) -> Iterator[str]:
    if settings.kafka.bootstrap_servers:
        for mistake in brokers_mistakes(settings.kafka.bootstrap_servers):
            yield f"kafka.bootstrap_servers: {mistake}"


def _host_names(settings: Settings) -> Iterator[str]:
    names = settings.admin.host_names
    for number, name in enumerate(names.split(",") if names else (), start=1):
        if not _HOST_NAME.fullmatch(name.strip()):
            yield f"admin.host_names: entry {number} is not the name of a host (without scheme, port and path)"


_PASSWORD = ("sasl_username", "sasl_password_file")
LOGIN_NEEDS: dict[str, tuple[str, ...]] = {
    "PLAIN": _PASSWORD,
    "SCRAM-SHA-256": _PASSWORD,
    "SCRAM-SHA-512": _PASSWORD,
    "OAUTHBEARER": ("sasl_oauth_token_url", "sasl_oauth_client_id", "sasl_oauth_client_secret_file"),
    "AWS_MSK_IAM": ("sasl_aws_region",),
}
"""The settings that each mechanism requires, in the group `kafka`. The Helm chart checks these as well."""
LOGIN_MAY_HAVE = {"OAUTHBEARER": ("sasl_oauth_scope", "sasl_oauth_extensions", "sasl_oauth_ca_file")}
"""The optional ones."""
_EXTENSION = re.compile(r"[A-Za-z]+=[\x21-\x2b\x2d-\x7e]+", re.ASCII)
"""A name has letters only (RFC 7628). A comma would begin the next one."""


def _sasl(settings: Settings) -> Iterator[str]:
    kafka = settings.kafka
    protocol, mechanism = kafka.security_protocol, kafka.sasl_mechanism
    uses_sasl = protocol.startswith("SASL_")
    if uses_sasl and mechanism is None:
        yield f"kafka.sasl_mechanism: must be set because kafka.security_protocol is {protocol}"
    needed = LOGIN_NEEDS.get(mechanism or "", ())
    used = (*needed, *LOGIN_MAY_HAVE.get(mechanism or "", ()))
    for name in [field.name for field in fields(kafka) if field.name.startswith("sasl_")]:
        value = getattr(kafka, name)
        if not uses_sasl and value is not None:
            yield (
                f"kafka.{name}: is set, but kafka.security_protocol is {protocol}, which does not log in; SASL_SSL does"
            )
        elif uses_sasl and name in needed and value is None:
            yield f"kafka.{name}: must be set because kafka.sasl_mechanism is {mechanism}"
        elif uses_sasl and mechanism and name not in ("sasl_mechanism", *used) and value is not None:
            yield f"kafka.{name}: is set, but kafka.sasl_mechanism is {mechanism}, which does not use it"
    if mechanism == "AWS_MSK_IAM" and protocol == "SASL_PLAINTEXT":
        yield "kafka.security_protocol: must be SASL_SSL because kafka.sasl_mechanism is AWS_MSK_IAM"


def _token_url(settings: Settings) -> Iterator[str]:
    given = settings.kafka.sasl_oauth_token_url
    url = _split_url(given or "")
    if given is not None and (
        url is None
        or url.username
        or not (url.scheme == "https" or (url.scheme == "http" and url.hostname in _LOOPBACK))
    ):
        yield (
            "kafka.sasl_oauth_token_url: is not a URL such as https://idp.example.com/oauth2/token (https, because the client "
            "secret is sent there; http is allowed for 127.0.0.1 only)"
        )


def _extensions(settings: Settings) -> Iterator[str]:
    for number, extension in enumerate((settings.kafka.sasl_oauth_extensions or "").split(","), start=1):
        if extension and (
            not _EXTENSION.fullmatch(extension.strip()) or extension.strip().startswith("auth=")
        ):
            yield f"kafka.sasl_oauth_extensions: entry {number} is not name=value"


def _tls(settings: Settings) -> Iterator[str]:
    kafka = settings.kafka
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


def _key_pair(settings: Settings) -> Iterator[str]:
    kafka = settings.kafka
    if (kafka.tls_certificate_file is None) != (kafka.tls_key_file is None):
        missing = "tls_key_file" if kafka.tls_key_file is None else "tls_certificate_file"
        yield f"kafka.{missing}: must be set as well: a certificate needs its private key"


def _valid_topic_names(settings: Settings) -> Iterator[str]:
    names = _topic_names(settings)
    for attribute, topic in names.items():
        if not _TOPIC_NAME.fullmatch(topic) or topic in (".", ".."):
            yield (
                f"topics.{attribute}: the value is not a valid topic name; use 1 to 249 letters, digits, "
                "dots, underscores and hyphens"
            )


def _distinct_topics(settings: Settings) -> Iterator[str]:
    names = _topic_names(settings)
    first_use: dict[str, str] = {}
    for attribute, topic in names.items():
        if topic in first_use:
            yield f"topics.{attribute}: has the same name as topics.{first_use[topic]}; all topics need different names"
        first_use.setdefault(topic, attribute)


def _topic_names(settings: Settings) -> dict[str, str]:
    return dict(zip((f.name for f in fields(settings.topics)), astuple(settings.topics), strict=True))


def _base_url(settings: Settings) -> Iterator[str]:
    url = _split_url(settings.kombo.base_url)
    if url is None or url.scheme not in ("http", "https") or "@" in url.netloc or url.query or url.fragment:
        yield (
            "kombo.base_url: the value is not a URL such as https://api.kombo.dev/v1 "
            "(without user name, password and query)"
        )
    elif url.scheme == "http" and url.hostname not in _LOOPBACK:
        yield (
            "kombo.base_url: plain http would send the API key in clear text; use https "
            "(plain http is allowed for 127.0.0.1 only)"
        )


def _proxy(settings: Settings) -> Iterator[str]:
    """The sentences never quote the URL, which may contain a password."""
    proxy = _split_url(settings.kombo.proxy or "")
    if settings.kombo.proxy is not None:
        if (
            proxy is None
            or proxy.scheme != "http"
            or proxy.port is None
            or ":" in unquote(proxy.username or "")
        ):
            yield "kombo.proxy: is not a URL such as http://proxy.example:3128 or http://user@proxy.example:3128"
        elif proxy.password is not None:
            yield (
                "kombo.proxy: contains a password; leave only the user name in the URL (http://user@host:port) and "
                "set kombo.proxy_password_file to a file that contains the password"
            )
    if settings.kombo.proxy_password_file is not None and (proxy is None or not proxy.username):
        yield (
            "kombo.proxy_password_file: is set, but kombo.proxy names no user; write it as http://user@host:port"
        )


def _split_url(text: str) -> SplitResult | None:
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        return None
    return url if url.hostname and port != 0 else None


RULES = (
    _less(
        "fence.lease",
        "kafka.session_timeout",
        "a replica must stop sending before another replica can take over its partitions",
    ),
    _less(
        "drain.timeout",
        "kafka.session_timeout",
        "a replica that drains for longer loses its partitions before it has restarted",
    ),
    _less("http.deadline", "task.timeout", "otherwise a task could reach its time-out during a single poll"),
    _at_most("poll.first_after", "poll.interval_max", "intervals grow from the first to the maximum"),
    _at_most(
        "poll.interval_max",
        "task.timeout",
        "only the answer to a poll can time a task out, so polls must be more frequent",
    ),
    _at_most("retry.backoff_min", "retry.backoff_max", "waits grow from the minimum to the maximum"),
    _at_most("park.probe_min", "park.probe_max", "waits grow from the minimum to the maximum"),
    _at_most(
        "park.probe_max",
        "wait.age_max",
        "otherwise changes of a parked integration would fail without a probe",
    ),
    Rule(
        "`http.poll_share` of `http.in_flight_max` leaves at least one call for polls and one for submissions",
        _poll_share,
    ),
    _at_most(
        "window.batches_max",
        "window.batches_max_per_partition",
        "one integration cannot have more open submissions than all integrations together",
    ),
    Rule("each entry of `kafka.bootstrap_servers` is `host:port`", _brokers),
    Rule(
        "`kafka.sasl_mechanism` is set if and only if `kafka.security_protocol` is `SASL_PLAINTEXT` or `SASL_SSL`; the other "
        "settings `kafka.sasl_…` are set as the mechanism needs them. `AWS_MSK_IAM` needs `SASL_SSL`",
        _sasl,
    ),
    Rule("`kafka.sasl_oauth_token_url` is an https URL; http is allowed for 127.0.0.1 only", _token_url),
    Rule("`kafka.sasl_oauth_extensions` has `name=value`, separated by commas", _extensions),
    Rule(
        "`kafka.tls_ca_file`, `kafka.tls_certificate_file` and `kafka.tls_key_file` are set only if "
        "`kafka.security_protocol` is `SSL` or `SASL_SSL`",
        _tls,
    ),
    Rule("`kafka.tls_certificate_file` and `kafka.tls_key_file` are set together", _key_pair),
    Rule(
        "names of topics have 1 to 249 letters, digits, dots, underscores and hyphens",
        _valid_topic_names,
    ),
    Rule("all topics have different names", _distinct_topics),
    Rule(
        "`kombo.base_url` is an https URL without user name and query; http is allowed for 127.0.0.1 only",
        _base_url,
    ),
    Rule("each entry of `admin.host_names` is the name of a host, without scheme and port", _host_names),
    Rule(
        "`kombo.proxy` is `http://host:port` or `http://user@host:port`, without a password; "
        "`kombo.proxy_password_file` is set only if it names a user",
        _proxy,
    ),
)
"""All rules, in the order in which broken ones are reported."""
