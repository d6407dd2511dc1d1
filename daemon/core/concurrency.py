"""Limits the number of submissions of one integration in flight, by the limit that the API reports.

The API accepts a limited number of concurrent action requests per integration, 30 by default and fewer for some. It
refuses further ones with ``PLATFORM.CONCURRENCY_LIMIT_EXCEEDED`` (the vendor's guide "Concurrency limiting";
`docs/kombo-api.md`, "Limits"). Submissions are action requests. Polls are not: they read data of the API itself, and
the guide counts only POSTs that reach the connected tool. Other clients share the same limit: other replicas, or
other programs of the customer. Answers report the limit and how much of it remains.

How it works: additive increase, multiplicative decrease, within what the last answer allows::

    no answer yet        one submission, to find out
    first good answer    half of what the API offers, so that two clients that start together fit; if the answer
                         does not report it, still one
    a round of them      one more, if all places were in use and each answer had room for one more
    too many             half of those that were in flight; once for all that were sent before this refusal
    any answer           at most its limit, and at most our requests in flight plus what remains

The API does not report how many of our requests it had counted when it computed `Concurrency-Remaining`. The window
assumes the most that it can have counted: the largest number of our requests that were in flight at the same time
while that request was in flight. So our own requests are never attributed to other clients, and a client that has the
limit to itself is never refused. If other clients leave less room than this assumption suggests, further answers show
it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field


@dataclass(slots=True)
class Window:
    """The window of one integration in this process. A request is identified by its number, in sending order."""

    most: int
    """Upper limit of the window, regardless of what the API allows."""
    _size: int = 1
    _room: int | None = None
    """The room for this process according to the last answer that reported it."""
    _started: bool = False
    """A good answer has arrived since the start or the last `restart`."""
    _good: int = 0
    """The number of good answers in this round."""
    _last_sent: int = 0
    """The number of the request that was sent last."""
    _under_way: int = 0
    _peaks: deque[tuple[int, int]] = field(default_factory=deque)
    """The number of a request, and how many were in flight after it was sent. Entries that a later one exceeds are
    removed. So the counts decrease, and there are at most as many entries as places.
    """
    _reduced_at: int = 0
    """Refusals of requests up to this number cause no further reduction."""

    def __post_init__(self) -> None:
        assert self.most >= 1

    @property
    def allowed(self) -> int:
        """How many may be in flight; at least one, because otherwise no further answer would arrive."""
        return max(1, min(self._size, self._limit))

    def sent(self) -> int:
        """A request is sent now. Returns its number."""
        self._last_sent += 1
        self._under_way += 1
        while self._peaks and self._peaks[-1][1] <= self._under_way:
            self._peaks.pop()
        self._peaks.append((self._last_sent, self._under_way))
        return self._last_sent

    def answered(self, number: int, limit: int | None, remaining: int | None) -> None:
        """The request has ended, whatever its answer. `limit` and `remaining` are headers of the answer, None if
        missing.
        """
        self._under_way -= 1
        reported = [limit] if limit is not None else []
        if remaining is not None:
            reported.append(self._peak(number) + remaining)
        if reported:
            self._room = min(reported)
            self._size = min(self._size, max(1, self._room))

    def good(self, number: int) -> None:
        """The answer was good: one more request may be tried."""
        if not self._started:
            self._started, self._good = True, 0
            self._size = 1 if self._room is None else max(1, min(self._room // 2, self.most))
        elif self._size >= self._limit:
            self._good = 0
        elif self._peak(number) >= self._size:
            self._good += 1
            if self._good >= self._size:
                self._size, self._good = self._size + 1, 0

    def overloaded(self, number: int) -> None:
        """The API refused this request because too many were in flight."""
        if number > self._reduced_at:
            self._size, self._good = max(1, min(self._size, self._peak(number)) // 2), 0
            self._reduced_at = self._last_sent

    def restart(self) -> None:
        """The integration failed: one request at a time, until there is a good answer."""
        self._size, self._good, self._started = 1, 0, False

    @property
    def _limit(self) -> int:
        return self.most if self._room is None else min(self._room, self.most)

    def _peak(self, number: int) -> int:
        """The maximum number of requests in flight at a time since this one was sent, itself included."""
        return next(under_way for sent, under_way in self._peaks if sent >= number)
