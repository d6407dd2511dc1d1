"""``coursesyncd publish``: JSON lines from files or stdin into the input topic."""

from __future__ import annotations

import codecs
import os
import stat
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import click

from daemon.codec import decode_change
from daemon.commands.connections import kafka_connection
from daemon.commands.interruption import Interrupted, Interruption
from daemon.commands.options import bootstrap_option, config_option, settings_for_topics
from daemon.core.model import Rejection
from daemon.log.errors import LogError
from daemon.log.topic_access import Publisher

STDIN = "-"

REFUSED_LINES_MAX = 20
"""Number of refused lines that are reported one by one."""


class Line(NamedTuple):
    """A line to be published."""

    place: str
    """File and line number, for messages."""
    key: bytes
    value: bytes


class RefusedLine(NamedTuple):
    """A line that the daemon would reject."""

    place: str
    reason: str


@click.command()
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--topic", help="Instead of topics.changes of the configuration.")
@bootstrap_option
@config_option
def publish(
    *, files: tuple[str, ...], topic: str | None, bootstrap_servers: str | None, config_file: Path | None
) -> None:
    """Publish course changes, one JSON object per line, from FILES or stdin.

    Each line becomes one record, unchanged, with its integration_id as the key. So all changes of a course are in
    one partition, in the order of the lines. The setting input.partitioner says which one; other publishers of the
    topic must use the same partitioner and the same keys. A byte order mark at the start of a file is left out.

    A line that the daemon would reject is refused. Files are checked before anything is sent: if a line is refused,
    nothing is published. Lines from a pipe or a terminal are checked and sent one by one; the first one that is refused
    ends the command.

    Exit code 0: every line was published; 1: not all of them, and the output says which.
    """
    files = files or (STDIN,)
    if STDIN in files and sys.stdin is None:
        raise click.UsageError("stdin is closed: name a file.")
    settings = settings_for_topics(config_file, bootstrap_servers)
    topic = topic or settings.topics.changes
    bytes_max, partitioner = settings.batch.bytes_max, settings.input.partitioner
    if partitioner == "any":
        partitioner = "murmur2"
        click.echo(
            "input.partitioner is any: keys are placed by murmur2, other publishers may differ", err=True
        )
    with Interruption() as interruption:
        progress = Progress(topic)
        try:
            interruption.wait_for(lambda: _check(files, bytes_max))
            with interruption.wait_for(
                lambda: Publisher(kafka_connection(settings.kafka), topic, partitioner)
            ) as publisher:
                progress.publisher = publisher
                # This ends normally, so that the publisher waits for what it has sent.
                progress.failure = _send(_read(files, bytes_max), publisher, progress, interruption)
        except (LogError, OSError) as error:
            progress.failure = str(error)
        except Interrupted as signal:
            progress.failure = _interrupted(signal)
        progress.report()
    sys.exit(1 if progress.failure else 0)


def _send(
    lines: Iterator[Line | RefusedLine], publisher: Publisher, progress: Progress, interruption: Interruption
) -> str | None:
    """Why not all lines were sent, or None."""
    try:
        while (line := interruption.wait_for(lambda: next(lines, None))) is not None:
            if isinstance(line, RefusedLine):
                return _shown(line)
            publisher.send(line.key, line.value)
            progress.sent(line)
    except OSError as error:
        return f"The input cannot be read: {error}"
    except Interrupted as signal:
        return _interrupted(signal)
    return None


class Progress:
    """What has been published so far."""

    def __init__(self, topic: str) -> None:
        self.publisher: Publisher | None = None
        self.failure: str | None = None
        """Why not all lines were published."""
        self._topic = topic
        self._unconfirmed: deque[str] = deque()
        """The places of sent lines, in order."""
        self._confirmed = 0
        self._last: str | None = None

    def sent(self, line: Line) -> None:
        self._unconfirmed.append(line.place)
        self._update()

    def _update(self) -> None:
        while self.publisher is not None and self._confirmed < self.publisher.confirmed:
            self._last = self._unconfirmed.popleft()
            self._confirmed += 1

    def report(self) -> None:
        """Print the result to stdout, or to stderr if nobody reads stdout."""
        self._update()
        if self.failure is not None:
            click.echo(self.failure, err=True)
        count = self._confirmed
        text = f"{count:,} {'change' if count == 1 else 'changes'} published to {self._topic}"
        if self.failure is not None and self._last is not None:
            text += f", up to {self._last}"
        if self._unconfirmed:
            text += f"; {len(self._unconfirmed):,} more were sent and not confirmed, up to {self._unconfirmed[-1]}"
        try:
            click.echo(f"{text}.")
        except OSError:
            click.echo(f"{text}.", err=True)


def parse_lines(name: str, lines: Iterable[bytes], bytes_max: int) -> Iterator[Line | RefusedLine]:
    """The records in the lines of the file `name`. Empty lines are skipped but counted."""
    for number, raw in enumerate(lines, start=1):
        value = (raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw).strip(b" \t\r\n")
        if not value:
            continue
        place = f"{name}:{number}"
        change = decode_change(0, None, value, (), consumed_at=0, item_bytes_max=bytes_max)
        if isinstance(change, Rejection):
            yield RefusedLine(place, change.error.message)
        else:
            yield Line(place, change.integration_id.encode(), value)


def _check(files: Iterable[str], bytes_max: int) -> None:
    """Exit if a line in a regular file is refused."""
    refused: list[RefusedLine] = []
    count = 0
    for line in _read(filter(_is_regular, files), bytes_max):
        if isinstance(line, RefusedLine):
            count += 1
            if count <= REFUSED_LINES_MAX:
                refused.append(line)
    if not refused:
        return
    for line in refused:
        click.echo(_shown(line), err=True)
    if count > REFUSED_LINES_MAX:
        click.echo(f"and {count - REFUSED_LINES_MAX:,} more lines", err=True)
    raise click.ClickException(
        f"{count:,} {'line is' if count == 1 else 'lines are'} refused, so nothing was published."
    )


def _is_regular(file: str) -> bool:
    """Whether the file can be read twice. A pipe cannot."""
    try:
        status = os.fstat(sys.stdin.fileno()) if file == STDIN else Path(file).stat()
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode)


def _read(files: Iterable[str], bytes_max: int) -> Iterator[Line | RefusedLine]:
    for file in files:
        with click.open_file(file, "rb") as lines:
            start = lines.tell() if _is_regular(file) else None
            yield from parse_lines("stdin" if file == STDIN else file, lines, bytes_max)
            if start is not None:
                lines.seek(start)  # stdin may be read again


def _interrupted(signal: Interrupted) -> str:
    return f"Interrupted by {signal}."


def _shown(line: RefusedLine) -> str:
    return f"{line.place}: {line.reason}"
