"""Arms made of recorded arms: cascades and votes, as values that an artifact can hold.

A recipe is found on the outcomes that a policy is fitted on, and played again on whatever
outcomes it is judged by.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cost_models.types import Arm
from policies.cascades import Cascade, Played
from policies.derived import Voting, vote
from policies.proposals import propose_agreement, propose_verified
from policies.sampled import Best, Escalation, propose_best, propose_escalation
from policies.samples import draw_samples

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from policies.outcomes import OutcomeTable

N_DRAWS = 24
AGREEMENT_COPIES = 2
VERIFIED_COPIES = 25
MAX_VOTED = 2
MIN_SAMPLES = 5
MOSTLY = 0.8
FULL_SIZES = (5, 10, 20, 40)
STOPS = (0.8, 0.9, 0.95, 0.99)
BATCHES = (1, 5)


@dataclass(frozen=True, slots=True)
class Vote:
    """Majority vote over samples of ``source``."""

    source: Arm
    voting: Voting

    @property
    def stages(self) -> tuple[Arm, ...]:
        """The arm that it samples."""
        return (self.source,)

    @property
    def verified(self) -> bool:
        """A vote needs no verifier."""
        return False

    @property
    def arm(self) -> Arm:
        """Name of the vote as an arm: the model, and the vote as its strategy."""
        voting = self.voting
        early = "" if voting.stop_at >= 1.0 else f",stop_at={voting.stop_at:g}"
        batch = "" if voting.batch is None else f",batch={voting.batch}"
        text = f"vote({self.source.strategy},samples={voting.samples}{early}{batch})"
        return Arm(self.source.model, text)

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        voting = self.voting
        return {
            "source": str(self.source),
            "samples": voting.samples,
            "stop_at": voting.stop_at,
            "batch": voting.batch,
        }


Recipe = Cascade | Vote | Best | Escalation


def recipe_from_dict(plain: Mapping[str, Any]) -> Recipe:
    """Read what the ``to_dict`` of a recipe gave."""
    if "least" in plain:
        return Escalation.from_dict(plain)
    if "best_of" in plain:
        return Best.from_dict(plain)
    if "stages" in plain:
        return Cascade.from_dict(plain)
    voting = Voting(plain["samples"], plain["stop_at"], plain["batch"])
    return Vote(Arm.parse(plain["source"]), voting)


def propose(table: OutcomeTable, seed: int = 0) -> tuple[Recipe, ...]:
    """Propose recipes worth having on these outcomes; priced arms with an answer are used."""
    priced = ~np.isnan(table.numbers["cost_usd"])
    answered = np.array([answer is not None for answer in table.texts["answer"]], dtype=bool)
    if not priced.any():
        return ()
    part = table.where(priced)
    found: list[Recipe] = []
    if answered.any():
        found += propose_agreement(draw_samples(part, N_DRAWS, AGREEMENT_COPIES, seed))
        found += [
            Vote(source, voting) for source in _sources(part) for voting in _votings(part, source)
        ]
        found += propose_escalation(part, _sources(part))
    found += propose_best(part, _sources(part))
    found += propose_verified(draw_samples(part, N_DRAWS, VERIFIED_COPIES, seed))
    return tuple(found)


def play(recipes: Iterable[Recipe], table: OutcomeTable, seed: int = 0) -> dict[Arm, Played]:
    """Play recipes on recorded outcomes; each result has one value a query of the table."""
    recipes = tuple(recipes)
    cascades = [recipe for recipe in recipes if isinstance(recipe, Cascade)]
    votes = [recipe for recipe in recipes if isinstance(recipe, Vote)]
    played: dict[Arm, Played] = {}
    if cascades:
        used = {arm for cascade in cascades for arm in cascade.stages}
        copies = max(cascade.stages.count(arm) for cascade in cascades for arm in cascade.stages)
        n_queries = len(table.query_ids)
        part = table.of_arms(used)
        if len(part):
            draws = draw_samples(part, N_DRAWS, copies, seed)
            rows = _rows(table, part)
            for cascade in cascades:
                played[cascade.arm] = _spread(cascade.play(draws), rows, n_queries)
        else:
            nothing = np.full(n_queries, np.nan)
            played.update({c.arm: Played(nothing, nothing, nothing) for c in cascades})
    for recipe in recipes:
        if isinstance(recipe, Best | Escalation):
            played[recipe.arm] = recipe.play(table)
    for recipe in votes:
        played[recipe.arm] = vote(table, recipe.source, recipe.voting, seed)
    return played


def _rows(table: OutcomeTable, part: OutcomeTable) -> NDArray[np.intp]:
    number = {query_id: i for i, query_id in enumerate(table.query_ids)}
    return np.array([number[query_id] for query_id in part.query_ids], dtype=np.intp)


def _spread(played: Played, rows: NDArray[np.intp], n_queries: int) -> Played:
    columns = []
    for values in played:
        column = np.full(n_queries, np.nan)
        column[rows] = values
        columns.append(column)
    return Played(*columns)


def _sources(table: OutcomeTable) -> list[Arm]:
    """Arms sampled often enough to vote, the most accurate first, at most MAX_VOTED."""
    query, arm = table.cells
    n_arms = len(table.arms)
    count = np.bincount(query * n_arms + arm, minlength=len(table.query_ids) * n_arms)
    count = count.reshape(-1, n_arms)
    asked = count > 0
    often = (count >= MIN_SAMPLES).sum(axis=0) >= MOSTLY * np.maximum(1, asked.sum(axis=0))
    mean = np.nan_to_num(np.array([np.nanmean(c) for c in table.quality_matrix().T]))
    order = sorted(np.flatnonzero(often).tolist(), key=lambda i: (-mean[i], i))
    return [table.arms[i] for i in order[:MAX_VOTED]]


def _votings(table: OutcomeTable, source: Arm) -> Sequence[Voting]:
    rows = table.of_arms([source])
    count = np.bincount(rows.cells[0])
    most = int(np.quantile(count, 1.0 - MOSTLY))
    sizes = sorted({size for size in (*FULL_SIZES, most) if MIN_SAMPLES <= size <= most})
    adaptive = [Voting(sizes[-1], stop, batch) for stop in STOPS for batch in BATCHES]
    return [*(Voting(size) for size in sizes), *adaptive]
