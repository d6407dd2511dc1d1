"""Converts between the wire formats of the topics and the values of the core. Pure functions on bytes and values."""

from daemon.codec.control_record import decode_control, encode_control
from daemon.codec.course_record import decode_course, encode_course
from daemon.codec.dead_letter import DEAD_LETTER_BYTES_MAX, encode_dead_letter
from daemon.codec.decode import decode_change
from daemon.codec.result import encode_correction, encode_result

__all__ = [
    "DEAD_LETTER_BYTES_MAX",
    "decode_change",
    "decode_control",
    "decode_course",
    "encode_control",
    "encode_correction",
    "encode_course",
    "encode_dead_letter",
    "encode_result",
]
