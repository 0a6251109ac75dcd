"""Retraining in a planted world: what is better is promoted, what is not is kept, and why."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pytest
from planted import ARMS, BEST, LARGE, ODD, SMALL, kind_of, planted

from policies.artifacts import assemble, to_bytes
from policies.errors import OutcomeError
from policies.outcomes import OutcomeTable
from policies.training import Training, train
from policies.tuning import Goal
from policies.types import Offered
from router.jobs.retrain import Retrained, Terms, put, retrain
from router.jobs.valuation import LOGGED, Logged
from storage.policies import policy_in_service, promote_policy, read_policy, save_policy

if TYPE_CHECKING:
    from collections.abc import Callable

    from cost_models.types import Arm
    from policies.artifacts import FittedPolicy
    from storage.store import Ledger

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
PRICE = Goal(shadow_price_per_usd=5.0)
TERMS = Terms(Training(PRICE, trials=2))


def logged(
    n_queries: int, favourite: Callable[[str], Arm], epsilon: float, seed: int = 3
) -> OutcomeTable:
    """Log one decision a query of a policy that prefers an arm and explores by ``epsilon``."""
    rng = np.random.default_rng(seed)
    rows: dict[str, list[dict[str, object]]] = {}
    for row in planted(n_queries, seed).rows():
        rows.setdefault(row["query_id"], []).append(row)
    picked = []
    for answers in rows.values():
        likely = favourite(str(answers[0]["query"]))
        arms = [(row["model"], row["strategy"]) for row in answers]
        p = np.full(len(ARMS), epsilon / len(ARMS))
        p[arms.index((likely.model, likely.strategy))] += 1.0 - epsilon
        i = int(rng.choice(len(ARMS), p=p))
        picked.append({**answers[i], "propensity": float(p[i])})
    return OutcomeTable.from_rows(picked, "log")


@cache
def good() -> FittedPolicy:
    """Fit a policy on every arm's answer to many queries."""
    return train(planted(300, seed=8), Training(PRICE, trials=2), created_at=NOW)


@cache
def poor() -> FittedPolicy:
    """Give the same predictions under a policy that always takes the small model."""
    only = frozenset(ARMS) - {SMALL}
    policy = replace(good().policy, left_out=only, safe_arm=SMALL)
    return assemble(good().estimator, policy, dict(good().manifest), ())


def test_a_policy_better_than_the_one_in_service_is_promoted() -> None:
    """The lower bound of its gain is above zero, and its cost and accuracy are told."""
    table = logged(900, lambda _text: SMALL, 0.5)
    made = retrain(table, poor(), TERMS, created_at=NOW)
    verdict = made.verdict
    assert verdict.better, verdict.reason
    gain = verdict.figures["utility"].difference
    assert 0 < gain.low < gain.estimate < gain.high
    assert verdict.figures["accuracy"].new.estimate > 0.75
    assert verdict.figures["accuracy"].rival.estimate == pytest.approx(0.38, abs=0.12)
    assert poor().version in verdict.rival
    assert made.fitted.manifest["retraining"] == verdict.to_dict()


def test_a_policy_no_better_than_the_one_in_service_is_kept_back() -> None:
    """What serves was fitted on more: the interval of the difference holds zero, and is told."""
    table = logged(450, lambda text: BEST[kind_of(text)], 0.3)
    verdict = retrain(table, good(), TERMS, created_at=NOW).verdict
    assert not verdict.better
    gain = verdict.figures["utility"].difference
    assert gain.low <= 0
    assert "may be nothing" in verdict.reason or "too few logged decisions" in verdict.reason


def test_before_any_policy_the_rival_is_whoever_made_the_log() -> None:
    """A log of random picks is beaten."""
    table = logged(900, lambda _text: SMALL, 1.0)
    verdict = retrain(table, None, TERMS, created_at=NOW).verdict
    assert verdict.better, verdict.reason
    assert verdict.rival == LOGGED
    held = verdict.figures["accuracy"].rival
    assert held.estimate == pytest.approx(0.58, abs=0.1)


def test_a_log_of_the_best_policy_is_not_beaten() -> None:
    """Nothing is promoted over decisions that were as good as can be."""
    table = logged(450, lambda text: BEST[kind_of(text)], 0.05)
    verdict = retrain(table, None, TERMS, created_at=NOW).verdict
    assert not verdict.better


@pytest.mark.parametrize(
    ("goal", "arms"),
    [
        pytest.param(Goal(), "cheaper", id="the accuracy of the best fixed arm at less cost"),
        pytest.param(Goal(accuracy_target=0.3), "cheapest", id="a target that the cheapest keeps"),
    ],
)
def test_without_a_price_one_is_found_off_policy(goal: Goal, arms: str) -> None:
    """One answer a query can be replayed at no price; propensities tell what each would do."""
    table = logged(900, lambda _text: LARGE, 1.0)
    made = retrain(table, None, Terms(Training(goal, trials=2)), created_at=NOW)
    cost = made.verdict.figures["cost_usd"].new.estimate
    assert made.fitted.policy.shadow_price_per_usd > 0
    assert cost < (0.012 if arms == "cheaper" else 0.004)
    if arms == "cheaper":
        assert made.verdict.figures["accuracy"].new.estimate > 0.65


def test_predictions_that_no_logged_decision_checks_promote_nothing() -> None:
    """The log never shows that the arms it seldom picked are bad: the interval allows for it."""
    for seed in (102, 104):
        table = logged(450, lambda text: BEST[kind_of(text)], 0.05, seed)
        assert not retrain(table, None, TERMS, created_at=NOW).verdict.better


def test_too_few_answers_are_an_error_that_says_how_many_there_are() -> None:
    """Nothing is fitted."""
    with pytest.raises(OutcomeError, match=r"60 graded answers are too few .* 200 are asked for"):
        retrain(logged(60, lambda _text: SMALL, 1.0), None, TERMS, created_at=NOW)


def test_answers_to_one_question_cannot_be_held_out() -> None:
    """All of them would be held out, or none."""
    row = {"query_id": "q", "query": "x", "model": "m", "strategy": "s", "correct": 1}
    table = OutcomeTable.from_rows({**row, "sample_index": i} for i in range(5))
    with pytest.raises(OutcomeError, match="too few different questions"):
        retrain(table, None, replace(TERMS, min_rows=5), created_at=NOW)


def test_without_propensities_nothing_can_be_said() -> None:
    """The policy is fitted, and kept with the reason."""
    verdict = retrain(planted(80), None, TERMS, created_at=NOW).verdict
    assert (verdict.better, verdict.n_held) == (False, 0)
    assert "known propensity below 1" in verdict.reason


def certify(target: float, *, complete: bool) -> Retrained:
    """Retrain with a certificate; with ``complete``, some queries have every arm's outcome."""
    rows = list(logged(900, lambda _text: SMALL, 1.0).rows())
    if complete:
        rows += [
            {**row, "query_id": f"whole {row['query_id']}"} for row in planted(600, seed=9).rows()
        ]
    terms = Terms(Training(Goal(accuracy_target=target), trials=1), delta=0.1)
    return retrain(OutcomeTable.from_rows(rows), None, terms, created_at=NOW)


def test_a_promise_is_certified_on_queries_with_every_outcome() -> None:
    """Where it can be given the policy may be promoted, where it cannot it is kept."""
    made = certify(0.6, complete=True)
    assert made.verdict.better, made.verdict.reason
    assert made.fitted.manifest["certificate"]["index"] is not None
    refused = certify(0.999, complete=True).verdict
    assert not refused.better
    assert "no certificate: not certified" in refused.reason


def test_logs_alone_certify_nothing() -> None:
    """Nobody knows what an arm that was not asked would have said."""
    verdict = certify(0.3, complete=False).verdict
    assert not verdict.better
    assert "outcome of every arm" in verdict.reason


def test_what_is_better_than_something_replaced_meanwhile_is_not_promoted(ledger: Ledger) -> None:
    """It is kept all the same; against what is in service still it goes into service."""
    made = retrain(logged(900, lambda _text: SMALL, 0.5), poor(), TERMS, created_at=NOW)
    artifact, version = to_bytes(made.fitted), made.fitted.version

    def serve(fitted: FittedPolicy) -> None:
        data = to_bytes(fitted)
        ledger.write(lambda s: save_policy(s, fitted.version, data, fitted.manifest, NOW))
        ledger.write(lambda s: promote_policy(s, fitted.version, NOW))

    def keep(*, promote: bool) -> bool:
        return ledger.write(lambda s: put(s, made, artifact, poor().version, NOW, promote=promote))

    assert not keep(promote=True)
    assert ledger.read(policy_in_service) is None
    assert ledger.read(lambda s: read_policy(s, version)).artifact == artifact
    serve(poor())
    assert not keep(promote=False)
    assert keep(promote=True)


def test_a_policy_is_not_valued_by_arms_that_were_not_offered() -> None:
    """Where the large model was not to be had, no policy is credited with it."""
    table = logged(300, lambda _text: SMALL, 0.5)
    two = Offered((SMALL, ODD), (0.001, 0.002), (0.5, 0.5))
    offered = dict.fromkeys(table.query_ids[:200], two)
    found = Logged.of(good(), table, offered)
    large = found.probability(good(), good().policy)[:, found.arms.index(LARGE)]
    picked = found.log_arm == found.arms.index(LARGE)
    limited = np.isin(found.query, np.arange(200)) & ~picked
    assert limited.sum() > 100
    assert not large[limited].any()
    assert large[~limited].max() > 0.9
