"""What to try when a hold does not fit: a lower cap, a cheaper arm, waiting - in that order.

Pure: figures and offers in, the next attempt out. A cap that the client set is never lowered.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from storage.errors import HeldBackError

if TYPE_CHECKING:
    from collections.abc import Callable

    from cost_models.errors import BudgetExceededError
    from router.routing.candidates import Offer
    from router.routing.chooser import Choice
    from router.routing.types import ChatRequest

SHARE_OF_FREE = 2
"""A cap that is lowered beside others takes at most half of what is free: the next one fits too."""

SHARE_OF_UNSPENT = 16
"""Of one that waits, the hold is at most this part of what is unspent, so that many can run."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at admission: the request with its cap, the arms left to choose from.

    ``deadline_s`` of ``time.monotonic`` is given for one that waits for money, else None.
    """

    request: ChatRequest
    choice: Choice
    deadline_s: float | None = None

    @property
    def wait_s(self) -> float:
        """Seconds that it may still wait; 0 for one that does not."""
        return 0.0 if self.deadline_s is None else max(0.0, self.deadline_s - time.monotonic())


@dataclass(frozen=True, slots=True)
class Admission:
    """How to go on after a refusal: ``consider`` forecasts a request, ``whole`` is as asked."""

    consider: Callable[[ChatRequest], Choice]
    whole: Attempt
    budget_wait_s: float

    def after(self, attempt: Attempt, offer: Offer, error: BudgetExceededError) -> Attempt | None:
        """Give the next attempt after ``offer`` did not fit; None to refuse the request."""
        facts = error.facts
        unspent = facts.limit_nano_usd - facts.spent_nano_usd
        if attempt.deadline_s is not None:
            if isinstance(error, HeldBackError):
                return None
            return self._smaller(attempt, offer, unspent, unspent)
        free = unspent - facts.held_nano_usd
        others_wait = isinstance(error, HeldBackError) and free >= offer.worst_case_nano_usd
        if not others_wait:
            alone = facts.held_nano_usd == 0
            aim = free if alone else free // SHARE_OF_FREE
            smaller = self._smaller(attempt, offer, aim, free)
            if smaller is not None:
                return smaller
        return self._waiting(offer, unspent)

    def _waiting(self, offer: Offer, unspent: int) -> Attempt | None:
        """Wait with what would fit if all that is in flight cost nothing more."""
        if self.budget_wait_s <= 0:
            return None
        deadline_s = time.monotonic() + self.budget_wait_s
        waiting = replace(self.whole, deadline_s=deadline_s)
        lowered = self._lowered(waiting, offer, unspent // SHARE_OF_UNSPENT)
        for candidate in (lowered, waiting):
            if candidate is not None:
                choice = candidate.choice.within(unspent)
                if choice is not None:
                    return replace(candidate, choice=choice)
        return None

    def _smaller(self, attempt: Attempt, offer: Offer, aim: int, most: int) -> Attempt | None:
        """Lower the cap so that ``offer`` costs about ``aim``, or take an arm within ``most``."""
        lowered = self._lowered(attempt, offer, aim)
        if lowered is not None:
            choice = lowered.choice.within(most)
            if choice is not None:
                return replace(lowered, choice=choice)
        choice = attempt.choice.within(min(most, offer.worst_case_nano_usd - 1))
        return None if choice is None else replace(attempt, choice=choice)

    def _lowered(self, attempt: Attempt, offer: Offer, aim_nano_usd: int) -> Attempt | None:
        request = lowered(attempt.request, offer, aim_nano_usd)
        if request is None:
            return None
        return replace(attempt, request=request, choice=self.consider(request))


def lowered(request: ChatRequest, offer: Offer, aim_nano_usd: int) -> ChatRequest | None:
    """Give ``request`` with the highest cap at which ``offer`` costs at most ``aim_nano_usd``.

    The floor where none does; None where the client set the cap, or it is at the floor already.
    """
    floor, cap = request.min_max_tokens, request.task.max_tokens
    if floor is None or cap <= floor:
        return None
    low, high = floor, cap - 1
    while low < high:
        middle = (low + high + 1) // 2
        if _worst_at(request, offer, middle) <= aim_nano_usd:
            low = middle
        else:
            high = middle - 1
    return replace(request, task=replace(request.task, max_tokens=low))


def _worst_at(request: ChatRequest, offer: Offer, max_tokens: int) -> int:
    return offer.worst_at(replace(request.task, max_tokens=max_tokens))
