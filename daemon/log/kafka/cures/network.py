"""All cures of a network client, put together.

Defect: the library has no setting for another connection manager or other cluster metadata, so the class of the existing
    objects is replaced. To delete a cure, delete its module and its name here.
Upstream: not reported.
Versions: 3.0.12.
Remove when: every class used below is gone.
"""

from __future__ import annotations

from typing import Any

from daemon.log.kafka.cures.last_answer import AnswersAreTimed
from daemon.log.kafka.cures.lost_request import RequestsAreKept
from daemon.log.kafka.cures.moved_cluster import BootstrapIsTheFallback


class NetClient(RequestsAreKept):
    """For the setting ``kafka_client`` of every client."""

    def __init__(self, **configs: Any) -> None:
        super().__init__(**configs)
        self._manager.__class__ = AnswersAreTimed
        self._manager.cluster.__class__ = BootstrapIsTheFallback
