"""From offers to a decision: before any fit, with a fitted policy, and at the edges of both."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from parts import WORST, asks, catalog, scripted
from planted import ARMS, LARGE, SMALL, TEXTS, planted

from cost_models.estimates import Throughput
from cost_models.types import Arm
from policies import artifacts
from policies.derived import Voting
from policies.difficulty import DifficultyEstimator
from policies.errors import NoAffordableArmError, PolicyNotReadyError
from policies.group_relative import Correction, learned_policy
from policies.recipes import Vote
from policies.types import AnswerKind
from policies.utility import UtilityPolicy
from router.errors import RequestError
from router.routing.candidates import offers
from router.routing.chooser import MAX_NAMED, Chooser, ChooserSettings
from router.routing.service import RoutingService
from storage.policies import promote_policy, save_policy
from storage.trials import TrialTerms, end_trial, start_trial

if TYPE_CHECKING:
    from collections.abc import Iterator

    from policies.artifacts import FittedPolicy
    from policies.types import Decision
    from router.routing.catalog import Catalog
    from router.routing.chooser import Choice
    from storage.store import Ledger

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
EASY = TEXTS["easy"].format(a=12, b=34)
HARD = TEXTS["hard"].format(a=12, b=34)
TWO = catalog(scripted("small", times=100), scripted("large", times=2000))
"""Worst cases far above what the planted outcomes cost: 0.001 and 0.02 USD."""
STEPS = catalog(
    scripted("small", times=100), scripted("large", times=2000), strategies=("direct", "cot")
)


@pytest.fixture(scope="module")
def fitted() -> FittedPolicy:
    """Fit an estimator to the planted outcomes; five right answers have to be worth a USD."""
    table = planted(90)
    estimator = DifficultyEstimator().fit(
        table.queries,
        table.quality_matrix(),
        arms=table.arms,
        cost_usd=table.matrix("cost_usd"),
    )
    policy = UtilityPolicy(5.0, LARGE, epsilon=0.0)
    return artifacts.assemble(estimator, policy, {"source": "planted"})


def variant(fitted: FittedPolicy, **changed: Any) -> FittedPolicy:  # noqa: ANN401 - fields of the policy
    """Give the same estimator with another policy."""
    return artifacts.assemble(fitted.estimator, replace(fitted.policy, **changed), {})


def promote(ledger: Ledger, fitted: FittedPolicy, at: datetime = NOW) -> None:
    """Keep a policy and put it in service."""
    data = artifacts.to_bytes(fitted)
    ledger.write(lambda s: save_policy(s, fitted.version, data, fitted.manifest, at))
    ledger.write(lambda s: promote_policy(s, fitted.version, at))


@pytest.fixture
def follower(sqlite_ledger: Ledger, fitted: FittedPolicy) -> Chooser:
    """Choose by the fitted policy among two models."""
    promote(sqlite_ledger, fitted)
    chooser = Chooser(TWO, rng=np.random.default_rng(0))
    chooser.follow(sqlite_ledger)
    return chooser


def new(found: Catalog, **settings: float) -> Chooser:
    """Choose before any fit."""
    return Chooser(found, ChooserSettings(**settings), np.random.default_rng(0))


def consider(chooser: Chooser, **asked: Any) -> Choice:  # noqa: ANN401 - what `asks` takes
    """Consider one request."""
    request = asks(**asked)
    return chooser.consider(request, offers(chooser.catalog, request))


def decide(chooser: Chooser, **asked: Any) -> Decision:  # noqa: ANN401 - what `asks` takes
    """Decide on one request."""
    return consider(chooser, **asked).decide()


def reasons(choice: Choice) -> dict[str, str | None]:
    """Why each arm of the plan is out."""
    return {str(candidate.arm): candidate.rejected for candidate in choice.plan().candidates}


def test_what_was_left_out_for_a_derived_arm_serves_where_that_is_not_offered(
    sqlite_ledger: Ledger, fitted: FittedPolicy
) -> None:
    """Else nothing but the rest would be chosen; what had no price stays left out."""
    vote = Vote(Arm("small", "cot"), Voting(5))
    best = UtilityPolicy(0.0, LARGE, epsilon=0.0, left_out=frozenset({LARGE}))
    manifest = {"unpriced_arms": []}
    made = artifacts.assemble(fitted.estimator, best, manifest, (vote,))
    promote(sqlite_ledger, made)
    for strategies, served in ((("direct", vote.arm.strategy), "small"), (("direct",), "large")):
        found = catalog(scripted("small"), scripted("large", times=20), strategies=strategies)
        chooser = new(found)
        chooser.follow(sqlite_ledger)
        request = asks(text=HARD)
        decision = chooser.consider(request, offers(found, request)).decide()
        assert decision.arm == Arm(served, "direct")
        assert decision.policy_version.startswith(made.version)


# What was predicted reaches the strategy


@pytest.mark.anyio
async def test_the_predicted_difficulty_sets_how_many_samples_are_drawn(
    sqlite_ledger: Ledger, fitted: FittedPolicy
) -> None:
    """An easy question gets one sample and a hard one more, under the same hold."""
    pace = "self_consistency(samples=8, batch=2, easy=0.5)"
    said = (f"Answer: {number}" for number in itertools.count())
    found = catalog(scripted("small", lambda *_: next(said)), strategies=("direct", pace))
    promote(sqlite_ledger, fitted)
    service = RoutingService(found, Chooser(found), sqlite_ledger, clock=lambda: NOW)
    await service.start()
    drawn = {}
    for text in (EASY, HARD):
        request = asks(text=text, strategy=pace, answer_kind=AnswerKind.NUMBER)
        served = await service.answer(request)
        drawn[text] = len(served.answer.samples)
        assert served.decision.difficulty is not None
        assert (served.decision.difficulty <= 0.5) == (drawn[text] == 1)
    assert drawn[EASY] == 1 < drawn[HARD]
    await service.aclose()


# Before any fit


def test_before_any_fit_the_dearest_model_reasons_in_steps() -> None:
    """The safe arm serves and nothing is pretended to be known."""
    decision = decide(new(STEPS, exploration=0.0))
    assert decision.arm == Arm("large", "cot")
    assert decision.propensity == 1.0
    assert decision.policy_version == "safe:large|cot:0"
    assert decision.predicted_quality is decision.difficulty is None
    assert decision.reason == "nothing was fitted yet: the safe arm"


def test_without_a_reasoning_strategy_the_first_one_is_safe() -> None:
    """What the operator lists first is what they mean to be the usual one."""
    assert decide(new(TWO, exploration=0.0)).arm == LARGE


def test_a_safe_arm_that_cannot_serve_gives_way_to_the_dearest_that_can() -> None:
    """With tools only the plain arms are left."""
    decision = decide(new(STEPS, exploration=0.0), extra={"tools": [{"type": "function"}]})
    assert decision.arm == LARGE
    assert "does not fit" in decision.reason


def test_exploration_before_any_fit_is_the_operators_or_a_tenth() -> None:
    """The share is spread over all feasible arms, the safe one among them."""
    usual = decide(new(TWO))
    assert usual.propensity == pytest.approx(0.95 if usual.arm == LARGE else 0.05)
    assert usual.policy_version == "safe:large|direct:0.1"
    half = decide(new(TWO, exploration=0.5))
    assert half.propensity == (0.75 if half.arm == LARGE else 0.25)


def test_a_ledger_without_a_promotion_changes_nothing(
    sqlite_ledger: Ledger, fitted: FittedPolicy
) -> None:
    """A policy that is kept but not in service is not used."""
    data = artifacts.to_bytes(fitted)
    sqlite_ledger.write(lambda s: save_policy(s, fitted.version, data, {}, NOW))
    chooser = new(TWO, exploration=0.0)
    chooser.follow(sqlite_ledger)
    assert decide(chooser).policy_version.startswith("safe:")


# Named models


def test_a_named_model_is_no_choice(follower: Chooser) -> None:
    """Its propensity is 1 and its version says so; the estimator still says what to expect."""
    for _ in range(20):
        decision = decide(follower, model="small", text=HARD)
        assert (decision.arm, decision.propensity) == (SMALL, 1.0)
    assert decision.policy_version == "fixed:small|direct"
    assert decision.predicted_quality is not None
    assert decision.predicted_quality < 0.5
    assert decision.difficulty is not None


# A fitted policy


def test_a_promoted_policy_decides_with_predictions(
    follower: Chooser, fitted: FittedPolicy
) -> None:
    """Easy questions go to the small model and hard ones to the large one, for known reasons."""
    easy, hard = decide(follower, text=EASY), decide(follower, text=HARD)
    assert (easy.arm, hard.arm) == (SMALL, LARGE)
    assert easy.policy_version == hard.policy_version == fitted.version
    assert easy.predicted_quality is not None
    assert easy.predicted_quality > 0.8
    assert easy.predicted_cost_usd == pytest.approx(0.001, rel=0.2)
    assert hard.predicted_cost_usd == pytest.approx(0.02, rel=0.2)
    assert easy.difficulty is not None
    assert hard.difficulty is not None
    assert easy.difficulty + 0.1 < hard.difficulty < 1
    assert "net of cost" in hard.reason


def test_a_group_relative_policy_serves_with_its_propensities(
    sqlite_ledger: Ledger, fitted: FittedPolicy
) -> None:
    """What was learned turns hard questions to the small model, by odds that are recorded.

    Limits and the operator's price are kept; an accuracy target goes by predictions.
    """
    features = fitted.estimator.predict([HARD]).features
    weights = np.zeros((2, features.shape[1], 2))
    weights[:, 0, 0] = 0.5
    correction = Correction((SMALL, LARGE), weights, 1.0, 1e6, temperature=10.0)
    learned = learned_policy(replace(fitted.policy, epsilon=0.2), correction)
    promote(sqlite_ledger, artifacts.assemble(fitted.estimator, learned, {}))
    chooser = new(TWO)
    chooser.follow(sqlite_ledger)
    choice = consider(chooser, text=HARD)
    decisions = [choice.decide() for _ in range(40)]
    found = {decision.arm: decision.propensity for decision in decisions}
    assert set(found) == {SMALL, LARGE}
    assert sum(found.values()) == pytest.approx(1.0)
    quality = {c.arm: c.predicted_quality or 0.0 for c in choice.plan().candidates}
    cost = {c.arm: c.expected_cost_usd for c in choice.plan().candidates}
    lead = (quality[SMALL] - quality[LARGE] - 5.0 * (cost[SMALL] - cost[LARGE])) / 10.0 + 0.5
    assert found[SMALL] == pytest.approx(0.1 + 0.8 / (1.0 + np.exp(-lead)))
    assert "drawn with probability" in decisions[0].reason
    limited = decide(chooser, text=HARD, max_cost_usd=0.015)
    assert (limited.arm, limited.propensity) == (SMALL, pytest.approx(1.0))
    dear = new(TWO, shadow_price_per_usd=1e5, exploration=0.0)
    dear.follow(sqlite_ledger)
    assert decide(dear, text=HARD).propensity == pytest.approx(1.0)
    assert decide(dear, text=HARD, accuracy_target=0.7).arm == LARGE


def test_the_plan_is_what_would_be_decided(follower: Chooser, fitted: FittedPolicy) -> None:
    """The same prediction of every arm, and how hard and how usual the query is."""
    choice = consider(follower, text=HARD)
    plan, decision = choice.plan(), choice.decide()
    assert plan.decision == decision
    assert plan.policy_version == fitted.version
    assert plan.difficulty == decision.difficulty
    assert plan.in_distribution is True
    by_arm = {candidate.arm: candidate for candidate in plan.candidates}
    assert by_arm[LARGE].predicted_quality == decision.predicted_quality
    assert by_arm[LARGE].expected_cost_usd == decision.predicted_cost_usd
    assert by_arm[SMALL].worst_case_nano_usd == choice.offer(SMALL).worst_case_nano_usd
    assert by_arm[SMALL].rejected is by_arm[LARGE].rejected is None


def test_a_query_unlike_anything_seen_goes_to_the_safe_arm(follower: Chooser) -> None:
    """The estimate says that it is out of its depth, and so does the plan."""
    choice = consider(follower, text="\N{SNOWMAN}" * 300, max_tokens=10_000)
    assert choice.plan().in_distribution is False
    assert choice.decide().arm == LARGE


def test_promotions_and_the_way_back_are_followed(
    sqlite_ledger: Ledger, follower: Chooser, fitted: FittedPolicy
) -> None:
    """The policy promoted last decides, also when that is the older one again."""
    frugal = variant(fitted, shadow_price_per_usd=10_000.0)
    promote(sqlite_ledger, frugal, NOW + timedelta(hours=1))
    assert decide(follower, text=HARD).policy_version == fitted.version
    follower.follow(sqlite_ledger)
    decision = decide(follower, text=HARD)
    assert (decision.policy_version, decision.arm) == (frugal.version, SMALL)
    later = NOW + timedelta(hours=2)
    sqlite_ledger.write(lambda s: promote_policy(s, fitted.version, later))
    follower.follow(sqlite_ledger)
    decision = decide(follower, text=HARD)
    assert (decision.policy_version, decision.arm) == (fitted.version, LARGE)


def test_a_policy_that_cannot_be_read_leaves_the_old_one_in_use(
    sqlite_ledger: Ledger, follower: Chooser, fitted: FittedPolicy
) -> None:
    """A damaged artifact is an error for the operator, not for the requests."""
    broken = artifacts.to_bytes(fitted)[:-100]
    at = NOW + timedelta(hours=1)
    sqlite_ledger.write(lambda s: save_policy(s, "broken", broken, {}, at))
    sqlite_ledger.write(lambda s: promote_policy(s, "broken", at))
    with pytest.raises(PolicyNotReadyError):
        follower.follow(sqlite_ledger)
    assert decide(follower, text=HARD).policy_version == fitted.version


def test_another_ledger_without_a_policy_ends_the_service_of_the_old_one(
    follower: Chooser, new_ledgers: Iterator[Ledger]
) -> None:
    """What is followed is the ledger, not what was once read from one."""
    follower.follow(next(new_ledgers))
    assert decide(follower, text=HARD).policy_version.startswith("safe:")


@pytest.fixture
def new_ledgers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Iterator[Ledger]]:
    """Give an empty ledger beside the test's own."""
    from storage.engine import create_ledger_engine, migrate  # noqa: PLC0415
    from storage.store import Ledger  # noqa: PLC0415

    engine = create_ledger_engine(f"sqlite:///{tmp_path_factory.mktemp('other') / 'other.db'}")
    migrate(engine)
    ledger = Ledger(engine)
    yield iter([ledger])
    ledger.close()


# What the operator fixes


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        pytest.param({}, "", id="nothing"),
        pytest.param({"exploration": 0.25}, ":epsilon=0.25", id="exploration"),
        pytest.param({"exploration": 0.0}, "", id="exploration as it was tuned"),
        pytest.param({"accuracy_target": 0.9}, ":accuracy_target=0.9", id="accuracy target"),
        pytest.param({"shadow_price_per_usd": 7.0}, ":shadow_price_per_usd=7.0", id="shadow price"),
        pytest.param({"shadow_price_per_usd": 5.0}, "", id="shadow price as it was tuned"),
        pytest.param(
            {"exploration": 0.1, "accuracy_target": 0.9, "shadow_price_per_usd": 0.0},
            ":accuracy_target=0.9:epsilon=0.1:shadow_price_per_usd=0.0",
            id="all",
        ),
    ],
)
def test_what_the_operator_fixes_is_told_by_the_version(
    sqlite_ledger: Ledger, fitted: FittedPolicy, settings: dict[str, float], told: str
) -> None:
    """Two policies that decide differently never share a version; equal ones do."""
    promote(sqlite_ledger, fitted)
    chooser = new(TWO, **settings)
    chooser.follow(sqlite_ledger)
    assert decide(chooser, text=EASY).policy_version == f"{fitted.version}{told}"


@pytest.mark.parametrize(
    ("settings", "text", "arm"),
    [
        pytest.param({"shadow_price_per_usd": 10_000.0}, HARD, SMALL, id="saves"),
        pytest.param({"accuracy_target": 0.8}, EASY, SMALL, id="the cheapest to reach a target"),
        pytest.param({"accuracy_target": 0.8}, HARD, LARGE, id="a target that needs the dear one"),
    ],
)
def test_what_the_operator_fixes_is_kept(
    sqlite_ledger: Ledger,
    fitted: FittedPolicy,
    settings: dict[str, float],
    text: str,
    arm: Arm,
) -> None:
    """The shadow price and the target replace what the policy was tuned to."""
    promote(sqlite_ledger, variant(fitted, shadow_price_per_usd=1.0))
    chooser = new(TWO, **settings)
    chooser.follow(sqlite_ledger)
    assert decide(chooser, text=text).arm == arm


def test_a_shadow_price_of_the_operator_replaces_a_tuned_target(
    sqlite_ledger: Ledger, fitted: FittedPolicy
) -> None:
    """The target would otherwise go first and the price never count."""
    promote(sqlite_ledger, variant(fitted, accuracy_target=0.85))
    chooser = new(TWO, shadow_price_per_usd=10_000.0)
    chooser.follow(sqlite_ledger)
    decision = decide(chooser, text=HARD)
    assert decision.arm == SMALL
    assert "accuracy_target=None" in decision.policy_version


# What the request asks


def test_the_accuracy_target_of_a_request_goes_first(
    sqlite_ledger: Ledger, fitted: FittedPolicy
) -> None:
    """It overrides a thrifty policy, and picks the cheapest arm that is good enough."""
    promote(sqlite_ledger, variant(fitted, shadow_price_per_usd=10_000.0))
    chooser = new(TWO, exploration=0.0)
    chooser.follow(sqlite_ledger)
    assert decide(chooser, text=HARD).arm == SMALL
    assert decide(chooser, text=HARD, accuracy_target=0.7).arm == LARGE
    assert decide(chooser, text=EASY, accuracy_target=0.7).arm == SMALL


def test_an_arm_expected_to_cost_more_than_the_cap_is_never_picked() -> None:
    """Its first call would fit, but not the vote that is worth its price; the plan says so."""
    vote = "self_consistency(samples=32, batch=1)"
    found = catalog(scripted("small"), strategies=("direct", vote))
    chooser = new(found, exploration=1.0)
    asked = {"answer_kind": AnswerKind.NUMBER}
    assert {decide(chooser, **asked).arm for _ in range(30)} == set(found.arms)
    _, dear = consider(chooser, **asked).plan().candidates
    assert dear.expected_cost_usd is not None
    capped = consider(chooser, **asked, max_cost_usd=dear.expected_cost_usd * 0.9)
    assert capped.offer(dear.arm).rejected is None
    assert reasons(capped)[f"small|{vote}"] == (
        f"it is expected to cost more than max_cost_usd {dear.expected_cost_usd * 0.9:g}"
    )
    assert {capped.decide().arm for _ in range(30)} == {found.arms[0]}


def test_a_cap_on_cost_rules_out_the_dear_arm(follower: Chooser) -> None:
    """A hard question goes to the small model where the large one is too dear; the plan says so."""
    choice = consider(follower, text=HARD, max_cost_usd=0.019)
    assert choice.decide().arm == SMALL
    told = reasons(choice)
    assert told["small|direct"] is None
    assert told["large|direct"] is not None
    assert "max_cost_usd" in told["large|direct"]


def test_latencies_that_were_seen_are_kept_within_the_limit(follower: Chooser) -> None:
    """An arm that took too long is out; one whose speed nobody knows is not."""
    follower.observe(LARGE, 5.0)
    choice = consider(follower, text=HARD, max_latency_s=2.0)
    assert choice.decide().arm == SMALL
    assert reasons(choice) == {
        "small|direct": None,
        "large|direct": "it is expected to take longer than max_latency_s 2",
    }
    assert decide(follower, text=HARD, max_latency_s=6.0).arm == LARGE


def test_latencies_are_averaged_the_newest_a_tenth() -> None:
    """One slow answer does not rule an arm out for good."""
    chooser = new(TWO)
    for seen_s in (1.0, 2.0):
        chooser.observe(LARGE, seen_s)
    latency_s = [c.expected_latency_s for c in consider(chooser).plan().candidates]
    assert latency_s == [None, pytest.approx(1.1)]


def test_a_measured_machine_says_how_long_an_arm_takes() -> None:
    """4 tokens of 10 at 2 a second, a quarter of the prompt's bytes at 100; until one is seen."""
    slow = catalog(scripted("small", throughput=Throughput(100, 2)))
    (candidate,) = consider(new(slow)).plan().candidates
    assert candidate.expected_latency_s == pytest.approx(ceil(51 / 4) / 100 + 4 / 2)


def test_limits_that_nothing_keeps_are_refused_as_such(follower: Chooser) -> None:
    """Neither the request nor the budget is wrong: 402, and the plan has no decision."""
    for arm in (SMALL, LARGE):
        follower.observe(arm, 9.0)
    choice = consider(follower, max_latency_s=1.0)
    with pytest.raises(NoAffordableArmError, match="max_latency_s"):
        choice.decide()
    assert choice.plan().decision is None


# Nothing feasible


def test_a_prompt_too_long_for_every_model() -> None:
    """The code is the one that clients of OpenAI shorten their prompt for."""
    short = catalog(scripted("small", context_tokens=20), scripted("large", context_tokens=22))
    with pytest.raises(RequestError, match="context of 20 tokens") as caught:
        decide(new(short))
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "messages")


def test_a_prompt_too_long_for_the_arms_that_could_serve_it() -> None:
    """Arms that are out for another reason do not hide that a shorter prompt would be served."""
    short = catalog(scripted("small", context_tokens=20), strategies=("direct", "cot"))
    with pytest.raises(RequestError) as caught:
        decide(new(short), n=2)
    assert caught.value.code == "context_length_exceeded"


def test_a_request_that_no_strategy_can_serve() -> None:
    """Tools with strategies that cannot pass them through: 400, with the reason."""
    steps = catalog(scripted("small"), strategies=("cot",))
    with pytest.raises(RequestError, match="tool calls") as caught:
        decide(new(steps), extra={"tools": [{"type": "function"}]})
    assert (caught.value.code, caught.value.param) == ("no_arm_can_serve", None)


def test_a_cap_that_no_first_call_fits() -> None:
    """More money would help, so it is a matter of money; the plan shows why arm by arm."""
    choice = consider(new(TWO), max_cost_usd=1e-6)
    with pytest.raises(NoAffordableArmError, match="first call") as caught:
        choice.decide()
    assert "max_cost_usd 0.000001" in str(caught.value)
    assert choice.plan().decision is None
    assert all("first call" in (why or "") for why in reasons(choice).values())


# What is left of a budget


def test_within_a_budget_the_best_arm_that_fits_is_chosen(follower: Chooser) -> None:
    """The large model no longer fits, to the nano-USD."""
    choice = consider(follower, text=HARD)
    worst = choice.offer(LARGE).worst_case_nano_usd
    same = choice.within(worst)
    less = choice.within(worst - 1)
    assert same is not None
    assert less is not None
    assert same.decide().arm == LARGE
    assert less.decide().arm == SMALL
    assert reasons(less)["large|direct"] == (
        "its worst case does not fit what is left of the budget"
    )


def test_within_too_little_there_is_no_choice() -> None:
    """None, so that the budget's refusal is what the client reads."""
    choice = consider(new(catalog(scripted("small"))))
    assert choice.within(WORST) is not None
    assert choice.within(WORST - 1) is None


def test_what_fits_the_budget_has_to_keep_the_limits_too(follower: Chooser) -> None:
    """The small model fits, but is too slow for this request: there is no choice left."""
    follower.observe(SMALL, 9.0)
    choice = consider(follower, text=HARD, max_latency_s=1.0)
    assert choice.decide().arm == LARGE
    assert choice.within(choice.offer(LARGE).worst_case_nano_usd - 1) is None


def test_a_named_model_that_does_not_fit_is_not_replaced(follower: Chooser) -> None:
    """Who names a model gets that one or none."""
    choice = consider(follower, model="large", text=EASY)
    assert choice.within(choice.offer(LARGE).worst_case_nano_usd - 1) is None


# Prices


def test_an_arm_that_was_never_fitted_is_expected_to_cost_what_its_price_says(
    sqlite_ledger: Ledger, fitted: FittedPolicy
) -> None:
    """Accuracy is borrowed from the family; a price is known and need not be."""
    promote(sqlite_ledger, fitted)
    more = catalog(scripted("small", times=100), scripted("huge", times=5000))
    chooser = new(more, exploration=0.0)
    chooser.follow(sqlite_ledger)
    small, huge = consider(chooser, text=EASY).plan().candidates
    expected = 5e-3 * ceil((len(EASY) + 36) / 4) + 10e-3 * 0.4 * 10
    assert huge.expected_cost_usd == pytest.approx(expected)
    assert huge.predicted_quality is not None
    assert small.expected_cost_usd == pytest.approx(0.001, rel=0.2)


def test_no_arm_is_expected_to_cost_more_than_its_worst_case(follower: Chooser) -> None:
    """The planted answers were longer than this request allows."""
    tiny = catalog(scripted("small"), scripted("large"))
    follower.catalog = tiny
    for candidate in consider(follower, text=HARD).plan().candidates:
        assert candidate.worst_case_nano_usd is not None
        assert candidate.expected_cost_usd == candidate.worst_case_nano_usd / 1e9


# Chance


def test_propensities_are_the_frequencies(sqlite_ledger: Ledger, fitted: FittedPolicy) -> None:
    """Over 4000 seeded decisions each arm comes as often as its propensity says (5 sigma)."""
    promote(sqlite_ledger, variant(fitted, epsilon=0.3))
    chooser = Chooser(STEPS, rng=np.random.default_rng(7))
    chooser.follow(sqlite_ledger)
    choice = consider(chooser, text=HARD)
    n = 4000
    counts: dict[Arm, int] = {}
    propensities: dict[Arm, float] = {}
    for _ in range(n):
        decision = choice.decide()
        counts[decision.arm] = counts.get(decision.arm, 0) + 1
        propensities[decision.arm] = decision.propensity
    assert set(counts) == set(STEPS.arms)
    assert sum(propensities.values()) == pytest.approx(1.0)
    for arm, propensity in propensities.items():
        sigma = np.sqrt(propensity * (1 - propensity) / n)
        assert abs(counts[arm] / n - propensity) < 5 * sigma, arm


def test_the_same_seed_decides_the_same() -> None:
    """Chance comes from the generator alone."""
    drawn = [
        [decide(chooser).arm for _ in range(20)]
        for chooser in (new(STEPS, exploration=0.9), new(STEPS, exploration=0.9))
    ]
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) > 1


def test_the_planted_arms_are_the_ones_of_the_catalog() -> None:
    """Guards the fixtures above: predictions are for arms that were fitted."""
    assert set(TWO.arms) < set(ARMS)


def on_trial(ledger: Ledger, fitted: FittedPolicy, share: float) -> Chooser:
    """Try a policy that always takes the large model beside one that takes the small one."""
    old = variant(fitted, shadow_price_per_usd=1000.0)
    new = variant(fitted, shadow_price_per_usd=0.0, left_out=frozenset(ARMS) - {LARGE})
    promote(ledger, old)
    data = artifacts.to_bytes(new)
    ledger.write(lambda s: save_policy(s, new.version, data, new.manifest, NOW))
    terms = TrialTerms(share)
    ledger.write(lambda s: start_trial(s, new.version, old.version, terms, NOW))
    chooser = Chooser(TWO, rng=np.random.default_rng(0))
    chooser.follow(ledger)
    return chooser


def test_a_canary_decides_for_its_share_and_always_for_the_same_users(
    sqlite_ledger: Ledger, fitted: FittedPolicy
) -> None:
    """A third of 300 users, whatever they ask; nobody after the trial."""
    chooser = on_trial(sqlite_ledger, fitted, 1 / 3)

    def decided(i: int, text: str) -> Decision:
        request = replace(asks(text=text), user=f"u{i}")
        return chooser.consider(request, offers(TWO, request)).decide()

    first = [decided(i, EASY) for i in range(300)]
    large = [made.arm == LARGE for made in first]
    assert 70 < sum(large) < 130
    assert len({made.policy_version for made in first}) == 2
    assert [decided(i, HARD).policy_version for i in range(50)] == [
        made.policy_version for made in first[:50]
    ]
    sqlite_ledger.write(lambda s: end_trial(s, "by hand", NOW))
    chooser.follow(sqlite_ledger)
    assert {decided(i, EASY).arm for i in range(50)} == {SMALL}


def test_a_shadow_is_written_down_and_decides_nothing(
    sqlite_ledger: Ledger, fitted: FittedPolicy
) -> None:
    """What was offered is written down beside it; a model by name has no shadow."""
    chooser = on_trial(sqlite_ledger, fitted, 0.0)
    request = asks(text=EASY)
    made = chooser.consider(request, offers(TWO, request)).decide()
    assert made.arm == SMALL
    assert made.shadow is not None
    assert made.shadow.arm == LARGE
    assert made.offered is not None
    assert set(made.offered.arms) == {SMALL, LARGE}
    named = asks("small", EASY)
    assert chooser.consider(named, offers(TWO, named)).decide().shadow is None


# Policies by their version


@pytest.mark.anyio
async def test_a_request_can_name_any_policy_that_is_kept(
    sqlite_ledger: Ledger, fitted: FittedPolicy
) -> None:
    """Whichever is in service; also one that was kept since, and none that was not."""
    frugal = variant(fitted, shadow_price_per_usd=1e4)
    promote(sqlite_ledger, fitted)
    service = RoutingService(TWO, Chooser(TWO, rng=np.random.default_rng(0)), sqlite_ledger)
    service.chooser.follow(sqlite_ledger)
    assert list(await service.policies()) == [fitted.version]
    later = NOW + timedelta(hours=1)
    data = artifacts.to_bytes(frugal)
    sqlite_ledger.write(lambda s: save_policy(s, frugal.version, data, {}, later))
    assert list(await service.policies()) == [frugal.version, fitted.version]
    for version, expected in ((fitted.version, LARGE), (frugal.version, SMALL), (None, LARGE)):
        model = "auto" if version is None else f"auto/{version}"
        made = (await service.plan(asks(model=model, text=HARD))).decision
        assert made is not None
        assert made.arm == expected
        assert made.policy_version == (version or fitted.version)
    served = await service.answer(asks(model=f"auto/{frugal.version}", text=HARD))
    assert (served.decision.policy_version, served.model) == (frugal.version, "small")
    with pytest.raises(RequestError, match="auto/nothing") as unknown:
        await service.answer(asks(model="auto/nothing"))
    assert unknown.value.code == "model_not_found"


def test_policies_that_were_named_are_kept_ready_up_to_a_bound(
    sqlite_ledger: Ledger, fitted: FittedPolicy
) -> None:
    """The one that was read first goes first, and is read again when it is named again."""
    chooser = new(TWO)
    made = [variant(fitted, shadow_price_per_usd=float(i)) for i in range(MAX_NAMED + 1)]
    for one in made:
        data = artifacts.to_bytes(one)
        sqlite_ledger.write(lambda s, v=one.version, d=data: save_policy(s, v, d, {}, NOW))
        chooser.fetch(sqlite_ledger, one.version)
    versions = [one.version for one in made]
    assert [chooser.has(version) for version in versions] == [False] + [True] * MAX_NAMED
    with pytest.raises(PolicyNotReadyError, match="not ready"):
        decide(chooser, model=f"auto/{versions[0]}", text=HARD)
    chooser.fetch(sqlite_ledger, versions[0])
    named = decide(chooser, model=f"auto/{versions[0]}", text=HARD)
    assert named.policy_version == versions[0]
