"""An event log inside this process, behind `daemon.log.port`. For simulation, tests and a demo only.

**Never for production**: it keeps everything in memory, and says so with a warning when it starts.

How it works. `EmbeddedCluster` is the broker: topics, transactions, consumer groups. It is plain data
changed by plain method calls; nothing in it waits. `EmbeddedLog` is one member's client: it holds no
queue, but looks at the cluster when `next_event` is called and sleeps on a future when there is nothing.

It is deterministic: no threads, no clock and no randomness of its own. Time stamps come from the clock
that the cluster is given; members are served in the order of their ids, partitions in turn.

Members may live in different event loops that one thread steps by hand: the cluster never touches
another member's future directly but asks that future's own loop (`call_soon_threadsafe`).

What Kafka does and this does too: offsets with gaps where transactions ended or were aborted; a reader
that stops at the first undecided record; fencing by an epoch per transactional id; compaction and
retention that keep offsets; eager rebalances; static members, which keep their partitions until their
session ends; a new topic id for a topic that was made again. A partition's new owner is told at once,
and does not wait until the earlier one has read its `Revoked`: that is the harder case of the two.

Where faults are put in:

* around `EmbeddedLog` and `EmbeddedShardLog`, with wrappers of the two protocols: a commit that fails,
  one that was written and is reported as failed (commit, then raise), one that is written later (commit
  in a task of its own, and keep `close` from the inner object until then), answers that are late;
* a member that dies: drop its loop or its tasks and call `EmbeddedCluster.expire`. One that was only
  paused finds out when it next looks, gives up its partitions and joins again, as a Kafka client does;
* a rebalance at any moment: `EmbeddedCluster.rebalance`;
* rebalances that are heard late, while the member goes on reading: override `EmbeddedCluster.deliver`;
* a writer that stopped in the middle: `EmbeddedCluster.producer`, `append`, and nothing more;
* what a cleaner does: `compact`, `delete_before`, `delete_topic`, `recreate_topic`, `add_partitions`.
"""

from tests.embedded_log.client import EmbeddedLog, EmbeddedShardLog
from tests.embedded_log.cluster import EmbeddedCluster, Producer
from tests.embedded_log.group import Notice, Session

__all__ = ["EmbeddedCluster", "EmbeddedLog", "EmbeddedShardLog", "Notice", "Producer", "Session"]
