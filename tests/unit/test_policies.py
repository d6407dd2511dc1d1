"""Settings of single integrations: which table counts, what is a mistake, and what `integrations show` says of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from daemon import config
from daemon.cli import main
from daemon.config import ConfigError, Policies, PolicyTable, Settings, load_configuration
from daemon.config import policy as policy_module
from daemon.config.policy_tables import MAY_DIFFER, OWN_RATE
from daemon.config.table import all_settings

UNNEEDED = {"kafka", "kombo"}


def table(name: str, **values: object) -> PolicyTable:
    """`task__timeout=5.0` is the setting `task.timeout`."""
    return PolicyTable(name, {key.replace("__", "."): value for key, value in values.items()})


def write(tmp_path: Path, text: str, name: str = "coursesync.toml") -> Path:
    file = tmp_path / name
    file.write_text(text)
    return file


def mistakes(tmp_path: Path, text: str, **environ: str) -> list[str]:
    file = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_configuration(environ, file, unneeded=UNNEEDED)
    return [mistake.replace(f" ({file})", "") for mistake in caught.value.mistakes]


# --- which table counts ---------------------------------------------------------------------------


def test_each_setting_comes_from_the_most_specific_table_that_names_it() -> None:
    policies = Policies(
        Settings(),
        [
            table("workday:*", task__timeout=3000.0, batch__items_max=10, window__batches_max=2),
            table("workday:slow*", task__timeout=4000.0, batch__items_max=20),
            table("workday:slow-1", task__timeout=5000.0),
            table("workday", task__timeout=6000.0),
        ],
    )

    def of(integration_id: str) -> tuple[float, int, int]:
        policy = policies(integration_id)
        return policy.task.timeout, policy.batch.items_max, policy.window.batches_max

    assert of("workday:slow-1") == (5000.0, 20, 2)
    assert of("workday:slow-12") == (4000.0, 20, 2)
    assert of("workday:") == (3000.0, 10, 2)
    assert of("workday") == (6000.0, 100, 8)
    assert of("Workday:slow-1") == (86_400.0, 100, 8)
    assert policies("workday:slow-1").poll == Settings().poll


def test_a_rate_in_a_table_is_beside_the_common_one() -> None:
    settings = Settings(http=config.HttpSettings(requests_per_second_max=50.0))
    policies = Policies(settings, [table("a*", http__requests_per_second_max=2.0)])
    assert policies("a1").requests_per_second_max == 2.0
    assert policies("b1").requests_per_second_max is None


def test_the_tables_in_use_can_be_replaced() -> None:
    policies = Policies(Settings(), [table("a*", batch__items_max=10)])
    assert policies("a").batch.items_max == 10
    policies.use([table("b*", batch__items_max=20)])
    assert (policies("a").batch.items_max, policies("b").batch.items_max) == (100, 20)


def test_ids_of_the_input_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_module, "REMEMBERED_MAX", 10)
    policies = Policies(Settings(), [table("a-*", batch__items_max=7)])
    for number in range(100):
        assert policies(f"a-{number}").batch.items_max == 7
        assert len(policies._remembered) <= 10


NAMES = st.text("ab", max_size=3)


@given(
    st.dictionaries(
        st.builds(
            lambda name, end: name + end, st.text("ab", min_size=1, max_size=3), st.sampled_from(["", "*"])
        ),
        st.fixed_dictionaries(
            {},
            optional={"batch.items_max": st.integers(1, 99), "retry.attempts_max": st.integers(1, 99)},
        ),
    ),
    st.text("ab", min_size=1, max_size=4),
)
def test_a_search_in_the_plainest_way_finds_the_same(
    tables: dict[str, dict[str, int]], integration_id: str
) -> None:
    policy = Policies(Settings(), [PolicyTable(name, values) for name, values in tables.items()])(
        integration_id
    )

    def expected(name: str, common: int) -> int:
        for size in range(len(integration_id), -2, -1):
            known = integration_id if size == len(integration_id) else None
            for candidate in (known, integration_id[: max(size, 0)] + "*"):
                if candidate is not None and name in tables.get(candidate, {}):
                    return tables[candidate][name]
        return common

    assert policy.batch.items_max == expected("batch.items_max", 100)
    assert policy.retry.attempts_max == expected("retry.attempts_max", 5)


def test_each_setting_that_may_differ_reaches_the_policy() -> None:
    for row in all_settings():
        if row.name not in MAY_DIFFER:
            continue
        assert row.column.high is not None
        policy = Policies(Settings(), [PolicyTable("a", {row.name: row.column.high})])("a")
        if row.name == OWN_RATE:
            assert policy.requests_per_second_max == row.column.high
        else:
            group = getattr(policy, row.group)
            assert getattr(group, row.attribute) == row.column.high
            assert dataclasses.replace(group, **{row.attribute: row.default}) == getattr(
                Settings(), row.group
            )


# --- the files ------------------------------------------------------------------------------------


def test_tables_are_written_with_dotted_names_or_tables(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        '[integrations."a:*"]\ntask.timeout = "48h"\n[integrations."a:*".batch]\nbytes_max = "64KiB"\n',
    )
    (read,) = load_configuration({}, file, unneeded=UNNEEDED).tables
    assert read == PolicyTable("a:*", {"task.timeout": 172_800.0, "batch.bytes_max": 65_536}, str(file))


def test_a_second_file_may_have_tables_and_nothing_else(tmp_path: Path) -> None:
    first = write(tmp_path, "[batch]\nitems_max = 9\n[integrations.a]\nbatch.items_max = 1\n")
    second = write(tmp_path, "[integrations.b]\nbatch.items_max = 2\n", "integrations.toml")
    environ = {"COURSESYNC_INTEGRATIONS": str(second)}
    read = load_configuration(environ, first, unneeded=UNNEEDED)
    assert [(t.name, t.values["batch.items_max"]) for t in read.tables] == [("a", 1), ("b", 2)]

    second.write_text("[integrations.a]\nbatch.items_max = 2\n[batch]\nitems_max = 3\n")
    with pytest.raises(ConfigError) as caught:
        load_configuration(environ, first, unneeded=UNNEEDED)
    assert caught.value.mistakes == [
        (
            f'batch ({second}): this file may only have tables of integrations, such as [integrations."workday:*"]; set the '
            "others in the file of COURSESYNC_CONFIG"
        ),
        f'[integrations."a"]: is in {first} and in {second}; leave it in one of them',
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("integrations = 3", 'integrations: is not a table; write [integrations."workday:*"]'),
        (
            "[integrations]\na = 3",
            'integrations."a": is not a table; write [integrations."workday:*"] with the settings below it',
        ),
        ('[integrations."*"]', 'integrations."*": would be for all integrations; use the common settings'),
        (
            '[integrations."a*b"]',
            'integrations."a*b": is neither an id nor the beginning of ids followed by *, such as workday:*',
        ),
        (
            '[integrations.""]',
            'integrations."": is neither an id nor the beginning of ids followed by *, such as workday:*',
        ),
        (
            "[integrations.a]\ntask.timeou = 1",
            'integrations."a".task.timeou: is not a setting; did you mean task.timeout?',
        ),
        ("[integrations.a]\ntask = 1", 'integrations."a".task: is not a setting'),
        (
            '[integrations.a]\nbatch.linger = "1s"',
            (
                'integrations."a".batch.linger: cannot differ between integrations; docs/configuration.md lists the settings '
                "that can"
            ),
        ),
        (
            "[integrations.a]\nbatch.items_max = 0",
            'integrations."a".batch.items_max: 0 is out of range: it must be at least 1 and at most 1000',
        ),
        (
            '[integrations."a\\"\\u0007"]\nbatch.items_max = "x"',
            'integrations."a\\"\\u0007".batch.items_max: the value is not a whole number',
        ),
    ],
)
def test_mistakes_name_table_and_setting(tmp_path: Path, text: str, expected: str) -> None:
    assert mistakes(tmp_path, text) == [expected]


def test_a_file_that_is_nested_too_deeply_is_a_mistake_like_any_other(tmp_path: Path) -> None:
    """The daemon reads its files again while it runs, and must not die of one."""
    (mistake,) = mistakes(tmp_path, "a = " + "[" * 100_000)
    assert mistake.endswith("is nested too deeply")


def test_the_relations_hold_in_each_combination(tmp_path: Path) -> None:
    text = """
        [task]
        timeout = "20m"
        [integrations."a*"]
        poll.first_after = "4m"
        [integrations."ab*"]
        poll.interval_max = "3m"
        [integrations."abc"]
        task.timeout = "10m"
        [integrations."b"]
        poll.interval_max = "10m"
        [integrations."b*"]
        task.timeout = "9m"
    """
    assert [mistake.partition(", which")[0] for mistake in mistakes(tmp_path, text)] == [
        'integrations."ab*" (with [integrations."a*"]): poll.first_after: 4m must be at most poll.interval_max',
        'integrations."b" (with [integrations."b*"]): poll.interval_max: 10m must be at most task.timeout',
    ]


def test_a_relation_that_the_common_settings_break_is_reported_once(tmp_path: Path) -> None:
    found = mistakes(tmp_path, '[poll]\ninterval_max = "10s"\n[integrations.a]\nbatch.items_max = 3\n')
    assert len(found) == 1
    assert found[0].startswith("poll.first_after: 15s must be at most poll.interval_max")


def test_tables_are_checked_with_the_settings_of_the_process() -> None:
    policies = Policies(Settings(poll=config.PollSettings(interval_max=60.0)))
    assert policies.mistakes([table("a", poll__first_after=60.0)]) == []
    (mistake,) = policies.mistakes([table("a", poll__first_after=61.0)])
    assert "poll.first_after: 61s must be at most poll.interval_max, which is 1m" in mistake


# --- what is said of an integration ---------------------------------------------------------------


def test_show_says_where_each_value_comes_from(tmp_path: Path) -> None:
    first = write(
        tmp_path,
        '[task]\ntimeout = "30h"\n[integrations."a:*"]\nwindow.batches_max = 2\nretry.attempts_max = 3\n',
    )
    second = write(
        tmp_path,
        '[integrations."a:1"]\nretry.attempts_max = 4\nhttp.requests_per_second_max = 0.5\n',
        "integrations.toml",
    )
    environ = {"COURSESYNC_INTEGRATIONS": str(second), "COURSESYNC_POLL_FACTOR": "2"}

    def shown(integration_id: str) -> dict[str, list[str]]:
        command = ["integrations", "show", "--config", str(first), integration_id]
        done = CliRunner().invoke(main, command, env=environ)
        assert done.exit_code == 0, done.output
        rows = (line.split(maxsplit=1) for line in done.output.splitlines()[2:])
        return {name: [part.strip() for part in rest.rstrip().split("  ", 1)] for name, rest in rows}

    found = shown("a:1")
    assert list(found) == [row.name for row in all_settings() if row.name in MAY_DIFFER]
    assert found["retry.attempts_max"] == ["4", f'[integrations."a:1"] in {second}']
    assert found["window.batches_max"] == ["2", f'[integrations."a:*"] in {first}']
    assert found["http.requests_per_second_max"] == ["0.5", f'[integrations."a:1"] in {second}']
    assert found["task.timeout"] == ["30h", str(first)]
    assert found["poll.factor"] == ["2", "COURSESYNC_POLL_FACTOR"]
    assert found["batch.bytes_max"] == ["512KiB", "default"]
    assert shown("b")["http.requests_per_second_max"] == ["no limit of its own", "default"]


def test_show_reports_mistakes(tmp_path: Path) -> None:
    file = write(tmp_path, '[integrations."*"]\n')
    done = CliRunner().invoke(main, ["integrations", "show", "--config", str(file), "a"])
    assert done.exit_code == 2
    assert "use the common settings" in done.output
