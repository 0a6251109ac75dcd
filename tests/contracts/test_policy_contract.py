"""What every policy must hold, whatever is forecast."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cost_models.types import Arm, PricedArm
from policies.base import Forecast, Limits, Policy
from policies.errors import NoAffordableArmError
from policies.fixed import FixedPolicy, SafePolicy
from policies.group_relative import Correction, learned_policy
from policies.utility import UtilityPolicy

ARMS = tuple(Arm(model, strategy) for model in ("a", "b") for strategy in ("x", "y"))
SAFE = ARMS[1]
LEARNED = Correction(
    ARMS[:3], np.random.default_rng(0).normal(size=(2, 2, 3)), 1.0, 100.0, temperature=0.1
)
ALL: list[Policy] = [
    FixedPolicy(SAFE),
    SafePolicy(SAFE),
    SafePolicy(SAFE, epsilon=0.0),
    SafePolicy(Arm("gone", "x"), epsilon=1.0),
    UtilityPolicy(10.0, SAFE),
    UtilityPolicy(0.0, Arm("gone", "x"), epsilon=0.5),
    UtilityPolicy(5.0, SAFE, epsilon=0.1, accuracy_target=0.7),
    UtilityPolicy(5.0, SAFE, left_out=frozenset(ARMS[:2])),
    learned_policy(UtilityPolicy(5.0, SAFE, epsilon=0.0), LEARNED),
    learned_policy(UtilityPolicy(5.0, SAFE, left_out=frozenset(ARMS[:2])), LEARNED),
]
every_policy = pytest.mark.parametrize(
    "policy", ALL, ids=[f"{type(policy).__name__}-{i}" for i, policy in enumerate(ALL)]
)

COSTS = st.one_of(st.floats(0, 0.1), st.just(0.05))
QUALITIES = st.floats(0.01, 0.99)


@st.composite
def forecasts(draw: st.DrawFn, n: int = 3) -> Forecast:
    """Forecasts of all sorts, some with arms that are not offered."""

    def matrix(values: st.SearchStrategy[float]) -> np.ndarray:
        cells = draw(st.lists(values, min_size=n * len(ARMS), max_size=n * len(ARMS)))
        return np.array(cells, dtype=float).reshape(n, len(ARMS))

    fitted = draw(st.booleans())
    return Forecast(
        arms=ARMS,
        cost_usd=matrix(COSTS),
        quality=matrix(QUALITIES) if fitted else None,
        latency_s=matrix(st.floats(0, 10)),
        difficulty=np.full(n, 0.5) if fitted else None,
        in_distribution=np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)))
        if fitted
        else None,
        offered=matrix(st.sampled_from([0.0, 1.0, 1.0])) > 0,
        features=matrix(st.floats(-3, 3))[:, :2],
    )


LIMITS = st.builds(
    Limits,
    accuracy_target=st.none() | st.floats(0.01, 1),
    max_cost_usd=st.none() | st.floats(0, 0.1),
    max_latency_s=st.none() | st.floats(0, 10),
)


@every_policy
@given(forecast=forecasts(), limits=LIMITS)
def test_probabilities_add_up_and_never_reach_an_infeasible_arm(
    policy: Policy, forecast: Forecast, limits: Limits
) -> None:
    """Each row is a distribution over feasible arms, or zero where there is nothing to pick."""
    probability = policy.probability(forecast, limits)
    feasible = forecast.feasible(limits)
    assert (probability >= 0).all()
    assert (probability[~feasible] == 0).all()
    total = probability.sum(axis=1)
    expected = (
        feasible[:, ARMS.index(policy.arm)]
        if isinstance(policy, FixedPolicy)
        else feasible.any(axis=1)
    )
    np.testing.assert_allclose(total, expected.astype(float), atol=1e-12)


@every_policy
@given(forecast=forecasts(n=1), limits=LIMITS, seed=st.integers(0, 99))
def test_a_choice_is_feasible_states_its_propensity_and_repeats_with_its_seed(
    policy: Policy, forecast: Forecast, limits: Limits, seed: int
) -> None:
    """The decision is drawn from the stated probabilities; none is made without an arm."""
    probability = policy.probability(forecast, limits)[0]
    if not probability.any():
        with pytest.raises(NoAffordableArmError):
            policy.choose(forecast, limits, np.random.default_rng(seed))
        return
    decision = policy.choose(forecast, limits, np.random.default_rng(seed))
    number = ARMS.index(decision.arm)
    assert forecast.feasible(limits)[0, number]
    assert decision.propensity == probability[number] > 0
    assert decision.policy_version == policy.version
    assert decision.predicted_cost_usd == forecast.cost_usd[0, number]
    if forecast.quality is not None:
        assert decision.predicted_quality == forecast.quality[0, number]
    assert decision.reason
    assert decision == policy.choose(forecast, limits, np.random.default_rng(seed))


@every_policy
@given(forecast=forecasts(), limits=LIMITS)
def test_each_query_is_decided_alone(policy: Policy, forecast: Forecast, limits: Limits) -> None:
    """Replaying many queries at once gives what serving them one by one would."""
    together = policy.probability(forecast, limits)
    for i in range(len(together)):
        alone = Forecast(
            *(
                value if value is None or name == "arms" else value[i : i + 1]
                for name, value in (
                    (name, getattr(forecast, name)) for name in Forecast.__dataclass_fields__
                )
            )
        )
        found = policy.probability(alone, limits)[0]
        np.testing.assert_allclose(found, together[i], rtol=1e-9, atol=1e-15)


@every_policy
def test_arms_are_drawn_as_often_as_their_propensity_says(policy: Policy) -> None:
    """Over 2,000 draws each share is within 4 standard errors of its propensity."""
    forecast = Forecast(
        ARMS,
        np.full((1, 4), 0.01),
        np.array([[0.2, 0.9, 0.4, 0.8]]),
        features=np.array([[1.0, 0.5]]),
    )
    probability = policy.probability(forecast, Limits())[0]
    rng = np.random.default_rng(0)
    drawn = Counter(policy.choose(forecast, Limits(), rng).arm for _ in range(2000))
    for arm, p in zip(ARMS, probability, strict=True):
        assert abs(drawn[arm] / 2000 - p) <= 4 * np.sqrt(p * (1 - p) / 2000)


def test_a_forecast_of_one_request_is_made_of_priced_arms() -> None:
    """Prices and latencies of the offered arms become the single row."""
    priced = [PricedArm(ARMS[0], 0.1, 10, 2.0), PricedArm(ARMS[1], 0.2, 20, 3.0)]
    forecast = Forecast.of(priced, None)
    assert forecast.cost_usd.tolist() == [[0.1, 0.2]]
    assert forecast.feasible(Limits(max_latency_s=2.5)).tolist() == [[True, False]]
    decision = SafePolicy(ARMS[1], epsilon=0).choose(forecast, Limits(), np.random.default_rng(0))
    assert decision.arm == ARMS[1]
    assert decision.predicted_quality is None
