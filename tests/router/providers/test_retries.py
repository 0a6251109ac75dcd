"""When a call is tried again, and how long is waited."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import ProviderError, ProviderTimeoutError
from router.providers.retries import Retries, RetryBudget, UnreachableError

RETRIES = Retries(first_wait_s=0.5, max_wait_s=4.0)


@given(st.integers(1, 5))
def test_waits_double_with_jitter(n_rounds: int) -> None:
    """Between half and all of the backoff, never above the longest."""
    wait_s = RETRIES.wait_s(n_rounds, ProviderError("m", "busy", status=503))
    backoff_s = min(4.0, 0.5 * 2 ** (n_rounds - 1))
    assert wait_s is not None
    assert backoff_s / 2 <= wait_s <= backoff_s


def test_the_upstreams_wait_is_honoured() -> None:
    """At least what it asks for; not at all when that is too long."""
    asked = ProviderError("m", "busy", status=429, retry_after_s=3.0)
    assert RETRIES.wait_s(1, asked) == 3.0
    assert RETRIES.wait_s(1, ProviderError("m", "busy", status=429, retry_after_s=5.0)) is None


@pytest.mark.parametrize(
    ("error", "retried"),
    [
        pytest.param(UnreachableError("m", "refused"), True, id="unreachable"),
        pytest.param(ProviderError("m", "x", status=502), True, id="bad gateway"),
        pytest.param(ProviderError("m", "x", status=500), False, id="an internal error"),
        pytest.param(ProviderError("m", "lost the connection"), False, id="maybe billed"),
        pytest.param(ProviderTimeoutError("m", "slow"), False, id="a timeout may be billed"),
        pytest.param(ProviderError("m", "x", status=401), False, id="a wrong key"),
    ],
)
def test_only_what_was_not_billed_is_tried_again(error: ProviderError, *, retried: bool) -> None:
    """A second attempt at a billed call could break the request's cap."""
    assert (RETRIES.wait_s(1, error) is not None) == retried


def test_a_request_tries_again_so_often_and_no_more() -> None:
    """Whatever asks, the budget is the request's."""
    budget = RetryBudget(2)
    assert [budget.take() for _ in range(4)] == [True, True, False, False]
