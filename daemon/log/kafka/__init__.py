"""The event log on Apache Kafka, through kafka-python 3.0.x.

How it works::

    asyncio loop                        threads (all are daemon threads; none waits for the loop)
    ------------                        ---------------------------------------------------------
    KafkaLog.next_event  <- LoopQueue <- consumer.py  one thread owns the group consumer
    KafkaLog.begin, ...  -> commands ->              (the client is not thread-safe)
    KafkaShardLog.commit -> Worker   -> producer.py  one thread per open shard, because its producer blocks
    KafkaShardLog.restore -> Worker  -> partition_reader.py  one thread per shard while its journal is read
    KafkaLog.input_facts -> Worker   -> admin.py     one thread for questions about topics

Each client of the library also has an I/O thread of its own. `cures` works around the library's defects.
"""

from daemon.log.kafka.clients import KafkaConnection
from daemon.log.kafka.log import KafkaLog

__all__ = ["KafkaConnection", "KafkaLog"]
