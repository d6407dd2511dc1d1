"""Sends sealed batches: takes the next batch that the flow allows, checks the lease, POSTs, applies the answer."""

from __future__ import annotations

import asyncio

from daemon.core.answers import NoAnswer, Refused, SubmitAnswer
from daemon.core.batch import Submission
from daemon.core.flow import Flow, Permit
from daemon.core.judge import Judge, SubmitRuling
from daemon.core.model import Now
from daemon.core.shard import Shard
from daemon.core.step import BatchSealed
from daemon.core.verdict import SubmitVerdict
from daemon.runtime.batch_ref import BatchRef
from daemon.runtime.halt import Halt
from daemon.runtime.partition import Partition
from daemon.runtime.ports import Ports
from daemon.runtime.step_transaction import StepFailedError
from daemon.runtime.waker import Waker
from daemon.telemetry.events import BatchAnswered, BatchDelayed, DefectFound


class Submitter:
    def __init__(
        self, ports: Ports, flow: Flow[BatchRef], judge: Judge, halt: Halt, waker: Waker, polls: Waker
    ) -> None:
        """`waker` wakes this submitter, `polls` wakes the poller."""
        self._ports = ports
        self._flow = flow
        self._judge = judge
        self._halt = halt
        self._waker = waker
        self._polls = polls
        self._stopping = False
        self.in_flight = 0

    # --- the queue --------------------------------------------------------------------------------

    def offer(
        self,
        partition: Partition,
        shard: Shard,
        integration_id: str,
        batch_id: str,
        not_before: float | None = None,
        *,
        bulk: bool,
    ) -> None:
        """Queue a batch whose record is committed."""
        self._flow.offer(integration_id, BatchRef(partition, shard, batch_id), not_before, bulk=bulk)
        self._waker.wake()

    def sealed(self, partition: Partition, shard: Shard, sealed: BatchSealed) -> None:
        """Queue a new batch."""
        now = self._ports.clock.now().mono
        not_before = self._behind_the_floor(sealed.integration_id, sealed.batch_id, sealed.delay, now)
        self.offer(partition, shard, sealed.integration_id, sealed.batch_id, not_before, bulk=sealed.bulk)

    def _behind_the_floor(self, integration_id: str, batch_id: str, delay: float, now: float) -> float | None:
        """When the API's clock will have passed the batch's floor. None if it already has (R14)."""
        if not delay:
            return None
        self._ports.observer.notify(BatchDelayed(batch_id, integration_id, delay))
        return now + delay

    def restored(self, partition: Partition, shard: Shard) -> None:
        """Queue the restored batches that have no task and wait for no POST of an earlier owner (R6)."""
        for batch in shard.submissions():
            self._again(partition, shard, batch)

    def cleared(self, partition: Partition, shard: Shard, batch_id: str) -> None:
        """Queue a restored batch that has waited for POSTs of earlier owners."""
        batch = shard.submission(batch_id)
        assert batch is not None, "nobody has POSTed it"
        self._again(partition, shard, batch)

    def _again(self, partition: Partition, shard: Shard, batch: Submission) -> None:
        now = self._ports.clock.now()
        delay = shard.delay(batch.batch_id, now)
        not_before = self._behind_the_floor(batch.integration_id, batch.batch_id, delay, now.mono)
        self.offer(partition, shard, batch.integration_id, batch.batch_id, not_before, bulk=batch.bulk)

    def forget_ended(self) -> None:
        """Remove the batches that operators have given up, and those of shards that have ended."""
        self._flow.drop(lambda ref: ref.submission() is not None, self._ports.clock.now().mono)

    def wake(self) -> None:
        self._waker.wake()

    def stop(self) -> None:
        """Start no more submissions. Submissions in flight finish."""
        self._stopping = True
        self._waker.wake()

    # --- sending ----------------------------------------------------------------------------------

    async def run(self) -> None:
        async with asyncio.TaskGroup() as calls:
            while not self._stopping:
                now = self._ports.clock.now().mono
                permit = self._flow.next_submission(now)
                if permit is None:
                    await self._waker.wait(self._flow.due(now))
                    continue
                calls.create_task(self._submit(permit))

    async def _submit(self, permit: Permit[BatchRef]) -> None:
        ref = permit.ref
        leased = ref.submission() is not None and await ref.partition.lease(ref.shard)
        started = self._ports.clock.now()
        batch = ref.submission()
        if batch is None or not leased:
            self._flow.released(permit, started.mono)
        elif not self._flow.try_send(permit, started.mono):
            self._flow.released(permit, started.mono)
            self._flow.offer(permit.integration_id, ref, bulk=batch.bulk)
        else:
            await self._send(permit, batch, started)
            self._polls.wake()
        self._waker.wake()

    async def _send(self, permit: Permit[BatchRef], batch: Submission, started: Now) -> None:
        sent_with = self._judge.key_number
        posts = permit.ref.partition.posts
        posts.started(batch.batch_id)
        self.in_flight += 1
        try:
            answer = await self._ports.api.submit(batch.operation, batch.integration_id, batch.body)
        finally:
            self.in_flight -= 1
        now = self._ports.clock.now()
        ref = permit.ref
        ruling = self._judge.submit(
            permit.integration_id, batch.operation, answer, sent_with, fate_unknown=batch.fate_unknown
        )
        self._halt.follow(ruling.key, answer.error if isinstance(answer, Refused) else None, now)
        # Even if the shard that sent it has ended, what the answer says about the integration is valid.
        again = self._flow.submission_done(permit, answer, ruling.verdict, now.mono)
        if isinstance(answer, NoAnswer):
            # The POST may still be in flight until its deadline has passed (R6).
            until = started.mono + self._ports.settings.http.deadline
            posts.unanswered(batch.batch_id, until)
            again = max(again, until)
        else:
            posts.answered(batch.batch_id)
        if not ref.valid or not self._apply(ref, answer, ruling, again, now):
            return
        is_open = ref.submission() is not None
        self._ports.observer.notify(
            BatchAnswered(
                ref.partition.number,
                batch.batch_id,
                batch.integration_id,
                batch.items,
                answer,
                ruling.verdict,
                is_open,
                again - now.mono,
            )
        )
        if is_open:
            # The back-off of the integration holds it back, and ends early if the API accepts our key again.
            by_key = ruling.verdict is SubmitVerdict.OUR_SIDE
            self._flow.offer(permit.integration_id, ref, None if by_key else again, bulk=batch.bulk)
        ref.partition.wake()

    def _apply(
        self, ref: BatchRef, answer: SubmitAnswer, ruling: SubmitRuling, again: float, now: Now
    ) -> bool:
        """Apply the ruling to the shard. Returns False if that failed; the shard is then dropped."""
        partition, shard, batch_id = ref
        try:
            shard.submit_answered(batch_id, answer, ruling, again, now)
        except Exception as error:
            self._ports.observer.notify(DefectFound(partition.number, error, batch=batch_id))
            partition.fail(StepFailedError(f"the answer to batch {batch_id} cannot be applied", error))
            return False
        return True
