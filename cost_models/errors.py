"""The root of every error that Rheostat raises on purpose, and the errors about money."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import date, datetime


class RheostatError(Exception):
    """Everything raised on purpose. The message says what happened, the value seen, what to do."""


class PriceConfigError(RheostatError):
    """A price is malformed: negative, contradictory, or without any rate."""


class UnknownPriceError(RheostatError):
    """No price is known for a model on a date; an unknown price is never $0."""

    def __init__(self, model: str, on: date) -> None:
        self.model = model
        self.on = on
        super().__init__(
            f"no price is known for model {model!r} on {on.isoformat()}; "
            "give it a `price:` in the config (0 is allowed when it is said)"
        )


@dataclass(frozen=True, slots=True)
class BudgetFacts:
    """One budget window at the moment of a refusal. Amounts are whole nano-USD.

    ``resets_at`` is None for a budget over the total, which never resets.
    """

    scope: str
    period: str
    limit_nano_usd: int
    spent_nano_usd: int
    held_nano_usd: int
    resets_at: datetime | None


class BudgetExceededError(RheostatError):
    """A hold does not fit into a budget; nothing was written.

    ``facts`` describes the budget that refused, ``asked_nano_usd`` the hold that did not fit.
    """

    def __init__(self, facts: BudgetFacts, asked_nano_usd: int) -> None:
        self.facts = facts
        self.asked_nano_usd = asked_nano_usd
        super().__init__(self._told())

    def _told(self) -> str:
        facts = self.facts
        free = facts.limit_nano_usd - facts.spent_nano_usd - facts.held_nano_usd
        if facts.resets_at:
            reset = f"it resets at {facts.resets_at.isoformat()}"
        else:
            reset = "it grows by grants" if facts.period == "prepaid" else "it never resets"
        return (
            f"the {facts.period} budget of {facts.scope!r} has {free / 1e9:.9f} USD free and this "
            f"request needs up to {self.asked_nano_usd / 1e9:.9f} USD; {reset}; "
            "lower max_tokens, allow a cheaper arm, or raise the limit"
        )


class NotEnoughDataError(RheostatError):
    """An estimate is refused: ``have`` observations are too few, ``need`` are needed."""

    def __init__(self, what: str, have: int, need: int) -> None:
        self.have = have
        self.need = need
        super().__init__(f"{what}: {have} so far, {need} are needed")
