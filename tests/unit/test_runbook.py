"""The sentences point to sections of the runbook, and to commands that exist."""

from __future__ import annotations

import re
from pathlib import Path

import click

from daemon.cli import main
from daemon.log.kafka import log as kafka_log
from daemon.runtime import operator_messages

RUNBOOK = Path(__file__).parents[2] / operator_messages.RUNBOOK


def anchors() -> set[str]:
    """As GitHub makes them of the headings."""
    headings = re.findall(r"^#+ (.+)$", RUNBOOK.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def sources() -> str:
    return "".join(
        path.read_text(encoding="utf-8")
        for path in (Path(operator_messages.__file__).parents[1]).rglob("*.py")
    )


def test_every_section_that_a_sentence_names_is_there() -> None:
    text = sources()
    named = set(re.findall(r"\{RUNBOOK\}#([\w-]+)|docs/runbook\.md#([\w-]+)", text))
    named_anchors = {first or second for first, second in named}
    assert len(named_anchors) >= 9, "this test sees the sentences"
    assert named_anchors <= anchors()
    within = set(re.findall(r"\(#([\w-]+)\)", RUNBOOK.read_text(encoding="utf-8")))
    assert within <= anchors()


def test_every_command_that_is_named_exists_with_its_options() -> None:
    text = RUNBOOK.read_text(encoding="utf-8") + "".join(
        Path(module.__file__ or "").read_text(encoding="utf-8") for module in (operator_messages, kafka_log)
    )
    named = re.findall(r"`coursesyncd\s+((?:topics\s+)?[a-z-]+)([^`]*)`", text)
    assert len(named) > 10
    for name, rest in named:
        command: click.Command = main
        for part in name.split():
            assert isinstance(command, click.Group)
            found = command.get_command(click.Context(command), part)
            assert found is not None, name
            command = found
        options = {option for parameter in command.params for option in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", rest)) <= options, name
