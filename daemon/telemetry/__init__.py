"""Metrics, health, logs and spans of the daemon: projections of facts, never a source of facts."""
