"""Everything that tries and proves the daemon. None of it is installed."""
