"""`coursesyncd run`: starts the parts of the daemon and stops them in order."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from pathlib import Path
from typing import Any

import click
import structlog

from daemon import __version__
from daemon.admin import AdminServer
from daemon.allocator import keep_heap_compact
from daemon.commands.assembly import Instruments, make_api, make_engine, make_instruments
from daemon.commands.certificates import CertificateError, not_after
from daemon.commands.connections import kafka_connection
from daemon.commands.open_files import OpenFiles, raise_limit, watch_open_files
from daemon.commands.options import EXIT_CONFIGURATION, config_option, configuration_or_exit
from daemon.commands.policy_watch import ConfigFiles, PolicyWatch
from daemon.config import Configuration, Policies
from daemon.kombo.api_key import ApiKeyError, ApiKeyFile
from daemon.kombo.client import KomboSetupError
from daemon.log.errors import FatalLogError, LogError
from daemon.log.kafka.log import KafkaLog
from daemon.log.port import EventLog
from daemon.runtime.engine import Engine
from daemon.runtime.liveness import report_liveness
from daemon.runtime.watchdog import Watchdog
from daemon.stop_signals import READ_AGAIN, STOPS
from daemon.telemetry import logs
from daemon.telemetry.labels import CertificateUsage, LogLevel
from daemon.telemetry.metrics import Metrics

log = structlog.get_logger()

EXIT_FAILED = 1
START_RETRY_DELAY = 2.0
"""Seconds between two attempts to reach Kafka at the start."""
GARBAGE_THRESHOLD = 50_000
"""Live young containers at which the garbage collector runs. Kafka's client creates seven per record of a transaction and
drops them together, so with Python's default of 700 the collector runs all the time: a sixth of the daemon's CPU.
"""
GARBAGE_INTERVAL = 60.0
"""Seconds after which the collector runs in any case. Closed asyncio connections and empty polls of the Kafka client are
reference cycles: a quiet process needed twenty minutes and ten megabytes of them to reach the threshold.
"""
SWITCH_INTERVAL = 0.02
"""Seconds after which a thread that computes gives the interpreter to one that waits for it; Python's default is 0.005. Each
switch moves memory between two CPUs: with 0.02 a change takes 17 % less CPU time at full load. Threads that wait for the
network give it up at once, so a process that is not at its limit is as quick as before; with 0.1 it is not.
"""


@click.command()
@config_option
def run(*, config_file: Path | None) -> None:
    """Run the daemon until SIGTERM or SIGINT.

    The tables [integrations."…"] of the configuration are read again when their file changes, and on SIGHUP. Everything else
    needs a restart.

    Exit codes: 0 stopped by a signal, 1 a part of the daemon failed, 2 the configuration has mistakes, 3 a thread or loop
    hung (see the stacks in the log).
    """
    config_files = ConfigFiles(os.environ, config_file)
    configuration = configuration_or_exit(config_file)
    settings = configuration.settings
    try:
        api_key = ApiKeyFile(settings.kombo.api_key_file)
    except ApiKeyError as error:
        click.echo(str(error), err=True)
        sys.exit(EXIT_CONFIGURATION)
    files = OpenFiles(raise_limit(), settings.http.in_flight_max)
    if mistake := files.mistake():
        click.echo(mistake, err=True)
        sys.exit(EXIT_CONFIGURATION)
    sys.setswitchinterval(SWITCH_INTERVAL)
    keep_heap_compact()
    gc.freeze()  # imported modules stay for the life of the process
    gc.set_threshold(GARBAGE_THRESHOLD, *gc.get_threshold()[1:])
    sys.exit(asyncio.run(_Process(configuration, config_files, api_key, files).run()))


async def collect_garbage() -> None:
    """Run forever. The oldest generation is left to the interpreter: it is large, and almost all of it is alive."""
    while True:
        await asyncio.sleep(GARBAGE_INTERVAL)
        gc.collect(1)


async def _cancelled(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel the tasks and wait until they have ended."""
    there = [task for task in tasks if task is not None]
    for task in there:
        task.cancel()
    await asyncio.gather(*there, return_exceptions=True)


class _Process:
    def __init__(
        self, configuration: Configuration, config_files: ConfigFiles, api_key: ApiKeyFile, files: OpenFiles
    ) -> None:
        self._settings = configuration.settings
        self._policies = Policies(configuration.settings, configuration.tables)
        self._config_files = config_files
        self._api_key = api_key
        self._files = files
        self._told_to_stop = asyncio.Event()
        self._engine: Engine | None = None

    async def run(self) -> int:
        """The exit code."""
        loop = asyncio.get_running_loop()
        for number in STOPS:  # from here on there are parts to be stopped in order
            loop.add_signal_handler(number, self._stop)
        settings = self._settings
        instruments = make_instruments(settings, os.environ)
        metrics, health = instruments.metrics, instruments.health
        logs.configure(logs.Style(settings.log.format), LogLevel(settings.log.level), metrics.log_message)
        instruments.tracing.report()
        names = (settings.admin.host_names or "").replace(" ", "").split(",")
        admin = AdminServer(
            settings.admin.host, settings.admin.port, metrics=metrics, health=health, host_names=names
        )
        try:
            await admin.start()
        except OSError as error:
            log.error("admin.failed", error=f"{error}; set admin.host and admin.port to a free address")
            return EXIT_FAILED
        try:
            return await self._serve(instruments, admin.port)
        finally:
            await admin.stop()

    async def _serve(self, instruments: Instruments, admin_port: int) -> int:
        settings, metrics, health = self._settings, instruments.metrics, instruments.health
        try:
            event_log = KafkaLog(
                kafka_connection(settings.kafka),
                settings.topics,
                settings.kafka.group_id,
                settings.kafka.group_instance_id,
                settings.kafka.session_timeout,
            )
            api = make_api(settings, self._api_key, metrics)
        except (LogError, KomboSetupError) as error:
            log.error("start.failed", error=str(error))
            return EXIT_FAILED
        self._tell_certificate(metrics)
        watchdog = Watchdog(settings.watchdog.silence_max)
        watchdog.watch("consumer of Kafka", event_log.silence)
        watchdog.watch("commit, restore or request to Kafka", event_log.longest_call)
        watchdog.start()
        background = [
            asyncio.create_task(report_liveness(health, event_log, watchdog)),
            asyncio.create_task(collect_garbage()),
            asyncio.create_task(watch_open_files(self._files, health)),
        ]
        try:
            if not await self._connect(event_log):
                return 0
            log.info("daemon.started", version=__version__, admin_port=admin_port)
            self._engine = make_engine(
                settings, self._policies, event_log, api, instruments, self._key_changed
            )
            background.append(self._watch_policies(self._engine, instruments))
            if self._told_to_stop.is_set():
                self._engine.stop()
            await self._engine.run()
            log.info("daemon.stopped")
            return 0
        except FatalLogError as error:
            log.error("daemon.failed", error=str(error))
            return EXIT_FAILED
        except Exception:
            log.exception("daemon.died")
            return EXIT_FAILED
        finally:
            await event_log.stop()
            await api.close()
            await _cancelled(*background)
            await instruments.tracing.close()
            watchdog.stop()

    def _watch_policies(self, engine: Engine, instruments: Instruments) -> asyncio.Task[None]:
        watch = PolicyWatch(
            self._config_files, self._settings, self._policies, instruments.observer, engine.use_policies
        )
        asyncio.get_running_loop().add_signal_handler(READ_AGAIN, watch.ask)
        return asyncio.create_task(watch.run())

    def _tell_certificate(self, metrics: Metrics) -> None:
        """Report when the client certificate for Kafka expires. The process keeps the certificate that it loaded at the start."""
        file = self._settings.kafka.tls_certificate_file
        if file is None:
            return
        try:
            metrics.certificate(CertificateUsage.KAFKA_CLIENT, not_after(file))
        except CertificateError as error:
            log.warning("certificate.unreadable", error=str(error))

    async def _connect(self, event_log: EventLog) -> bool:
        """Join the group, however long Kafka is unavailable. False if a signal arrived in the meantime."""
        stopping = asyncio.create_task(self._told_to_stop.wait())
        starting: asyncio.Task[None] | None = None
        try:
            while not stopping.done():
                starting = asyncio.create_task(event_log.start())
                await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
                if not starting.done():
                    break
                try:
                    starting.result()
                    return True
                except FatalLogError:
                    raise
                except LogError as error:
                    log.error("kafka.unavailable", error=str(error), retry_in_s=START_RETRY_DELAY)
                await asyncio.wait([stopping], timeout=START_RETRY_DELAY)
            return False
        finally:
            await _cancelled(stopping, starting)

    def _key_changed(self) -> bool:
        """Called periodically while the API refuses the key. Logs a problem with the file once."""
        known_problem = self._api_key.problem
        changed = self._api_key.changed()
        if self._api_key.problem not in (None, known_problem):
            log.error("api.key_unusable", error=self._api_key.problem)
        return changed

    def _stop(self) -> None:
        """The first signal drains. The second ends the process immediately, which loses nothing: the journal holds the
        state.
        """
        if self._told_to_stop.is_set():
            log.warning("stop.at_once", reason="a second signal")
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(EXIT_FAILED)
        self._told_to_stop.set()
        if self._engine is not None:
            self._engine.stop()
