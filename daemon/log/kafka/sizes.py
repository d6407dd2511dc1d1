"""Limits on record sizes that clients and topics share."""

RECORD_BYTES_MAX = 2 * 1024 * 1024
"""The largest record that the daemon writes, checked by the client before compression, and the ``max.message.bytes`` of
the journal and the dead letters."""
