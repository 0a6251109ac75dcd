"""What calls cost by the price book's prices of their day, and corrections where that differs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from cost_models.errors import UnknownPriceError
from cost_models.money import to_nano_usd
from cost_models.types import Usage
from storage.adjustments import Adjustment, adjust, lock_entries
from storage.models import IMPORTED, AdjustmentKind, AdjustmentRow, CallRow, EntryRow

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

    from cost_models.pricing import PriceBook
    from storage.store import Ledger

ENTRIES_AT_ONCE = 500
CLASSES = (
    "n_calls",
    "prompt_tokens",
    "cached_prompt_tokens",
    "cache_write_tokens",
    "completion_tokens",
    "reasoning_tokens",
    "machine_ns",
)


@dataclass(slots=True)
class Repricing:
    """What the prices of their days say of calls, by model; amounts are whole nano-USD.

    ``booked`` and ``priced`` are what the compared calls (``n_calls``) cost so far and by the
    prices, ``n_differing`` how many differ. Left as they are: ``n_in_doubt`` calls, charged at
    their worst case, ``n_billed``, of which a bill told the cost, and ``n_unpriced``, whose model
    has no price in the book.
    """

    n_calls: Counter[str] = field(default_factory=Counter)
    n_differing: Counter[str] = field(default_factory=Counter)
    booked: Counter[str] = field(default_factory=Counter)
    priced: Counter[str] = field(default_factory=Counter)
    n_unpriced: Counter[str] = field(default_factory=Counter)
    n_in_doubt: int = 0
    n_billed: int = 0


def reprice(
    ledger: Ledger,
    book: PriceBook,
    now: datetime,
    within: tuple[datetime | None, datetime | None] = (None, None),
    *,
    dry_run: bool = False,
) -> Repricing:
    """Compare each settled call with the price of the day its entry began, and correct it.

    Entries begun in [since, until) of ``within`` are taken a few hundred to a transaction: running
    it again after a break, or twice, corrects nothing twice. ``dry_run`` writes nothing.
    """
    told = Repricing()
    after = 0
    while ids := ledger.read(partial(_next_entries, after=after, within=within)):
        work = _Batch(book, tuple(ids))
        if dry_run:
            ledger.read(work.compare).add_to(told)
        else:
            ledger.write(partial(work.correct, now=now)).add_to(told)
        after = ids[-1]
    return told


@dataclass(frozen=True, slots=True)
class _Compared:
    """One call: what it was charged, and by the price of its day; None where it is left."""

    model: str
    booked: int
    priced: int | None = None
    left: str = ""

    def count(self, told: Repricing) -> None:
        if self.left == "in doubt":
            told.n_in_doubt += 1
        elif self.left == "billed":
            told.n_billed += 1
        elif self.priced is None:
            told.n_unpriced[self.model] += 1
        else:
            told.n_calls[self.model] += 1
            told.booked[self.model] += self.booked
            told.priced[self.model] += self.priced
            told.n_differing[self.model] += self.priced != self.booked


@dataclass(frozen=True, slots=True)
class _Comparison:
    calls: tuple[_Compared, ...]
    adjustments: tuple[Adjustment, ...]

    def add_to(self, told: Repricing) -> None:
        for call in self.calls:
            call.count(told)


@dataclass(frozen=True, slots=True)
class _Batch:
    book: PriceBook
    entry_ids: tuple[int, ...]

    def correct(self, session: Session, now: datetime) -> _Comparison:
        lock_entries(session, self.entry_ids)
        comparison = self.compare(session)
        adjust(session, comparison.adjustments, now)
        return comparison

    def compare(self, session: Session) -> _Comparison:
        before = _corrected(session, self.entry_ids)
        calls = []
        adjustments = []
        for call, started_at in session.execute(
            select(CallRow, EntryRow.started_at)
            .join(EntryRow, EntryRow.id == CallRow.entry_id)
            .where(CallRow.entry_id.in_(self.entry_ids))
            .order_by(CallRow.id)
        ):
            corrected, billed = before.get(call.id, (0, False))
            booked = call.cost_nano_usd + corrected
            if billed or call.in_doubt:
                calls.append(_Compared(call.model, booked, left="billed" if billed else "in doubt"))
                continue
            try:
                price = self.book.price(call.model, started_at.date())
            except UnknownPriceError:
                calls.append(_Compared(call.model, booked))
                continue
            usage = Usage(**{name: getattr(call, name) for name in CLASSES})
            priced = to_nano_usd(price.cost_usd(usage))
            calls.append(_Compared(call.model, booked, priced))
            if priced != booked:
                adjustments.append(
                    Adjustment(
                        call.entry_id,
                        call.id,
                        AdjustmentKind.REPRICE,
                        priced - booked,
                        price.source,
                    )
                )
        return _Comparison(tuple(calls), tuple(adjustments))


def _next_entries(
    session: Session, after: int, within: tuple[datetime | None, datetime | None]
) -> Sequence[int]:
    since, until = within
    found = select(EntryRow.id).where(
        EntryRow.id > after, EntryRow.replica_id != IMPORTED, EntryRow.finished_at.is_not(None)
    )
    if since is not None:
        found = found.where(EntryRow.started_at >= since)
    if until is not None:
        found = found.where(EntryRow.started_at < until)
    return session.scalars(found.order_by(EntryRow.id).limit(ENTRIES_AT_ONCE)).all()


def _corrected(session: Session, entry_ids: Sequence[int]) -> dict[int, tuple[int, bool]]:
    """Give what was added to each corrected call, and whether a bill said so."""
    billed = func.count(AdjustmentRow.id).filter(AdjustmentRow.kind == AdjustmentKind.RECONCILE)
    found = session.execute(
        select(AdjustmentRow.call_id, func.sum(AdjustmentRow.amount_nano_usd), billed)
        .where(AdjustmentRow.entry_id.in_(entry_ids), AdjustmentRow.call_id.is_not(None))
        .group_by(AdjustmentRow.call_id)
    )
    return {call_id: (int(amount), n > 0) for call_id, amount, n in found if call_id is not None}
