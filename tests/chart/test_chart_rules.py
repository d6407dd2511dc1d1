"""Helm refuses the settings that the daemon refuses: each rule of `daemon.config` is broken here, and both must notice."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from daemon.config import ConfigError, load_configuration, load_settings
from daemon.config.column import ValueKind
from daemon.config.rules import RULES, Rule
from daemon.config.table import Setting, all_settings
from daemon.config.units import format_duration, format_size

from .rendering import AWS_MSK_IAM, MINIMAL, OAUTHBEARER, Helm, HelmError

Config = dict[str, dict[str, Any]]

SETTINGS = {setting.name: setting for setting in all_settings()}
LOGIN = {
    "security_protocol": "SASL_SSL",
    "sasl_mechanism": "PLAIN",
    "sasl_username": "u",
    "sasl_password_file": {"secret": "s"},
}
URL, TOPIC, BROKERS = "`kombo.base_url` is", "names of topics", "each entry of `kafka.bootstrap_servers`"
SASL, TOKEN_URL, EXTENSIONS = (
    "`kafka.sasl_mechanism` is",
    "`kafka.sasl_oauth_token_url`",
    "`kafka.sasl_oauth_extensions`",
)
PROXY, HOST_NAMES = "`kombo.proxy` is", "each entry of `admin.host_names`"
PROXY_PASSWORD = {"proxy_password_file": {"secret": "s"}}
LOGIN_SETTINGS = {
    name: value
    for login in (LOGIN, OAUTHBEARER, AWS_MSK_IAM)
    for name, value in {**login, "sasl_oauth_scope": "s", "sasl_oauth_ca_file": {"secret": "s"}}.items()
    if name.startswith("sasl_")
}
BROKEN: list[tuple[str, Config]] = [
    ("`http.poll_share` of", {"http": {"in_flight_max": 2, "poll_share": 0.49}}),
    ("`http.poll_share` of", {"http": {"in_flight_max": 99, "poll_share": 0.01}}),
    (BROKERS, {"kafka": {"bootstrap_servers": "kafka.example.com"}}),
    (BROKERS, {"kafka": {"bootstrap_servers": "a:9093,,b:9093"}}),
    (BROKERS, {"kafka": {"bootstrap_servers": "a:0"}}),
    (BROKERS, {"kafka": {"bootstrap_servers": "a:9093, b:65536"}}),
    (BROKERS, {"kafka": {"bootstrap_servers": "SSL://a:9093"}}),
    *(
        (SASL, {"kafka": {**login, name: None}})
        for login in (LOGIN, OAUTHBEARER, AWS_MSK_IAM)
        for name in list(login)[1:]
    ),
    *((SASL, {"kafka": {name: value}}) for name, value in LOGIN_SETTINGS.items()),
    (SASL, {"kafka": LOGIN | {"sasl_mechanism": "SCRAM-SHA-512", "sasl_username": None}}),
    (SASL, {"kafka": LOGIN | {"sasl_oauth_scope": "kafka"}}),
    (SASL, {"kafka": LOGIN | OAUTHBEARER}),
    (SASL, {"kafka": OAUTHBEARER | {"sasl_aws_region": "eu-central-1", "sasl_oauth_client_id": None}}),
    (SASL, {"kafka": AWS_MSK_IAM | {"sasl_oauth_ca_file": {"configMap": "c"}, "sasl_username": "u"}}),
    (SASL, {"kafka": AWS_MSK_IAM | {"security_protocol": "SASL_PLAINTEXT"}}),
    *(
        (TOKEN_URL, {"kafka": OAUTHBEARER | {"sasl_oauth_token_url": url}})
        for url in (
            "idp.example.com/token",
            "http://idp.example.com/token",
            "http://localhost.example.com/token",
            "ftp://idp.example.com",
            "https://user:pw@idp.example.com/token",
            "https://idp.example.com:0/token",
            "https:///token",
        )
    ),
    *(
        (EXTENSIONS, {"kafka": OAUTHBEARER | {"sasl_oauth_extensions": text}})
        for text in ("logicalCluster", "a=b,c", "a1=b", "a=b c", "a=", "auth=token", "a=b, ,c=d", "a=ü")
    ),
    *(
        ("`kafka.tls_ca_file`, ", {"kafka": {"security_protocol": "PLAINTEXT", name: {"secret": "s"}}})
        for name in ("tls_ca_file", "tls_certificate_file", "tls_key_file")
    ),
    ("`kafka.tls_certificate_file` and", {"kafka": {"tls_certificate_file": {"secret": "s"}}}),
    ("`kafka.tls_certificate_file` and", {"kafka": {"tls_key_file": {"configMap": "c"}}}),
    (TOPIC, {"topics": {"changes": "course changes"}}),
    (TOPIC, {"topics": {"journal": ".."}}),
    (TOPIC, {"topics": {"dead_letters": "x" * 250}}),
    (TOPIC, {"topics": {"results": "größe"}}),
    ("all topics", {"topics": {"journal": "course-changes"}}),
    ("all topics", {"topics": {"results": "t", "dead_letters": "t"}}),
    ("all topics", {"topics": {"control": "course-sync-courses"}}),
    (URL, {"kombo": {"base_url": "http://api.kombo.dev/v1"}}),
    (URL, {"kombo": {"base_url": "http://localhost.example.com"}}),
    (URL, {"kombo": {"base_url": "api.kombo.dev/v1"}}),
    (URL, {"kombo": {"base_url": "ftp://api.kombo.dev/v1"}}),
    (URL, {"kombo": {"base_url": "https://user:pw@api.kombo.dev/v1"}}),
    (URL, {"kombo": {"base_url": "https://api.kombo.dev/v1?a=b"}}),
    (URL, {"kombo": {"base_url": "https://api.kombo.dev/v1#a"}}),
    (URL, {"kombo": {"base_url": "https://api.kombo.dev:0/v1"}}),
    (URL, {"kombo": {"base_url": "https://api.kombo.dev:65536/v1"}}),
    *(
        (HOST_NAMES, {"admin": {"host_names": names}})
        for names in ("https://sync.example.com", "a:8080", "a.example.com,,b", "a/state", "x" * 254, "a b")
    ),
    (PROXY, {"kombo": {"proxy": "proxy.example.com:3128"}}),
    (PROXY, {"kombo": {"proxy": "https://proxy.example.com:3128"}}),
    (PROXY, {"kombo": {"proxy": "http://proxy.example.com"}}),
    (PROXY, {"kombo": {"proxy": "http://proxy.example.com:99999"}}),
    (PROXY, {"kombo": {"proxy": "http://user:pw@proxy.example.com:3128"}}),
    (PROXY, {"kombo": {"proxy": "http://:pw@proxy.example.com:3128"}}),
    (PROXY, {"kombo": {"proxy": "http://user:@proxy.example.com:3128"}}),
    (PROXY, {"kombo": {"proxy": "http://user%3Apw@proxy.example.com:3128"}}),
    (PROXY, {"kombo": {"proxy": "http://user:p@w@proxy.example.com:3128"}}),
    (PROXY, {"kombo": {"proxy": "https://user:pw@proxy.example.com:3128"}}),
    (PROXY, {"kombo": PROXY_PASSWORD}),
    (PROXY, {"kombo": PROXY_PASSWORD | {"proxy": "http://proxy.example.com:3128"}}),
    (PROXY, {"kombo": PROXY_PASSWORD | {"proxy": "http://proxy.example.com/user@"}}),
    (PROXY, {"kombo": PROXY_PASSWORD | {"proxy": "https://user@proxy.example.com:3128"}}),
]
"""How the description of a rule begins, and settings that break it."""
TAKEN: list[Config] = [
    {"kombo": {"base_url": "http://127.0.0.1:8080/v1"}},
    {"kombo": {"base_url": "http://localhost"}},
    {"kombo": {"base_url": "http://[::1]:1/v1/"}},
    {"kombo": {"base_url": "HTTPS://api.kombo.dev:65535/v1"}},
    {"kombo": {"proxy": "http://proxy.example.com:3128"}},
    {"kombo": {"proxy": "HTTP://user@[::1]:3128/"}},
    {"kombo": {"proxy": "http://user%40example.com@proxy.example.com:3128", **PROXY_PASSWORD}},
    {"kafka": {"bootstrap_servers": "a:1, b-c.d_e:65535,[::1]:9092"}},
    {"kafka": OAUTHBEARER},
    {"kafka": OAUTHBEARER | {"sasl_oauth_scope": "a b", "sasl_oauth_ca_file": {"secret": "s"}}},
    {"kafka": OAUTHBEARER | {"sasl_oauth_extensions": "logicalCluster=lkc-1, identityPoolId=pool-=:/,"}},
    {"kafka": OAUTHBEARER | {"sasl_oauth_token_url": "http://127.0.0.1:8080/token?a=b"}},
    {"kafka": OAUTHBEARER | {"sasl_oauth_token_url": "HTTPS://idp.example.com:8443"}},
    {"kafka": AWS_MSK_IAM},
    {"kafka": LOGIN | {"sasl_mechanism": "SCRAM-SHA-256"}},
    {"admin": {"host_names": "sync.example.com, b-2.example.com"}},
    {"kafka": LOGIN | {"tls_certificate_file": {"secret": "s"}, "tls_key_file": {"secret": "s"}}},
    {"kafka": {"security_protocol": "PLAINTEXT"}},
    {"topics": {"changes": "...", "journal": "x" * 249}},
    {"http": {"in_flight_max": 2, "poll_share": 0.5}},
    {"batch": {"bytes_max": "0.5MiB"}, "backlog": {"bytes_max": 1048576}},
]


def spelled(setting: Setting, value: float) -> Any:
    match setting.column.kind:
        case ValueKind.DURATION:
            return format_duration(value)
        case ValueKind.SIZE:
            return format_size(int(value))
        case ValueKind.INTEGER:
            return int(value)
        case _:
            return value


def with_values(values: dict[str, Any]) -> Config:
    """By the full names of settings."""
    config: Config = {}
    for name, value in values.items():
        group, attribute = name.split(".")
        config.setdefault(group, {})[attribute] = value
    return config


@pytest.fixture
def refused_by_the_daemon(tmp_path: Path) -> Any:
    """The names of the settings that its message names; each file that a setting takes from somewhere is there."""

    def names(config: Config) -> list[str]:
        (tmp_path / "file").write_text("content")
        lines = []
        for group, settings in config.items():
            lines.append(f"[{group}]")
            for attribute, value in settings.items():
                text = str(tmp_path / "file") if isinstance(value, dict) else value
                lines += [] if value is None else [f"{attribute} = {json.dumps(text)}"]
        (tmp_path / "coursesync.toml").write_text("\n".join(lines), encoding="utf-8")
        defaults = {
            "COURSESYNC_KAFKA_BOOTSTRAP_SERVERS": "kafka.example.com:9093",
            "COURSESYNC_KAFKA_SECURITY_PROTOCOL": "SSL",
            "COURSESYNC_KOMBO_API_KEY_FILE": str(tmp_path / "file"),
        }
        for name in defaults.keys() & {SETTINGS[f"{g}.{a}"].variable for g in config for a in config[g]}:
            del defaults[name]
        try:
            load_settings(defaults, tmp_path / "coursesync.toml")
        except ConfigError as error:
            return [re.split(r"[: ]", mistake, maxsplit=1)[0] for mistake in error.mistakes]
        return []

    return names


def refused_by_helm(helm: Helm, config: Config) -> list[str]:
    try:
        helm.render(MINIMAL, {"config": config, "terminationGracePeriodSeconds": 700})
    except HelmError as error:
        by_schema = re.findall(r"- at '/config/(\w+)/(\w+)'(?:: 'anyOf' failed|: '\w+' failed)", str(error))
        return ["/".join(found).replace("/", ".") for found in by_schema] or re.findall(
            r"^  - config\.(\w+\.\w+): ", str(error), re.MULTILINE
        )
    return []


def test_every_rule_of_the_daemon_is_broken_here() -> None:
    """A new rule must be added to templates/_rules.tpl, and to the cases above."""
    tried = {rule.description for start, _ in BROKEN for rule in RULES if rule.description.startswith(start)}
    assert {rule.description for rule in RULES if rule.order is None} == tried


@pytest.mark.parametrize(
    ("start", "config"), BROKEN, ids=lambda value: None if isinstance(value, str) else json.dumps(value)[:60]
)
def test_a_broken_rule_is_refused_for_the_setting_that_the_daemon_names(
    helm: Helm, refused_by_the_daemon: Any, start: str, config: Config
) -> None:
    (rule,) = (rule for rule in RULES if rule.description.startswith(start))
    assert rule.order is None

    names = refused_by_the_daemon(config)
    assert names
    assert refused_by_helm(helm, config) == names


@pytest.mark.parametrize(
    "rule", [rule for rule in RULES if rule.order], ids=lambda rule: f"{rule.order.smaller}"
)
def test_an_order_is_kept(helm: Helm, refused_by_the_daemon: Any, rule: Rule) -> None:
    order = rule.order
    assert order is not None
    small, large = SETTINGS[order.smaller], SETTINGS[order.larger]
    low, high = (
        max(small.column.low or 0, large.column.low or 0),
        min(small.column.high or 0, large.column.high or 0),
    )
    above = {order.smaller: spelled(small, high), order.larger: spelled(large, low)}
    equal = {order.smaller: spelled(small, high), order.larger: spelled(large, high)}

    for values, broken in ((above, True), (equal, order.strict)):
        names = refused_by_the_daemon(with_values(values))
        assert (order.smaller in names) >= broken
        assert refused_by_helm(helm, with_values(values)) == names


@pytest.mark.parametrize("end", ["low", "high"])
@pytest.mark.parametrize("kinds", [("duration", "size"), ("integer", "number")], ids=str)
def test_every_bound_is_kept(
    helm: Helm, refused_by_the_daemon: Any, end: str, kinds: tuple[str, ...]
) -> None:
    outside, inside = {}, {}
    for setting in SETTINGS.values():
        column = setting.column
        bound = column.low if end == "low" else column.high
        if column.kind.value not in kinds or bound is None:
            continue
        step = -0.001 if column.kind in (ValueKind.DURATION, ValueKind.NUMBER) else -1
        if bound or end == "high":  # nothing is less than 0s
            outside[setting.name] = spelled(setting, bound + (step if end == "low" else -step))
        inside[setting.name] = spelled(setting, bound)
    outside.pop("admin.port", None)  # the chart is stricter: it needs to know the port
    inside.pop("admin.port", None)

    names = refused_by_the_daemon(with_values(outside))
    assert set(names) >= set(outside)
    assert set(refused_by_helm(helm, with_values(outside))) == set(outside)
    # At the bounds only orders are broken, for which both name the same settings.
    assert refused_by_helm(helm, with_values(inside)) == refused_by_the_daemon(with_values(inside))


@pytest.mark.parametrize("config", TAKEN, ids=lambda config: json.dumps(config)[:60])
def test_what_the_daemon_takes_helm_takes(helm: Helm, refused_by_the_daemon: Any, config: Config) -> None:
    assert refused_by_the_daemon(config) == []
    assert refused_by_helm(helm, config) == []


@pytest.mark.parametrize(
    "config",
    [
        {"batch": {"bytes_max": "5000.5B"}},
        {"batch": {"bytes_max": "1MB"}},
        {"batch": {"linger": "5"}},
        {"batch": {"linger": "-1s"}},
        {"batch": {"linger": "1S"}},
        {"topics": {"changes": "  "}},
        {"kafka": {"sasl_username": ""}},
        {"kombo": {"ca_file": "no-such-file"}},
    ],
    ids=json.dumps,
)
def test_values_that_the_daemon_cannot_read_are_refused(
    helm: Helm, refused_by_the_daemon: Any, config: Config
) -> None:
    assert refused_by_the_daemon(config)
    assert refused_by_helm(helm, config)


@pytest.mark.parametrize("seed", range(10))
def test_both_come_to_the_same_verdict_on_settings_drawn_at_random(
    helm: Helm, refused_by_the_daemon: Any, seed: int
) -> None:
    """Values near the bounds and the defaults, half of the settings of a few groups at a time."""
    draw = random.Random(seed)
    values: dict[str, Any] = {}
    for rule in draw.sample([rule for rule in RULES if rule.order], 3):
        assert rule.order is not None
        for name in (rule.order.smaller, rule.order.larger):
            column, default = SETTINGS[name].column, SETTINGS[name].default
            near = [value for value in (default, default * 2, default / 2, column.low, column.high) if value]
            values[name] = spelled(SETTINGS[name], draw.choice(near))
    for _, config in draw.sample(BROKEN, draw.choice([0, 0, 1])):
        values |= {f"{group}.{name}": value for group in config for name, value in config[group].items()}
    config = with_values(values)

    assert refused_by_helm(helm, config) == refused_by_the_daemon(config)


def test_the_sentence_is_the_daemons_with_the_names_of_the_values(helm: Helm) -> None:
    said = helm.refusal({"config": {"kafka": {"session_timeout": "10s"}}})
    assert (
        "config.fence.lease: 15s must be less than config.kafka.session_timeout, which is 10s: "
        "a replica must stop sending before another replica can take over its partitions"
    ) in said
    assert "config.drain.timeout: 20s must be less than config.kafka.session_timeout, which is 10s" in said
    assert "config.task.timeout: 31d is out of range: it must be at least 1s and at most 30d" in helm.refusal(
        {"config": {"task": {"timeout": "31d"}}}
    )


def test_rules_are_checked_before_anything_else_can_fail(helm: Helm) -> None:
    everything = {"networkPolicy": {"enabled": True}, "autoscaling": {"enabled": True, "maxReplicas": 6}}
    for config in (
        {"kombo": {"base_url": "://"}},
        {"kafka": {"bootstrap_servers": ":"}},
        {"kombo": {"proxy": "%"}},
    ):
        ((group, (name,)),) = config.items()
        assert f"config.{group}.{name}: " in helm.refusal(everything, {"config": config})


# --- single integrations --------------------------------------------------------------------------

NEAR = {
    "poll.first_after": ("10s", "4m", "6m"),
    "poll.interval_max": ("12s", "5m", "20m", "2h"),
    "task.timeout": ("20s", "15m", "24h"),
    "retry.backoff_min": ("1s", "2m"),
    "retry.backoff_max": ("500ms", "5m"),
    "wait.age_max": ("10m", "1h"),
    "window.batches_max": (1, 20),
    "batch.bytes_max": ("4KiB", "2MiB", "5000.5B"),
    "http.requests_per_second_max": (0.5, 3),
}
NAMES = ("a", "a*", "a:*", "a:1", "a:1*", "b", 'b"(', "b*")
BAD_NAMES = ("*", "a*b", "**", "")


@pytest.mark.parametrize("seed", range(25))
def test_helm_and_the_daemon_refuse_the_same_tables_of_integrations(
    helm: Helm, tmp_path: Path, seed: int
) -> None:
    draw = random.Random(seed)
    names = draw.sample(NAMES, draw.randint(1, 4)) + draw.sample(BAD_NAMES, draw.choice((0, 0, 0, 1)))
    tables: dict[str, dict[str, dict[str, Any]]] = {}
    for name in names:
        tables[name] = {}
        for setting in draw.sample(list(NEAR), draw.randint(1, 4)):
            group, _, attribute = setting.partition(".")
            tables[name].setdefault(group, {})[attribute] = draw.choice(NEAR[setting])
    common = {"window": {"batches_max_per_partition": draw.choice((10, 10_000))}}

    try:
        helm.render(MINIMAL, {"config": {**common, "integrations": tables}})
        by_helm: list[str] = []
    except HelmError as error:
        by_helm = re.findall(r"^  - (config[.].*)$", str(error), re.MULTILINE)

    file = tmp_path / "integrations.toml"
    lines = []
    for name, groups in tables.items():
        lines.append(f"[integrations.{json.dumps(name)}]")
        lines += [f"{g}.{a} = {json.dumps(v)}" for g, given in groups.items() for a, v in given.items()]
    file.write_text("\n".join(lines))
    environ = {
        "COURSESYNC_INTEGRATIONS": str(file),
        "COURSESYNC_WINDOW_BATCHES_MAX_PER_PARTITION": str(common["window"]["batches_max_per_partition"]),
    }
    try:
        load_configuration(environ, None, unneeded={"kafka", "kombo"})
        by_daemon: list[str] = []
    except ConfigError as error:
        by_daemon = [mistake.replace(f" ({file})", "") for mistake in error.mistakes]

    def places(mistakes: list[str]) -> set[tuple[str, ...]]:
        """The table, and the settings that the sentence is about."""
        found = set()
        for mistake in mistakes:
            table = re.search(r'integrations[.]("(?:[^"\\]|\\.)*")', mistake)
            assert table is not None, mistake
            rest = mistake[table.end() :]
            found.add((json.loads(table[1]), *re.findall("|".join(map(re.escape, NEAR)), rest)[:2]))
        return found

    parsed = [m for m in by_daemon if "must be" not in m or "out of range" in m]
    if parsed:  # the daemon checks relations that name such a setting in its next run
        assert places(parsed) <= places(by_helm)
    else:
        assert places(by_helm) == places(by_daemon)
    assert bool(by_helm) == bool(by_daemon)
