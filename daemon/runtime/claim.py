"""What a piece of work belongs to: an answer counts only while the partition still has the shard that asked."""

from __future__ import annotations

from typing import NamedTuple

from daemon.core.batch import Submission
from daemon.core.shard import Shard
from daemon.runtime.partition import Partition


class Claim(NamedTuple):
    """A batch, under one shard of one partition."""

    partition: Partition
    shard: Shard
    id: str

    @property
    def valid(self) -> bool:
        """Whether the shard may be given the answer to a request that was made under this claim."""
        return self.partition.shard is self.shard

    def submission(self) -> Submission | None:
        """The batch, if it is still to be POSTed under this claim."""
        return self.shard.submission(self.id) if self.valid else None
