"""Arms, usage and what a call can cost at most."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cost_models.estimates import (
    CallBound,
    Throughput,
    expected_usd,
    worst_case_nano_usd,
    worst_case_usage,
)
from cost_models.money import to_nano_usd
from cost_models.pricing import Price
from cost_models.types import Arm, Usage

BY_TOKEN = Price(
    input_usd_per_million_tokens=Decimal("0.1"), output_usd_per_million_tokens=Decimal("0.4")
)
OWNED = Price(usd_per_machine_hour=Decimal("0.36"))
SPEED = Throughput(prompt_tokens_per_s=100, completion_tokens_per_s=10, worst_case_slowdown=2)


def test_an_arm_has_one_text_form() -> None:
    """``MODEL|STRATEGY`` reads back; the model's own name may hold the separator."""
    arm = Arm("a|b", "self_consistency(samples=5)")
    assert str(arm) == "a|b|self_consistency(samples=5)"
    assert Arm.parse(str(arm)) == arm


@pytest.mark.parametrize("text", ["plain", "", "|direct", "small|"])
def test_a_malformed_arm_is_refused(text: str) -> None:
    """Both halves must be there."""
    with pytest.raises(ValueError, match="arm"):
        Arm.parse(text)


@pytest.mark.parametrize(
    "counts",
    [
        pytest.param({"prompt_tokens": -1}, id="negative"),
        pytest.param({"prompt_tokens": 5, "cached_prompt_tokens": 6}, id="more cached than sent"),
        pytest.param({"completion_tokens": 5, "reasoning_tokens": 6}, id="more thought than told"),
    ],
)
def test_impossible_usage_is_refused(counts: dict[str, int]) -> None:
    """A part is never larger than its whole."""
    with pytest.raises(ValueError, match=r"tokens|counts"):
        Usage(**counts)


def test_a_prompt_is_held_once_where_n_samples_share_it() -> None:
    """Four samples of a 100-token prompt: 100 prompt tokens in one call, 400 in four."""
    call = CallBound(prompt_tokens=100, max_tokens=50, n_samples=4)
    shared = worst_case_usage(call, None, native_n=True)
    apart = worst_case_usage(call, None, native_n=False)
    assert (shared.n_calls, shared.prompt_tokens, shared.completion_tokens) == (1, 100, 200)
    assert (apart.n_calls, apart.prompt_tokens, apart.completion_tokens) == (4, 400, 200)


def test_an_owned_machine_is_held_for_the_time_after_which_a_call_is_stopped() -> None:
    """100 prompt and 50 output tokens: 1 s + 5 s, twice as slow at worst, at 0.36 USD an hour."""
    call = CallBound(prompt_tokens=100, max_tokens=50)
    assert SPEED.worst_case_s(call, native_n=True) == pytest.approx(12.0)
    held = worst_case_nano_usd(OWNED, [call], SPEED, native_n=True)
    assert held == pytest.approx(1_200_000, abs=1)


@given(
    calls=st.lists(
        st.tuples(st.integers(0, 10**5), st.integers(1, 10**5), st.integers(1, 64)), max_size=6
    )
)
def test_holding_calls_one_by_one_equals_holding_them_together(
    calls: list[tuple[int, int, int]],
) -> None:
    """Each call is rounded up by itself, as it will be when it is settled."""
    bounds = [CallBound(*call) for call in calls]
    together = worst_case_nano_usd(BY_TOKEN, bounds, None, native_n=True)
    assert together == sum(
        worst_case_nano_usd(BY_TOKEN, [bound], None, native_n=True) for bound in bounds
    )


def test_expected_cost_follows_tokens_or_machine_time() -> None:
    """By token: 0.1 and 0.4 per million. Owned: busy seconds at the hourly price."""
    by_token = expected_usd(BY_TOKEN, None, prompt_tokens=1000, completion_tokens=500)
    assert by_token == pytest.approx(0.0003)
    owned = expected_usd(OWNED, SPEED, prompt_tokens=100, completion_tokens=50)
    assert owned == pytest.approx(6 * 0.36 / 3600)


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param((0, 1, 4), id="no prompt speed"),
        pytest.param((1, -1, 4), id="negative speed"),
        pytest.param((1, 1, 0.5), id="faster at worst"),
    ],
)
def test_an_impossible_throughput_is_refused(arguments: tuple[float, float, float]) -> None:
    """Speeds are above 0, and the worst case is not better than the measured one."""
    with pytest.raises(ValueError, match=r"throughput|slowdown"):
        Throughput(*arguments)


@pytest.mark.parametrize("usd", ["NaN", "-0.1", "Infinity"])
def test_money_that_cannot_be_owed_is_refused(usd: str) -> None:
    """Neither negative nor unbounded amounts reach the ledger."""
    with pytest.raises(ValueError, match="finite and at least 0"):
        to_nano_usd(Decimal(usd))
