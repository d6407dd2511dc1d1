"""The signals that stop the daemon gracefully."""

from __future__ import annotations

import signal

STOPS = (signal.SIGTERM, signal.SIGINT)
