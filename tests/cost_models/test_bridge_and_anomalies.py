"""The bridge closes for any two periods; what is told as abnormal is, and by enough."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cost_models.anomalies import anomalies
from cost_models.bridge import Cell, CellKey, bridge
from cost_models.compute_split import RoleSpend, compute_split

KEYS = st.builds(
    CellKey, st.integers(-1, 4), st.sampled_from(["small", "large"]), st.sampled_from("ab")
)
CELLS = st.dictionaries(
    KEYS,
    st.builds(
        Cell,
        st.integers(0, 10**6),
        st.integers(0, 10**15),
        st.none() | st.integers(0, 10**15),
    ),
    max_size=8,
)
Cells = dict[CellKey, Cell]
SMALL, LARGE = CellKey(0, "small", "a"), CellKey(1, "large", "a")


@given(old=CELLS, new=CELLS)
def test_parts_always_add_up_to_the_change(
    old: dict[CellKey, Cell], new: dict[CellKey, Cell]
) -> None:
    """Whatever came, went, or changed its price."""
    found = bridge(old, new)
    assert sum(found.parts.values()) == found.after - found.before
    assert found.before == sum(cell.cost_nano_usd for cell in old.values())
    assert found.after == sum(cell.cost_nano_usd for cell in new.values())


def test_each_cause_alone_lands_in_its_own_part() -> None:
    """Twice the volume, another mix, other choices, another price, more tokens: one part each."""
    old = {SMALL: Cell(100, 1000), LARGE: Cell(100, 9000)}

    def nonzero(new: Cells, base: Cells = old) -> dict[str, int]:
        return {name: part for name, part in bridge(base, new).parts.items() if part}

    more = {SMALL: Cell(200, 2000, 2000), LARGE: Cell(200, 18000, 18000)}
    assert nonzero(more) == {"volume": 10_000}
    easier = {SMALL: Cell(150, 1500, 1500), LARGE: Cell(50, 4500, 4500)}
    assert nonzero(easier) == {"questions": -4000}
    cheaper = {SMALL: Cell(100, 1000, 1000), LARGE: Cell(100, 4500, 9000)}
    assert nonzero(cheaper) == {"prices": -4500}
    longer = {SMALL: Cell(100, 3000, 3000), LARGE: Cell(100, 9000, 9000)}
    assert nonzero(longer) == {"usage": 2000}
    unpriced = {SMALL: Cell(100, 3000), LARGE: Cell(100, 9000)}
    assert nonzero(unpriced) == {"usage": 2000}
    same_bin = CellKey(0, "large", "a")
    before = {SMALL: Cell(100, 1000), same_bin: Cell(100, 9000)}
    after = {SMALL: Cell(150, 1500, 1500), same_bin: Cell(50, 4500, 4500)}
    assert nonzero(after, before) == {"choices": -4000}
    assert nonzero({**old, same_bin: Cell(1, 77, 77)}) == {"added": 77}
    assert nonzero({LARGE: Cell(100, 9000, 9000)}) == {"retired": -1000}


def test_an_incident_is_found_and_habit_is_not() -> None:
    """Of 200 steady series hardly a day is told; a day of three times the usual always is."""
    told = found = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        week = np.where(np.arange(60) % 7 >= 5, 0.4, 1.0)
        daily = 50.0 * week * rng.lognormal(0.0, 0.1, 60)
        told += len(anomalies(daily, 0))
        daily[43] *= 3.0
        found += 43 in [seen.day for seen in anomalies(daily, 0)]
    assert found == 200
    assert told < 0.002 * 200 * 50


def test_floors_keep_small_money_and_small_shares_quiet() -> None:
    """A jump of cents, or one of a tenth, is not told."""
    daily = np.full(40, 0.02)
    daily[30] = 0.2
    assert anomalies(daily, 0) == []
    assert [seen.day for seen in anomalies(daily, 0, at_least_usd=0.1)] == [30]
    daily = np.full(40, 1000.0)
    daily[30] = 1600.0
    (seen,) = anomalies(daily, 0)
    assert abs(seen.impact_usd - 600.0) < 1e-6
    assert anomalies(daily, 0, at_least_share=0.7) == []


def test_compute_parts_add_up_and_do_not_overlap() -> None:
    """First answers, further samples, judges, what a crash left, and failures are the whole."""
    spends = [RoleSpend("answer", 100, 60, 5), RoleSpend("judge", 20, 0, 2), RoleSpend("lost", 7)]
    parts = compute_split(spends)
    assert parts == {
        "failed calls": 7,
        "first answer": 60,
        "further samples": 35,
        "judge": 18,
        "lost": 7,
    }
    assert sum(parts.values()) == 127
