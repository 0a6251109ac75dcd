"""Cascades on recorded outcomes give what running them would have given, and cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cost_models.types import Arm
from policies.cascades import Cascade
from policies.derived import Voting
from policies.outcomes import OutcomeTable
from policies.proposals import propose_agreement, propose_verified
from policies.recipes import Vote, play, propose, recipe_from_dict
from policies.samples import answer_key, draw_samples

if TYPE_CHECKING:
    from collections.abc import Sequence

A, B, C, D = (Arm(name, "direct") for name in "abcd")
COST = {A: 1.0, B: 2.0, C: 10.0, D: 100.0}


def table(answers: dict[Arm, Sequence[str | None]], gold: Sequence[str]) -> OutcomeTable:
    """One sample of each arm on each query; a missing answer is a missing row."""
    rows: list[dict[str, Any]] = []
    for arm, given in answers.items():
        rows += [
            {
                "query_id": f"q{i}",
                "query": f"question {i}",
                "model": arm.model,
                "strategy": arm.strategy,
                "answer": answer,
                "correct": float(answer == gold[i]),
                "cost_usd": COST[arm],
            }
            for i, answer in enumerate(given)
            if answer is not None
        ]
    return OutcomeTable.from_rows(rows)


THREE = table(
    {A: ["1", "1", "7", "7"], B: ["1", "2", "8", "7"], C: ["3", "1", "9", "5"]},
    ["1", "1", "9", "5"],
)


def test_agreement_ends_a_cascade_and_the_last_stage_has_the_final_say() -> None:
    """On q0 and q3 a and b agree, cost 3, right and wrong; else c decides, cost 13, both right."""
    played = Cascade((A, B, C)).play(draw_samples(THREE, 5, 2))
    assert played.quality.tolist() == [1.0, 1.0, 1.0, 0.0]
    assert played.cost_usd.tolist() == [3.0, 13.0, 13.0, 3.0]
    assert played.calls.tolist() == [2.0, 3.0, 3.0, 2.0]


def test_a_verified_cascade_stops_at_the_first_right_answer() -> None:
    """Arm a is right on q0 and q1, c on q2 and q3; every stage before is paid."""
    played = Cascade((A, B, C), verified=True).play(draw_samples(THREE, 5, 2))
    assert played.quality.tolist() == [1.0, 1.0, 1.0, 1.0]
    assert played.cost_usd.tolist() == [1.0, 1.0, 13.0, 13.0]


def test_a_stage_that_was_needed_and_not_recorded_leaves_the_query_out() -> None:
    """Where a and b agree c is not needed; where they do not, nobody knows."""
    part = table({A: ["1", "1"], B: ["1", "2"], C: [None, None], D: ["1", "1"]}, ["1", "1"])
    whole = Cascade((A, B, D)).play(draw_samples(part, 5, 1))
    assert whole.quality.tolist() == [1.0, 1.0]
    holed = table({A: ["1", "1"], B: ["1", "2"], C: ["1", None]}, ["1", "1"])
    played = Cascade((A, B, C)).play(draw_samples(holed, 5, 1))
    assert played.quality[0] == 1.0
    assert np.isnan([played.quality[1], played.cost_usd[1]]).all()
    gone = Cascade((A, B, C)).play(draw_samples(part, 5, 1))
    assert np.isnan(gone.quality).all()


def sampled(
    query_id: str, answers: Sequence[str], arm: Arm = A, **more: object
) -> list[dict[str, Any]]:
    """Several samples of one arm on one query; 'yes' is right."""
    return [
        {
            "query_id": query_id,
            "query": query_id,
            "model": arm.model,
            "strategy": arm.strategy,
            "sample_index": i,
            "answer": answer,
            "correct": float(answer == "yes"),
            "cost_usd": 1.0,
            **more,
        }
        for i, answer in enumerate(answers)
    ]


def test_sampled_stages_give_their_expectation_over_draws() -> None:
    """Two different samples of four, three of them right: they agree half the time.

    Both right with chance 1/2; else the third sample decides: it is one of the two left, of which
    both are right. Cost 2 + 1/2.
    """
    rows = OutcomeTable.from_rows(sampled("q", ["yes", "yes", "yes", "no"]))
    played = Cascade((A, A, A)).play(draw_samples(rows, 4000, 3))
    assert played.quality[0] == pytest.approx(1.0)
    assert played.cost_usd[0] == pytest.approx(2.5, abs=0.05)


def test_draws_do_not_depend_on_the_order_of_rows() -> None:
    """The same samples in another order are drawn alike."""
    rows = [r for q in ("x", "y", "z") for r in sampled(q, ["yes", "no", "no", "maybe"])]
    cascade = Cascade((A, A, A))
    first = cascade.play(draw_samples(OutcomeTable.from_rows(rows), 7, 3))
    second = cascade.play(draw_samples(OutcomeTable.from_rows(rows[::-1]), 7, 3))
    assert first.quality.tolist() == second.quality[::-1].tolist()
    assert first.cost_usd.tolist() == second.cost_usd[::-1].tolist()


def test_answers_of_one_call_pay_for_it_once_whichever_is_drawn_first() -> None:
    """A search that gives three answers costs 6, on its first row; a draw pays 6 in all."""
    rows = sampled("q", ["no", "no", "yes"])
    for row, cost in zip(rows, (6.0, 0.0, 0.0), strict=True):
        row["cost_usd"] = cost
    draws = draw_samples(OutcomeTable.from_rows(rows), 50, 3)
    assert draws.cost_usd[0].sum(axis=1).tolist() == [6.0] * 50
    assert set(draws.cost_usd[0, :, 0].tolist()) == {6.0}


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        pytest.param("1,200", "1200.0", True, id="numbers by value"),
        pytest.param(" 'Ab c' ", "abc", True, id="quotes, spaces and case"),
        pytest.param("$5$", "5", True, id="dollars"),
        pytest.param("12", "21", False, id="other digits"),
        pytest.param("[1, 2]", "[12]", False, id="a list is no number"),
    ],
)
def test_answers_are_compared_by_what_they_say(left: str, right: str, *, same: bool) -> None:
    """Forms that mean the same are equal, others are not."""
    assert (answer_key(left) == answer_key(right)) is same


def test_no_answer_never_agrees() -> None:
    """Two arms without an answer do not end a cascade."""
    assert answer_key(None) is None
    assert answer_key("  ") is None
    silent = table({A: [""], B: [""], C: ["1"]}, ["1"])
    assert Cascade((A, B, C)).play(draw_samples(silent, 1, 1)).quality.tolist() == [1.0]


def planted(n: int = 400) -> OutcomeTable:
    """Cheap arms that are right two times in three, independently; a dear one nine in ten."""
    rng = np.random.default_rng(3)
    chance = {A: 0.67, B: 0.67, C: 0.9}
    answers = {
        arm: ["right" if rng.random() < p else f"wrong {rng.integers(1000)}" for _ in range(n)]
        for arm, p in chance.items()
    }
    return table(answers, ["right"] * n)


def test_the_planted_cascade_is_found_and_is_better_than_any_arm() -> None:
    """Two cheap arms, then the dear one: .45 + .55 * .9 = .945 for 8.5, against .9 for 10."""
    found = propose_agreement(draw_samples(planted(), 1, 1))
    assert Cascade((A, B, C)) in found
    played = Cascade((A, B, C)).play(draw_samples(planted(), 1, 1))
    assert played.quality.mean() == pytest.approx(0.945, abs=0.03)
    assert played.cost_usd.mean() == pytest.approx(8.5, abs=0.4)


def test_verified_stages_are_ordered_by_right_answers_per_usd() -> None:
    """.67 for 1, .67 for 2, .9 for 10: in that order, whatever order the rows come in."""
    found = propose_verified(draw_samples(planted(), 1, 1))
    assert found
    for cascade in found:
        assert cascade.verified
        ranks = [(A, B, C).index(stage) for stage in cascade.stages]
        assert ranks == sorted(ranks)


def test_proposals_do_not_depend_on_the_order_of_rows() -> None:
    """The same outcomes, shuffled, give the same recipes."""
    rows = list(planted(120).rows())
    shuffled = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]
    first, second = (propose(OutcomeTable.from_rows(r)) for r in (rows, shuffled))
    assert first
    assert set(first) == set(second)


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(sampled("q", ["yes"]), id="one arm, one sample"),
        pytest.param([r for i in range(3) for r in sampled(f"q{i}", ["no"])], id="three queries"),
        pytest.param(
            [r for i in range(30) for a in (A, B, C) for r in sampled(f"q{i}", ["no"], a)],
            id="all wrong at one cost",
        ),
        pytest.param(
            [
                r
                for i in range(30)
                for a in (A, B, C)
                for r in sampled(f"q{i}", ["yes"], a, cost_usd=0.0)
            ],
            id="all right for nothing",
        ),
    ],
)
def test_nothing_is_proposed_where_there_is_nothing_to_gain(rows: list[dict[str, Any]]) -> None:
    """Degenerate outcomes give no recipe, and no error."""
    assert propose(OutcomeTable.from_rows(rows)) == ()


def test_recipes_survive_being_written_down() -> None:
    """Plain values and back; played by name, one value a query."""
    recipes = (Cascade((A, B, C)), Cascade((C, A), verified=True), Vote(A, Voting(2, 0.9, 1)))
    assert tuple(recipe_from_dict(recipe.to_dict()) for recipe in recipes) == recipes
    rows = OutcomeTable.from_rows(sampled("q", ["yes", "yes", "no"]) + sampled("r", ["no"]))
    played = play(recipes, rows)
    assert set(played) == {recipe.arm for recipe in recipes}
    vote = played[recipes[2].arm]
    assert vote.quality[0] == pytest.approx(2 / 3, abs=0.1)
    assert np.isnan(vote.quality[1])
    assert np.isnan(played[recipes[0].arm].quality).all()


def test_a_cascade_needs_two_stages_and_is_named_for_them() -> None:
    """Repeated stages are counted; the name is a valid strategy."""
    with pytest.raises(ValueError, match="at least 2"):
        Cascade((A,))
    assert str(Cascade((A, A, B)).arm) == "cascade|agree(a/direct x2 > b/direct)"
