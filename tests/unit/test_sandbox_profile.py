"""The sandbox's settings: ones that the daemon accepts, and nothing of the user's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from daemon.config import load_settings
from daemon.log.port import Topics
from tests.sandbox import profile
from tests.sandbox.soak import load


def environment(
    tmp_path: Path, inherited: dict[str, str], settings: Mapping[str, str] = MappingProxyType({})
) -> dict[str, str]:
    api_key_file = tmp_path / "api-key"
    api_key_file.write_text("key\n")
    return profile.environment(
        inherited,
        bootstrap="127.0.0.1:9092",
        topics=Topics(journal="sandbox-1-journal"),
        group="sandbox-1",
        base_url="http://127.0.0.1:8000/v1",
        api_key_file=api_key_file,
        admin_port=8001,
        settings=settings,
    )


def test_the_daemon_accepts_the_sandboxs_settings(tmp_path: Path) -> None:
    settings = load_settings(environment(tmp_path, {}))

    assert settings.kafka.bootstrap_servers == "127.0.0.1:9092"
    assert settings.topics.journal == "sandbox-1-journal"
    assert settings.kombo.base_url == "http://127.0.0.1:8000/v1"
    assert settings.kombo.api_key_file.read_text() == "key\n"
    assert (settings.admin.host, settings.admin.port) == ("127.0.0.1", 8001)
    assert settings.task.timeout == 10.0


def test_the_daemon_accepts_those_of_a_soak(tmp_path: Path) -> None:
    settings = load_settings(environment(tmp_path, {}, load.SETTINGS))

    assert settings.backlog.courses_max == load.COURSES_MAX
    assert settings.window.batches_max == 1


def test_settings_of_the_user_do_not_reach_the_sandbox(tmp_path: Path) -> None:
    inherited = {
        "COURSESYNC_KAFKA_SASL_USERNAME": "production",
        "COURSESYNC_CONFIG": "prod.toml",
        "PATH": "/bin",
    }

    made = environment(tmp_path, inherited)

    assert made["PATH"] == "/bin"
    assert "COURSESYNC_CONFIG" not in made
    assert load_settings(made).kafka.sasl_username is None
