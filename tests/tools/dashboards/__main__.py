"""Write both dashboards into the folder that is the only argument."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.tools.dashboards.document import text_of
from tests.tools.dashboards.internals import internals
from tests.tools.dashboards.overview import overview

DASHBOARDS = {"overview.json": overview, "internals.json": internals}

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for name, made in DASHBOARDS.items():
        (folder / name).write_text(text_of(made()), encoding="utf-8")
