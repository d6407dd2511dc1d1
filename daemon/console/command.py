"""``coursesyncd console``: pages about what is under way. A bystander: it joins no group, and writes nothing unless somebody
pauses or resumes an integration.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import click
import structlog

from daemon import __version__
from daemon.allocator import keep_heap_compact
from daemon.commands.connections import kafka_connection
from daemon.commands.decisions import write_decisions
from daemon.commands.options import EXIT_CONFIGURATION, config_option, configuration_or_exit
from daemon.commands.policy_watch import ConfigFiles, PolicyWatch
from daemon.config import Configuration
from daemon.console.access import Access, AccessError
from daemon.console.feed import Feed, wall_ms
from daemon.console.model import Model
from daemon.console.pages import Pages
from daemon.console.replicas import Replicas, replicas_mistake
from daemon.console.server import ConsoleServer
from daemon.core.control import Pause
from daemon.log.errors import LogError
from daemon.stop_signals import STOPS
from daemon.telemetry import logs
from daemon.telemetry.labels import LogLevel
from daemon.telemetry.subscribers import LogSubscriber

log = structlog.get_logger()

EXIT_FAILED = 1
UNNEEDED = frozenset({"kombo"})
"""Groups of settings: the console calls no API."""


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8090,
    show_default=True,
    help="Port to listen on. 0 picks a free one, which is logged.",
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The token, one line, with which people sign in to pause and resume. Without it the pages only show.",
)
@click.option(
    "--replicas",
    metavar="URL",
    multiple=True,
    help="Admin ports of the daemon, such as http://course-sync:8080: every address of the name is asked for its /state (may be repeated).",
)
@config_option
def console(
    *, host: str, port: int, token_file: Path | None, replicas: tuple[str, ...], config_file: Path | None
) -> None:
    """Serve pages about integrations, courses and partitions.

    Reads the journals, the results, the courses and the decisions into memory and follows them. It joins no group and disturbs
    no replica. Everybody who reaches the port may read; who signs in with the token may pause and resume integrations. Ends
    on SIGTERM or SIGINT.

    Exit codes: 0 stopped by a signal, 1 a part of the console failed, 2 the configuration or the token file has mistakes.
    """
    for url in replicas:
        if mistake := replicas_mistake(url):
            raise click.BadParameter(mistake, param_hint="--replicas")
    files = ConfigFiles(os.environ, config_file, UNNEEDED)
    configuration = configuration_or_exit(config_file, unneeded=UNNEEDED)
    access = Access(token_file, lambda: wall_ms() / 1000)
    if access.is_possible:
        try:
            access.token()
        except AccessError as error:
            click.echo(str(error), err=True)
            sys.exit(EXIT_CONFIGURATION)
    keep_heap_compact()
    sys.exit(asyncio.run(_serve(configuration, files, access, replicas, host, port)))


async def _serve(
    configuration: Configuration,
    files: ConfigFiles,
    access: Access,
    replicas: tuple[str, ...],
    host: str,
    port: int,
) -> int:
    """The exit code."""
    settings = configuration.settings
    logs.configure(logs.Style(settings.log.format), LogLevel(settings.log.level), lambda _: None)
    stopping = asyncio.Event()
    for number in STOPS:
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    model = Model(settings.topics)
    try:
        connection = kafka_connection(settings.kafka)
        feed = Feed(settings, model)
    except LogError as error:
        log.error("start.failed", error=str(error))
        return EXIT_FAILED

    async def write(decisions: list[Pause]) -> None:
        await asyncio.to_thread(write_decisions, connection, settings.topics.control, decisions)
        for each in decisions:
            log.info(
                "console.decided",
                integration=each.integration,
                paused=each.paused,
                by=each.by,
                reason=each.reason,
            )

    names = (settings.admin.host_names or "").replace(" ", "").split(",")
    pages = Pages(model, feed, access, configuration, write)
    watch = PolicyWatch(files, settings, pages.policies, LogSubscriber(), pages.policies.use)
    server = ConsoleServer(host, port, pages, names)
    try:
        port = await server.start()
    except OSError as error:
        log.error("console.failed", error=f"{error}; set --host and --port to a free address")
        return EXIT_FAILED
    log.info("console.started", version=__version__, host=host, port=port, actions=access.is_possible)
    loops = [asyncio.create_task(each) for each in (feed.follow(), feed.look(), watch.run())]
    if replicas:
        loops.append(asyncio.create_task(Replicas(replicas, model).follow()))
    stopped = asyncio.create_task(stopping.wait())
    try:
        done, _ = await asyncio.wait([*loops, stopped], return_when=asyncio.FIRST_COMPLETED)
        for task in done - {stopped}:
            task.result()
        return 0
    except Exception:
        log.exception("console.died")
        return EXIT_FAILED
    finally:
        await server.stop()
        for task in (*loops, stopped):
            task.cancel()
        await asyncio.gather(*loops, stopped, return_exceptions=True)
        await feed.stop()
