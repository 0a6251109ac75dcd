"""Cascades of arms: run one after the other until the answer can be trusted, every stage paid.

Two signals of trust. *Agreement*: a second stage gave the same answer (Yue et al. 2023,
arXiv:2310.03094, agreement of cheap samples decides about escalation); the last stage has the
final say. *Verification*: an exact verifier says whether the answer is right.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cost_models.types import Arm

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from policies.samples import Draws

MIN_STAGES = 2


def voted_arm(source: Arm, samples: int, least: int, fallback: Arm) -> Arm:
    """Name a vote that escalates where fewer than ``least`` agree, as an arm.

    ``cascade|vote(MODEL/STRATEGY x5, 3 agree > MODEL/STRATEGY)``.
    """
    first, last = (str(arm).replace("|", "/") for arm in (source, fallback))
    return Arm("cascade", f"vote({first} x{samples}, {least} agree > {last})")


class Played(NamedTuple):
    """What came of a cascade on each query, expected over draws; each of shape (n_queries,).

    ``quality`` and ``cost_usd`` are NaN where a stage that was needed is not recorded; ``calls``
    is the number of stages run.
    """

    quality: NDArray[np.float64]
    cost_usd: NDArray[np.float64]
    calls: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Cascade:
    """Stages in order, at least two; a repeated arm is sampled again.

    ``verified`` cascades stop at the first right answer, the others as soon as two stages agree.
    """

    stages: tuple[Arm, ...]
    verified: bool = False

    def __post_init__(self) -> None:
        if len(self.stages) < MIN_STAGES:
            msg = f"a cascade has at least {MIN_STAGES} stages, got {self.stages!r}"
            raise ValueError(msg)

    @property
    def arm(self) -> Arm:
        """Name of the cascade as an arm, ``cascade|agree(MODEL/STRATEGY > ...)``."""
        rule = "verified" if self.verified else "agree"
        names = [str(stage).replace("|", "/") for stage in self.stages]
        runs = [(name, len(list(run))) for name, run in groupby(names)]
        told = " > ".join(name if times == 1 else f"{name} x{times}" for name, times in runs)
        return Arm("cascade", f"{rule}({told})")

    def play(self, draws: Draws) -> Played:
        """Run the cascade on recorded draws."""
        columns = draws.columns(self.stages)
        if columns is None:
            nothing = np.full(draws.answer.shape[0], np.nan)
            return Played(nothing, nothing, nothing)
        shape = draws.answer.shape[:2]
        going = np.ones(shape, dtype=bool)
        quality, cost_usd, calls = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        for turn, column in enumerate(columns):
            right, spent = draws.quality[..., column], draws.cost_usd[..., column]
            cost_usd += np.where(going, spent + 0.0 * right, 0.0)
            calls += going
            quality = np.where(going, right, quality)
            if self.verified:
                going &= ~(right >= 1.0)
            else:
                answer = draws.answer[..., column]
                before = draws.answer[..., columns[:turn]]
                agreed = (before == answer[..., None]).any(axis=-1) & (answer >= 0)
                going &= ~agreed
        known = ~np.isnan(cost_usd).any(axis=1)
        gone = np.where(known, 0.0, np.nan)
        return Played(
            np.nan_to_num(quality).mean(axis=1) + gone,
            np.nan_to_num(cost_usd).mean(axis=1) + gone,
            calls.mean(axis=1) + gone,
        )

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return {"stages": [str(arm) for arm in self.stages], "verified": self.verified}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Cascade:
        """Read what `to_dict` gave."""
        return cls(tuple(Arm.parse(text) for text in plain["stages"]), bool(plain["verified"]))
