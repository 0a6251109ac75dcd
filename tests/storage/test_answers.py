"""Keys of requests that must not run twice, claimed by processes that share a ledger."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from storage.answers import Claimant, ClaimState, KeyPlace, claim, forget_answers
from storage.models import AnswerRow
from storage.recovery import Replica, register_replica

if TYPE_CHECKING:
    from collections.abc import Callable

    from storage.store import Ledger

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
PLACE = KeyPlace("acme", "/v1/chat/completions", "k", "b")
DAY_S = 86_400.0
STALE_S = 60.0


def test_one_process_runs_and_the_others_get_what_it_was_answered(
    new_ledger: Callable[[], Ledger],
) -> None:
    """Claimed, kept; another body is told apart, a key given back is free; one's own can be run."""
    ledger = new_ledger()

    def asks(place: KeyPlace = PLACE, now: datetime = NOW) -> tuple[ClaimState, bytes | None]:
        told = ledger.claiming(place, now, DAY_S, STALE_S).result()
        return told.state, told.answer

    assert asks() == (ClaimState.RUN, None)
    assert asks() == (ClaimState.RUN, None)
    assert asks(replace(PLACE, body_sha256="other")) == (ClaimState.OTHER_BODY, None)
    ledger.keeping(PLACE, None).result()
    assert asks() == (ClaimState.RUN, None)
    ledger.keeping(PLACE, b"answer").result()
    ledger.keeping(PLACE, None).result()
    assert asks() == (ClaimState.KEPT, b"answer")
    for other in (replace(PLACE, tenant="bolt"), replace(PLACE, path="/v1/messages")):
        assert asks(other) == (ClaimState.RUN, None)
    later = NOW + timedelta(days=1)
    assert asks(replace(PLACE, body_sha256="other"), later) == (ClaimState.RUN, None)
    ledger.forget_answers(later + timedelta(hours=1))
    assert ledger.read(lambda s: s.scalar(select(func.count()).select_from(AnswerRow))) == 1
    ledger.forget_answers(later + timedelta(days=2))
    assert ledger.read(lambda s: s.scalar(select(func.count()).select_from(AnswerRow))) == 0
    ledger.write(lambda s: forget_answers(s, later))


def test_what_a_dead_process_had_claimed_is_run_by_another(
    new_ledger: Callable[[], Ledger],
) -> None:
    """Once it is known to be dead, or silent for too long; what it says later counts no more."""
    ledger = new_ledger()
    ledger.write(lambda s: register_replica(s, Replica("first", "there", 1, "x"), NOW))
    mine = Claimant("second", DAY_S, STALE_S)

    def asks(who: Claimant, now: datetime, *, alive: bool | None) -> ClaimState:
        return ledger.write(lambda s: claim(s, PLACE, who, now, lambda _: alive)).state

    assert asks(replace(mine, replica_id="first"), NOW, alive=True) is ClaimState.RUN
    soon, late = NOW + timedelta(seconds=STALE_S - 1), NOW + timedelta(seconds=STALE_S + 1)
    assert asks(mine, late, alive=True) is ClaimState.UNDER_WAY
    assert asks(mine, soon, alive=None) is ClaimState.UNDER_WAY
    assert asks(mine, late, alive=None) is ClaimState.RUN
    assert asks(replace(mine, replica_id="third"), late, alive=True) is ClaimState.RUN
    ledger.write(lambda s: register_replica(s, Replica("third", "there", 2, "x"), late))
    assert asks(mine, late, alive=True) is ClaimState.UNDER_WAY
    assert asks(mine, late, alive=False) is ClaimState.RUN
