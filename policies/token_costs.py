"""Costs of recorded answers that have none, from their tokens and the price of their model.

Only where the cost is missing: what was recorded is never replaced. A price that is not known
leaves the cost unknown, and never makes it 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cost_models.types import Usage
from policies.outcomes import OutcomeTable

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from cost_models.pricing import Price

MILLION = 1_000_000
NS_PER_S = 1_000_000_000


class Priced(NamedTuple):
    """A table with the costs that could be had.

    ``n_priced`` rows got one; ``unknown`` are the models of rows that only lacked a price, sorted;
    ``n_without_usage`` rows have no cost and not all the tokens (or machine seconds) to price.
    """

    table: OutcomeTable
    n_priced: int
    unknown: tuple[str, ...]
    n_without_usage: int


def price_tokens(table: OutcomeTable, price_of: Callable[[str], Price | None]) -> Priced:
    """Price the rows without ``cost_usd``: one call each, of its prompt and completion tokens.

    Tokens count as fresh and visible: cached or hidden ones that a file leaves out are not paid.
    A model that is paid by machine time also needs ``machine_s``.
    """
    cost = table.numbers["cost_usd"].copy()
    models = np.array(table.texts["model"], dtype=object)
    unknown: list[str] = []
    n_priced = n_without = 0
    missing = np.isnan(cost)
    for model in sorted(set(models[missing])):
        rows = np.flatnonzero(missing & (models == model))
        price = price_of(model)
        usage = _usage(table, rows, owned=price is not None and price.owned)
        whole = ~np.isnan(usage).any(axis=1)
        n_without += int((~whole).sum())
        if price is None:
            unknown += [model] if whole.any() else []
            continue
        cost[rows[whole]] = _call_usd(price) + usage[whole] @ _rates(price)
        n_priced += int(whole.sum())
    made = OutcomeTable(table.source, table.texts, {**table.numbers, "cost_usd": cost})
    return Priced(made, n_priced, tuple(unknown), n_without)


def n_priceable(table: OutcomeTable) -> int:
    """Count the rows that have tokens and no cost."""
    tokens = table.numbers["prompt_tokens"] + table.numbers["completion_tokens"]
    return int((np.isnan(table.numbers["cost_usd"]) & ~np.isnan(tokens)).sum())


def _usage(table: OutcomeTable, rows: NDArray[np.intp], *, owned: bool) -> NDArray[np.float64]:
    """Prompt and completion tokens and machine seconds, shape (n_rows, 3)."""
    machine_s = table.numbers["machine_s"][rows]
    columns = [
        table.numbers["prompt_tokens"][rows],
        table.numbers["completion_tokens"][rows],
        machine_s if owned else np.zeros(len(rows)),
    ]
    return np.column_stack(columns)


def _call_usd(price: Price) -> float:
    return float(price.cost_usd(Usage(n_calls=1)))


def _rates(price: Price) -> NDArray[np.float64]:
    """USD of one prompt token, one completion token and one machine second."""
    million = (Usage(prompt_tokens=MILLION), Usage(completion_tokens=MILLION))
    second = float(price.cost_usd(Usage(machine_ns=NS_PER_S)))
    return np.array([*(float(price.cost_usd(usage) / MILLION) for usage in million), second])
