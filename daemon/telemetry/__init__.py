"""Metrics, health and logs of the daemon: projections of facts, never a source of facts."""
