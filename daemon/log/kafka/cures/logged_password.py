"""The library writes all settings of a client into its debug log, the SASL password among them.

Defect: the constructors log ``self.config`` as it is, at level DEBUG.
Upstream: not reported.
Versions: 3.0.12.
Remove when: tests/unit/test_kafka_clients.py::test_the_password_is_in_no_log_line_and_no_error passes with a plain
    string.
"""

from __future__ import annotations


class Secret(str):
    """A password that prints as ``***``. Encoding and joining yield the password itself."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)
