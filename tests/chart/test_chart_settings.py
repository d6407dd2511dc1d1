"""Every setting of the daemon can be given by the chart, by its own name, and nothing else can."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from daemon.config import Configuration, Policies, Settings, load_configuration
from daemon.config.column import ValueKind
from daemon.config.policy_tables import MAY_DIFFER
from daemon.config.table import Setting, all_settings
from daemon.config.units import format_duration, format_size

from .config_schema import SCHEMA, TABLE, document, table
from .rendering import CHART, EXAMPLES, MINIMAL, Helm, HelmError, Rendered, objects_of

SETTINGS = {setting.name: setting for setting in all_settings()}
FILES = [name for name, setting in SETTINGS.items() if setting.column.kind is ValueKind.FILE]
USER = {
    "kafka": {
        "security_protocol": "SASL_SSL",
        "sasl_oauth_token_url": "https://idp.example.com:8443/token",
        "sasl_oauth_extensions": "logicalCluster=lkc-1,identityPoolId=pool-1",
        "sasl_username": "kafka_<&>\"'\\é",
        "bootstrap_servers": "a.example.com:9093,b.example.com:9093",
        "group_instance_id": "mine-$(POD_NAME)",
    },
    "kombo": {"base_url": "https://api.us.kombo.dev/v1", "proxy": "http://user@proxy.example.com:3128"},
    "admin": {"host": "::"},
}
"""For the settings that not any text fits."""


LOGINS = {
    "PLAIN": {"sasl_username", "sasl_password_file"},
    "OAUTHBEARER": {
        "sasl_oauth_token_url",
        "sasl_oauth_client_id",
        "sasl_oauth_client_secret_file",
        "sasl_oauth_scope",
        "sasl_oauth_extensions",
        "sasl_oauth_ca_file",
    },
    "AWS_MSK_IAM": {"sasl_aws_region"},
}
"""The settings of each login, which exclude those of the others."""


def other_value(setting: Setting) -> Any:
    """As a user would write it: allowed, and not the default."""
    given = USER.get(setting.group, {}).get(setting.attribute)
    column, default = setting.column, setting.default
    if given is not None:
        return given
    match column.kind:
        case ValueKind.FILE:
            return {"secret": f"secret-of-{setting.attribute.replace('_', '-')}"}
        case ValueKind.CHOICE:
            return next(choice for choice in column.choices if choice != default)
        case ValueKind.TEXT:
            return f"other-{setting.attribute}"
        case ValueKind.DURATION:
            return format_duration(default + 1)
        case ValueKind.SIZE:
            return format_size(default - 1)
        case _ if default is None:
            return column.high
        case _:
            return default + 1 if isinstance(default, int) else round(default * 1.5, 3)


def all_other_values(login: str) -> dict[str, dict[str, Any]]:
    values: dict[str, dict[str, Any]] = {}
    excluded = set().union(*LOGINS.values()) - LOGINS[login]
    for setting in SETTINGS.values():
        if setting.attribute not in excluded:
            values.setdefault(setting.group, {})[setting.attribute] = other_value(setting)
    values["kafka"]["sasl_mechanism"] = login
    return values


def loaded(rendered: Rendered, folder: Path) -> Settings:
    """The common settings of it."""
    return configured(rendered, folder).settings


def configured(rendered: Rendered, folder: Path) -> Configuration:
    """What the daemon makes of it in the pod: the file and the environment, and the mounted files."""
    for path in rendered.mounted_files:
        (folder / Path(path).name).write_text("content")
    text = rendered.settings_file
    for path in rendered.mounted_files:
        text = text.replace(json.dumps(path), json.dumps(str(folder / Path(path).name)))
    (folder / "coursesync.toml").write_text(text)
    variables = {
        name: value.replace("$(POD_NAME)", "sync-0").replace("$(POD_NAMESPACE)", "prod")
        for name, value in rendered.environment.items()
        if isinstance(value, str)
    }
    assert variables["COURSESYNC_CONFIG"].endswith("/coursesync.toml")
    assert variables["COURSESYNC_INTEGRATIONS"] == "/etc/course-sync-daemon/integrations.toml"
    (folder / "integrations.toml").write_text(rendered.integrations_file)
    variables["COURSESYNC_INTEGRATIONS"] = str(folder / "integrations.toml")
    return load_configuration(variables, folder / "coursesync.toml")


@pytest.mark.parametrize("login", LOGINS)
def test_every_setting_arrives_in_the_daemon(helm: Helm, tmp_path: Path, login: str) -> None:
    values = all_other_values(login)
    rendered = helm.render({"config": values, "terminationGracePeriodSeconds": 600})

    settings = loaded(rendered, tmp_path)

    for setting in SETTINGS.values():
        value = getattr(getattr(settings, setting.group), setting.attribute)
        if setting.attribute not in values[setting.group]:
            continue
        assert value != setting.default, f"{setting.name} was not set"
        given = values[setting.group][setting.attribute]
        if setting.column.kind is ValueKind.FILE:
            assert value == tmp_path / setting.name
        elif setting.name == "kafka.group_instance_id":
            assert value == "mine-sync-0"
        elif isinstance(given, int | float) or setting.column.kind in (ValueKind.TEXT, ValueKind.CHOICE):
            assert value == given


def test_without_settings_of_the_user_the_daemon_has_its_own_defaults_and_tls(
    helm: Helm, tmp_path: Path
) -> None:
    settings = loaded(helm.render(MINIMAL), tmp_path)

    differing = {
        name
        for name, setting in SETTINGS.items()
        if getattr(getattr(settings, setting.group), setting.attribute) != setting.default
    }
    assert differing == {
        "kafka.bootstrap_servers",
        "kombo.api_key_file",
        "kafka.security_protocol",
        "kafka.group_instance_id",
        "backlog.bytes_max",
    }
    assert settings.kafka.security_protocol == "SSL"


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_the_daemon_takes_the_settings_of_each_example(helm: Helm, tmp_path: Path, example: Path) -> None:
    loaded(helm.render(example), tmp_path)


def test_files_come_from_secrets_under_the_names_of_cert_manager_and_strimzi(helm: Helm) -> None:
    keys: dict[str, tuple[str, str]] = {}
    for login in LOGINS:
        values = {"config": all_other_values(login), "terminationGracePeriodSeconds": 600}
        mounted = helm.render(values).mounted_files
        keys |= {Path(path).name: (kind, key) for path, (kind, _, key) in mounted.items()}
    assert keys == {
        "kafka.sasl_password_file": ("secret", "password"),
        "kafka.sasl_oauth_client_secret_file": ("secret", "client-secret"),
        "kafka.sasl_oauth_ca_file": ("secret", "ca.crt"),
        "kafka.tls_ca_file": ("secret", "ca.crt"),
        "kafka.tls_certificate_file": ("secret", "tls.crt"),
        "kafka.tls_key_file": ("secret", "tls.key"),
        "kombo.api_key_file": ("secret", "api-key"),
        "kombo.ca_file": ("secret", "ca.crt"),
        "kombo.proxy_password_file": ("secret", "proxy-password"),
    }
    assert set(keys) == set(FILES)


def test_a_file_may_come_from_a_configmap_or_by_other_means(helm: Helm) -> None:
    rendered = helm.render(
        MINIMAL,
        {
            "config": {
                "kafka": {"tls_ca_file": {"configMap": "bundle", "key": "all.pem"}},
                "kombo": {"api_key_file": "/vault/secrets/kombo"},
            }
        },
    )

    assert rendered.mounted_files == {
        "/etc/course-sync-daemon/kafka.tls_ca_file": ("configMap", "bundle", "all.pem")
    }
    assert 'api_key_file = "/vault/secrets/kombo"' in rendered.settings_file


def test_schema_and_table_are_what_the_daemons_tables_make() -> None:
    assert SCHEMA.read_text(encoding="utf-8") == document(), "run: python -m tests.chart.config_schema"
    assert TABLE.read_text(encoding="utf-8") == table(), "run: python -m tests.chart.config_schema"


def test_the_schema_is_a_schema_and_closed_on_every_object_of_its_own() -> None:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft7Validator.check_schema(schema)

    objects = list(objects_of(schema))
    assert len(objects) > 25
    open_ones = [path for path, found in objects if found.get("additionalProperties") is not False]
    assert open_ones == []


def test_schema_and_values_name_the_same_keys() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))

    for path, found in objects_of(schema):
        if path.partition(".")[0] == "config":
            continue  # values.yaml names the settings whose default is another than the daemon's
        named = values
        for key in path.split(".") if path else ():
            named = named[key]
        assert set(named) == set(found["properties"]) - {"global"}, f"in {path or 'the whole'}"


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"config": {"batch": {"lingre": "1s"}}}, "lingre"),
        ({"config": {"batsh": {}}}, "batsh"),
        ({"config": {"batch": {"linger": 5}}}, "linger"),
        ({"config": {"batch": {"items_max": 1001}}}, "items_max"),
        ({"config": {"backlog": {"on_full": "drop"}}}, "on_full"),
        ({"config": {"admin": {"port": 0}}}, "port"),
        ({"config": {"kombo": {"api_key_file": {"secret": "a", "configMap": "b"}}}}, "api_key_file"),
        ({"replica": 3}, "replica"),
        ({"podMonitor": {"enable": True}}, "enable"),
        ({"kind": "DaemonSet"}, "kind"),
        ({"autoscaling": {"minReplicas": 0}}, "minReplicas"),
    ],
)  # fmt: skip
def test_what_is_unknown_or_out_of_bounds_is_refused(helm: Helm, values: dict[str, Any], told: str) -> None:
    said = helm.refusal(values)
    assert "meet the specifications of the schema" in said
    assert told in said.partition("course-sync-daemon:")[2]


def test_a_secret_in_the_place_of_its_file_is_refused_and_not_repeated(helm: Helm) -> None:
    for group, attribute in (("kombo", "api_key"), ("kombo", "proxy_password"), ("kafka", "sasl_password")):
        said = helm.refusal({"config": {group: {attribute: "canary-4711"}}})
        assert re.search(rf"{attribute}\W.*not allowed", said)
        assert "canary-4711" not in said
    said = helm.refusal({"config": {"kombo": {"proxy": "http://user:canary-4711@proxy:3128"}}})
    assert "config.kombo.proxy: contains a password" in said
    assert "canary-4711" not in said


@pytest.mark.parametrize("text", ["canary-4711", "canary 4711=,:/@?"])
def test_no_value_is_repeated_when_it_is_refused(helm: Helm, text: str) -> None:
    """It may be a secret in the place of another setting, and what Helm prints ends in the logs of deployments."""
    said: dict[str, str] = {}
    for setting in SETTINGS.values():
        try:
            helm.render(MINIMAL, {"config": {setting.group: {setting.attribute: text}}})
        except HelmError as error:
            said[setting.name] = str(error)
    assert [name for name, message in said.items() if "canary" in message] == []
    assert [name for name, message in said.items() if name not in message.replace("/", ".")] == []
    assert set(said) >= {name for name, found in SETTINGS.items() if found.column.kind is not ValueKind.TEXT}


def test_the_way_from_a_secret_to_its_file_is_told(helm: Helm) -> None:
    for setting in FILES:
        group, attribute = setting.split(".")
        said = helm.refusal({"config": {group: {attribute: "canary-4711"}}})
        assert f"config.{setting}: is not the path of a file in the container, which begins with /" in said
        assert "{secret: NAME, key: KEY}" in said


def test_values_of_a_parent_chart_are_let_through(helm: Helm) -> None:
    helm.render(MINIMAL, {"global": {"region": "eu"}})


def test_a_default_of_the_chart_can_be_taken_back(helm: Helm, tmp_path: Path) -> None:
    """And so can a setting, or a group, of which the chart has no default."""
    taken_back = {"backlog": {"bytes_max": None}, "batch": {"linger": None}, "drain": None, "wait": None}
    rendered = helm.render(MINIMAL, {"config": taken_back})

    settings, own = loaded(rendered, tmp_path), Settings()
    for group in taken_back:
        assert getattr(settings, group) == getattr(own, group)
    assert "null" not in rendered.settings_file


def test_every_setting_can_be_taken_back(helm: Helm, tmp_path: Path) -> None:
    """As a later values file does with an earlier one."""
    config: dict[str, dict[str, Any]] = {}
    for setting in SETTINGS.values():
        if not setting.column.required:
            config.setdefault(setting.group, {})[setting.attribute] = None

    settings = loaded(helm.render(MINIMAL, {"config": config}), tmp_path)

    for setting in SETTINGS.values():
        if not setting.column.required and setting.name != "kafka.group_instance_id":
            assert getattr(getattr(settings, setting.group), setting.attribute) == setting.default


def test_the_settings_belong_to_the_revision_of_the_pod(helm: Helm) -> None:
    """A pod that restarts during an upgrade must not find the settings of another revision: outside the pod template
    nothing differs between two revisions, so nothing that a pod mounts is changed or deleted by the upgrade.
    """

    def outside_of_the_template(rendered: Rendered) -> list[Any]:
        del rendered.workload["spec"]["template"]
        return [found for found in rendered.manifests if found["kind"] != "Pod"]  # of `helm test`

    first, second = (helm.render(MINIMAL, {"config": {"batch": {"linger": value}}}) for value in ("1s", "2s"))
    assert first.settings_file != second.settings_file
    assert outside_of_the_template(first) == outside_of_the_template(second)


def test_large_numbers_arrive_as_they_were_written(helm: Helm, tmp_path: Path) -> None:
    config: dict[str, dict[str, Any]] = {
        "backlog": {"courses_max": 100_000_000, "bytes_max": 68_719_476_736},
        "window": {"batches_max_per_partition": 1_000_000},
        "http": {"requests_per_second_max": 10_000, "poll_share": 0.1},
    }

    settings = loaded(helm.render(MINIMAL, {"config": config}), tmp_path)

    for group, values in config.items():
        for attribute, value in values.items():
            assert getattr(getattr(settings, group), attribute) == value


# --- single integrations --------------------------------------------------------------------------


def test_every_setting_of_an_integration_arrives_in_the_daemon(helm: Helm, tmp_path: Path) -> None:
    own: dict[str, dict[str, Any]] = {}
    for name in MAY_DIFFER:
        setting = SETTINGS[name]
        own.setdefault(setting.group, {})[setting.attribute] = other_value(setting)
    values = {"config": {"integrations": {'a"<:*': own, "a": {"batch": {"items_max": 7}, "poll": None}}}}

    configuration = configured(helm.render(MINIMAL, values), tmp_path)

    tables = {table.name: table.values for table in configuration.tables}
    assert tables["a"] == {"batch.items_max": 7}
    assert set(tables['a"<:*']) == set(MAY_DIFFER)
    for name in MAY_DIFFER:
        assert tables['a"<:*'][name] != SETTINGS[name].default
    policy = Policies(configuration.settings, configuration.tables)('a"<:1')
    assert policy.task.timeout == SETTINGS["task.timeout"].default + 1
    assert policy.requests_per_second_max == 10_000


def test_a_setting_of_an_integration_restarts_no_pod_and_is_in_no_revision(helm: Helm) -> None:
    first, second = (
        helm.render(MINIMAL, {"config": {"integrations": {"a": {"batch": {"items_max": number}}}}})
        for number in (1, 2)
    )
    assert first.integrations_file != second.integrations_file
    assert first.template == second.template == helm.render(MINIMAL).template


def test_a_setting_of_an_integration_can_be_taken_back(helm: Helm, tmp_path: Path) -> None:
    for integrations in (None, {"a": None}, {"a": {"batch": None}}, {"a": {"batch": {"items_max": None}}}):
        rendered = helm.render(MINIMAL, {"config": {"integrations": integrations}})
        assert all(not table.values for table in configured(rendered, tmp_path).tables)


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"batch": {"linger": "1s"}}, "linger"),
        ({"kafka": {"group_id": "g"}}, "kafka"),
        ({"batch": {"items_max": 0}}, "items_max"),
        ({"batch": 3}, "batch"),
        (3, "a"),
    ],
)
def test_the_schema_refuses_what_cannot_be_in_a_table(helm: Helm, table: Any, told: str) -> None:
    said = helm.refusal({"config": {"integrations": {"a": table}}})
    assert "meet the specifications of the schema" in said
    assert told in said.partition("/config/integrations")[2]
