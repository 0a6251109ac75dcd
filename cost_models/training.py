"""Train a bigger model, or let a smaller one think longer? Equal FLOPs, compared by difficulty.

After Snell et al. 2024 (arXiv:2408.03314, section 7): training a model of N parameters on D tokens
takes 6 N D FLOPs and answering with it 2 N a token (Hoffmann et al. 2022, arXiv:2203.15556), so a
model M times as large costs M times as much to train and to run. For the same FLOPs the small model
may spend ``M + 3 (M - 1) / R`` times its tokens on a query, where R is how many tokens are answered
with the model for each token that it was trained on.

What the extra samples buy is an assumption here, not the paper's measurement: independent samples
of which a selector finds a right one with a given reliability.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scaling:
    """A model ``scale`` > 1 times as large, and ``ratio`` > 0 = answered / training tokens."""

    scale: float
    ratio: float

    def __post_init__(self) -> None:
        if not 1.0 < self.scale < float("inf") or not 0.0 < self.ratio < float("inf"):
            msg = f"a scale is above 1 and a ratio above 0, got {self}"
            raise ValueError(msg)

    @property
    def samples(self) -> float:
        """How many times its tokens the small model may spend on a query, for the same FLOPs."""
        return self.scale + 3.0 * (self.scale - 1.0) / self.ratio


@dataclass(frozen=True, slots=True)
class Bin:
    """Queries of one difficulty: how often one sample of either model is right, in [0, 1]."""

    name: str
    small: float
    large: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.small <= 1.0 or not 0.0 <= self.large <= 1.0:
            msg = f"shares of right answers lie in [0, 1], got {self}"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What either way reaches on a bin; ``think`` says that thinking longer wins.

    ``break_even_ratio`` is the ratio above which it does not any more: 0 where it never wins,
    infinite where a few samples do at any ratio.
    """

    bin: Bin
    thinking: float
    training: float
    break_even_ratio: float

    @property
    def think(self) -> bool:
        """Whether the smaller model that thinks longer is right more often."""
        return self.thinking > self.training


def thinking(right: float, n_samples: float, reliability: float) -> float:
    """Share of right answers of the best of ``n_samples``, picked with a ``reliability`` in [0, 1].

    A right sample is among them with ``1 - (1 - right) ** n``; where it is not recognised, any
    sample is taken.
    """
    found = 1.0 - float((1.0 - right) ** n_samples)
    return reliability * found + (1.0 - reliability) * right


def think_or_train(bin_: Bin, scaling: Scaling, reliability: float) -> Verdict:
    """Compare both ways on one bin, at equal FLOPs."""
    reached = thinking(bin_.small, scaling.samples, reliability)
    return Verdict(bin_, reached, bin_.large, _break_even(bin_, scaling.scale, reliability))


def _break_even(bin_: Bin, scale: float, reliability: float) -> float:
    """Find the ratio at which both are level: more samples are allowed below it."""
    if thinking(bin_.small, scale, reliability) > bin_.large:
        return float("inf")
    if reliability * (bin_.small > 0) + (1.0 - reliability) * bin_.small <= bin_.large:
        return 0.0
    few, many = scale, 2.0 * scale
    while thinking(bin_.small, many, reliability) <= bin_.large:
        few, many = many, 2.0 * many
    for _ in range(100):
        middle = (few + many) / 2.0
        if thinking(bin_.small, middle, reliability) <= bin_.large:
            few = middle
        else:
            many = middle
    return 3.0 * (scale - 1.0) / (many - scale)
