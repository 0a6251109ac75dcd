"""Derived arms have the expected result over sample orders, at the right price."""

from __future__ import annotations

import numpy as np
import pytest

from cost_models.types import Arm
from policies.derived import Voting, derive_self_consistency
from policies.errors import OutcomeError
from policies.outcomes import OutcomeTable

SOURCE = Arm("m", "cot")
DERIVED = Arm("m", "self_consistency(samples=3)")


def samples(answers: str, gold: str = "x", tokens: int = 10) -> OutcomeTable:
    """One query whose samples gave one-letter answers; ``-`` is none."""
    rows = [
        {
            "query_id": "q",
            "query": "?",
            "model": "m",
            "strategy": "cot",
            "sample_index": i,
            "answer": "" if answer == "-" else answer,
            "gold": gold,
            "correct": int(answer == gold),
            "prompt_tokens": 100,
            "completion_tokens": tokens + i,
            "cost_usd": 100 * 1e-6 + (tokens + i) * 2e-6,
            "latency_s": 1.0 + i,
        }
        for i, answer in enumerate(answers)
    ]
    return OutcomeTable.from_rows(rows)


@pytest.mark.parametrize(
    ("answers", "voting", "expected"),
    [
        pytest.param("xxy", Voting(1), 2 / 3, id="one sample is the mean"),
        pytest.param("xxy", Voting(3), 1.0, id="the majority wins"),
        pytest.param("yyx", Voting(3), 0.0, id="also when it is wrong"),
        pytest.param("xy", Voting(2), 0.5, id="a tie goes to the earliest, either alike"),
        pytest.param("x--", Voting(3), 1.0, id="no answer has no vote"),
        pytest.param("---", Voting(3), 0.0, id="nobody has a vote"),
    ],
)
def test_the_expected_result_of_a_vote(answers: str, voting: Voting, expected: float) -> None:
    """Small cases worked by hand; 200 orders estimate them closely."""
    table = derive_self_consistency(samples(answers), SOURCE, DERIVED, voting)
    assert table.arms == (DERIVED,)
    assert table.quality[0] == pytest.approx(expected, abs=0.1)


def test_one_call_pays_its_prompt_once() -> None:
    """Three samples of one call: 100 prompt tokens at 1 and 33 completion tokens at 2 USD/M."""
    table = derive_self_consistency(samples("xxx"), SOURCE, DERIVED, Voting(3))
    assert table.numbers["prompt_tokens"][0] == 100
    assert table.numbers["completion_tokens"][0] == pytest.approx(33)
    assert table.numbers["cost_usd"][0] == pytest.approx(100e-6 + 33 * 2e-6)
    assert table.numbers["latency_s"][0] == pytest.approx(3.0)


def test_stopping_early_draws_less_and_pays_each_batch() -> None:
    """Agreement: after 4 equal answers P(ahead) = 1 - 2**-5 >= 0.95, so 4 calls of 8."""
    voting = Voting(8, stop_at=0.95, batch=1)
    table = derive_self_consistency(samples("xxxxxxxx"), SOURCE, DERIVED, voting)
    assert table.numbers["prompt_tokens"][0] == 400
    assert table.numbers["completion_tokens"][0] == pytest.approx(4 * 13.5, abs=1.5)
    assert table.quality[0] == 1.0


def test_without_linear_costs_every_sample_pays_what_was_recorded() -> None:
    """Costs that tokens do not explain are added up, never guessed."""
    rows = [{**row, "cost_usd": 0.5} for row in samples("xxx").rows()]
    table = derive_self_consistency(OutcomeTable.from_rows(rows), SOURCE, DERIVED, Voting(3))
    assert table.numbers["cost_usd"][0] == pytest.approx(1.5)


def test_the_same_seed_gives_the_same_rows_in_any_row_order() -> None:
    """Neither the order of rows nor a second run changes a figure."""
    table = samples("xyxyzx")
    turned = OutcomeTable.from_rows(reversed(list(table.rows())))
    one, again, two = (
        derive_self_consistency(t, SOURCE, DERIVED, Voting(3)) for t in (table, table, turned)
    )
    assert list(one.rows()) == list(again.rows())
    for column, values in one.numbers.items():
        np.testing.assert_allclose(two.numbers[column], values, err_msg=column)


def test_too_few_samples_everywhere_is_an_error() -> None:
    """Nothing is made up from samples that were never drawn."""
    with pytest.raises(OutcomeError, match="no query has 4 samples"):
        derive_self_consistency(samples("xxx"), SOURCE, DERIVED, Voting(4))


@pytest.mark.parametrize(
    "arguments", [{"samples": 0}, {"samples": 2, "batch": 0}, {"samples": 2, "stop_at": 0.5}]
)
def test_impossible_voting_is_refused(arguments: dict[str, int]) -> None:
    """A vote needs at least one sample and a stopping rule above a coin flip."""
    with pytest.raises(ValueError, match="voting needs"):
        Voting(**arguments)


@pytest.mark.parametrize("stop_at", [1.0, 0.9], ids=["all at once", "one by one"])
def test_costs_without_tokens_add_up(stop_at: float) -> None:
    """Nothing is known of the prompt: each sample pays its recorded cost."""
    rows = [{**row, "prompt_tokens": None, "cost_usd": 0.5} for row in samples("xxx").rows()]
    voting = Voting(3, stop_at, batch=1)
    table = derive_self_consistency(OutcomeTable.from_rows(rows), SOURCE, DERIVED, voting)
    assert table.numbers["cost_usd"].tolist() == [1.5]
