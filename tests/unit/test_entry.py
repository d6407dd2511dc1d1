"""The first moments of the process: it answers SIGTERM before it has loaded anything, and help is quick."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

from daemon.cli import main

FOREIGN = """
import sys
{what}
print(*sorted({{name.partition(".")[0] for name in sys.modules}} - sys.stdlib_module_names))
"""


def loaded_by(what: str) -> set[str]:
    """Top-level packages that are not Python's own, once this has run."""
    code = FOREIGN.format(what=what)
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(ran.stdout.splitlines()[-1].split()) - loaded_by("") if what else set(ran.stdout.split())


def test_nothing_is_loaded_before_sigterm_is_answered() -> None:
    assert loaded_by("import daemon.entry") == {"daemon"}


def test_help_loads_no_command() -> None:
    help_command = "from daemon.cli import main\nmain(['--help'], standalone_mode=False)"
    assert loaded_by(help_command) == {"daemon", "click"}


@pytest.mark.parametrize("name", main.list_commands(click.Context(main)))
def test_what_help_says_of_a_command_is_its_own_first_sentence(name: str) -> None:
    context = click.Context(main)
    command = main.get_command(context, name)
    assert command is not None
    assert command.name == name
    own = " ".join((command.help or "").split("\n\n")[0].split())
    assert f"{name} {own}" in " ".join(main.get_help(context).split())


def test_a_command_that_does_not_exist_is_named() -> None:
    with pytest.raises(click.UsageError, match="No such command 'rum'"):
        main(["rum"], standalone_mode=False)
