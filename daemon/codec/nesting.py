"""How deeply the objects and arrays of a JSON text are nested.

The JSON decoder also recurses into fields that it skips. It fails at the recursion limit of the interpreter: about
1,000 nested calls on Python 3.11, including those above the decoder, and several thousand on 3.13. With that limit
alone, one replica could accept a record that another one rejects. `NESTING_MAX` is well below every interpreter's limit.

How it works: a text cannot be nested more deeply than it has opening brackets. Only a text with many of them is
looked at closely.
"""

from __future__ import annotations

import re
from itertools import accumulate
from operator import add

NESTING_MAX = 512
"""Levels of objects and arrays in one record. A course change has four."""

STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
"""A JSON string."""

_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEP_OF_BRACKET = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


def nested_too_deep(text: bytes) -> bool:
    """Whether a JSON object has more levels than `NESTING_MAX`. A text that does not begin as one never is."""
    if text.count(b"{") + text.count(b"[") <= NESTING_MAX:
        return False
    if not text.lstrip().startswith(b"{"):
        return False
    brackets = STRING.sub(b"", text).translate(None, _NOT_BRACKETS)
    return max(accumulate(map(_STEP_OF_BRACKET.__getitem__, brackets), add), default=0) > NESTING_MAX
