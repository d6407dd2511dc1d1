"""All cures of a network client, put together.

Defect: the library has no setting for another connection manager or other cluster metadata, so the manager is made here,
    and the class of its metadata is replaced. To delete a cure, delete its module and its name here.
Upstream: not reported.
Versions: 3.0.12.
Remove when: every class used below is gone.
"""

from __future__ import annotations

from typing import Any

from kafka.net.selector import NetworkSelector

from daemon.log.kafka.cures.connecting import FailuresAreNoted
from daemon.log.kafka.cures.last_answer import AnswersAreTimed
from daemon.log.kafka.cures.lost_request import RequestsAreKept
from daemon.log.kafka.cures.moved_cluster import BootstrapIsTheFallback


class _Manager(AnswersAreTimed, FailuresAreNoted):
    pass


class NetClient(RequestsAreKept):
    """For the setting ``kafka_client`` of every client."""

    def __init__(self, **configs: Any) -> None:
        net = NetworkSelector(**configs)
        self.manager = _Manager(net, **configs)
        self.manager.cluster.__class__ = BootstrapIsTheFallback
        super().__init__(net, self.manager, **configs)
