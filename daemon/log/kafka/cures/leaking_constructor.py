"""A client whose constructor fails leaves its threads and sockets behind.

Defect: the constructors of consumer, producer and admin client start the network client first, and do not close it when
    a later step raises (no broker answers, a version is not supported). Each attempt leaks a thread and its descriptors.
Upstream: not reported.
Versions: 3.0.12.
Remove when: tests/unit/test_kafka_cures.py::test_a_constructor_that_fails_still_leaves_its_network_client_open fails.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kafka.errors import KafkaError

from daemon.log.kafka.cures.connecting import CannotConnectError
from daemon.log.kafka.cures.network import NetClient


def construct(kind: Callable[..., Any], **settings: Any) -> Any:
    """The client that ``kind(**settings)`` makes. If that raises, nothing of it is left.

    Raises:
        CannotConnectError: no bootstrap server could be used.
    """
    made: list[NetClient] = []

    def net_client(**configs: Any) -> NetClient:
        made.append(NetClient(**configs))
        return made[-1]

    try:
        return kind(kafka_client=net_client, **settings)
    except BaseException as error:
        failures = {address: why for client in made for address, why in client.manager.failures.items()}
        for client in made:
            client.close()
        if isinstance(error, KafkaError) and failures:
            raise CannotConnectError(failures) from error
        raise
