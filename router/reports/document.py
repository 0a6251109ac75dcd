"""The report as one document: all that its page, print and table show, and nothing else.

The same ledger and question give the same document. `SCHEMA_VERSION` rises when a key changes its
meaning or goes; new keys do not raise it. See docs/reports.md.
"""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from cost_models.budgets import zone
from cost_models.money import NANO_PER_USD
from router.reports.decision import decision
from router.reports.difficulty import difficulty
from router.reports.sections import (
    burn_up,
    buy_or_rent,
    change_chart,
    compute_chart,
    drivers,
    events,
    frontier_chart,
)
from router.reports.tiles import tiles
from router.reports.words import count, nano, percent, signed
from storage.measured import Refused

if TYPE_CHECKING:
    from router.reports.reading import Material

    Plain = dict[str, Any]

SCHEMA = "rheostat.report"
SCHEMA_VERSION = 1
SNAPSHOT_DIGITS = 12
DEFINITIONS = (
    (
        "Spent",
        (
            "Everything charged for answers begun in the period: failed calls, discarded samples, "
            "judges and verifiers too. What is in doubt counts at its worst case."
        ),
    ),
    (
        "Correct answer",
        (
            "Answers given, times the accuracy of graded ones, each weighed by how likely it was "
            "to be graded."
        ),
    ),
    (
        "Saved",
        (
            "What every question would have cost if asked once of the largest model at that day's "
            "price, less what was spent. Below zero it is a loss. Measured on random picks."
        ),
    ),
    (
        "Interval",
        (
            "95 %: of a hundred such intervals about 95 hold the truth. Bars in the charts are the "
            "same."
        ),
    ),
    (
        "Status",
        (
            "On track; watch: the data do not decide, or it is near its bound; breach; not enough "
            "data: nothing is claimed."
        ),
    ),
)


def report_document(material: Material) -> Plain:
    """Give the document of a report; plain values for JSON, without NaN or infinity."""
    ownership = buy_or_rent(material)
    facts = material.facts.to_dict()
    return {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "header": _header(material, facts),
        "decision": decision(material, ownership),
        "tiles": tiles(material),
        "charts": {
            "burn_up": burn_up(material),
            "frontier": frontier_chart(material),
            "change": change_chart(material),
            "compute": compute_chart(material),
        },
        "drivers": drivers(material),
        "difficulty": difficulty(material),
        "buy_or_rent": ownership,
        "trace_audit": {
            "status": "not audited",
            "text": "Not audited: no reasoning trace of this period was probed.",
        },
        "events": events(material),
        "footer": _footer(material),
        "facts": facts,
        "change": material.change.to_dict(),
    }


def _header(material: Material, facts: Plain) -> Plain:
    question = material.question
    tz = zone(question.time_zone)
    since, until = question.period.since, question.until
    last = (until - timedelta(microseconds=1)).astimezone(tz).date()
    whole = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return {
        "period": question.period.name,
        "since": since.isoformat(),
        "until": until.isoformat(),
        "end": question.period.end.isoformat(),
        "over": question.over,
        "elapsed_share": question.elapsed,
        "time_zone": question.time_zone,
        "days": f"{since.astimezone(tz).date().isoformat()} to {last.isoformat()}",
        "n_requests": material.facts.n_requests,
        "n_refused": material.facts.n_refused,
        "policy": material.extras.policy,
        "snapshot": hashlib.sha256(whole.encode()).hexdigest()[:SNAPSHOT_DIGITS],
        "simulated": facts["simulated"],
        "coverage": coverage_sentence(material),
    }


def coverage_sentence(material: Material) -> str:
    """Say how much of the period is known."""
    coverage = material.facts.coverage
    n = coverage.n_closed + coverage.n_open
    if not n:
        return "No answer was begun in this period."
    parts = [f"{coverage.n_closed:,} of {count(n, 'entry', 'entries')} have their cost"]
    if coverage.n_open:
        parts.append(f"{coverage.n_open:,} are still open and not in the total")
    if coverage.in_doubt_nano_usd:
        parts.append(f"{nano(coverage.in_doubt_nano_usd)} of the total is in doubt, at worst case")
    if coverage.n_estimated:
        parts.append(
            f"{count(coverage.n_estimated, 'call')} of {coverage.n_calls:,} billed by estimate"
        )
    graded = f"{coverage.n_graded:,} of {count(coverage.n_answered, 'answer')} graded"
    if coverage.n_answered:
        graded += f" ({percent(coverage.n_graded / coverage.n_answered)})"
    parts += [graded, f"{percent(coverage.n_tagged / n)} belong to a team"]
    return "; ".join(parts) + "."


def _footer(material: Material) -> Plain:
    facts, question = material.facts, material.question
    found = material.coming if question.over else facts.forecast
    error = "no forecast to check"
    if found is not None and not isinstance(found, Refused):
        error = "too short a history to check the forecast"
        if found.backtest_error is not None:
            days = count(found.backtest_days, "day")
            error = f"made {days} earlier, the forecast was {found.backtest_error:+.1%} off"
    excluded = "nothing is left out"
    if facts.n_imported:
        excluded = f"{count(facts.n_imported, 'imported answer')} left out: nobody paid here"
    return {
        "definitions": [{"term": term, "text": text} for term, text in DEFINITIONS],
        "method": (
            "Hourly sums of the ledger in whole nano-USD; accuracy weighed by grading "
            "probability, exact binomial interval; savings, models and methods by inverse "
            "propensity within bins of difficulty, resampled by hour; forecast by weekday and "
            "exponential smoothing. "
            "Every figure is defined in docs/reports.md."
        ),
        "excluded": excluded,
        "forecast_error": error,
        "reconciliation": _reconciliation(material),
        "reproduce": question.reproduce,
    }


def _reconciliation(material: Material) -> str:
    found = material.extras.corrections.get("reconcile")
    if found is None:
        return "not reconciled: no provider's bill was compared with this period"
    n, total = found
    return (
        f"{count(n, 'amount')} corrected by a provider's bill, {signed(total / NANO_PER_USD)} "
        "in all"
    )
