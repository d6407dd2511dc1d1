"""``python -m daemon.telemetry`` prints ``docs/metrics.md``."""

import sys

from daemon.telemetry.reference import reference

sys.stdout.write(reference())
