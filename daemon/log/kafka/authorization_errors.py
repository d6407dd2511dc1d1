"""Messages about operations that the cluster's authorizer denies.

The library's errors name the resource at best and never the operation. The caller knows both.
"""

from __future__ import annotations

from kafka.errors import AuthorizationError, ClusterAuthorizationFailedError

from daemon.log.kafka.connection_errors import described

PAGE = "docs/permissions.md"
"""Documents which program needs which rights."""


def denied(operation: str, resource: str) -> str:
    """Both arguments use the terms of Kafka's ACLs: ``Read``, ``topic course-changes``."""
    return f"Kafka does not allow this user the operation {operation} on {resource}; see {PAGE}"


def explained(error: BaseException, operation: str, resource: str) -> str:
    """Describes an error of this operation: the missing right for an authorization error, else its name and message."""
    if isinstance(error, AuthorizationError):
        return denied(operation, _topics(error) or resource)
    if operation == "Write" and ClusterAuthorizationFailedError.__name__ in str(error):
        # A user that may write to no topic at all gets no producer id. The library has the broker's error as text only.
        return denied(operation, resource)
    return described(error)


def _topics(error: AuthorizationError) -> str | None:
    """The topics that were refused, if the library names them."""
    refused = error.args[0] if error.args else None
    if not isinstance(refused, set | frozenset | list | tuple) or not refused:
        return None
    return ", ".join(f"topic {name}" for name in sorted(map(str, refused)))
