"""Own or pay by token: the crossing of a line and a staircase, held to a plain scan."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cost_models.ownership import (
    Machines,
    Range,
    break_even,
    payback_months,
    simulate,
    tornado,
)

PLAIN = Machines(
    usd_per_query=0.01,
    s_per_query=2.0,
    usd_per_machine_month=1000.0,
    utilisation=0.5,
    peak_to_mean=2.0,
)
"""730 h * 3,600 s * 0.5 / 2 / 2 s = 328,500 queries a month for each machine."""
DECADES = st.floats(-1.0, 1.0)


def test_one_machine_by_hand() -> None:
    """1,000 USD a month against a cent a query: 100,000 queries, and a machine carries 328,500."""
    assert PLAIN.queries_per_machine == pytest.approx(328_500)
    assert [PLAIN.needed(v) for v in (1.0, 328_500.0, 328_501.0)] == [1, 1, 2]
    found = break_even(PLAIN)
    assert found.first == pytest.approx(100_000)
    assert found.always == found.first
    assert found.busy_share == pytest.approx(100_000 * 2 / (730 * 3600))


def test_a_new_machine_can_make_owning_dearer_again() -> None:
    """Just after each step the bill jumps by a machine; base costs delay the day."""
    dear = replace(PLAIN, usd_per_machine_month=2500.0, usd_fixed_month=500.0)
    found = break_even(dear)
    assert found.first == pytest.approx(300_000)
    assert dear.owned_usd(330_000) > dear.bought_usd(330_000)
    assert found.always == pytest.approx((500 + 4 * 2500) / 0.01)


def test_what_a_machine_costs() -> None:
    """Power by the hour, staff and setup by the month."""
    made = replace(
        PLAIN, kw=2.0, usd_per_kwh=0.1, usd_fixed_month=300.0, usd_setup=7200.0, setup_months=24.0
    )
    assert made.usd_per_machine == pytest.approx(1000 + 2 * 730 * 0.1)
    assert made.owned_usd(400_000) == pytest.approx(300 + 300 + 2 * 1146)


def test_machines_that_cost_more_than_what_they_carry_never_pay() -> None:
    """Whatever the volume."""
    found = break_even(replace(PLAIN, usd_per_machine_month=4000.0))
    assert (found.first, found.always) == (inf, inf)


@given(DECADES, DECADES, DECADES, st.sampled_from([0.0, 800.0, 9000.0]))
def test_the_crossing_is_the_one_that_a_scan_finds(
    price: float, seconds: float, rent: float, base: float
) -> None:
    """At first, owning is no dearer and just below it is; from always on it never is again."""
    machines = replace(
        PLAIN,
        usd_per_query=0.01 * 10**price,
        s_per_query=2.0 * 10**seconds,
        usd_per_machine_month=1000.0 * 10**rent,
        usd_fixed_month=base,
    )
    found = break_even(machines)
    capacity = machines.queries_per_machine
    volumes = np.concatenate([(k + np.linspace(1e-6, 1.0, 40)) * capacity for k in range(40)])
    cheaper = np.array([machines.owned_usd(v) <= machines.bought_usd(v) for v in volumes])
    assert not cheaper[volumes < found.first * (1 - 1e-9)].any()
    assert cheaper[volumes > found.always * (1 + 1e-9)].all()
    if found.first < volumes[-1]:
        just = found.first * (1 + 1e-6) + capacity * 1e-9
        assert machines.owned_usd(just) <= machines.bought_usd(just) * (1 + 1e-5)


def test_an_interval_holds_what_is_likely_and_tells_how_often_there_is_none() -> None:
    """A wide range of rents: some never pay."""
    ranges = {"usd_per_machine_month": Range(500.0, 1000.0, 6000.0)}
    found = simulate(PLAIN, ranges, seed=3)
    assert found.low < found.median < found.high
    assert 0.1 < found.never < 0.6
    assert found == simulate(PLAIN, ranges, seed=3)
    certain = simulate(PLAIN, {"usd_per_machine_month": Range(1000.0, 1000.0, 1000.0)})
    assert (certain.low, certain.high, certain.never) == (
        pytest.approx(100_000),
        pytest.approx(100_000),
        0.0,
    )


def test_the_longest_bar_of_a_tornado_comes_first() -> None:
    """Ends are the break-even at either end of one range."""
    bars = tornado(
        PLAIN,
        {
            "usd_per_query": Range(0.009, 0.01, 0.011),
            "usd_per_machine_month": Range(500.0, 1000.0, 2000.0),
            "utilisation": Range(0.5, 0.5, 0.5),
        },
    )
    assert [bar.name for bar in bars] == ["usd_per_machine_month", "usd_per_query", "utilisation"]
    assert (bars[0].at_low, bars[0].at_high) == (pytest.approx(50_000), pytest.approx(200_000))
    assert bars[-1].span == 0.0


def test_a_setup_is_paid_back_by_what_is_saved() -> None:
    """2,000 USD of tokens less 1,000 of rent a month pay 6,000 in six months; less volume never."""
    made = replace(PLAIN, usd_setup=6000.0, setup_months=12.0)
    assert payback_months(made, 200_000) == pytest.approx(6.0)
    assert payback_months(made, 90_000) == inf


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("usd_per_query", 0.0),
        ("s_per_query", -1.0),
        ("utilisation", 1.2),
        ("peak_to_mean", 0.5),
        ("kw", inf),
        ("setup_months", 0.0),
    ],
)
def test_what_cannot_be_is_refused(name: str, value: float) -> None:
    """With the name of the quantity."""
    with pytest.raises(ValueError, match=name):
        replace(PLAIN, **{name: value})


def test_a_range_is_in_order() -> None:
    """Low, likely, high."""
    with pytest.raises(ValueError, match="low <= likely <= high"):
        Range(2.0, 1.0, 3.0)
