"""Arms derived from recorded samples: what voting over them would have given, and cost.

The expected result over the order of the samples is computed, not one lucky draw: exactly where a
number of samples is drawn at once, over many random orders where drawing may stop early.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from policies.cascades import Played
from policies.combinatorics import expected_highest, leading
from policies.errors import OutcomeError
from policies.outcomes import OutcomeTable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cost_models.types import Arm
    from policies.outcomes import Row

N_ORDERS = 200
MAX_RATE_ERROR = 0.02
AMOUNTS = ("prompt_tokens", "completion_tokens", "cost_usd", "latency_s")


@dataclass(frozen=True, slots=True)
class Voting:
    """Majority vote over ``samples`` >= 1, drawn ``batch`` at a time (None: all at once).

    After a batch, drawing stops once the leading answer stays ahead of the second with
    probability ``stop_at`` in (0.5, 1]; 1 never stops early (Aggarwal et al. 2023, Beta criterion).
    """

    samples: int
    stop_at: float = 1.0
    batch: int | None = None

    def __post_init__(self) -> None:
        size = self.samples if self.batch is None else self.batch
        if min(self.samples, size) < 1 or not 0.5 < self.stop_at <= 1.0:  # noqa: PLR2004 - a coin
            msg = f"voting needs samples and batch >= 1 and stop_at in (0.5, 1], got {self!r}"
            raise ValueError(msg)

    @property
    def ends(self) -> tuple[int, ...]:
        """How many samples were drawn after each batch."""
        size = self.samples if self.batch is None or self.stop_at >= 1.0 else self.batch
        return (*range(size, self.samples, size), self.samples)


def derive_self_consistency(
    table: OutcomeTable, source: Arm, arm: Arm, voting: Voting, seed: int = 0
) -> OutcomeTable:
    """Make the outcomes of ``arm``: voting over the samples recorded of ``source``.

    One row a query, expected over the orders of its samples: exactly where all are drawn at once,
    else over 200 random orders. A tie goes to the earliest answer, a sample without an answer has
    no vote. The samples of one batch are one call and pay its prompt
    once, where the cost is linear in recorded tokens; else each pays its recorded cost. Queries
    with fewer samples than ``voting.samples`` are left out; OutcomeError if that leaves none.
    """
    rows = table.of_arms([source])
    prompt_usd = usd_per_prompt_token(rows)
    derived = [
        {
            **_vote(rows, indexes, voting, prompt_usd, seed),
            "model": arm.model,
            "strategy": arm.strategy,
        }
        for indexes in by_query(rows)
        if len(indexes) >= voting.samples
    ]
    if not derived:
        msg = f"no query has {voting.samples} samples of {source}"
        raise OutcomeError(table.source, msg)
    return OutcomeTable.from_rows(derived, f"{table.source} ({arm})")


def vote(table: OutcomeTable, source: Arm, voting: Voting, seed: int = 0) -> Played:
    """Vote over the samples of ``source``, as `derive_self_consistency` does, query by query.

    ``calls`` are the samples drawn; NaN for queries with fewer samples than ``voting.samples``.
    """
    columns = np.full((3, len(table.query_ids)), np.nan)
    number = {query_id: i for i, query_id in enumerate(table.query_ids)}
    rows = table.of_arms([source])
    prompt_usd = usd_per_prompt_token(rows) if len(rows) else 0.0
    for indexes in by_query(rows):
        if len(indexes) >= voting.samples:
            made = _vote(rows, indexes, voting, prompt_usd, seed)
            found = (made["correct"], made["cost_usd"], made["n_drawn"])
            columns[:, number[made["query_id"] or ""]] = found
    return Played(*columns)


def by_query(rows: OutcomeTable) -> list[NDArray[np.intp]]:
    """Row numbers of each query, by sample index."""
    of_query: dict[str | None, list[int]] = {}
    for i, query_id in enumerate(rows.texts["query_id"]):
        of_query.setdefault(query_id, []).append(i)
    index = rows.numbers["sample_index"]
    return [np.array(sorted(found, key=index.__getitem__)) for found in of_query.values()]


def usd_per_prompt_token(rows: OutcomeTable) -> float:
    """USD that one prompt token costs, from costs linear in tokens; 0 where they are not."""
    tokens = np.stack([rows.numbers["prompt_tokens"], rows.numbers["completion_tokens"]], axis=1)
    cost = rows.numbers["cost_usd"]
    known = np.isfinite(tokens).all(axis=1) & np.isfinite(cost)
    tokens, cost = tokens[known], cost[known]
    if np.linalg.matrix_rank(tokens) < tokens.shape[1]:
        return 0.0
    rates = np.linalg.lstsq(tokens, cost)[0]
    error = np.abs(tokens @ rates - cost).sum()
    linear = rates.min() >= 0 and error <= MAX_RATE_ERROR * cost.sum()
    return float(rates[0]) if linear else 0.0


class Tally(NamedTuple):
    """What the samples of one query answered: how many, of what mean quality, how many nothing."""

    counts: tuple[int, ...]
    quality: tuple[float, ...]
    silent: int
    silent_quality: float


def tally(rows: OutcomeTable, indexes: NDArray[np.intp]) -> Tally:
    """Count the answers among some rows, in alphabetical order."""
    names, code = _answers(rows, indexes)
    quality = rows.quality[indexes]
    silent = code < 0
    return Tally(
        tuple(int((code == c).sum()) for c in range(len(names))),
        tuple(float(quality[code == c].mean()) for c in range(len(names))),
        int(silent.sum()),
        float(quality[silent].mean()) if silent.any() else 0.0,
    )


def _answers(rows: OutcomeTable, indexes: NDArray[np.intp]) -> tuple[list[str], NDArray[np.intp]]:
    answers = [(rows.texts["answer"][i] or "").strip() for i in indexes]
    names = sorted(set(answers) - {""})
    number = {name: i for i, name in enumerate(names)}
    return names, np.array([number.get(answer, -1) for answer in answers], dtype=np.intp)


def _vote(
    rows: OutcomeTable, indexes: NDArray[np.intp], voting: Voting, prompt_usd: float, seed: int
) -> Row:
    if len(voting.ends) == 1:
        means = _voted_at_once(rows, indexes, voting.samples, prompt_usd)
    else:
        means = _voted_in_batches(rows, indexes, voting, prompt_usd, seed)
    kept = {name: rows.texts[name][indexes[0]] for name in ("query_id", "query", "gold", "task")}
    return {**kept, "fold": float(rows.numbers["fold"][indexes[0]]), **means}


def drawn_at_once(
    rows: OutcomeTable, indexes: NDArray[np.intp], k: int, prompt_usd: float
) -> dict[str, float]:
    """Give the expected amounts of k samples in one call, which pays its prompt once; exact."""
    amounts = {name: rows.numbers[name][indexes] for name in AMOUNTS}
    prompt = amounts["prompt_tokens"].mean()
    spared = prompt_usd * prompt * (k - 1) if prompt_usd else 0.0
    return {
        "n_drawn": float(k),
        "prompt_tokens": prompt,
        "completion_tokens": k * amounts["completion_tokens"].mean(),
        "cost_usd": k * amounts["cost_usd"].mean() - spared,
        "latency_s": expected_highest(amounts["latency_s"], k),
    }


def _voted_at_once(
    rows: OutcomeTable, indexes: NDArray[np.intp], k: int, prompt_usd: float
) -> dict[str, float]:
    counts, quality, silent, silent_quality = tally(rows, indexes)
    found = leading(counts, quality, silent, k)
    right = float(found.right.sum() + found.chance[0] * silent_quality)
    return {"correct": float(np.minimum(1.0, right)), **drawn_at_once(rows, indexes, k, prompt_usd)}


def _voted_in_batches(
    rows: OutcomeTable, indexes: NDArray[np.intp], voting: Voting, prompt_usd: float, seed: int
) -> dict[str, float]:
    query_id = rows.texts["query_id"][indexes[0]] or ""
    rng = np.random.default_rng([seed, zlib.crc32(query_id.encode(errors="replace"))])
    order = rng.permuted(np.tile(np.arange(len(indexes)), (N_ORDERS, 1)), axis=1)
    order = order[:, : voting.samples]
    names, code = _answers(rows, indexes)
    quality = rows.quality[indexes]
    by_answer = np.array([quality[code == c].mean() for c in range(len(names))])
    winner, n_batches = _ballot(code[order], len(names), voting)
    first = quality[order[:, 0]]
    right = np.where(winner >= 0, np.append(by_answer, 0.0)[winner], first)
    drawn = np.array([0, *voting.ends])[n_batches]
    amounts = {name: rows.numbers[name][indexes][order] for name in AMOUNTS}
    taken = np.arange(order.shape[1]) < drawn[:, None]
    prompt = amounts["prompt_tokens"]
    known = prompt if prompt_usd else np.zeros(prompt.shape)
    spared = prompt_usd * np.where(taken, known, 0.0).sum(axis=1) * (1.0 - n_batches / drawn)
    return {
        "correct": right.mean(),
        "n_drawn": drawn.mean(),
        "prompt_tokens": (prompt[:, 0] * n_batches).mean(),
        "completion_tokens": np.where(taken, amounts["completion_tokens"], 0.0).sum(1).mean(),
        "cost_usd": (np.where(taken, amounts["cost_usd"], 0.0).sum(axis=1) - spared).mean(),
        "latency_s": _latency(amounts["latency_s"], voting, n_batches).mean(),
    }


def _ballot(
    code: NDArray[np.intp], n_answers: int, voting: Voting
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Winner of each order (-1 where nobody has a vote) and how many batches were drawn.

    ``code`` has shape (n_orders, samples): the number of each sample's answer, -1 for none.
    """
    from scipy.special import betainc  # noqa: PLC0415 - takes long to load, and a server derives nothing

    rows = np.arange(len(code))
    votes = np.zeros((len(code), n_answers + 2))
    first_seen = np.full(votes.shape, code.shape[1], dtype=np.intp)
    running = np.ones(len(code), dtype=bool)
    n_batches = np.zeros(len(code), dtype=np.intp)
    for start, end in zip((0, *voting.ends), voting.ends, strict=False):
        for position in range(start, end):
            column = np.where(running, code[:, position], -1)
            votes[rows, column] += 1.0
            first_seen[rows, column] = np.minimum(first_seen[rows, column], position)
        votes[:, n_answers:] = 0.0
        n_batches += running
        second, leading = np.sort(votes, axis=1)[:, -2:].T
        running &= betainc(second + 1.0, leading + 1.0, 0.5) < voting.stop_at
    most = votes[:, :n_answers].max(axis=1, initial=0.0)
    leads = (votes == most[:, None]) & (votes > 0)
    winner = np.where(leads, first_seen, code.shape[1] + 1).argmin(axis=1)
    return np.where(most > 0, winner, -1), n_batches


def _latency(
    latency_s: NDArray[np.float64], voting: Voting, n_batches: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Seconds of each order: batches one after the other, each as long as its slowest sample."""
    starts = (0, *voting.ends[:-1])
    slowest = [latency_s[:, a:b].max(axis=1) for a, b in zip(starts, voting.ends, strict=True)]
    total = np.cumsum(np.stack(slowest, axis=1), axis=1)
    return np.asarray(total[np.arange(len(total)), n_batches - 1])
