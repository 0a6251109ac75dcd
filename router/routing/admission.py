"""What to try when a hold does not fit: a lower cap, a cheaper arm, waiting - in that order.

Pure: figures and offers in, the next attempt out. A cap that the client set is never lowered. Any
other goes down to what the arm's answers usually take, where that is known, and a request rather
waits than goes below; where it is not, to a share of what is left.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from storage.errors import HeldBackError

if TYPE_CHECKING:
    from collections.abc import Callable

    from cost_models.errors import BudgetExceededError
    from cost_models.types import Arm
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
    """How to go on after a refusal: ``consider`` forecasts a request, ``whole`` is as asked.

    ``usual_cap`` gives the tokens that an arm's answers usually stay within, None if unknown.
    """

    consider: Callable[[ChatRequest], Choice]
    whole: Attempt
    budget_wait_s: float
    usual_cap: Callable[[Arm], int | None]

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
        usual = self._usual(offer)
        can_wait = self.budget_wait_s > 0
        if usual is not None and usual > (unspent if can_wait else free):
            usual = None
        if not others_wait:
            alone = facts.held_nano_usd == 0
            smaller = self._smaller(attempt, offer, _aim(usual, free, alone=alone), free)
            if smaller is not None:
                return smaller
        return self._waiting(offer, unspent, usual) if can_wait else None

    def _usual(self, offer: Offer) -> int | None:
        """Bound in nano-USD what ``offer`` costs at its usual cap; None if that is not known."""
        tokens = self.usual_cap(offer.arm)
        floor, asked = self.whole.request.min_max_tokens, self.whole.request.task.max_tokens
        if tokens is None or floor is None:
            return None
        return _worst_at(self.whole.request, offer, min(asked, max(floor, tokens)))

    def _waiting(self, offer: Offer, unspent: int, usual: int | None) -> Attempt | None:
        """Wait with what would fit if all that is in flight cost nothing more."""
        deadline_s = time.monotonic() + self.budget_wait_s
        waiting = replace(self.whole, deadline_s=deadline_s)
        aim = unspent // SHARE_OF_UNSPENT if usual is None else usual
        lowered = self._lowered(waiting, offer, aim)
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
        asked = attempt.request
        if _worst_at(asked, offer, asked.task.max_tokens) <= aim_nano_usd:
            return None
        request = lowered(asked, offer, aim_nano_usd)
        if request is None:
            return None
        return replace(attempt, request=request, choice=self.consider(request))


def _aim(usual: int | None, free: int, *, alone: bool) -> int:
    """Give what a lowered request should cost at most; alone it may have more than it needs."""
    if usual is None:
        return free if alone else free // SHARE_OF_FREE
    return max(usual, free // SHARE_OF_FREE) if alone else usual


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
