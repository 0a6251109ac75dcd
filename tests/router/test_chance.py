"""Seeded draws: the same everywhere, inside their range, and without a preference."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from router.chance import Dice

GOLDEN = [213, 627, 106, 315, 957]
GOLDEN_ORDER = [1, 4, 2, 3, 5, 0]


def test_a_key_fixes_the_stream_for_ever() -> None:
    """Golden values: a change here changes every generated question and simulated answer."""
    dice = Dice("golden")
    assert [dice.below(1000) for _ in range(5)] == GOLDEN
    assert Dice("golden").shuffled(range(6)) == GOLDEN_ORDER


@given(key=st.text(), end=st.integers(1, 10**6))
def test_draws_stay_in_range(key: str, end: int) -> None:
    """From 0 up to, and without, the end."""
    dice = Dice(key)
    assert 0 <= dice.below(end) < end
    assert end <= dice.between(end, end + 3) <= end + 3
    assert 0.0 <= dice.uniform() < 1.0


@given(items=st.lists(st.integers(), max_size=20), key=st.text(max_size=5))
def test_shuffling_keeps_the_items(items: list[int], key: str) -> None:
    """Nothing is lost or doubled."""
    assert Counter(Dice(key).shuffled(items)) == Counter(items)


def test_every_face_comes_up_as_often() -> None:
    """60000 throws of a die: each face within 4 standard deviations of a sixth."""
    dice = Dice("fair")
    faces = Counter(dice.below(6) for _ in range(60_000))
    assert all(abs(faces[face] - 10_000) < 4 * 91.3 for face in range(6))
