"""The best of k and votes that escalate give what drawing samples would have given, and cost."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cost_models.types import Arm
from policies.outcomes import OutcomeTable
from policies.recipes import play, propose, recipe_from_dict
from policies.sampled import Best, Escalation

CHEAP, DEAR = Arm("cheap", "cot"), Arm("dear", "cot")
PROMPT, INPUT, OUTPUT = 100, 1e-6, 2e-6


def samples(answers: str, scores: list[float] | None = None, query_id: str = "q") -> OutcomeTable:
    """Give CHEAP one-letter answers, of which x is right; DEAR is right for 0.01 USD."""
    rows: list[dict[str, Any]] = [
        {
            "query_id": query_id,
            "query": f"question {query_id}",
            "model": "cheap",
            "strategy": "cot",
            "sample_index": i,
            "answer": "" if answer == "-" else answer,
            "correct": int(answer == "x"),
            "score": None if scores is None else scores[i],
            "prompt_tokens": PROMPT,
            "completion_tokens": 10 + i,
            "cost_usd": PROMPT * INPUT + (10 + i) * OUTPUT,
        }
        for i, answer in enumerate(answers)
    ]
    dear = {"model": "dear", "strategy": "cot", "answer": "x", "correct": 1, "cost_usd": 0.01}
    return OutcomeTable.from_rows(
        [*rows, {"query_id": query_id, "query": rows[0]["query"], **dear}]
    )


def test_the_best_of_two_worked_by_hand() -> None:
    """Of scores 3 > 2 > 1, right wrong right: 3 is in two of three pairs, else 2 is best, wrong."""
    played = Best(CHEAP, 2).play(samples("xyx", [3.0, 2.0, 1.0]))
    assert played.quality.tolist() == pytest.approx([2 / 3])
    assert played.cost_usd.tolist() == pytest.approx([PROMPT * INPUT + 2 * 11 * OUTPUT])
    assert played.calls.tolist() == [2.0]


def test_a_score_that_is_the_quality_itself_picks_nothing() -> None:
    """Without ``correct``, or with too few samples, nothing is known."""
    rows = [{**row, "correct": None} for row in samples("xyx", [1.0, 0.0, 1.0]).rows()]
    for row in rows:
        row.setdefault("score", 1.0)
    assert np.isnan(Best(CHEAP, 2).play(OutcomeTable.from_rows(rows)).quality).all()
    assert np.isnan(Best(CHEAP, 4).play(samples("xyx", [1.0, 0.0, 1.0])).quality).all()


def test_a_vote_that_escalates_worked_by_hand() -> None:
    """Of x x y y two: both x in 1 of 6, both y in 1 of 6; else, 2 of 3, DEAR is right and paid."""
    played = Escalation(CHEAP, 2, 2, DEAR).play(samples("xxyy"))
    assert played.quality.tolist() == pytest.approx([1 / 6 + 2 / 3])
    vote = PROMPT * INPUT + 2 * 11.5 * OUTPUT
    assert played.cost_usd.tolist() == pytest.approx([vote + 2 / 3 * 0.01])
    assert played.calls.tolist() == pytest.approx([2 + 2 / 3])


def test_a_fallback_that_is_never_needed_may_be_missing() -> None:
    """Where all samples agree, but not where they may disagree."""
    agreed = samples("xxx").of_arms([CHEAP])
    assert Escalation(CHEAP, 3, 3, DEAR).play(agreed).quality.tolist() == [1.0]
    split = samples("xxy").of_arms([CHEAP])
    assert np.isnan(Escalation(CHEAP, 3, 3, DEAR).play(split).quality).all()
    nothing = samples("xxx").of_arms([DEAR])
    assert np.isnan(Escalation(CHEAP, 3, 3, DEAR).play(nothing).cost_usd).all()


@settings(max_examples=30, deadline=None)
@given(st.text("xyz-", min_size=2, max_size=5), st.data())
def test_an_escalation_is_that_of_all_orders(answers: str, data: st.DataObject) -> None:
    """The samples that are drawn vote; fewer than ``least`` equal ones ask DEAR, which is right."""
    k = data.draw(st.integers(1, len(answers)))
    least = data.draw(st.integers(1, k))
    quality, calls = [], []
    for order in permutations(answers):
        drawn = [answer for answer in order[:k] if answer != "-"]
        winner = max(drawn, key=drawn.count, default="-")
        sure = drawn.count(winner) >= least
        quality.append(float(winner == "x") if sure else 1.0)
        calls.append(k if sure else k + 1)
    played = Escalation(CHEAP, k, least, DEAR).play(samples(answers))
    assert played.quality.tolist() == pytest.approx([np.mean(quality)])
    assert played.calls.tolist() == pytest.approx([np.mean(calls)])


@pytest.mark.parametrize(
    ("recipe", "name"),
    [
        pytest.param(Best(CHEAP, 4), "cheap|best(cot,samples=4)", id="best"),
        pytest.param(
            Escalation(CHEAP, 5, 3, DEAR),
            "cascade|vote(cheap/cot x5, 3 agree > dear/cot)",
            id="escalation",
        ),
    ],
)
def test_an_artifact_can_hold_them(recipe: Best | Escalation, name: str) -> None:
    """Plain values and back; the name says what it is."""
    assert recipe_from_dict(recipe.to_dict()) == recipe
    assert str(recipe.arm) == name
    assert not recipe.verified


def test_both_are_proposed_where_the_samples_are_there() -> None:
    """Eight scored samples of CHEAP, of which DEAR is the more accurate; all can be played."""
    tables = [samples("xxyyxyxx", [float(i) for i in range(8)], f"q{n}") for n in range(4)]
    table = OutcomeTable.from_rows([row for part in tables for row in part.rows()])
    proposed = propose(table)
    best = [recipe for recipe in proposed if isinstance(recipe, Best)]
    assert [recipe.samples for recipe in best] == [2, 4, 8]
    votes = [recipe for recipe in proposed if isinstance(recipe, Escalation)]
    assert {(vote.samples, vote.least) for vote in votes} == {(3, 2), (3, 3), (5, 3), (5, 5)}
    assert {vote.fallback for vote in votes} == {DEAR}
    played = play([*best, *votes], table)
    assert not any(np.isnan(found.quality + found.cost_usd).any() for found in played.values())


def test_more_can_not_agree_than_were_drawn() -> None:
    """It would always escalate."""
    with pytest.raises(ValueError, match="least"):
        Escalation(CHEAP, 3, 4, DEAR)
