"""Whether the stages of cascades hold what their calls add up to."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import and_, exists, func, or_, select

from storage.models import AttemptRow, CallRow, EntryRow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session

SUMMED = (
    "cost_nano_usd",
    "n_calls",
    "prompt_tokens",
    "cached_prompt_tokens",
    "cache_write_tokens",
    "completion_tokens",
    "reasoning_tokens",
    "machine_ns",
)


class WrongStage(NamedTuple):
    """A figure of a stage that is not the sum over its calls."""

    request_id: str
    seq: int
    figure: str
    expected: int
    found: int


def wrong_stages(session: Session) -> Iterator[WrongStage]:
    """Compare every stage with its calls; a call of a stage that is not there counts too.

    Corrections are of entries and calls, and change no stage.
    """
    sums = (
        select(
            CallRow.entry_id,
            CallRow.stage,
            *(func.sum(getattr(CallRow, name)).label(name) for name in SUMMED),
        )
        .group_by(CallRow.entry_id, CallRow.stage)
        .subquery("sums")
    )
    expected = [func.coalesce(sums.c[name], 0) for name in SUMMED]
    stored = [getattr(AttemptRow, name) for name in SUMMED]
    differs = or_(*(want != have for want, have in zip(expected, stored, strict=True)))
    found = session.execute(
        select(EntryRow.request_id, AttemptRow.seq, *expected, *stored)
        .join(EntryRow, EntryRow.id == AttemptRow.entry_id)
        .outerjoin(
            sums, and_(sums.c.entry_id == AttemptRow.entry_id, sums.c.stage == AttemptRow.seq)
        )
        .where(differs)
        .order_by(AttemptRow.id)
    )
    for request_id, seq, *figures in found:
        wanted, had = figures[: len(SUMMED)], figures[len(SUMMED) :]
        for name, want, have in zip(SUMMED, wanted, had, strict=True):
            if want != have:
                yield WrongStage(request_id, seq, name, int(want), int(have))
    yield from _stageless(session)


def _stageless(session: Session) -> Iterator[WrongStage]:
    """Find calls of an entry with stages that belong to none of them."""
    of_entry = AttemptRow.entry_id == CallRow.entry_id
    found = session.execute(
        select(EntryRow.request_id, CallRow.stage, func.sum(CallRow.n_calls))
        .join(EntryRow, EntryRow.id == CallRow.entry_id)
        .where(exists().where(of_entry), ~exists().where(of_entry, AttemptRow.seq == CallRow.stage))
        .group_by(EntryRow.request_id, CallRow.entry_id, CallRow.stage)
        .order_by(CallRow.entry_id, CallRow.stage)
    )
    for request_id, stage, n_calls in found:
        yield WrongStage(request_id, stage, "n_calls", int(n_calls), 0)
