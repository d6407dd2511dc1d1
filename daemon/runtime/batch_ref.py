"""Ties a request to its shard: an answer counts only while the partition still has the shard that sent the request."""

from __future__ import annotations

from typing import NamedTuple

from daemon.core.batch import Submission
from daemon.core.shard import Shard
from daemon.runtime.partition import Partition


class BatchRef(NamedTuple):
    """A batch of one shard of one partition."""

    partition: Partition
    shard: Shard
    id: str

    @property
    def valid(self) -> bool:
        """Whether the answer to a request made for this batch may be applied to the shard."""
        return self.partition.shard is self.shard

    def submission(self) -> Submission | None:
        """The batch, if it still has to be POSTed by this shard."""
        return self.shard.submission(self.id) if self.valid else None
