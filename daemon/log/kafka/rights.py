"""What the cluster's authorizer keeps this user from, in one sentence.

The library's errors name the resource at best, and never the operation: whoever asked knows both.
"""

from __future__ import annotations

from kafka.errors import AuthorizationError

PAGE = "docs/permissions.md"
"""Which program needs which rights."""


def denied(operation: str, resource: str) -> str:
    """Both in the words of Kafka's ACLs: ``Read``, ``topic course-changes``."""
    return f"Kafka does not allow this user the operation {operation} on {resource}; see {PAGE}"


def words(error: BaseException, operation: str, resource: str) -> str:
    """What is told of an error that came of this operation: of the authorizer's the right that is missing, of any
    other its name and what it says."""
    if isinstance(error, AuthorizationError):
        return denied(operation, _topics(error) or resource)
    return f"{type(error).__name__}: {error}"


def _topics(error: AuthorizationError) -> str | None:
    """Of many topics the library names those that were refused."""
    refused = error.args[0] if error.args else None
    if not isinstance(refused, set | frozenset | list | tuple) or not refused:
        return None
    return ", ".join(f"topic {name}" for name in sorted(map(str, refused)))
