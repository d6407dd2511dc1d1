"""The admin client can only abort a hanging transaction, not commit it.

Defect: WriteTxnMarkers can write either end, but `KafkaAdminClient` offers the abort only, as
    `kafka-transactions.sh abort` does. If the results of a transaction were committed, its journal records must be too.
Upstream: not reported. The admin calls came with https://github.com/dpkp/kafka-python/pull/3051 (KIP-664).
Versions: 3.0.12.
Remove when: tests/unit/test_kafka_cures.py::test_the_admin_client_can_still_only_abort_a_transaction fails.
"""

from __future__ import annotations

from kafka import KafkaAdminClient
from kafka.admin import AbortTransactionSpec


def write_end(client: KafkaAdminClient, spec: AbortTransactionSpec, *, commit: bool) -> int:
    """Write the marker that ends a transaction on one partition. Returns the broker's error code, 0 for none.

    Blocks, and raises the library's `KafkaError`.
    """

    async def write() -> int:
        (leader,) = await client._async_get_leader_for_partitions([spec.topic_partition])  # noqa: SLF001
        request = client._abort_transaction_request(spec)  # noqa: SLF001
        request.markers[0].transaction_result = commit
        response = await client._manager.send(request, node_id=leader)  # noqa: SLF001
        (written,) = (part for topic in response.markers[0].topics for part in topic.partitions)
        return int(written.error_code)

    code: int = client._manager.run(write)  # noqa: SLF001
    return code
