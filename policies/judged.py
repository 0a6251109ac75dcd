"""What is to be expected of a cascade, from its stages and from how far its judge can be trusted.

Given what is predicted of a query the stages are taken to be right independently of one another,
and a judge's word to depend on an answer being right alone (Dawid and Skene 1979, with one judge).
A rate is estimated by the mean of its Beta posterior.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

PRIOR = 1.0
"""Answers of each outcome that a judge begins with: of one that nobody measured a coin is made."""
EXACT_PRIOR = 50.0
"""Answers that an exact judge, right by definition, is taken to have judged well before."""


@dataclass(frozen=True, slots=True)
class Trust:
    """How likely a judge ends a cascade at a right answer, and at a wrong one; both in [0, 1]."""

    at_right: float
    at_wrong: float

    @classmethod
    def measured(
        cls,
        *,
        right: int = 0,
        right_trusted: int = 0,
        wrong: int = 0,
        wrong_trusted: int = 0,
        exact: bool = False,
    ) -> Trust:
        """Estimate both from counts of graded answers; ``exact`` for a judge by definition."""
        known = EXACT_PRIOR if exact else 0.0
        return cls(
            at_right=(right_trusted + known + PRIOR) / (right + known + 2.0 * PRIOR),
            at_wrong=(wrong_trusted + PRIOR) / (wrong + known + 2.0 * PRIOR),
        )


def expected_run(
    quality: NDArray[np.float64],
    cost_usd: NDArray[np.float64],
    trusts: Sequence[Trust | None],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Expect quality and cost in USD of a cascade whose last stage has the final say.

    Parameters
    ----------
    quality, cost_usd : ndarray of shape (n, n_stages)
        What each stage is expected to come to on each query, were it run.
    trusts : sequence of Trust or None, length n_stages
        Of the judge at each stage; None at one that never ends the cascade. The last is not used.

    Returns
    -------
    tuple of two ndarrays of shape (n,)
    """
    reached = np.ones(len(quality))
    right, spent = np.zeros(len(quality)), np.zeros(len(quality))
    for i, trust in enumerate(trusts):
        good = quality[:, i]
        spent += reached * cost_usd[:, i]
        if i == len(trusts) - 1:
            right += reached * good
        elif trust is not None:
            right += reached * good * trust.at_right
            reached *= 1.0 - good * trust.at_right - (1.0 - good) * trust.at_wrong
    return right, spent
