"""How many submissions of one integration may be in flight: what the API allows, approached with care.

The API takes a limited number of action requests of an integration at a time, 30 by default and fewer for
some, and refuses more with ``PLATFORM.CONCURRENCY_LIMIT_EXCEEDED`` (the vendor's guide "Concurrency
limiting"). Submissions are such requests; polls are not: they read what the API itself knows, and the guide
counts only POSTs that reach the connected tool. Others draw on the same limit, be it another replica or
another program of the customer's; answers tell the limit and what remains of it.

How it works: additive increase, multiplicative decrease, below what the last answer left::

    nothing known yet    one submission, alone, finds out
    first good answer    half of what the API has for us, so that two who begin together fit; if none has told
                         what it has, still one
    a round of them      one more, if all places were in use and each answer had room for one more
    too many             half of those that were in flight; once for all that had left by then
    any answer           at most its limit, and at most ours in flight plus what remains

How many of ours were in flight when the API counted what remains nobody tells; at most the most that were
under way at any time while that request was. So others are never blamed for what may be our own, and who has
the limit alone is never refused; that there is less room than an answer seems to tell, others may tell.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field


@dataclass(slots=True)
class Window:
    """Of one integration in this process. Requests are known by their number in order of leaving."""

    most: int
    """What is never exceeded, whatever the API allows."""
    _size: int = 1
    _room: int | None = None
    """What the last answer that told it left for us."""
    _started: bool = False
    """A good answer has come since it began, or began again."""
    _good: int = 0
    """Good answers of this round."""
    _left: int = 0
    """The number of the request that left last."""
    _under_way: int = 0
    _peaks: deque[tuple[int, int]] = field(default_factory=deque)
    """Number of a request and how many were under way when it had left, less those that a later one tops:
    the second ones fall, so there are no more of them than places.
    """
    _reduced_at: int = 0
    """Requests up to this number are reason for no further reduction."""

    def __post_init__(self) -> None:
        assert self.most >= 1

    @property
    def allowed(self) -> int:
        """How many may be in flight; at least one, or nothing more would ever be learned."""
        return max(1, min(self._size, self._limit))

    def leaves(self) -> int:
        """A request leaves now; returns its number."""
        self._left += 1
        self._under_way += 1
        while self._peaks and self._peaks[-1][1] <= self._under_way:
            self._peaks.pop()
        self._peaks.append((self._left, self._under_way))
        return self._left

    def answered(self, number: int, limit: int | None, remaining: int | None) -> None:
        """The request is back, for good or ill; the last two are the answer's headers, None where it had
        none.
        """
        self._under_way -= 1
        told = [limit] if limit is not None else []
        if remaining is not None:
            told.append(self._peak(number) + remaining)
        if told:
            self._room = min(told)
            self._size = min(self._size, max(1, self._room))

    def good(self, number: int) -> None:
        """What came back shows that one more may be tried."""
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
        """The API had too many in flight when it refused this one."""
        if number > self._reduced_at:
            self._size, self._good = max(1, min(self._size, self._peak(number)) // 2), 0
            self._reduced_at = self._left

    def restart(self) -> None:
        """The integration is not well: one at a time, until an answer is good again."""
        self._size, self._good, self._started = 1, 0, False

    @property
    def _limit(self) -> int:
        return self.most if self._room is None else min(self._room, self.most)

    def _peak(self, number: int) -> int:
        """The most that were under way at a time since this request left, itself included."""
        return next(under_way for left, under_way in self._peaks if left >= number)
