"""The signals that end the daemon in order."""

from __future__ import annotations

import signal

STOPS = (signal.SIGTERM, signal.SIGINT)
