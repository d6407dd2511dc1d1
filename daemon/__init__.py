"""``coursesyncd``: mirrors course changes into learning systems, with exactly one result per change."""

__version__ = "0.1.0"
