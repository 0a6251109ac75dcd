"""Arms made of the samples of one arm: the best of k by score, and a vote that may escalate.

Both are expected exactly over which k of the recorded samples are drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cost_models.types import Arm
from policies.cascades import Played, voted_arm
from policies.combinatorics import chances_of_best, leading
from policies.derived import by_query, drawn_at_once, tally, usd_per_prompt_token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from policies.outcomes import OutcomeTable

BEST_SIZES = (2, 4, 8, 16)
VOTE_SIZES = (3, 5)
MAX_FALLBACKS = 2
MOSTLY = 0.8

Values = tuple[float, float, float]
"""Quality, USD and samples of one query."""


@dataclass(frozen=True, slots=True)
class Best:
    """The sample of ``source`` with the highest recorded score of ``samples`` >= 1.

    The score is a verifier's or a reward model's, which is not paid for here; where ``correct`` is
    not known it would be the quality itself, and nothing is played.
    """

    source: Arm
    samples: int

    @property
    def stages(self) -> tuple[Arm, ...]:
        """The arm that it samples."""
        return (self.source,)

    @property
    def verified(self) -> bool:
        """A score is no exact verifier."""
        return False

    @property
    def arm(self) -> Arm:
        """Name of it as an arm of the same model."""
        return Arm(self.source.model, f"best({self.source.strategy},samples={self.samples})")

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return {"source": str(self.source), "best_of": self.samples}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Best:
        """Read what `to_dict` gave."""
        return cls(Arm.parse(plain["source"]), int(plain["best_of"]))

    def play(self, table: OutcomeTable) -> Played:
        """Pick on each query; NaN for those with fewer samples, or without ``correct`` or score."""
        rows = table.of_arms([self.source])
        rows = rows.where(~np.isnan(rows.numbers["correct"] + rows.numbers["score"]))
        prompt_usd = usd_per_prompt_token(rows) if len(rows) else 0.0

        def of(indexes: NDArray[np.intp]) -> Values:
            chance = chances_of_best(rows.numbers["score"][indexes], self.samples)
            amounts = drawn_at_once(rows, indexes, self.samples, prompt_usd)
            right = float(chance @ rows.numbers["correct"][indexes])
            return float(np.minimum(1.0, right)), amounts["cost_usd"], amounts["n_drawn"]

        return _played(table, rows, self.samples, of)


@dataclass(frozen=True, slots=True)
class Escalation:
    """A vote over ``samples`` of ``source`` that counts if ``least`` agree, else ``fallback``.

    The fallback is asked once, and paid beside the vote (Yue et al. 2023, arXiv:2310.03094, where
    the agreement of cheap samples decides).
    """

    source: Arm
    samples: int
    least: int
    fallback: Arm

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.samples:
            msg = f"least must be in [1, samples], got {self!r}"
            raise ValueError(msg)

    @property
    def stages(self) -> tuple[Arm, ...]:
        """The arm that it samples, and the one that it escalates to."""
        return (self.source, self.fallback)

    @property
    def verified(self) -> bool:
        """A vote needs no verifier."""
        return False

    @property
    def arm(self) -> Arm:
        """Name of it as an arm, see `voted_arm`."""
        return voted_arm(self.source, self.samples, self.least, self.fallback)

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return {
            "source": str(self.source),
            "samples": self.samples,
            "least": self.least,
            "fallback": str(self.fallback),
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Escalation:
        """Read what `to_dict` gave."""
        source, fallback = Arm.parse(plain["source"]), Arm.parse(plain["fallback"])
        return cls(source, int(plain["samples"]), int(plain["least"]), fallback)

    def play(self, table: OutcomeTable) -> Played:
        """Vote on each query; NaN where samples, or a fallback that may be needed, are missing."""
        number = {query_id: i for i, query_id in enumerate(table.query_ids)}
        rows = table.of_arms([self.source])
        prompt_usd = usd_per_prompt_token(rows) if len(rows) else 0.0
        other = _column(table, self.fallback)

        def of(indexes: NDArray[np.intp]) -> Values:
            counts, quality, silent, _ = tally(rows, indexes)
            found = leading(counts, quality, silent, self.samples)
            amounts = drawn_at_once(rows, indexes, self.samples, prompt_usd)
            escalated = min(1.0, float(found.chance[: self.least].sum()))
            right, spent = float(found.right[self.least :].sum()), amounts["cost_usd"]
            if escalated > 0.0:
                fallback = other[:, number[rows.texts["query_id"][indexes[0]] or ""]]
                right, spent = right + escalated * fallback[0], spent + escalated * fallback[1]
            return float(np.minimum(1.0, right)), spent, amounts["n_drawn"] + escalated

        return _played(table, rows, self.samples, of)


def propose_best(table: OutcomeTable, sources: Sequence[Arm]) -> Iterator[Best]:
    """Propose the best of 2, 4, 8 and 16 where most samples have ``correct`` and a score."""
    for source in sources:
        rows = table.of_arms([source])
        scored = ~np.isnan(rows.numbers["correct"] + rows.numbers["score"])
        most = _usual_samples(rows) if scored.mean() >= MOSTLY else 0
        yield from (Best(source, size) for size in BEST_SIZES if size <= most)


def propose_escalation(table: OutcomeTable, sources: Sequence[Arm]) -> Iterator[Escalation]:
    """Propose votes of 3 and 5, by majority and by all, with the most accurate arms behind."""
    quality = table.quality_matrix()
    mean = {arm: float(np.nanmean(quality[:, i])) for i, arm in enumerate(table.arms)}
    best = sorted(table.arms, key=lambda arm: (-mean[arm], arm))
    for source in sources:
        most = _usual_samples(table.of_arms([source]))
        better = [arm for arm in best if mean[arm] > mean[source]][:MAX_FALLBACKS]
        for size in (size for size in VOTE_SIZES if size <= most):
            for fallback in better:
                for least in (size // 2 + 1, size):
                    yield Escalation(source, size, least, fallback)


def _usual_samples(rows: OutcomeTable) -> int:
    """Count the samples that most queries have."""
    return int(np.quantile(np.bincount(rows.cells[0]), 1.0 - MOSTLY))


def _column(table: OutcomeTable, arm: Arm) -> NDArray[np.float64]:
    """Mean quality and cost of one sample of an arm, shape (2, n_queries); NaN where unknown."""
    if arm not in table.arms:
        return np.full((2, len(table.query_ids)), np.nan)
    place = table.arms.index(arm)
    return np.stack([table.quality_matrix()[:, place], table.matrix("cost_usd")[:, place]])


def _played(
    table: OutcomeTable,
    rows: OutcomeTable,
    samples: int,
    of: Callable[[NDArray[np.intp]], Values],
) -> Played:
    columns = np.full((3, len(table.query_ids)), np.nan)
    number = {query_id: i for i, query_id in enumerate(table.query_ids)}
    for indexes in by_query(rows):
        if len(indexes) >= samples:
            columns[:, number[rows.texts["query_id"][indexes[0]] or ""]] = of(indexes)
    return Played(*columns)
