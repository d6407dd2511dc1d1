"""The command line: the composition root. A command is imported only when it is used. `--help` imports none."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import click

from daemon import __version__


class _Lazy(NamedTuple):
    load: Callable[[], click.Command]
    help: str
    """One line: the first sentence of the command's own help."""


def _check() -> click.Command:
    from daemon.commands.check import check

    return check


def _console() -> click.Command:
    from daemon.console.command import console

    return console


def _courses() -> click.Command:
    from daemon.commands.courses import courses

    return courses


def _dead_letters() -> click.Command:
    from daemon.commands.dead_letters import dead_letters

    return dead_letters


def _end_transaction() -> click.Command:
    from daemon.commands.repair.end_transaction import end_transaction

    return end_transaction


def _give_up() -> click.Command:
    from daemon.commands.give_up import give_up

    return give_up


def _inspect() -> click.Command:
    from daemon.commands.inspect import inspect

    return inspect


def _integrations() -> click.Command:
    from daemon.commands.integrations import integrations

    return integrations


def _pause() -> click.Command:
    from daemon.commands.pause import pause

    return pause


def _publish() -> click.Command:
    from daemon.commands.publish import publish

    return publish


def _reject() -> click.Command:
    from daemon.commands.repair.reject import reject

    return reject


def _republish() -> click.Command:
    from daemon.commands.republish import republish

    return republish


def _results() -> click.Command:
    from daemon.commands.results import results

    return results


def _resume() -> click.Command:
    from daemon.commands.pause import resume

    return resume


def _run() -> click.Command:
    from daemon.commands.run import run

    return run


def _skip() -> click.Command:
    from daemon.commands.repair.skip import skip

    return skip


def _topics() -> click.Command:
    from daemon.commands.repair.grow import grow_command
    from daemon.commands.topics import topics_group

    topics_group.add_command(grow_command)
    return topics_group


_COMMANDS = {
    "check": _Lazy(_check, "Check configuration, Kafka, topics and API, and say what to do."),
    "console": _Lazy(_console, "Serve pages about integrations, courses and partitions."),
    "courses": _Lazy(_courses, "What each learning system holds, as the API last confirmed it."),
    "dead-letters": _Lazy(_dead_letters, "The records that were rejected."),
    "end-transaction": _Lazy(
        _end_transaction, "End a hanging transaction in the journal or the courses topic."
    ),
    "give-up": _Lazy(_give_up, "Give up changes of an integration."),
    "inspect": _Lazy(_inspect, "Show open changes from the journals."),
    "integrations": _Lazy(_integrations, "Show the work, the pauses and the settings of integrations."),
    "pause": _Lazy(_pause, "Pause integrations: none of their changes is submitted."),
    "publish": _Lazy(_publish, "Publish course changes, one JSON object per line, from FILES or stdin."),
    "reject": _Lazy(_reject, "Let a partition reject records although too many were rejected."),
    "republish": _Lazy(_republish, "Send changes again that have failed."),
    "results": _Lazy(_results, "Show the results of changes, as a read_committed consumer sees them."),
    "resume": _Lazy(_resume, "Resume paused integrations."),
    "run": _Lazy(_run, "Run the daemon until SIGTERM or SIGINT."),
    "skip": _Lazy(_skip, "Make a blocked partition continue at another offset."),
    "topics": _Lazy(_topics, "The Kafka topics."),
}


_OUTPUT_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)
"""Errors of a stream that cannot be written. The commands write nothing but their output. click handles a closed pipe."""


class _Commands(click.Group):
    """The command group. It loads its commands from `_COMMANDS`."""

    def main(self, *args: Any, **options: Any) -> Any:
        """No command ends in a traceback because of what it prints: not for a character that the terminal does not know, and
        not if the output is closed or full.
        """
        _prepare_output()
        try:
            return super().main(*args, **options)
        except OSError as error:
            if error.errno not in _OUTPUT_ERRORS:
                raise
            # Python tries to write the rest once more at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            click.echo(f"Error: the output cannot be written: {error.strerror}.", err=True)
            sys.exit(1)

    def list_commands(self, _context: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        return _COMMANDS[name].load() if name in _COMMANDS else None

    def format_commands(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.help) for name, command in _COMMANDS.items()])


def _prepare_output() -> None:
    """A character that the encoding of the terminal does not have is printed as an escape. A stream that was closed before the
    start is replaced, because libraries do not expect that.
    """
    sys.stdout = sys.stdout or _nowhere()
    sys.stderr = sys.stderr or _nowhere()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _nowhere() -> TextIO:
    return Path(os.devnull).open("w", encoding="utf-8")


@click.group(cls=_Commands)
@click.version_option(__version__, prog_name="coursesyncd")
def main() -> None:
    """Mirror course changes from Kafka into learning systems."""
