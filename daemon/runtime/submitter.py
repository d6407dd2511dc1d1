"""Sends sealed batches: takes the next batch that the flow allows, checks the lease, POSTs, applies the answer."""

from __future__ import annotations

import asyncio

from daemon.core.answers import NoAnswer, Refused, SubmitAnswer
from daemon.core.batch import Submission
from daemon.core.flow import Flow, Turn
from daemon.core.judge import Judge, SubmitRuling
from daemon.core.model import Now
from daemon.core.shard import Shard
from daemon.core.step import BatchSealed
from daemon.runtime.claim import Claim
from daemon.runtime.halt import Halt
from daemon.runtime.partition import Partition
from daemon.runtime.ports import Ports
from daemon.runtime.step_transaction import StepFailedError, describe
from daemon.runtime.waker import Waker
from daemon.telemetry.events import BatchAnswered, BatchDelayed, DefectFound


class Submitter:
    def __init__(
        self, ports: Ports, flow: Flow[Claim], judge: Judge, halt: Halt, waker: Waker, polls: Waker
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
    ) -> None:
        """Queue a batch whose record is committed."""
        self._flow.offer(integration_id, Claim(partition, shard, batch_id), not_before)
        self._waker.wake()

    def sealed(self, partition: Partition, shard: Shard, sealed: BatchSealed) -> None:
        """Queue a new batch."""
        now = self._ports.clock.now().mono
        not_before = self._behind_the_floor(sealed.integration_id, sealed.batch_id, sealed.delay, now)
        self.offer(partition, shard, sealed.integration_id, sealed.batch_id, not_before)

    def _behind_the_floor(self, integration_id: str, batch_id: str, delay: float, now: float) -> float | None:
        """When the API's clock will have passed the batch's floor. None if it already has (R14)."""
        if not delay:
            return None
        self._ports.observer.notify(BatchDelayed(batch_id, integration_id, delay))
        return now + delay

    def restored(self, partition: Partition, shard: Shard) -> None:
        """Queue the restored batches that have no task. A POST of an earlier owner may still be in flight until
        fence + lease + D (R6), so they wait for that time.
        """
        settings = self._ports.settings
        fenced_ago = self._ports.clock.boot() - partition.fenced_at
        now = self._ports.clock.now()
        posted_until = now.mono + settings.fence.lease + settings.http.deadline - fenced_ago
        for batch in shard.submissions():
            delay = shard.delay(batch.batch_id, now)
            passed_at = self._behind_the_floor(batch.integration_id, batch.batch_id, delay, now.mono)
            not_before = max(posted_until, passed_at or 0.0)
            self.offer(partition, shard, batch.integration_id, batch.batch_id, not_before)

    def dropped(self) -> None:
        """Remove the batches of shards that have ended."""
        self._flow.drop(lambda claim: claim.valid, self._ports.clock.now().mono)

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
                turn = self._flow.next_submission(now)
                if turn is None:
                    await self._waker.wait(self._flow.due(now))
                    continue
                calls.create_task(self._submit(turn))

    async def _submit(self, turn: Turn[Claim]) -> None:
        claim = turn.ref
        leased = claim.submission() is not None and await claim.partition.lease(claim.shard)
        started = self._ports.clock.now()
        batch = claim.submission()
        if batch is None or not leased:
            self._flow.released(turn, started.mono)
        elif not self._flow.leaves(turn, started.mono):
            self._flow.released(turn, started.mono)
            self._flow.offer(turn.integration_id, claim)
        else:
            await self._send(turn, batch, started)
            self._polls.wake()
        self._waker.wake()

    async def _send(self, turn: Turn[Claim], batch: Submission, started: Now) -> None:
        sent_with = self._judge.key_number
        self.in_flight += 1
        try:
            answer = await self._ports.api.submit(batch.operation, batch.integration_id, batch.body)
        finally:
            self.in_flight -= 1
        now = self._ports.clock.now()
        claim = turn.ref
        ruling = self._judge.submit(turn.integration_id, answer, sent_with, fate_unknown=batch.fate_unknown)
        self._halt.follow(ruling.key, answer.error if isinstance(answer, Refused) else None, now)
        settled = claim.valid and self._settle(claim, answer, ruling, now)
        # Even if the shard that sent it has ended, what the answer says about the integration is valid.
        again = self._flow.submission_done(turn, answer, ruling.verdict, now.mono)
        if not settled:
            return
        is_open = claim.submission() is not None
        self._ports.observer.notify(
            BatchAnswered(
                claim.partition.number,
                batch.batch_id,
                batch.integration_id,
                batch.items,
                answer,
                ruling.verdict,
                is_open,
            )
        )
        if is_open:
            if isinstance(answer, NoAnswer):
                # The previous POST may still be in flight until its deadline has passed (R6).
                again = max(again, started.mono + self._ports.settings.http.deadline)
            self._flow.offer(turn.integration_id, claim, again)
        claim.partition.wake()

    def _settle(self, claim: Claim, answer: SubmitAnswer, ruling: SubmitRuling, now: Now) -> bool:
        """Apply the ruling to the shard. Returns False if that failed; the shard is then dropped."""
        partition, shard, batch_id = claim
        try:
            shard.submit_answered(batch_id, answer, ruling, now)
        except Exception as error:
            self._ports.observer.notify(DefectFound(partition.number, error, batch=batch_id))
            why = f"the answer to batch {batch_id} cannot be applied ({describe(error)})"
            partition.fail(StepFailedError(why))
            return False
        return True
