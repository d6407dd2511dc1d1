"""What `topics create` would do, and what `check` says, about topics as they are."""

import dataclasses

import pytest

from daemon.commands.check import api_findings
from daemon.commands.finding import Level
from daemon.commands.topic_findings import topic_findings
from daemon.commands.topics import Facts, TopicsError, TopicStep, plan
from daemon.kombo.probe import KeyCheck, KeyState
from daemon.log.kafka.admin import NewTopic, TopicFacts
from daemon.log.kafka.topic_settings import CONTROL, COURSES, DEAD_LETTERS, JOURNAL
from daemon.log.port import Topics

NAMES = Topics()
SAFE = {"min.insync.replicas": "2", "unclean.leader.election.enable": "false"}
DEFAULTS = {"cleanup.policy": "delete", "max.message.bytes": "1048588", "segment.bytes": "1073741824"}


def topic(name: str, partitions: int = 6, replicas: int = 3, **configs: str) -> TopicFacts:
    wanted = {
        NAMES.journal: JOURNAL,
        NAMES.dead_letters: DEAD_LETTERS,
        NAMES.courses: COURSES,
        NAMES.control: CONTROL,
    }.get(name, {})
    changed = {key.replace("_", "."): value for key, value in configs.items()}
    return TopicFacts(name, "id", partitions, replicas, DEFAULTS | SAFE | dict(wanted) | changed)


def facts(**other: TopicFacts | None) -> Facts:
    """All as it should be, but for what is given, by the attribute's name in `Topics`."""
    names = {field.name: getattr(NAMES, field.name) for field in dataclasses.fields(NAMES)}
    fitting = {name: topic(name, partitions=1 if name == NAMES.control else 6) for name in names.values()}
    return {name: other.get(attribute, fitting[name]) for attribute, name in names.items()}


def planned(
    found: Facts, partitions: int | None = None, replication_factor: int | None = None
) -> dict[str, NewTopic | TopicStep]:
    return {
        step.name: step
        for step in plan(NAMES, found, partitions=partitions, replication_factor=replication_factor)
    }


def said(found: Facts) -> list[tuple[Level, str, str]]:
    return [(finding.level, finding.subject, finding.found) for finding in topic_findings(NAMES, found)]


NOTHING = dict.fromkeys(NAMES.names)


def test_on_an_empty_cluster_all_are_made() -> None:
    steps = planned(NOTHING, partitions=12, replication_factor=3)
    made = [step for step in steps.values() if isinstance(step, NewTopic)]
    assert len(made) == len(steps) == len(NAMES.names)
    assert {step.name: step.partitions for step in made} == dict.fromkeys(NAMES.names, 12) | {
        NAMES.control: 1
    }
    assert {step.replication_factor for step in made} == {3}
    assert {step.configs["min.insync.replicas"] for step in made} == {"2"}
    assert steps[NAMES.journal].configs.items() >= JOURNAL.items()
    assert steps[NAMES.control].configs["cleanup.policy"] == "compact"
    assert steps[NAMES.changes].configs.keys() == {"min.insync.replicas"}


def test_one_replica_is_not_told_to_have_two_in_sync() -> None:
    assert planned(NOTHING, replication_factor=1)[NAMES.changes].configs == {}


def test_the_journal_has_as_many_partitions_as_an_input_that_exists() -> None:
    steps = planned(facts(changes=topic(NAMES.changes, partitions=17), journal=None))
    journal = steps[NAMES.journal]
    assert isinstance(journal, NewTopic)
    assert journal.partitions == 17
    assert steps[NAMES.changes] == TopicStep(NAMES.changes)


def test_all_right_means_nothing_to_do_and_nothing_to_say() -> None:
    assert all(step == TopicStep(step.name) for step in planned(facts()).values())
    assert {level for level, _, _ in said(facts())} == {Level.OK}


def test_the_journal_is_corrected() -> None:
    old = topic(NAMES.journal, cleanup_policy="delete", segment_bytes="1073741824")
    step = planned(facts(journal=old))[NAMES.journal]
    assert step.configs == {"cleanup.policy": "compact", "segment.bytes": "67108864"}
    assert isinstance(step, TopicStep)
    assert step.was == {"cleanup.policy": "delete", "segment.bytes": "1073741824"}
    step = planned(facts(journal=topic(NAMES.journal, message_timestamp_type="CreateTime")))[NAMES.journal]
    assert step.configs == {"message.timestamp.type": "LogAppendTime"}


def test_a_control_topic_that_would_forget_decisions_is_corrected() -> None:
    step = planned(facts(control=topic(NAMES.control, partitions=1, cleanup_policy="delete")))[NAMES.control]
    assert step == TopicStep(NAMES.control, {"cleanup.policy": "compact"}, {"cleanup.policy": "delete"})


def test_a_control_topic_with_several_partitions_needs_the_operator() -> None:
    with pytest.raises(
        TopicsError, match=r"course-sync-control has 2 partitions: .* exactly one\. Delete it"
    ):
        planned(facts(control=topic(NAMES.control, partitions=2)))


def test_larger_limits_and_stricter_compaction_are_left_alone() -> None:
    step = planned(facts(journal=topic(NAMES.journal, max_message_bytes="9000000", segment_bytes="1048576")))
    assert step[NAMES.journal] == TopicStep(NAMES.journal)


@pytest.mark.parametrize("attribute", ["changes", "results"])
def test_the_publishers_settings_are_never_touched(attribute: str) -> None:
    name = getattr(NAMES, attribute)
    odd = topic(name, replicas=1, cleanup_policy="compact", max_message_bytes="100", min_insync_replicas="1")
    assert planned(facts(**{attribute: odd}))[name] == TopicStep(name)


def test_a_journal_with_fewer_partitions_is_not_simply_grown() -> None:
    """Courses may have moved: whether more partitions are safe takes a look at what is under way."""
    with pytest.raises(TopicsError, match="coursesyncd topics grow --partitions 6"):
        planned(facts(journal=topic(NAMES.journal, partitions=3)))


def test_a_journal_with_more_partitions_needs_the_operator() -> None:
    with pytest.raises(
        TopicsError, match=r"journal has 9 partitions and course-changes 6: .*delete course-sync-"
    ):
        planned(facts(journal=topic(NAMES.journal, partitions=9)))


def test_partitions_of_an_existing_input_are_not_changed() -> None:
    with pytest.raises(TopicsError, match="exists with 6 partitions, but --partitions is 12"):
        planned(facts(), partitions=12)
    assert planned(facts(), partitions=6)


@pytest.mark.parametrize(
    ("found", "subject", "expected"),
    [
        (facts(changes=None), NAMES.changes, "does not exist"),
        (
            facts(journal=topic(NAMES.journal, partitions=5)),
            NAMES.journal,
            "has 5 partitions, but course-changes has 6",
        ),
        (
            facts(journal=topic(NAMES.journal, cleanup_policy="compact,delete")),
            NAMES.journal,
            "cleanup.policy is compact,delete, expected compact",
        ),
        (
            facts(journal=topic(NAMES.journal, max_message_bytes="1048588")),
            NAMES.journal,
            "max.message.bytes is 1048588",
        ),
        (
            facts(dead_letters=topic(NAMES.dead_letters, cleanup_policy="compact")),
            NAMES.dead_letters,
            "refuses records without a key",
        ),
        (
            facts(dead_letters=topic(NAMES.dead_letters, max_message_bytes="500000")),
            NAMES.dead_letters,
            "is 500000",
        ),
        (
            facts(results=topic(NAMES.results, max_message_bytes="1000")),
            NAMES.results,
            "expected at least 65536",
        ),
        (
            facts(control=topic(NAMES.control, partitions=6)),
            NAMES.control,
            "has 6 partitions, expected exactly 1",
        ),
        (
            facts(control=topic(NAMES.control, partitions=1, cleanup_policy="delete")),
            NAMES.control,
            "cleanup.policy is delete, expected compact",
        ),
    ],
)
def test_what_keeps_the_daemon_from_working_is_wrong(found: Facts, subject: str, expected: str) -> None:
    wrong = [(name, text) for level, name, text in said(found) if level is Level.WRONG]
    assert len(wrong) == 1
    assert wrong[0][0] == subject
    assert expected in wrong[0][1]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (facts(changes=topic(NAMES.changes, cleanup_policy="compact")), "is compacted"),
        (facts(journal=topic(NAMES.journal, segment_bytes="1073741824")), "segment.bytes is 1073741824"),
        (
            facts(journal=topic(NAMES.journal, message_timestamp_type="CreateTime")),
            "message.timestamp.type is CreateTime, expected LogAppendTime",
        ),
        (facts(results=topic(NAMES.results, replicas=1)), "has 1 replica and min.insync.replicas=2"),
        (facts(results=topic(NAMES.results, min_insync_replicas="1")), "min.insync.replicas=1"),
        (
            facts(journal=topic(NAMES.journal, unclean_leader_election_enable="true")),
            "unclean.leader.election.enable is true",
        ),
    ],
)
def test_what_the_guarantees_rest_on_is_an_advice(found: Facts, expected: str) -> None:
    levels = {level for level, _, text in said(found) if expected in text}
    assert levels == {Level.ADVICE}
    assert Level.WRONG not in {level for level, _, _ in said(found)}


@pytest.mark.parametrize(
    ("checked", "levels"),
    [
        (KeyCheck(KeyState.ACCEPTED, "good", 0.3), [Level.OK, Level.OK]),
        (KeyCheck(KeyState.ACCEPTED, "good", -90.0), [Level.OK, Level.ADVICE]),
        (KeyCheck(KeyState.REFUSED, "bad", 0.0), [Level.WRONG, Level.OK]),
        (KeyCheck(KeyState.UNKNOWN, "no answer", None), [Level.WRONG]),
    ],
)
def test_key_and_clock(checked: KeyCheck, levels: list[Level]) -> None:
    assert [finding.level for finding in api_findings("https://api", checked)] == levels
