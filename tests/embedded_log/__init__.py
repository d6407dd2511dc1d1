"""An event log inside this process, behind `daemon.log.port`. For simulation, tests and a demo only.

**Never for production**: it keeps everything in memory, and logs a warning about it when it starts.

How it works. `EmbeddedCluster` is the broker: topics, transactions, consumer groups. It is plain data, changed by plain
method calls that never wait. `EmbeddedLog` is the client of one member. It has no queue: `next_event` checks the cluster, and
waits on a future if there is no event.

It is deterministic: it has no threads, no clock and no randomness. Timestamps come from the clock that is passed to the
cluster. Members are served in the order of their ids, partitions in turn.

Members can run in different event loops that one thread steps manually. The cluster never resolves another member's future
directly, but through that future's own loop (`call_soon_threadsafe`).

It reproduces this behaviour of Kafka: offsets with gaps where transactions ended or were aborted; readers that stop at the
first undecided record; fencing by an epoch per transactional id; compaction and retention that keep offsets; eager
rebalances; static members, which keep their partitions until their session ends; a new topic id for a topic that was created
again. The new owner of a partition is notified at once, even if the earlier owner has not read its `Revoked` yet: that is the
harder of the two cases.

How to inject faults:

* with wrappers of the protocols around `EmbeddedLog` and `EmbeddedShardLog`: a commit that fails, one that is written and
  reported as failed (commit, then raise), one that is written later (commit in a separate task, and delay `close` of the
  inner object until then), late answers;
* a member that dies: drop its loop or its tasks and call `EmbeddedCluster.expire`. A member that was only paused detects this
  at its next check, gives up its partitions and joins again, as a Kafka client does;
* a rebalance at any moment: `EmbeddedCluster.rebalance`;
* rebalances that arrive late, while the member continues to read: override `EmbeddedCluster.deliver`;
* a writer that stopped in the middle of a transaction: `EmbeddedCluster.producer` and `append`, without an end;
* the work of a cleaner or an operator: `compact`, `delete_before`, `delete_topic`, `recreate_topic`, `add_partitions`.
"""

from tests.embedded_log.client import EmbeddedLog, EmbeddedShardLog
from tests.embedded_log.cluster import EmbeddedCluster, Producer
from tests.embedded_log.group import Notice, Session

__all__ = ["EmbeddedCluster", "EmbeddedLog", "EmbeddedShardLog", "Notice", "Producer", "Session"]
