"""Near texts by TF-IDF: as scikit-learn measures them, and in a fixed order."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from policies.nearest import TERM, NearestTexts

words = st.lists(st.sampled_from(["red", "blue", "green", "12", "7", "Apple"]), min_size=1)
texts = st.lists(words.map(" ".join), min_size=1, max_size=6)


@given(known=texts, at=st.integers(0, 5))
def test_the_similarity_is_scikit_learns(known: list[str], at: int) -> None:
    """The same weights from another hand."""
    query = known[at % len(known)]
    vectorizer = TfidfVectorizer(token_pattern=TERM.pattern, sublinear_tf=True)
    expected = vectorizer.fit_transform(known) @ vectorizer.transform([query]).T
    found = NearestTexts(known).similarity(query)
    np.testing.assert_allclose(found, expected.toarray()[:, 0], atol=1e-12)


def test_the_nearest_comes_first_and_ties_keep_their_order() -> None:
    """A text that shares no word is left out."""
    index = NearestTexts(["add 3 apples", "name a colour", "add 3 apples", "add 5 pears"])
    assert index.nearest("Add 3 apples and 4 pears!") == [0, 2, 3]
    assert index.nearest("?!") == []
    assert NearestTexts([]).nearest("add") == []
