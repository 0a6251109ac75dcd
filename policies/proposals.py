"""Which cascades are worth having: found on recorded outcomes, for a range of shadow prices.

Agreement cascades of three and four stages are searched exhaustively (four from the best pairs);
verified ones are built greedily by right answers per USD, which is optimal for independent
stages (the ratio rule of sequential testing, Mitten 1960), then thinned out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from policies.cascades import MIN_STAGES, Cascade

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from cost_models.types import Arm
    from policies.samples import Draws

N_PRICES = 12
PRICE_LOW = 0.05
PRICE_HIGH = 0.5
BEST_PAIRS = 24
MIN_QUERIES = 20
MIN_SHARE = 0.04
MAX_GROUPS = 6
MAX_COLUMNS = 48
MAX_ROWS = 12_000
MAX_STAGES = 40
MIN_GAIN = 1e-9


def propose_agreement(draws: Draws) -> tuple[Cascade, ...]:
    """Propose cascades of three or four stages that stop when two agree.

    For each shadow price the best on average is kept; queries are searched in groups with the
    same recorded arms, so that no cascade is judged where its stages are missing.
    """
    found: dict[Cascade, None] = {}
    for rows in _groups(draws):
        flat = _Flat.of(draws, rows)
        if flat is None:
            continue
        for price in _prices(flat.cost):
            stages = flat.best(price)
            if stages is not None:
                found.setdefault(Cascade(tuple(flat.arms[i] for i in stages)))
    return tuple(found)


def propose_verified(draws: Draws) -> tuple[Cascade, ...]:
    """Propose cascades for an exact verifier, one for each shadow price that asks for another.

    The longest is also proposed cut short after each of its stages: what the next stage buys is
    worth it at some prices and to some queries only.
    """
    seen = _seen(draws)
    columns = np.flatnonzero(seen.mean(axis=0) >= 0.5)  # noqa: PLR2004 - most queries
    rows = np.flatnonzero(seen[:, columns].all(axis=1))
    if not len(columns) or not len(rows):
        return ()
    part = draws.take(rows, columns)
    n = part.quality.shape[0] * part.quality.shape[1]
    right = part.quality.reshape(n, -1) >= 1.0
    cost = part.cost_usd.reshape(n, -1)
    order = _by_ratio(right, cost)
    found: dict[Cascade, None] = {}
    for price in _prices(cost):
        stages = _thinned(order, right, cost, price)
        if len(stages) >= MIN_STAGES:
            found.setdefault(Cascade(tuple(part.arms[i] for i in stages), verified=True))
    longest = max(found, key=lambda cascade: len(cascade.stages), default=None)
    if longest is not None:
        for n_stages in range(MIN_STAGES, len(longest.stages)):
            found.setdefault(Cascade(longest.stages[:n_stages], verified=True))
    return tuple(found)


def _seen(draws: Draws) -> NDArray[np.bool_]:
    """Where every draw has quality and cost, shape (n_queries, n_columns)."""
    return np.asarray(~np.isnan(draws.quality + draws.cost_usd).any(axis=1))


def _groups(draws: Draws) -> Iterator[NDArray[np.intp]]:
    """Yield the queries of each frequent pattern of recorded arms, the most frequent first."""
    seen = _seen(draws)
    patterns, number, count = np.unique(seen, axis=0, return_inverse=True, return_counts=True)
    number = number.reshape(-1)
    least = max(MIN_QUERIES, MIN_SHARE * len(seen))
    for i in sorted(range(len(patterns)), key=lambda i: (-count[i], patterns[i].tolist())):
        if count[i] >= least and patterns[i].sum() > MIN_STAGES:
            yield np.flatnonzero(number == i)


class _Flat:
    """Draws of some queries as plain rows, all arms recorded; (n_rows, n_columns) each."""

    def __init__(
        self,
        arms: Sequence[Arm],
        answer: NDArray[np.intp],
        quality: NDArray[np.float64],
        cost: NDArray[np.float64],
    ) -> None:
        self.arms, self.cost = arms, cost
        self._answer, self._quality = answer, quality
        n_columns = len(arms)
        self._first, self._second = np.triu_indices(n_columns, 1)
        agreed = (answer[:, self._first] == answer[:, self._second]) & (answer[:, self._first] >= 0)
        self._apart = (~agreed).T.astype(np.float64)
        n = len(quality)
        self._settled = (agreed * quality[:, self._first]).mean(axis=0)
        self._opening = (cost[:, self._first] + cost[:, self._second]).mean(axis=0)
        self._three_right = self._settled[:, None] + self._apart @ quality / n
        self._three_cost = self._opening[:, None] + self._apart @ cost / n
        own = np.arange(len(self._first))
        self._three_right[own, self._first] = -np.inf
        self._three_right[own, self._second] = -np.inf
        self._four: dict[int, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}

    @classmethod
    def of(cls, draws: Draws, rows: NDArray[np.intp]) -> _Flat | None:
        """Flatten; None with fewer than three arms. Thinned out where that would be too large."""
        columns = np.flatnonzero(_seen(draws)[rows].all(axis=0))
        if len(columns) > MAX_COLUMNS:
            means = draws.quality[rows][:, :, columns].mean(axis=(0, 1))
            columns = np.sort(columns[np.argsort(-means, kind="stable")[:MAX_COLUMNS]])
        if len(columns) <= MIN_STAGES:
            return None
        part = draws.take(rows, columns)
        n_columns = len(columns)
        step = max(1, part.answer.shape[0] * part.answer.shape[1] // MAX_ROWS)
        return cls(
            part.arms,
            part.answer.reshape(-1, n_columns)[::step],
            part.quality.reshape(-1, n_columns)[::step],
            part.cost_usd.reshape(-1, n_columns)[::step],
        )

    def best(self, price: float) -> tuple[int, ...] | None:
        """Columns of the best cascade at a price; None where a single arm is as good."""
        utility = self._three_right - price * self._three_cost
        pair, third = np.unravel_index(int(utility.argmax()), utility.shape)
        best = float(utility[pair, third])
        stages: tuple[int, ...] = (int(self._first[pair]), int(self._second[pair]), int(third))
        for candidate in np.argsort(-utility.max(axis=1), kind="stable")[:BEST_PAIRS].tolist():
            right, cost = self._fourth(candidate)
            longer = right - price * cost
            third, fourth = np.unravel_index(int(longer.argmax()), longer.shape)
            if longer[third, fourth] > best + MIN_GAIN:
                best = float(longer[third, fourth])
                opening = (int(self._first[candidate]), int(self._second[candidate]))
                stages = (*opening, int(third), int(fourth))
        single = float((self._quality.mean(axis=0) - price * self.cost.mean(axis=0)).max())
        return stages if best > single + MIN_GAIN else None

    def _fourth(self, pair: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Give accuracy and cost of each third and fourth stage, both (n_columns, n_columns)."""
        if pair not in self._four:
            first, second = self._first[pair], self._second[pair]
            n = len(self._quality)
            going = self._apart[pair][:, None]
            agreed = (self._answer == self._answer[:, [first]]) | (
                self._answer == self._answer[:, [second]]
            )
            agreed &= self._answer >= 0
            right = self._settled[pair] + (going * agreed * self._quality).mean(axis=0)
            cost = self._opening[pair] + (going * self.cost).mean(axis=0)
            apart = going * ~agreed
            four_right = right[:, None] + apart.T @ self._quality / n
            four_cost = cost[:, None] + apart.T @ self.cost / n
            taken = np.array([first, second])
            four_right[taken] = four_right[:, taken] = -np.inf
            np.fill_diagonal(four_right, -np.inf)
            self._four[pair] = (four_right, four_cost)
        return self._four[pair]


def _prices(cost: NDArray[np.float64]) -> list[float]:
    """Shadow prices, from one at which the dearest arm is worth it to one for the cheapest."""
    means = cost.mean(axis=0)
    high = float(means.max())
    if high <= 0:
        return [0.0]
    low = max(float(means.min()), high / 1e4)
    return [float(p) for p in np.geomspace(PRICE_LOW / high, PRICE_HIGH / low, N_PRICES)]


def _by_ratio(right: NDArray[np.bool_], cost: NDArray[np.float64]) -> list[int]:
    """Order columns by right answers per USD among the rows that all before them failed."""
    going = np.ones(len(right), dtype=bool)
    left = _bundles(cost)
    order: list[int] = []
    while left and going.any() and len(order) < MAX_STAGES:
        gains = np.array([right[going][:, bundle].any(axis=1).mean() for bundle in left])
        spent = np.array([cost[going][:, bundle[0]].mean() for bundle in left])
        best = int((gains / np.maximum(spent, MIN_GAIN)).argmax())
        if gains[best] <= 0:
            break
        bundle = left.pop(best)
        order += bundle
        going &= ~right[:, bundle].any(axis=1)
    return order


def _bundles(cost: NDArray[np.float64]) -> list[list[int]]:
    """Columns to be taken together: one that is paid, and the free ones after it."""
    bundles: list[list[int]] = []
    for column, free in enumerate((cost == 0.0).all(axis=0).tolist()):
        if free and bundles:
            bundles[-1].append(column)
        else:
            bundles.append([column])
    return bundles


def _thinned(
    order: Sequence[int], right: NDArray[np.bool_], cost: NDArray[np.float64], price: float
) -> list[int]:
    """Drop the stages, last first, without which the utility is no lower."""
    stages = list(order)
    best = _utility(stages, right, cost, price)
    improved = True
    while improved:
        improved = False
        for place in range(len(stages) - 1, -1, -1):
            shorter = stages[:place] + stages[place + 1 :]
            utility = _utility(shorter, right, cost, price)
            if shorter and utility >= best:
                stages, best, improved = shorter, utility, True
    return stages


def _utility(
    stages: Sequence[int], right: NDArray[np.bool_], cost: NDArray[np.float64], price: float
) -> float:
    going = np.ones(len(right), dtype=bool)
    total = 0.0
    for column in stages:
        total += float((right[going, column] - price * cost[going, column]).sum())
        going &= ~right[:, column]
    return total / len(right)
