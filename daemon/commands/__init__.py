"""The commands of ``coursesyncd``: one module each, and what they share."""
