"""``python -m tests.sim --histories N --seed S``: many histories over all processors."""

from tests.sim.campaign import main

main()
