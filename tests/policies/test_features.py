"""Features are the same in every process, and the numbers mean what their names say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone

from policies.encoding import NUMERIC_NAMES, POSED_NAMES, encode, encode_one
from policies.features import TextFeatures
from policies.posing import Posing, posed
from policies.types import AnswerKind

BUCKETS = 256
PINNED = [73, 91, 125, 130, 138, 140, 145, 176, 182, 191, 214, 250]


def numbers(text: str) -> dict[str, float]:
    """Surface numbers of a text by name."""
    return dict(zip(NUMERIC_NAMES, encode_one(text, BUCKETS).numeric.tolist(), strict=True))


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        pytest.param("abc", "chars", np.log1p(3), id="length"),
        pytest.param("one two", "words", np.log1p(2), id="words"),
        pytest.param("12 + 3.5", "numbers", np.log1p(2), id="how many numbers"),
        pytest.param("12 + 3.5", "decimals", np.log1p(1), id="decimals"),
        pytest.param("7 and 1,234", "most_digits", 4, id="most digits"),
        pytest.param("9 99 999", "largest_number_log10", 3, id="largest number"),
        pytest.param("pi " + "9" * 500, "largest_number_log10", 30, id="no overflow"),
        pytest.param("((1)) (2)", "parentheses_depth", 2, id="nesting"),
        pytest.param(")))(", "parentheses_depth", 0, id="unbalanced"),
        pytest.param("\nA. x\nB. y\nC. z", "options", np.log1p(3), id="options"),
        pytest.param("- a\n- b", "list_items", np.log1p(2), id="list items"),
        pytest.param("sort 4, 2, 9, 1", "longest_list", np.log1p(4), id="list size"),
        pytest.param("How many?", "asks_how", np.log1p(1), id="question word"),
        pytest.param("2*3/4^5", "times_divide", np.log1p(3), id="operators"),
        pytest.param("def f(x):\n return x", "code_marks", np.log1p(2), id="code"),
        pytest.param("1a", "digit_share", 0.5, id="digits"),
        pytest.param("", "chars", 0, id="nothing"),
    ],
)
def test_a_surface_number_says_what_its_name_says(text: str, name: str, expected: float) -> None:
    """Each number, worked by hand."""
    assert numbers(text)[name] == pytest.approx(expected)


def test_hashing_is_the_same_in_every_process() -> None:
    """These buckets were written down once; a fitted artifact depends on them."""
    pieces = encode_one("a 12", BUCKETS)
    assert pieces.buckets.tolist() == PINNED
    assert pieces.counts.sum() == 2 + 1 + 4 + 3 + 2


def test_numbers_of_the_same_length_hash_alike() -> None:
    """``17 + 25`` and ``93 + 64`` are the same question to the n-grams."""
    one, two = encode_one("17 + 25", BUCKETS), encode_one("93 + 64", BUCKETS)
    assert one.buckets.tolist() == two.buckets.tolist()


@given(st.text(max_size=300))
def test_any_text_gives_finite_features(text: str) -> None:
    """Surrogates, controls, any script: features are finite and counts positive."""
    pieces = encode_one(text, BUCKETS)
    assert np.isfinite(pieces.numeric[: -len(POSED_NAMES)]).all()
    assert (pieces.counts > 0).all()
    assert pieces.buckets.max(initial=0) < BUCKETS


def test_transform_gives_each_text_the_same_row_alone_or_in_company() -> None:
    """A live request alone gets the features that it would get in a batch."""
    texts = [f"What is {i} plus {i * i}?" for i in range(20)] + ["Why is the sky blue?"]
    features = TextFeatures(n_buckets=BUCKETS, n_components=4).fit(texts)
    together = features.transform(texts)
    alone = np.vstack([features.transform([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-12)
    served = np.vstack([features.transform_one(text) for text in texts])
    np.testing.assert_allclose(together, served, atol=1e-12)
    assert together.shape == (21, len(NUMERIC_NAMES) + 4)


def test_a_clone_is_unfitted_and_has_the_same_parameters() -> None:
    """Scikit-learn's contract of estimators."""
    features = TextFeatures(n_buckets=BUCKETS, n_components=2).fit(["a", "b"])
    copy = clone(features)
    assert copy.get_params() == features.get_params()
    assert not hasattr(copy, "idf_")


def test_one_text_or_equal_texts_can_be_fitted() -> None:
    """Nothing divides by a spread of zero."""
    for texts in (["only"], ["same"] * 9):
        assert np.isfinite(TextFeatures(n_buckets=BUCKETS).fit(texts).transform(texts)).all()


def test_no_texts_encode_to_no_rows() -> None:
    """An empty batch has the right shape."""
    assert encode([], BUCKETS).counts.shape == (0, BUCKETS)


def test_how_a_query_is_posed_is_told_in_numbers_and_not_in_its_text() -> None:
    """Counts are logarithmic; a kind that was not declared is unknown, not "none of them"."""
    asked = numbers(posed("2 + 2?", Posing(AnswerKind.NUMBER, turns=3, tools=1)))
    assert (asked["asked_for_number"], asked["asked_for_code"]) == (1.0, 0.0)
    assert (asked["turns"], asked["tools"], asked["images"]) == (np.log1p(3), np.log1p(1), 0.0)
    assert asked["chars"] == np.log1p(len("2 + 2?"))
    bare = numbers("2 + 2?")
    assert np.isnan(bare["asked_for_number"])
    assert bare["turns"] == 0.0


def test_a_posing_that_never_varied_tells_nothing() -> None:
    """Files have texts alone: a policy fitted on them must not find every chat odd."""
    features = TextFeatures(BUCKETS, n_components=2).fit(["2 + 2?", "why?", "who is it", "7 * 3"])
    plain, chat = features.transform(
        ["2 + 2?", posed("2 + 2?", Posing(turns=9, system_chars=4000))]
    )
    assert plain.tolist() == chat.tolist()


def test_a_posing_that_varied_is_standardised_where_it_is_known() -> None:
    """An undeclared kind is average; a declared one is not."""
    kinds = [AnswerKind.NUMBER, AnswerKind.CODE, AnswerKind.NUMBER, AnswerKind.CODE]
    texts = [posed(f"q{i}", Posing(kind)) for i, kind in enumerate(kinds)] + ["q4"]
    features = TextFeatures(BUCKETS, n_components=0).fit(texts)
    column = NUMERIC_NAMES.index(POSED_NAMES[0])
    assert POSED_NAMES[0] == "asked_for_number"
    assert features.transform(texts)[:, column].tolist() == [1.0, -1.0, 1.0, -1.0, 0.0]
