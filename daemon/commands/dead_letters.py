"""``coursesyncd dead-letters``: lists the rejected records, and shows one of them with its original bytes."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import msgspec

from daemon.codec.dead_letter import HEADERS
from daemon.codec.times import iso_ms
from daemon.commands.connections import kafka_connection
from daemon.commands.options import bootstrap_option, config_option, settings_for_topics
from daemon.commands.tables import NONE, RowPrinter, printable, until_the_reader_leaves
from daemon.commands.times import SinceParam
from daemon.core.model import RejectReason
from daemon.log.errors import LogError
from daemon.log.topic_access import Since, Start, TopicRecord, read_topic

WIDTHS = {"REJECTED (UTC)": 19, "SOURCE": 24, "REASON": 11, "BYTES": 9, "ERROR": 5}
"""Columns, at least."""

_NAME_WIDTH = 13
"""Characters of a name in `show`, at least."""


@click.group(name="dead-letters")
def dead_letters() -> None:
    """The records that were rejected.

    To send one again that would be accepted now: `coursesyncd republish --status REJECTED`.
    """


@dead_letters.command(name="list")
@click.option(
    "--since",
    metavar="TIME",
    type=SinceParam(),
    help="Rejected since then: 2h, 7d, 2026-11-29 (UTC) or 2026-11-29T18:00:00Z.",
)
@click.option(
    "--reason",
    "reasons",
    multiple=True,
    type=click.Choice([reason.value for reason in RejectReason]),
    help="Only these (may be repeated).",
)
@click.option("--json", "as_json", is_flag=True, help="One object a line, instead of a table.")
@click.option("--topic", help="Instead of topics.dead_letters of the configuration.")
@bootstrap_option
@config_option
def list_(
    *,
    since: int | None,
    reasons: tuple[str, ...],
    as_json: bool,
    topic: str | None,
    bootstrap_servers: str | None,
    config_file: Path | None,
) -> None:
    """List rejected records: when, source, reason, size and error.

    The source is the place of the record in the input, and names it for `show`.
    """
    settings = settings_for_topics(config_file, bootstrap_servers)
    topic = topic or settings.topics.dead_letters
    start: Start = "beginning" if since is None else Since(since)
    count, table = 0, RowPrinter(WIDTHS)
    with until_the_reader_leaves():
        try:
            for record in read_topic(kafka_connection(settings.kafka), topic, start=start):
                row = _row(record)
                if reasons and row["reason"] not in reasons:
                    continue
                if as_json:
                    click.echo(msgspec.json.encode(row))
                else:
                    table.print(_cells(row))
                count += 1
        except LogError as error:
            raise click.ClickException(str(error)) from error
        if not as_json:
            click.echo(f"{count:,} {'dead letter' if count == 1 else 'dead letters'}.")


@dead_letters.command()
@click.argument("source", metavar="TOPIC/PARTITION/OFFSET")
@click.option("--raw", is_flag=True, help="Only the value, byte for byte.")
@click.option("--topic", help="Instead of topics.dead_letters of the configuration.")
@bootstrap_option
@config_option
def show(
    *, source: str, raw: bool, topic: str | None, bootstrap_servers: str | None, config_file: Path | None
) -> None:
    """Show one rejected record: the reason, its headers, its key and its value.

    It is named by its place in the input, which `list` shows, and which is the id of its result.
    """
    settings = settings_for_topics(config_file, bootstrap_servers)
    topic = topic or settings.topics.dead_letters
    try:
        records = read_topic(kafka_connection(settings.kafka), topic)
        found = next((record for record in records if _ours(record).get("source") == source), None)
        records.close()
    except LogError as error:
        raise click.ClickException(str(error)) from error
    if found is None:
        raise click.ClickException(f"{topic} has no dead letter of {source}: it may have been deleted.")
    with until_the_reader_leaves():
        if raw:
            sys.stdout.buffer.write(found.value or b"")
            sys.stdout.buffer.flush()
        else:
            _show(found)


def _show(record: TopicRecord) -> None:
    _line("rejected", iso_ms(record.timestamp))
    for name, text in _ours(record).items():
        _line(name, printable(text))
    for name, content in record.headers:
        if name not in HEADERS:
            _line("header", f"{printable(name)}: {_text(content)}")
    _line("key", _text(record.key))
    _line("value", NONE if record.value is None else f"{len(record.value):,} bytes")
    if record.value is not None:
        click.echo(_text(record.value))


def _line(name: str, text: str) -> None:
    click.echo(f"{name:<{_NAME_WIDTH}} {text}")


def _row(record: TopicRecord) -> dict[str, Any]:
    ours = _ours(record)
    return {
        "rejected_at": iso_ms(record.timestamp),
        "source": ours.get("source"),
        "reason": ours.get("reason"),
        "error_code": ours.get("error-code"),
        "error_message": ours.get("error-message"),
        "bytes": _size(record, ours),
    }


def _size(record: TopicRecord, ours: Mapping[str, str]) -> int | None:
    """Of the original value, which the dead letter may have truncated. None: it has no value."""
    whole = ours.get("value-size", "")
    if whole.isdecimal():
        return int(whole)
    return None if record.value is None else len(record.value)


def _cells(row: Mapping[str, Any]) -> list[str]:
    size = row["bytes"]
    return [
        row["rejected_at"][:19].replace("T", " "),
        row["source"] or NONE,
        row["reason"] or NONE,
        NONE if size is None else f"{size:,}",
        f"{row['error_code'] or 'no code'}: {row['error_message'] or '-'}",
    ]


def _ours(record: TopicRecord) -> dict[str, str]:
    """The headers that the daemon has added, without their prefix, in its order."""
    return {
        name.removeprefix("coursesync-"): (content or b"").decode("utf-8", "replace")
        for name, content in record.headers
        if name in HEADERS
    }


def _text(content: bytes | None) -> str:
    return NONE if content is None else printable(content.decode("utf-8", "backslashreplace"))
