"""Trials on both databases: one at a time, ended by rules, by promotion and by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pytest

from cost_models.types import Arm
from policies.types import Offered, Shadowed
from storage.errors import LedgerError
from storage.judging import trial_state
from storage.ledger import SettleEntry
from storage.offers import offered_text, read_offered, read_offers
from storage.outcomes import Grade, read_episodes
from storage.policies import policy_in_service, promote_policy, roll_back, save_policy
from storage.trials import TrialTerms, end_trial, last_ended, running_trial, start_trial

if TYPE_CHECKING:
    from collections.abc import Callable

    from storage.ledger import Call, OpenEntry
    from storage.store import Ledger

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
TERMS = TrialTerms(share=0.5, max_loss=0.1, max_rise=0.5)
OFFERED = Offered(
    (Arm("large", "direct"), Arm("large", "cot(x=1)"), Arm("small", "direct")),
    (0.002, 0.00351, 1e-9),
    (0.9, 0.95, 0.4),
)


@pytest.fixture
def tried(ledger: Ledger) -> Ledger:
    """Keep the policies old, which is in service, and new."""
    for name in ("old", "new"):
        ledger.write(lambda s, name=name: save_policy(s, name, name.encode(), {}, NOW))
    ledger.write(lambda s: promote_policy(s, "old", NOW))
    return ledger


def serve(  # noqa: PLR0913, PLR0917 - what was served
    ledger: Ledger,
    opening: Callable[..., OpenEntry],
    call: Callable[..., Call],
    version: str,
    right: float,
    cost: int = 100,
    n: int = 90,
) -> None:
    """Serve graded requests by a policy, every second one under an operator's adjustment."""
    rng = np.random.default_rng(0)
    for i in range(n):
        entry = opening(f"{version}-{i}", 10_000)
        named = version if i % 2 else f"{version}:epsilon=0.1"
        entry = replace(entry, decision=replace(entry.decision, policy_version=named))
        entry_id = ledger.open(entry, LATER)
        spent = cost + int(rng.integers(0, 10))
        ledger.settle(SettleEntry(entry_id, (call(spent),), latency_s=1), LATER)
        grade = Grade(float(rng.random() < right), "g")
        ledger.record_outcome(f"{version}-{i}", grade, LATER)


def test_there_is_one_trial_at_a_time_of_a_kept_policy_not_in_service(tried: Ledger) -> None:
    """Each refusal says what to do."""
    for version, told in (("old", "in service already"), ("gone", "no policy 'gone'")):
        with pytest.raises(LedgerError, match=told):
            tried.write(lambda s, version=version: start_trial(s, version, "old", TERMS, NOW))
    tried.write(lambda s: start_trial(s, "new", "old", TERMS, NOW))
    with pytest.raises(LedgerError, match="end that first"):
        tried.write(lambda s: start_trial(s, "new", "old", TERMS, NOW))
    found = tried.read(running_trial)
    assert found is not None
    assert (found.version, found.baseline, found.terms) == ("new", "old", TERMS)
    assert tried.write(lambda s: end_trial(s, "by hand", LATER))
    assert not tried.write(lambda s: end_trial(s, "again", LATER))
    assert tried.read(last_ended) == ("new", "by hand")


def test_a_promotion_or_a_rollback_ends_a_trial(tried: Ledger) -> None:
    """What serves has changed: there is nothing left to compare with."""
    tried.write(lambda s: start_trial(s, "new", "old", TERMS, NOW))
    tried.write(lambda s: promote_policy(s, "new", LATER))
    assert tried.read(running_trial) is None
    tried.write(lambda s: start_trial(s, "old", "new", TERMS, LATER))
    assert tried.write(lambda s: roll_back(s, LATER + timedelta(hours=1))) == "old"
    assert tried.read(running_trial) is None


def test_a_worse_policy_gets_no_more_traffic(
    tried: Ledger, opening: Callable[..., OpenEntry], call: Callable[..., Call]
) -> None:
    """Right in 30 % against 95 %; the one in service stays there."""
    tried.write(lambda s: start_trial(s, "new", "old", TERMS, NOW))
    assert tried.judge_trial(LATER) is None
    serve(tried, opening, call, "old", 0.95)
    serve(tried, opening, call, "new", 0.3)
    state = tried.read(trial_state)
    assert state is not None
    assert (state.candidate.n_graded, state.baseline.n_served) == (90, 90)
    told = tried.judge_trial(LATER)
    assert told is not None
    assert "quality is at least" in told
    assert tried.read(running_trial) is None
    present = tried.read(policy_in_service)
    assert present is not None
    assert present.version == "old"


def test_a_dearer_policy_is_stopped_also_without_a_grade(
    tried: Ledger, opening: Callable[..., OpenEntry], call: Callable[..., Call]
) -> None:
    """Twice the cost, half as much more being allowed."""
    tried.write(lambda s: start_trial(s, "new", "old", TERMS, NOW))
    serve(tried, opening, call, "old", 1.0, 100, n=40)
    serve(tried, opening, call, "new", 1.0, 220, n=40)
    assert "costs more than 50%" in (tried.judge_trial(LATER) or "")


@pytest.mark.parametrize("promotes", [False, True])
def test_a_policy_that_passes_goes_into_service_if_that_was_wanted(
    tried: Ledger,
    opening: Callable[..., OpenEntry],
    call: Callable[..., Call],
    promotes: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """As good and as dear: passed once the intervals are narrow enough."""
    terms = replace(TERMS, promotes=promotes, max_loss=0.25)
    tried.write(lambda s: start_trial(s, "new", "old", terms, NOW))
    for version in ("old", "new"):
        serve(tried, opening, call, version, 1.0)
    state = tried.read(trial_state)
    assert state is not None
    assert state.passed is not None
    assert (tried.judge_trial(LATER) is not None) == promotes
    present = tried.read(policy_in_service)
    assert present is not None
    assert present.version == ("new" if promotes else "old")


def test_what_was_offered_and_what_a_shadow_would_pick_is_kept(
    tried: Ledger, opening: Callable[..., OpenEntry], call: Callable[..., Call]
) -> None:
    """Figures keep four digits of quality and whole nano-USD; the text names no model twice."""
    tried.write(lambda s: start_trial(s, "new", "old", TrialTerms(), NOW))
    for name, arm in (
        ("a", Arm("large", "direct")),
        ("b", Arm("small", "self_consistency(samples=5)")),
    ):
        entry = opening(name, 100)
        shadow = Shadowed("new", arm)
        decision = replace(entry.decision, offered=OFFERED, shadow=shadow)
        entry_id = tried.open(replace(entry, decision=decision), LATER)
        tried.settle(SettleEntry(entry_id, (call(10),), latency_s=1), LATER)
    episodes = list(tried.read(lambda s: list(read_episodes(s))))
    assert [episode.decision.offered for episode in episodes] == [OFFERED, OFFERED]
    assert episodes[0].decision.shadow == Shadowed("new", Arm("large", "direct"))
    assert tried.read(read_offers) == {"a": OFFERED, "b": OFFERED}
    state = tried.read(trial_state)
    assert state is not None
    assert state.agreed == 0.5
    assert state.failed is state.passed is None
    text = offered_text(OFFERED)
    assert text is not None
    assert text.count("large") == 1
    assert len(text) / len(OFFERED.arms) < 40
    unknown = replace(OFFERED, quality=None)
    assert read_offered(offered_text(unknown)) == unknown


def test_terms_that_make_no_sense_are_refused() -> None:
    """A trial of everybody is a promotion."""
    for wrong in ({"share": 1.0}, {"delta": 0.0}, {"max_loss": -0.1}, {"max_rise": -1.0}):
        with pytest.raises(ValueError, match="a trial has"):
            TrialTerms(**wrong)
