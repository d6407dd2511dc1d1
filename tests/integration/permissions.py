"""docs/permissions.md as data, and a broker that allows nobody what was not granted."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from kafka import KafkaAdminClient
from kafka.admin import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourcePatternFilter,
    ResourceType,
)

from tests.integration.daemon_world import wait_until
from tests.sandbox.broker import Broker
from tests.sandbox.ports import free_ports

PAGE = Path(__file__).parents[2] / "docs" / "permissions.md"
PASSWORD = "password"


class Right(NamedTuple):
    operation: str
    kind: str
    """As in the options of ``kafka-acls.sh``: topic, group, transactional-id, cluster."""
    name: str
    """Of a transactional id: what it begins with."""

    def __str__(self) -> str:
        return f"{self.operation} on {self.kind} {self.name}"


# --- the page -------------------------------------------------------------------------------------


def table() -> dict[str, frozenset[Right]]:
    """What the page's table says, by program."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in PAGE.read_text().splitlines()
        if line.startswith("|")
    ]
    heads = [_resource(head) for head in rows[0][1:]]
    return {
        row[0].strip("`"): frozenset(
            Right(operation.strip(), *head)
            for head, cell in zip(heads, row[1:], strict=True)
            for operation in cell.split(",")
            if operation.strip()
        )
        for row in rows[2:]
    }


def _resource(head: str) -> tuple[str, str]:
    found = re.fullmatch(r"(group |transactional ids )?`([\w-]+?)\*?`|cluster", head)
    assert found, head
    kinds = {None: "topic", "group ": "group", "transactional ids ": "transactional-id"}
    return ("cluster", "kafka-cluster") if head == "cluster" else (kinds[found[1]], found[2])


def granted() -> dict[str, frozenset[Right]]:
    """What the page's commands grant, by the program that the comment above them names."""
    (block,) = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    rights: dict[str, set[Right]] = {}
    program = ""
    for line in block.replace("\\\n", " ").splitlines():
        if line.startswith("# "):
            program = line.removeprefix("# ")
        elif line.startswith("allow --"):
            rights.setdefault(program, set()).update(_of_command(shlex.split(line)[1:]))
    return {program: frozenset(found) for program, found in rights.items()}


def _of_command(words: list[str]) -> Iterator[Right]:
    options = [
        (word, following) for word, following in itertools.pairwise([*words, ""]) if word.startswith("--")
    ]
    prefixed = ("--resource-pattern-type", "prefixed") in options
    for (_, operation), (option, name) in itertools.product(
        [option for option in options if option[0] == "--operation"], options
    ):
        kind = option.removeprefix("--")
        if kind in ("topic", "group", "transactional-id", "cluster"):
            assert prefixed == (kind == "transactional-id"), words
            yield Right(operation, kind, name if kind != "cluster" else "kafka-cluster")


# --- the broker -----------------------------------------------------------------------------------


class GuardedBroker(Broker):
    """Who comes to `bootstrap` may do everything; `guarded` asks for a login, and for rights."""

    def __init__(self, users: Iterable[str]) -> None:
        super().__init__(session_timeout=60.0)
        (port,) = free_ports(1)
        self.guarded = f"127.0.0.1:{port}"
        listener = f",SASL_PLAINTEXT://{self.guarded}"
        logins = " ".join(f'user_{user}="{PASSWORD}"' for user in users)
        self._settings |= {
            "listeners": self._settings["listeners"] + listener,
            "advertised.listeners": self._settings["advertised.listeners"] + listener,
            "listener.security.protocol.map": self._settings["listener.security.protocol.map"]
            + ",SASL_PLAINTEXT:SASL_PLAINTEXT",
            "sasl.enabled.mechanisms": "PLAIN",
            "listener.name.sasl_plaintext.plain.sasl.jaas.config": (
                f"org.apache.kafka.common.security.plain.PlainLoginModule required {logins};"
            ),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",  # the broker itself, and the test
            # It takes records of a transaction that its coordinator does not know: these hang forever.
            "transaction.partition.verification.enable": "false",
        }


class Rights:
    """What users are allowed. Methods block until the broker knows."""

    def __init__(self, admin: KafkaAdminClient) -> None:
        self._admin = admin

    def grant(self, user: str, rights: Iterable[Right]) -> None:
        done = self._admin.create_acls([_acl(user, right) for right in rights])
        assert not done["failed"], done

    def revoke(self, user: str, right: Right) -> None:
        acl = _acl(user, right)
        one = ACLFilter(
            acl.principal,
            acl.host,
            acl.operation,
            acl.permission_type,
            ResourcePatternFilter(
                acl.resource_pattern.resource_type,
                acl.resource_pattern.resource_name,
                acl.resource_pattern.pattern_type,
            ),
        )
        ((_, gone, _),) = self._admin.delete_acls([one])
        assert len(gone) == 1, right
        # The controller has removed it; the broker follows.
        wait_until(lambda: not self._admin.describe_acls(one)[0], f"the end of the right {right}")


def _acl(user: str, right: Right) -> ACL:
    kind = ResourceType[right.kind.replace("-", "_").upper()]
    prefixed = kind is ResourceType.TRANSACTIONAL_ID
    pattern = ACLResourcePatternType.PREFIXED if prefixed else ACLResourcePatternType.LITERAL
    operation = ACLOperation[re.sub(r"(?<=[a-z])(?=[A-Z])", "_", right.operation).upper()]
    return ACL(
        f"User:{user}", "*", operation, ACLPermissionType.ALLOW, ResourcePattern(kind, right.name, pattern)
    )
