"""Money held in budget windows: take, free, charge. Each race is decided inside one UPDATE.

Windows are always touched in the order of (budget id, window start), so that two transactions
never wait for each other in a circle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import select, tuple_

from cost_models.errors import BudgetExceededError
from storage import statements
from storage.budgets import budgets_in_force, status_of
from storage.dialects import insert_into
from storage.errors import HeldBackError
from storage.models import BudgetWindowRow, EntryRow, HoldRow
from storage.prepared import write
from storage.waits import others_ahead

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

    from storage.budgets import BudgetStatus, KnownBudget
    from storage.waits import Place

QUIET: dict[str, Any] = {"synchronize_session": False}


def hold(  # noqa: PLR0913, PLR0917 - what is held, for whom, where, and when
    session: Session,
    entry_id: int,
    scopes: Sequence[str],
    amount_nano_usd: int,
    now: datetime,
    place: Place | None = None,
) -> None:
    """Hold ``amount_nano_usd`` for an entry in every budget of ``scopes``.

    Raises HeldBackError when it would fit everywhere if what is in flight cost nothing more, and
    BudgetExceededError when it would not even then; holds taken before are then still in the
    transaction, and the caller's savepoint takes them back. An amount of 0 always fits: what costs
    nothing is not refused when the money is gone, and a soft budget refuses nothing. A refusal is
    never contradicted by its own facts: where money came free in between, the hold is tried again.
    With a ``place`` in the queue those who came before take precedence; None asks nobody.
    """
    rows = []
    budgets = budgets_in_force(session, scopes)
    for i, known in enumerate(budgets):
        start = known.window(now).start
        if not take(session, known, start, amount_nano_usd, place, now):
            open_window(session, known, start)
            while not take(session, known, start, amount_nano_usd, place, now):
                status = status_of(session, known, now)
                if status.free_nano_usd < amount_nano_usd or _is_behind(session, known, place, now):
                    after = (k for k in budgets[i + 1 :] if not k.budget.soft)
                    rest = [status, *(status_of(session, more, now) for more in after)]
                    raise _refusal(rest, known.budget_id, amount_nano_usd)
        rows.append(holds_row(entry_id, (known.budget_id, start), amount_nano_usd))
    if rows:
        write(session, statements.INSERT_HOLDS, rows)


def holds_row(entry_id: int, key: tuple[int, datetime], amount_nano_usd: int) -> dict[str, Any]:
    """Give the values of the row of one hold in one window (budget id, start)."""
    budget_id, start = key
    return {
        "entry_id": entry_id,
        "budget_id": budget_id,
        "window_start": start,
        "amount_nano_usd": amount_nano_usd,
    }


def _refusal(
    statuses: Sequence[BudgetStatus], budget_id: int, amount_nano_usd: int
) -> BudgetExceededError:
    """Say that one budget holds the request back, unless another one cannot pay for it at all."""
    for status in statuses:
        if status.unspent_nano_usd < amount_nano_usd:
            return BudgetExceededError(status.facts, amount_nano_usd)
    return HeldBackError(statuses[0].facts, amount_nano_usd, budget_id)


def _is_behind(session: Session, known: KnownBudget, place: Place | None, now: datetime) -> bool:
    if place is None:
        return False
    ahead = others_ahead(known.budget_id, place, now)
    return session.execute(select(1).where(ahead)).one_or_none() is not None


def take(  # noqa: PLR0913, PLR0917 - as `hold`
    session: Session,
    known: KnownBudget,
    start: datetime,
    amount_nano_usd: int,
    place: Place | None,
    now: datetime,
) -> bool:
    """Hold an amount in one window if it fits and nobody is ahead; tell whether it was held."""
    soft = known.budget.soft
    limited = amount_nano_usd > 0 and not soft
    ticket = None if place is None else place.ticket
    taking = statements.take(
        limited=limited,
        queued=limited and place is not None,
        with_ticket=ticket is not None,
        soft=soft,
    )
    asked = {
        "of_budget": known.budget_id,
        "start": start,
        "amount": amount_nano_usd,
        "limit": known.budget.limit_nano_usd,
        "now": now,
        "ticket": ticket,
    }
    return write(session, taking, asked) > 0


def open_window(session: Session, known: KnownBudget, start: datetime) -> None:
    """Make the counters of a window, at 0, unless they are there."""
    session.execute(
        insert_into(session, BudgetWindowRow)
        .values(
            budget_id=known.budget_id,
            window_start=start,
            spent_nano_usd=0,
            held_nano_usd=0,
            overshoot_nano_usd=0,
            highest_limit_nano_usd=known.budget.limit_nano_usd,
        )
        .on_conflict_do_nothing()
    )


def settle_holds(
    session: Session, entry_id: int, cost_nano_usd: int, *, charged_before: bool
) -> None:
    """Turn what an entry holds into what it cost, in the windows in which it was held.

    ``charged_before`` says that recovery moved the hold to spent: that charge is then replaced.
    """
    holds = session.execute(statements.HOLDS_OF_ENTRIES, {"entry_ids": [entry_id]}).all()
    for _, budget_id, start, amount in holds:
        charged, held = (amount, 0) if charged_before else (0, amount)
        move(
            session,
            (budget_id, start),
            spent=cost_nano_usd - charged,
            held=-held,
            overshoot=max(0, cost_nano_usd - amount),
        )


def charge_held(session: Session, key: tuple[int, datetime], amount_nano_usd: int) -> None:
    """Move ``amount_nano_usd`` of one window (budget id, start) from held to spent."""
    move(session, key, spent=amount_nano_usd, held=-amount_nano_usd, overshoot=0)


def move(
    session: Session, key: tuple[int, datetime], *, spent: int, held: int, overshoot: int
) -> None:
    """Add to the counters of one window (budget id, start)."""
    write(session, statements.MOVE, movement(key, spent, held, overshoot))


def movement(key: tuple[int, datetime], spent: int, held: int, overshoot: int) -> dict[str, Any]:
    """Give the values of `storage.statements.MOVE` for one window."""
    budget_id, start = key
    return {
        "of_budget": budget_id,
        "start": start,
        "spent": spent,
        "held": held,
        "overshoot": overshoot,
    }


def lock_in_order(
    session: Session, settles: Sequence[int], opens: Sequence[tuple[Sequence[str], datetime]]
) -> None:
    """Lock what several openings and settlements in one transaction will touch, in one order.

    Entries come before windows, as in recovery; windows that are missing are made before any is
    locked. SQLite has one writer at a time, and needs none of it.
    """
    if session.get_bind().dialect.name == "sqlite":
        return
    if settles:
        session.execute(
            select(EntryRow.id)
            .where(EntryRow.id.in_(settles))
            .order_by(EntryRow.id)
            .with_for_update(key_share=True)
        )
    windows = {
        (known.budget_id, known.window(now).start): known
        for scopes, now in opens
        for known in budgets_in_force(session, scopes)
    }
    held = session.execute(
        select(HoldRow.budget_id, HoldRow.window_start)
        .where(HoldRow.entry_id.in_(settles))
        .distinct()
    )
    keys = sorted({*windows, *((budget_id, start) for budget_id, start in held)})
    this_key = tuple_(BudgetWindowRow.budget_id, BudgetWindowRow.window_start)
    lock = (
        select(BudgetWindowRow.budget_id, BudgetWindowRow.window_start)
        .where(this_key.in_(keys))
        .order_by(BudgetWindowRow.budget_id, BudgetWindowRow.window_start)
    )
    there = {(budget_id, start) for budget_id, start in session.execute(lock)}
    for key in keys:
        if key not in there:
            open_window(session, windows[key], key[1])
    session.execute(lock.with_for_update(key_share=True))


def may_take(session: Session, asked: Sequence[tuple[int, int, Place, datetime]]) -> set[int]:
    """Tell at which budgets the first in the queue may be let in, or has to be refused.

    ``asked`` has a budget, an amount, a place and a time for each. Nothing is held.
    """
    known = {k.budget_id: k for k in budgets_in_force(session)}
    found = set()
    for budget_id, amount_nano_usd, place, now in asked:
        budget = known.get(budget_id)
        if budget is None or budget.budget.soft:
            found.add(budget_id)
            continue
        status = status_of(session, budget, now)
        fits = status.free_nano_usd >= amount_nano_usd
        hopeless = status.unspent_nano_usd < amount_nano_usd
        if hopeless or (fits and not _is_behind(session, budget, place, now)):
            found.add(budget_id)
    return found
