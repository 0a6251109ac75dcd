"""What a policy is told of a cascade follows how reliable its judge was measured to be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pytest
from parts import asks, catalog, scripted
from planted import LARGE, SMALL, TEXTS, planted

from policies import artifacts
from policies.cascades import Cascade
from policies.difficulty import DifficultyEstimator
from policies.types import AnswerKind, Decision, Query
from policies.utility import UtilityPolicy
from router.routing.candidates import offers
from router.routing.chooser import Chooser, ChooserSettings
from router.routing.judges import REFRESH_S
from router.strategies.escalation import parse_escalation
from storage.ledger import Asked, Attempted, OpenEntry, SettleEntry
from storage.outcomes import Grade
from storage.policies import promote_policy, save_policy

if TYPE_CHECKING:
    from cost_models.types import Arm
    from policies.recipes import Recipe
    from storage.store import Ledger

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
VERIFIED = "small|direct then large|direct until verified by self_judge"
EXACT = "small|direct then large|direct until verified by game24"
CASCADE = parse_escalation(VERIFIED).arm
HARD = TEXTS["hard"].format(a=12, b=34)


@pytest.fixture(scope="module")
def estimator() -> DifficultyEstimator:
    """Fit the planted outcomes of the two plain arms, and an exact cascade's, right every time."""
    table = planted(90)
    quality = np.hstack([table.quality_matrix(), np.ones((len(table.query_ids), 1))])
    cost = np.hstack([table.matrix("cost_usd"), np.full((len(table.query_ids), 1), 0.001)])
    return DifficultyEstimator().fit(
        table.queries, quality, arms=[*table.arms, CASCADE], cost_usd=cost
    )


def chooser_of(
    ledger: Ledger,
    estimator: DifficultyEstimator,
    cascade: str = VERIFIED,
    recipes: tuple[Recipe, ...] = (Cascade((SMALL, LARGE), verified=True),),
) -> Chooser:
    """Choose by a policy that derived the cascade."""
    policy = UtilityPolicy(1.0, LARGE, epsilon=0.0)
    fitted = artifacts.assemble(estimator, policy, {}, recipes)
    data = artifacts.to_bytes(fitted)
    ledger.write(lambda s: save_policy(s, fitted.version, data, fitted.manifest, NOW))
    ledger.write(lambda s: promote_policy(s, fitted.version, NOW))
    found = catalog(
        scripted("small", times=100), scripted("large", times=2000), cascades=(cascade,)
    )
    chooser = Chooser(found, ChooserSettings(), np.random.default_rng(0))
    chooser.follow(ledger)
    return chooser


def told(chooser: Chooser, ledger: Ledger, now: datetime = NOW) -> dict[Arm, tuple[float, float]]:
    """Give the quality and the cost that the policy is told of each arm, and its choice."""
    chooser.judges.follow(ledger, chooser.catalog, now)
    request = asks(text=HARD)
    plan = chooser.consider(request, offers(chooser.catalog, request)).plan()
    return {
        c.arm: (c.predicted_quality or 0.0, c.expected_cost_usd or 0.0) for c in plan.candidates
    }


def graded(ledger: Ledger, n: int, *, right: bool, trusted: bool) -> None:
    """Serve ``n`` requests whose first answer was right or wrong, and trusted or not."""
    for i in range(n):
        name = f"{right} {trusted} {i}"
        entry_id = ledger.open(
            OpenEntry(Asked(Query(name, "?")), Decision(CASCADE, 1.0, "v"), 0), NOW
        )
        attempt = Attempted(
            SMALL, "self_judge", answer_value="4", trust=float(trusted), trusted=trusted
        )
        ledger.settle(SettleEntry(entry_id, (), 0.1, answer_value="4", attempts=(attempt,)), NOW)
        ledger.record_outcome(name, Grade(quality=float(right), grader="g", weight=1.0), NOW)


def test_a_judge_that_nobody_measured_makes_a_coin_of_a_derived_cascade(
    sqlite_ledger: Ledger, estimator: DifficultyEstimator
) -> None:
    """Though recorded with an exact verifier it was always right."""
    found = told(chooser_of(sqlite_ledger, estimator), sqlite_ledger)
    (small, small_usd), (large, large_usd) = found[SMALL], found[LARGE]
    assert found[CASCADE][0] == pytest.approx((small + large) / 2)
    assert found[CASCADE][1] == pytest.approx(small_usd + large_usd / 2, rel=1e-6)


def test_the_policy_follows_what_is_measured(
    sqlite_ledger: Ledger, estimator: DifficultyEstimator
) -> None:
    """A judge that lets wrong answers pass makes little more than the small model of it."""
    chooser = chooser_of(sqlite_ledger, estimator)
    graded(sqlite_ledger, 30, right=False, trusted=True)
    bad = told(chooser, sqlite_ledger)
    assert bad[CASCADE][0] < (bad[SMALL][0] + bad[LARGE][0]) / 2 - 0.1
    graded(sqlite_ledger, 90, right=False, trusted=False)
    graded(sqlite_ledger, 40, right=True, trusted=True)
    assert told(chooser, sqlite_ledger, NOW + timedelta(seconds=REFRESH_S - 1)) == bad
    better = told(chooser, sqlite_ledger, NOW + timedelta(seconds=REFRESH_S))
    assert better[CASCADE][0] > (better[SMALL][0] + better[LARGE][0]) / 2 + 0.1


def test_an_exact_rule_is_trusted_before_it_is_measured(
    sqlite_ledger: Ledger, estimator: DifficultyEstimator
) -> None:
    """Its word is what right means."""
    found = told(chooser_of(sqlite_ledger, estimator, EXACT), sqlite_ledger)
    misses = (1.0 - found[SMALL][0]) * (1.0 - found[LARGE][0])
    assert found[CASCADE][0] == pytest.approx(1.0 - misses, abs=0.03)


def test_a_cascade_with_outcomes_of_its_own_is_predicted_from_them(
    sqlite_ledger: Ledger, estimator: DifficultyEstimator
) -> None:
    """Its judge is in them already."""
    found = told(chooser_of(sqlite_ledger, estimator, recipes=()), sqlite_ledger)
    assert found[CASCADE][0] > 0.9


def test_agreement_that_nobody_tried_is_put_together_from_its_stages(
    sqlite_ledger: Ledger, estimator: DifficultyEstimator
) -> None:
    """The first stage has nothing to agree with, so it ends nothing."""
    text = "small|direct then small|direct then large|direct until agree"
    chooser = chooser_of(sqlite_ledger, estimator, text)
    arm = parse_escalation(text).arm
    request = asks(text=HARD, answer_kind=AnswerKind.NUMBER)
    chooser.judges.follow(sqlite_ledger, chooser.catalog, NOW)
    plan = chooser.consider(request, offers(chooser.catalog, request)).plan()
    found = {c.arm: c.predicted_quality or 0.0 for c in plan.candidates}
    assert found[arm] == pytest.approx((found[SMALL] + found[LARGE]) / 2)
