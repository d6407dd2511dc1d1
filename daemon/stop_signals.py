"""The signals that the daemon handles."""

from __future__ import annotations

import signal

STOPS = (signal.SIGTERM, signal.SIGINT)
"""They stop it gracefully."""

READ_AGAIN = signal.SIGHUP
"""It reads the tables of integrations again."""
