"""Settings: where they come from, and what is said about mistakes."""

import dataclasses
import json
from collections.abc import Collection, Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from daemon.commands.publish import publish
from daemon.config import BatchSettings, ConfigError, Settings, load_settings
from daemon.config.column import ValueKind
from daemon.config.rules import RULES, broken_rules
from daemon.config.table import Setting, all_settings
from daemon.config.units import format_duration, format_size, parse_duration, parse_size
from tests.sandbox import profile
from tests.tools import configuration_page

DOCS = Path(__file__).parent.parent.parent / "docs"


@pytest.fixture
def required(tmp_path: Path) -> dict[str, str]:
    key = tmp_path / "key"
    key.write_text("secret")
    return {"COURSESYNC_KAFKA_BOOTSTRAP_SERVERS": "a:9092,b:9092", "COURSESYNC_KOMBO_API_KEY_FILE": str(key)}


def mistakes(environ: Mapping[str, str], config_file: Path | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_settings(environ, config_file)
    return caught.value.mistakes


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "coursesync.toml"
    file.write_text(text)
    return file


def test_defaults_when_only_the_required_are_given(required: dict[str, str]) -> None:
    loaded = load_settings(required | {"PATH": "/bin", "COURSESYNC_LOG_LEVEL": ""})
    assert loaded.kafka.bootstrap_servers == "a:9092,b:9092"
    assert dataclasses.replace(loaded, kafka=Settings().kafka, kombo=Settings().kombo) == Settings()
    assert (loaded.batch.linger, loaded.batch.bytes_max, loaded.task.timeout) == (1.0, 524_288, 86_400.0)


def test_environment_wins_over_the_file(required: dict[str, str], tmp_path: Path) -> None:
    file = write(
        tmp_path, '[batch]\nlinger = "5s"\nitems_max = 50\nbytes_max = 65536\n[http]\npoll_share = 0.5\n'
    )
    loaded = load_settings(required | {"COURSESYNC_BATCH_LINGER": "250ms", "COURSESYNC_CONFIG": str(file)})
    assert loaded.batch == BatchSettings(linger=0.25, items_max=50, bytes_max=65_536)
    assert loaded.http.poll_share == 0.5


def test_values_are_normalised(required: dict[str, str]) -> None:
    loaded = load_settings(
        required
        | {
            "COURSESYNC_LOG_LEVEL": "WARNING",
            "COURSESYNC_KOMBO_BASE_URL": "https://api.us.kombo.dev/v1/",
            "COURSESYNC_BACKLOG_COURSES_MAX": "2_000",
            "COURSESYNC_BACKLOG_COURSES_MAX_PER_INTEGRATION": "1_000",
        }
    )
    assert loaded.log.level == "warning"
    assert loaded.kombo.base_url == "https://api.us.kombo.dev/v1"
    assert loaded.backlog.courses_max == 2000


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    file = write(tmp_path, '[bach]\nlinger = "1s"\n[poll]\nfactor = "fast"\nfirst_aftr = "1s"\n')
    told = mistakes(
        {"COURSESYNC_BATCH_LINGR": "1s", "COURSESYNC_HTTP_DEADLINE": "30", "COURSESYNC_FENCE_LEASE": "50s"},
        file,
    )
    assert len(told) == 8
    for expected in (
        "bach.linger",
        "did you mean batch.linger?",
        "did you mean poll.first_after?",
        "did you mean COURSESYNC_BATCH_LINGER?",
        "poll.factor",
        "'30' has no known unit",
        "fence.lease: 50s must be less than kafka.session_timeout, which is 45s",
        "kafka.bootstrap_servers: must be set (COURSESYNC_KAFKA_BOOTSTRAP_SERVERS)",
        "kombo.api_key_file: must be set",
    ):
        assert any(expected in mistake for mistake in told), expected


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("BATCH_LINGER", "1", "has no known unit"),
        ("BATCH_LINGER", "1 parsec", "has no known unit"),
        ("BATCH_LINGER", "-1s", "is not a duration"),
        ("BATCH_LINGER", "6m", "6m is out of range: it must be at least 0s and at most 5m"),
        ("BATCH_BYTES_MAX", "2MiB", "2MiB is out of range: it must be at least 4KiB and at most 1MiB"),
        ("BATCH_BYTES_MAX", "512KB", "has no known unit; use one of B, KiB"),
        ("BATCH_BYTES_MAX", "0.3B", "not a whole number of bytes"),
        ("BATCH_ITEMS_MAX", "1.5", "is not a whole number"),
        ("BATCH_ITEMS_MAX", "0", "0 is out of range"),
        ("HTTP_POLL_SHARE", "nan", "is not a number"),
        ("LOG_LEVEL", "loud", "the value is not one of debug, info, warning, error"),
        ("KOMBO_CA_FILE", "/nowhere/ca.pem", "the file '/nowhere/ca.pem' cannot be read: No such file"),
        ("KAFKA_BOOTSTRAP_SERVERS", "broker", "entry 1 is not host:port"),
        ("KAFKA_BOOTSTRAP_SERVERS", "a:9092,b:99999", "entry 2 is not host:port"),
        ("KOMBO_BASE_URL", "api.kombo.dev/v1", "is not a URL such as https"),
        ("KOMBO_BASE_URL", "http://api.kombo.dev/v1", "would send the API key in clear text"),
        ("KOMBO_PROXY", "proxy:3128", "kombo.proxy: is not a URL"),
        ("KOMBO_PROXY", "http://a%3Ab@proxy:3128", "kombo.proxy: is not a URL"),
        ("KOMBO_PROXY", "http://user@proxy:3128", None),
        ("TOPICS_RESULTS", "course-changes", "has the same name as topics.changes"),
        ("TOPICS_RESULTS", "a b", "is not a valid topic name"),
        ("HTTP_IN_FLIGHT_MAX", "2", "reserves 0 calls for polls"),
        ("POLL_FIRST_AFTER", "10m", "must be at most poll.interval_max, which is 5m"),
        ("POLL_INTERVAL_MAX", "24h", None),
        ("RETRY_BACKOFF_MIN", "2m", "must be at most retry.backoff_max"),
        ("PARK_PROBE_MAX", "20s", "park.probe_min: 1m must be at most park.probe_max"),
        ("WAIT_AGE_MAX", "20m", "park.probe_max: 30m must be at most wait.age_max"),
        (
            "WINDOW_BATCHES_MAX_PER_PARTITION",
            "4",
            "window.batches_max: 8 must be at most window.batches_max_per_",
        ),
        ("BACKLOG_COURSES_MAX", "1000", None),  # below the limit of one integration, which then says nothing
        ("BACKLOG_ON_FULL", "drop", "the value is not one of pause, reject"),
        ("TASK_TIMEOUT", "20s", "http.deadline: 30s must be less than task.timeout"),
        ("DRAIN_TIMEOUT", "45s", "drain.timeout: 45s must be less than kafka.session_timeout"),
        ("KAFKA_SECURITY_PROTOCOL", "SASL_SSL", "kafka.sasl_mechanism: must be set because"),
        ("KAFKA_SASL_USERNAME", "me", "which does not log in; SASL_SSL does"),
    ],
)
def test_mistake(required: dict[str, str], variable: str, value: str, expected: str | None) -> None:
    environ = required | {f"COURSESYNC_{variable}": value}
    if expected is None:
        load_settings(environ)
        return
    assert any(expected in mistake for mistake in mistakes(environ))


LOGIN_NEEDS = {
    "PLAIN": {"username", "password_file"},
    "SCRAM-SHA-512": {"username", "password_file"},
    "OAUTHBEARER": {"oauth_token_url", "oauth_client_id", "oauth_client_secret_file"},
    "AWS_MSK_IAM": {"aws_region"},
}
LOGIN = {
    "username": "me",
    "oauth_token_url": "https://idp.example.com/token",
    "oauth_client_id": "me",
    "aws_region": "eu-central-1",
}


def login(required: dict[str, str], tmp_path: Path, mechanism: str, names: Collection[str]) -> dict[str, str]:
    (tmp_path / "file").write_text("text")
    values = {name: LOGIN.get(name, str(tmp_path / "file")) for name in names}
    return required | {
        "COURSESYNC_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "COURSESYNC_KAFKA_SASL_MECHANISM": mechanism,
        **{f"COURSESYNC_KAFKA_SASL_{name.upper()}": value for name, value in values.items()},
    }


@pytest.mark.parametrize("mechanism", LOGIN_NEEDS)
def test_each_login_needs_its_settings_and_takes_no_others(
    required: dict[str, str], tmp_path: Path, mechanism: str
) -> None:
    load_settings(login(required, tmp_path, mechanism, LOGIN_NEEDS[mechanism]))
    told = mistakes(login(required, tmp_path, mechanism, ()))
    assert sorted(told) == [
        f"kafka.sasl_{name}: must be set because kafka.sasl_mechanism is {mechanism}"
        for name in sorted(LOGIN_NEEDS[mechanism])
    ]
    every = set().union(*LOGIN_NEEDS.values())
    told = mistakes(login(required, tmp_path, mechanism, every))
    assert sorted(told) == [
        f"kafka.sasl_{name}: is set, but kafka.sasl_mechanism is {mechanism}, which does not use it"
        for name in sorted(every - LOGIN_NEEDS[mechanism])
    ]


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("OAUTH_TOKEN_URL", "http://idp.example.com/token", "https, because the client secret is sent there"),
        (
            "OAUTH_TOKEN_URL",
            "https://me:secret@idp.example.com/token",
            "kafka.sasl_oauth_token_url: is not a URL",
        ),
        ("OAUTH_TOKEN_URL", "idp.example.com", "kafka.sasl_oauth_token_url: is not a URL"),
        ("OAUTH_TOKEN_URL", "http://127.0.0.1:8080/token", None),
        ("OAUTH_EXTENSIONS", "logicalCluster=lkc-1,identityPoolId=pool-1", None),
        (
            "OAUTH_EXTENSIONS",
            "logicalCluster",
            "kafka.sasl_oauth_extensions: entry 1 is not name=value",
        ),
        ("OAUTH_EXTENSIONS", "auth=Bearer", "is not name=value"),  # the name is taken by the token itself
        ("OAUTH_SCOPE", "a b", None),
    ],
)
def test_where_the_secret_and_what_besides_the_token_is_sent(
    required: dict[str, str], tmp_path: Path, name: str, value: str, told: str | None
) -> None:
    environ = login(required, tmp_path, "OAUTHBEARER", LOGIN_NEEDS["OAUTHBEARER"])
    environ[f"COURSESYNC_KAFKA_SASL_{name}"] = value
    if told is None:
        load_settings(environ)
        return
    (mistake,) = mistakes(environ)
    assert told in mistake
    assert "secret@" not in mistake


def test_msk_takes_no_token_without_tls(required: dict[str, str], tmp_path: Path) -> None:
    environ = login(required, tmp_path, "AWS_MSK_IAM", {"aws_region"})
    environ["COURSESYNC_KAFKA_SECURITY_PROTOCOL"] = "SASL_PLAINTEXT"
    (mistake,) = mistakes(environ)
    assert mistake == "kafka.security_protocol: must be SASL_SSL because kafka.sasl_mechanism is AWS_MSK_IAM"


SECRET_FILES = [setting for setting in all_settings() if setting.column.secret]


def test_every_file_with_a_secret_is_read_as_one() -> None:
    assert [setting.name for setting in SECRET_FILES] == [
        "kafka.sasl_password_file",
        "kafka.sasl_oauth_client_secret_file",
        "kombo.api_key_file",
        "kombo.proxy_password_file",
    ]


@pytest.mark.parametrize("setting", SECRET_FILES, ids=lambda setting: setting.name)
@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"\xef\xbb\xbfcanary-1\n", "begins with a byte order mark"),
        ("canary-1\n".encode("utf-16"), "begins with a byte order mark"),
        (b"canary-1\n\n", "has more than one line, or an empty line at its end"),
        (b"canary-1\r\n\r\n", "has more than one line, or an empty line at its end"),
        (b"canary-1\ncanary-2", "has more than one line, or an empty line at its end"),
        (b"canary-1\r", None),  # as of an old editor: one line ending of any kind
        (b"canary-1\0", "contains control characters"),
        (b"canary-1\xff", "is not UTF-8 text"),
        (b"\r\n", "is empty"),
        (b"canary-1" * 1000, "has more than 4096 bytes"),
        (b"canary-1\r\n", None),
        (b"canary-1", None),
    ],
)
def test_a_secret_that_is_more_than_a_line_is_named(
    required: dict[str, str], tmp_path: Path, setting: Setting, content: bytes, told: str | None
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(content)
    found = [
        mistake
        for mistake in mistakes(required | {setting.variable: str(secret), "COURSESYNC_LOG_LEVEL": "loud"})
        if mistake.startswith(f"{setting.name} (")
    ]
    if told is None:
        assert found == []
        return
    (mistake,) = found
    assert f"{setting.name} ({setting.variable}): the file '{secret}' {told}" in mistake
    assert "as one line of UTF-8 text, and nothing else" in mistake
    assert "canary" not in mistake


@pytest.mark.parametrize("name", ["KAFKA_TLS_CERTIFICATE_FILE", "KAFKA_TLS_KEY_FILE"])
def test_certificate_and_key_belong_together(required: dict[str, str], name: str) -> None:
    environ = required | {
        f"COURSESYNC_{name}": required["COURSESYNC_KOMBO_API_KEY_FILE"],
        "COURSESYNC_KAFKA_SECURITY_PROTOCOL": "SSL",
    }
    (mistake,) = mistakes(environ)
    assert "a certificate needs its private key" in mistake


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[batch]\nlinger = 5\n", "5 is not a duration"),
        ("[batch]\nitems_max = true\n", "True is not a whole number"),
        ("[log]\nlevel = 3\n", "the value is not text"),
        ("linger = '1s'\n", "is not a setting"),
        ("[batch]\nlinger = '1s\n", "is not TOML"),
    ],
)
def test_mistake_in_the_file(required: dict[str, str], tmp_path: Path, text: str, expected: str) -> None:
    (mistake,) = mistakes(required, write(tmp_path, text))
    assert expected in mistake


def test_a_file_that_is_not_there(required: dict[str, str], tmp_path: Path) -> None:
    (mistake,) = mistakes(required | {"COURSESYNC_CONFIG": str(tmp_path / "none.toml")})
    assert "none.toml' cannot be read: No such file" in mistake


@pytest.mark.parametrize("inside", ["environment", "file"])
def test_secrets_are_never_quoted(required: dict[str, str], tmp_path: Path, inside: str) -> None:
    if inside == "environment":
        told = mistakes(required | {"COURSESYNC_KOMBO_API_KEY": "hunter2"})
    else:
        told = mistakes(required, write(tmp_path, '[kafka]\nsasl_password = "hunter2"\n'))
    assert "secrets are read from files only" in told[0]
    assert not any("hunter2" in mistake for mistake in told)


@pytest.mark.parametrize(
    "proxy",
    [
        "http://user:hunter2@proxy.example:3128",
        "http://:hunter2@proxy.example:3128",
        "http://user:hunter2%40@proxy.example:3128/",
        "https://user:hunter2@proxy.example:3128",
        "user:hunter2@proxy.example:3128",
        "http://user:hunter2@proxy.example",
        "http://user:hunter2@[proxy:3128",
    ],
)
@pytest.mark.parametrize("inside", ["environment", "file"])
def test_a_password_in_the_url_of_the_proxy_is_refused_and_not_quoted(
    required: dict[str, str], tmp_path: Path, proxy: str, inside: str
) -> None:
    if inside == "environment":
        told = mistakes(required | {"COURSESYNC_KOMBO_PROXY": proxy})
    else:
        told = mistakes(required, write(tmp_path, f'[kombo]\nproxy = "{proxy}"\n'))
    assert "kombo.proxy: " in told[0]
    assert ("kombo.proxy_password_file" in told[0]) == (
        proxy.startswith("http:") and "proxy.example:" in proxy
    )
    assert not any("hunter2" in mistake for mistake in told)


@pytest.mark.parametrize("proxy", [None, "http://proxy.example:3128"])
def test_a_password_of_nobody_is_a_mistake(
    required: dict[str, str], tmp_path: Path, proxy: str | None
) -> None:
    password = tmp_path / "password"
    password.write_text("hunter2")
    given = {"COURSESYNC_KOMBO_PROXY": proxy} if proxy else {}
    (mistake,) = mistakes(required | given | {"COURSESYNC_KOMBO_PROXY_PASSWORD_FILE": str(password)})
    assert "kombo.proxy names no user" in mistake


SECRETS = (
    "hunter2",
    "sk_live_51HxYqK2eZvKYlo2CHUTwvyx2wLo",
    "9f8a7b6c5d4e3f2a1b0c9d8e7f6a5b4c",
    "c2VjcmV0/b2YgYQ+Ym9va2U==",
    "/9j4AAQSkZJRgABAQ+AAQ/ABAAD=",
    "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADAN/Bgkqhk\n-----END PRIVATE KEY-----\n",
    "https://reader:hunter2@api.example.com/v1",
    "https://:hunter2@api.example.com/v1",
    "http://api.example.com/v1?key=hunter2",
    "reader:hunter2@kafka-1.example.com:9092",
    "a:9092,SASL_SSL://reader:hunter2@b:9092",
)


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_in_the_wrong_place_is_not_quoted(
    required: dict[str, str], tmp_path: Path, secret: str
) -> None:
    """For each setting, and where a configuration file is expected."""
    found = 0
    environments = [{setting.variable: secret} for setting in all_settings()] + [
        {"COURSESYNC_CONFIG": secret}
    ]
    for environ in environments:
        try:
            load_settings(required | environ)
        except ConfigError as error:
            found += 1
            assert_hidden(str(error), secret)
    for setting in all_settings():
        document = f"[{setting.group}]\n{setting.attribute} = {json.dumps(secret)}\n"
        try:
            load_settings(required, write(tmp_path, document))
        except ConfigError as error:
            assert_hidden(str(error), secret)
    assert found > 40, "most settings refuse such a value"


def assert_hidden(message: str, secret: str) -> None:
    __tracebackhide__ = True
    for part in (secret, "hunter2", secret.strip()[:12], secret.strip()[-12:]):
        if part not in (
            "https://read",
            "https://:hun",
            "http://api.e",
            "ample.com/v1",
            ".com:9092",
            "le.com:9092",
        ):
            assert part not in message


def test_the_path_of_a_file_that_is_missing_is_quoted(required: dict[str, str]) -> None:
    (mistake,) = mistakes(required | {"COURSESYNC_KOMBO_API_KEY_FILE": "/run/secrets/no-such/api-key"})
    assert "the file '/run/secrets/no-such/api-key' cannot be read: No such file" in mistake


def test_brokers_on_the_command_line_are_checked_and_not_quoted() -> None:
    for brokers in ("reader:hunter2@kafka:9092", "hunter2", "a:9092,hunter2:port"):
        done = CliRunner().invoke(publish, ["--bootstrap-servers", brokers])
        assert done.exit_code == 2
        assert "is not host:port" in done.stderr
        assert "hunter2" not in done.output


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_file_with_a_byte_order_mark(required: dict[str, str], tmp_path: Path, encoding: str) -> None:
    """Editors on Windows write one."""
    file = tmp_path / "coursesync.toml"
    file.write_bytes('[batch]\nlinger = "5s"\n'.encode(encoding))
    if encoding == "utf-8-sig":
        assert load_settings(required, file).batch.linger == 5.0
    else:
        (mistake,) = mistakes(required, file)
        assert "is not UTF-8; save it as UTF-8 (not as UTF-16)" in mistake


def test_an_empty_secret_is_a_mistake(required: dict[str, str], tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    (mistake,) = mistakes(required | {"COURSESYNC_KOMBO_API_KEY_FILE": str(empty)})
    assert "is empty" in mistake


def test_a_relation_is_not_reported_for_a_value_that_was_not_read(required: dict[str, str]) -> None:
    """lease 50s is over the *default* session time-out, but not over what the user meant."""
    (mistake,) = mistakes(
        required | {"COURSESYNC_FENCE_LEASE": "50s", "COURSESYNC_KAFKA_SESSION_TIMEOUT": "60"}
    )
    assert mistake.startswith(
        "kafka.session_timeout (COURSESYNC_KAFKA_SESSION_TIMEOUT): '60' has no known unit"
    )


def test_what_a_command_does_not_need_may_be_missing(required: dict[str, str]) -> None:
    del required["COURSESYNC_KOMBO_API_KEY_FILE"]
    assert load_settings(required, unneeded={"kombo"}).topics == Settings().topics
    assert any("kombo.api_key_file: must be set" in mistake for mistake in mistakes(required))


def test_files_that_a_command_does_not_need_may_be_missing(required: dict[str, str], tmp_path: Path) -> None:
    """The console has the daemon's configuration and not the API key; so has an operator."""
    files = {
        f"COURSESYNC_KOMBO_{name}_FILE": str(tmp_path / "missing")
        for name in ("API_KEY", "CA", "PROXY_PASSWORD")
    }
    given = required | files | {"COURSESYNC_KOMBO_PROXY": "http://user@proxy:3128"}
    assert load_settings(given, unneeded={"kombo"}).kombo.ca_file == tmp_path / "missing"
    found = mistakes(given)
    for name in ("api_key", "ca", "proxy_password"):
        assert any(f"kombo.{name}_file (" in mistake and "cannot be read" in mistake for mistake in found)
    for wrong, name in (("KOMBO_BASE_URL", "kombo.base_url"), ("KAFKA_TLS_CA_FILE", "kafka.tls_ca_file")):
        with pytest.raises(ConfigError, match=name):
            load_settings(given | {f"COURSESYNC_{wrong}": "/missing"}, unneeded={"kombo"})


def test_a_rate_is_a_number_and_by_default_there_is_none(required: dict[str, str]) -> None:
    assert load_settings(required).http.requests_per_second_max is None
    limited = load_settings(required | {"COURSESYNC_HTTP_REQUESTS_PER_SECOND_MAX": "2.5"})
    assert limited.http.requests_per_second_max == 2.5
    (mistake,) = mistakes(required | {"COURSESYNC_HTTP_REQUESTS_PER_SECOND_MAX": "0"})
    assert "at least 0.1 and at most 10000" in mistake


# --- the table itself -----------------------------------------------------------------------------


def test_the_defaults_keep_the_rules() -> None:
    assert list(broken_rules(Settings())) == []


@pytest.mark.parametrize("setting", list(all_settings()), ids=lambda setting: setting.name)
def test_a_default_is_within_its_own_bounds(setting: Setting) -> None:
    column = setting.column
    if column.low is not None and setting.default is not None:
        assert column.low <= setting.default <= column.high
    if column.kind is ValueKind.CHOICE and setting.default is not None:
        assert setting.default in column.choices
    assert column.meaning.endswith(".")


def test_no_two_settings_share_a_variable() -> None:
    variables = [setting.variable for setting in all_settings()]
    assert len(variables) == len(set(variables))
    assert "COURSESYNC_CONFIG" not in variables


def test_the_reference_page_is_that_of_the_table() -> None:
    assert (DOCS / "configuration.md").read_text(encoding="utf-8") == configuration_page.page(), (
        "run: python -m tests.tools.configuration_page > docs/configuration.md"
    )


def test_every_setting_is_on_the_reference_page() -> None:
    page = configuration_page.page()
    assert all(f"`{setting.name}`" in page for setting in all_settings())


def test_the_sandbox_speaks_of_settings_that_exist() -> None:
    assert set(profile.TIMES) <= {setting.name for setting in all_settings()}


@given(st.integers(0, 10**9))
def test_durations_survive_writing_and_reading(ms: int) -> None:
    assert parse_duration(format_duration(ms / 1000)) == pytest.approx(ms / 1000, abs=1e-9, rel=1e-6)


@given(st.integers(0, 2**40))
def test_sizes_survive_writing_and_reading(size: int) -> None:
    assert parse_size(format_size(size)) == size


def test_the_page_lists_every_relation_that_is_checked() -> None:
    listed = (DOCS / "configuration.md").read_text(encoding="utf-8").split("## Relations between settings")[1]
    assert "`window.batches_max` ≤ `window.batches_max_per_partition`" in listed
    assert listed.count("\n* ") == len(RULES)
