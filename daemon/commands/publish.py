"""``coursesyncd publish``: JSON lines from files or stdin into the input topic."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import click

from daemon.commands.connections import kafka_connection
from daemon.commands.options import bootstrap_option, config_option, settings_for_topics
from daemon.log.port import LogError
from daemon.log.topic_access import Publisher

STDIN = "-"


class Line(NamedTuple):
    """A line to be published."""

    place: str
    """File and line number, for messages."""
    key: bytes | None
    value: bytes


class BadLine(NamedTuple):
    place: str
    complaint: str


@click.command()
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--topic", help="Instead of topics.changes of the configuration.")
@bootstrap_option
@config_option
def publish(
    *, files: tuple[str, ...], topic: str | None, bootstrap_servers: str | None, config_file: Path | None
) -> None:
    """Publish course changes, one JSON object a line, from FILES or stdin.

    Each line becomes one record, unchanged, with its integration_id as the key. So all changes of a course are in
    one partition, in the order of the lines. The setting input.partitioner says which one; other publishers of the
    topic must use the same partitioner and the same keys. A line that is not JSON is reported and left out.

    Exit code 0: every line was published; 1: some were left out, or Kafka refused them.
    """
    settings = settings_for_topics(config_file, bootstrap_servers)
    topic = topic or settings.topics.changes
    bad = keyless = 0
    partitioner = settings.input.partitioner
    if partitioner == "any":
        partitioner = "murmur2"
        click.echo(
            "input.partitioner is any: keys are placed by murmur2, other publishers may differ", err=True
        )
    try:
        with Publisher(kafka_connection(settings.kafka), topic, partitioner) as publisher:
            for line in _read(files or (STDIN,)):
                if isinstance(line, BadLine):
                    bad += 1
                    click.echo(f"{line.place}: {line.complaint}; left out", err=True)
                    continue
                if line.key is None:
                    keyless += 1
                    click.echo(f"{line.place}: no integration_id, so it will be rejected", err=True)
                publisher.send(line.key, line.value)
    except (LogError, OSError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(_summary(publisher.confirmed, topic, bad, keyless))
    sys.exit(1 if bad else 0)


def parse_lines(name: str, lines: Iterable[bytes]) -> Iterator[Line | BadLine]:
    """The records in the lines of the file `name`. Empty lines are skipped but counted."""
    for number, raw in enumerate(lines, start=1):
        value = raw.strip()
        if not value:
            continue
        place = f"{name}:{number}"
        try:
            change = json.loads(value)
        except UnicodeDecodeError:
            yield BadLine(place, "not UTF-8")
        except json.JSONDecodeError as error:
            yield BadLine(place, f"not JSON: {error.msg} at column {error.colno}")
        except RecursionError:
            yield BadLine(place, "nested too deep")
        else:
            if isinstance(change, dict):
                yield Line(place, _key(change), value)
            else:
                yield BadLine(place, "not a JSON object")


def _key(change: dict[str, object]) -> bytes | None:
    """The id of the integration, from a plain change or a CloudEvent in structured mode."""
    data = change.get("data")
    integration_id = change.get("integration_id")
    if integration_id is None and isinstance(data, dict):
        integration_id = data.get("integration_id")
    if not isinstance(integration_id, str):
        return None
    return integration_id.encode("utf-8", "surrogatepass")


def _read(files: Iterable[str]) -> Iterator[Line | BadLine]:
    for file in files:
        with click.open_file(file, "rb") as lines:
            yield from parse_lines("stdin" if file == STDIN else file, lines)


def _summary(count: int, topic: str, bad: int, keyless: int) -> str:
    text = f"{count:,} {'change' if count == 1 else 'changes'} published to {topic}"
    if keyless:
        text += f", {keyless:,} of them without an integration_id"
    if bad:
        text += f"; {bad:,} {'line' if bad == 1 else 'lines'} left out"
    return text + "."
