"""Train bigger or think longer: the FLOPs by hand, and the paper's qualitative result."""

from __future__ import annotations

from math import inf

import pytest

from cost_models.training import Bin, Scaling, think_or_train, thinking

BINS = (Bin("easy", 0.3, 0.7), Bin("medium", 0.02, 0.35), Bin("hard", 0.0004, 0.1))
SCALE = 14.0
RELIABILITY = 0.7


def test_equal_flops_by_hand() -> None:
    """M = 14: at R = 1, 14 + 3 * 13 samples; at R = 0.16, 14 + 39 / 0.16; at R = 22, 14 + 39 / 22.

    The ratios are those of the paper's figure 9.
    """
    samples = [Scaling(SCALE, ratio).samples for ratio in (1.0, 0.16, 22.0)]
    assert samples == pytest.approx([53.0, 257.75, 15.7727], rel=1e-4)


def test_the_flops_themselves_agree() -> None:
    """6 N D + 2 N T, of a model 14 times as large and of the small one that thinks longer."""
    n, trained, answered = 1e9, 2e10, 5e9
    scaling = Scaling(SCALE, answered / trained)
    large = 6 * SCALE * n * trained + 2 * SCALE * n * answered
    small = 6 * n * trained + 2 * n * answered * scaling.samples
    assert small == pytest.approx(large)


def test_the_best_of_some_samples() -> None:
    """A perfect selector finds what is there, a blind one does not."""
    assert thinking(0.5, 2, 1.0) == pytest.approx(0.75)
    assert thinking(0.5, 100, 0.0) == pytest.approx(0.5)
    assert thinking(0.0, 1e6, 1.0) == 0.0


@pytest.mark.parametrize(("ratio", "thought"), [(0.16, ["easy", "medium"]), (22.0, ["easy"])])
def test_easier_questions_and_few_answers_favour_thinking(ratio: float, thought: list[str]) -> None:
    """Hard ones, on which the small model is hardly ever right, favour training."""
    verdicts = [think_or_train(bin_, Scaling(SCALE, ratio), RELIABILITY) for bin_ in BINS]
    assert [v.bin.name for v in verdicts if v.think] == thought


def test_the_ratio_at_which_both_are_level() -> None:
    """Medium questions turn from thinking to training between the two."""
    found = think_or_train(BINS[1], Scaling(SCALE, 1.0), RELIABILITY)
    assert 0.16 < found.break_even_ratio < 22.0
    at = think_or_train(BINS[1], Scaling(SCALE, found.break_even_ratio), RELIABILITY)
    assert at.thinking == pytest.approx(at.training, abs=1e-9)


def test_what_thinking_cannot_reach_and_what_it_reaches_anyway() -> None:
    """No ratio helps a selector that is wrong too often; some need no extra samples."""
    never = think_or_train(Bin("x", 0.0, 0.1), Scaling(SCALE, 1.0), 1.0)
    assert (never.think, never.break_even_ratio) == (False, 0.0)
    always = think_or_train(Bin("x", 0.6, 0.7), Scaling(SCALE, 1e9), RELIABILITY)
    assert (always.think, always.break_even_ratio) == (True, inf)


@pytest.mark.parametrize(("scale", "ratio"), [(1.0, 1.0), (2.0, 0.0), (inf, 1.0)])
def test_a_scaling_has_a_bigger_model_and_a_ratio(scale: float, ratio: float) -> None:
    """A clear error."""
    with pytest.raises(ValueError, match="above 1"):
        Scaling(scale, ratio)


def test_shares_lie_between_nothing_and_all() -> None:
    """A clear error."""
    with pytest.raises(ValueError, match="lie in"):
        Bin("x", 1.2, 0.5)
