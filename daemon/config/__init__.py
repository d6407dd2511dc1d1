"""Frozen settings from one table: read with `load_settings`, described in ``docs/configuration.md``."""

from daemon.config.courses_table import CoursesSettings, UnchangedSettings
from daemon.config.kafka_table import KafkaSettings
from daemon.config.load import ConfigError, Configuration, load_configuration, load_settings
from daemon.config.policy import Policies, Policy
from daemon.config.policy_tables import PolicyTable
from daemon.config.table import (
    AdminSettings,
    BacklogSettings,
    BatchSettings,
    DrainSettings,
    FenceSettings,
    HttpSettings,
    InputSettings,
    KomboSettings,
    LogSettings,
    ParkSettings,
    PollSettings,
    RetrySettings,
    Settings,
    TaskSettings,
    Topics,
    WaitSettings,
    WatchdogSettings,
    WindowSettings,
)

__all__ = [
    "AdminSettings",
    "BacklogSettings",
    "BatchSettings",
    "ConfigError",
    "Configuration",
    "CoursesSettings",
    "DrainSettings",
    "FenceSettings",
    "HttpSettings",
    "InputSettings",
    "KafkaSettings",
    "KomboSettings",
    "LogSettings",
    "ParkSettings",
    "Policies",
    "Policy",
    "PolicyTable",
    "PollSettings",
    "RetrySettings",
    "Settings",
    "TaskSettings",
    "Topics",
    "UnchangedSettings",
    "WaitSettings",
    "WatchdogSettings",
    "WindowSettings",
    "load_configuration",
    "load_settings",
]
