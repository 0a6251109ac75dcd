"""The five figures at the top of a report, each with its interval, status and meaning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cost_models.accuracy import Standing
from router.reports.words import (
    count,
    money,
    money_range,
    nano,
    percent,
    points,
    share_range,
)
from storage.measured import Refused

if TYPE_CHECKING:
    from cost_models.forecast import Forecast
    from cost_models.savings import Savings
    from router.reports.reading import Material

    Plain = dict[str, Any]

LIKELY_OVER = 0.5
MAYBE_OVER = 0.2
INTERVAL = "95% interval"
AHEAD = 0.1
"""Share of a limit that spend may be ahead of time before that is told."""


def tiles(material: Material) -> list[Plain]:
    """Give the five tiles in their order."""
    return [
        spend_tile(material),
        correct_tile(material),
        saved_tile(material),
        accuracy_tile(material),
        forecast_tile(material),
    ]


def spend_tile(material: Material) -> Plain:
    """Give the spend against the limit and against the time that is over."""
    spent, limit = material.facts.whole.cost_nano_usd, material.limit_nano_usd
    elapsed = material.question.elapsed
    if spent is None:
        return _tile("spent", "Spent", None, "no cost is known", Standing.NOT_ENOUGH_DATA)
    if not limit:
        told = "the organisation has no budget for exactly this period"
        return _tile("spent", "Spent", nano(spent), told, Standing.NOT_ENOUGH_DATA)
    used = spent / limit
    time = "the period is over" if elapsed >= 1 else f"{percent(elapsed)} of the time is over"
    told = f"{percent(used)} of the budget of {nano(limit)}; {time}"
    standing = Standing.ON_TRACK
    if spent > limit:
        standing = Standing.BREACH
    elif used > elapsed + AHEAD:
        standing = Standing.WATCH
    return {**_tile("spent", "Spent", nano(spent), told, standing), "used_share": used}


def correct_tile(material: Material) -> Plain:
    """Give the cost of a right answer, and whether it is told from that of the time before."""
    found, before = material.facts.whole.usd_per_correct, material.before.whole.usd_per_correct
    name, title = "usd_per_correct", "Cost of a correct answer"
    if found is None:
        told = f"{_graded(material)}; 30 are needed"
        return _tile(name, title, None, told, Standing.NOT_ENOUGH_DATA)
    told = f"{INTERVAL} {money_range(found.to_dict())}"
    standing = Standing.ON_TRACK
    if before is None:
        told += "; not known for the time before"
    else:
        told += f"; it was {money(before.value)} before"
        if found.low > before.high:
            standing = Standing.WATCH
    return _tile(name, title, money(found.value), told, standing)


def saved_tile(material: Material) -> Plain:
    """Give what was saved, signed, from the measured tier or else the estimated one."""
    facts = material.facts
    found: Savings | Refused = facts.savings
    if isinstance(found, Refused):
        found = facts.estimated_savings
    if isinstance(found, Refused):
        told = f"cannot be told: {found.reason}"
        return _tile("saved", "Saved", None, told, Standing.NOT_ENOUGH_DATA)
    saved, share = found.saved_usd, found.saved_share
    title, word, sign = ("Saved", "less", 1.0) if saved.value >= 0 else ("Lost", "more", -1.0)
    ends = sorted((sign * saved.low, sign * saved.high))
    told = (
        f"{percent(abs(share.value))} {word} than every question once by "
        f"{_model(str(facts.baseline))} would have cost ({INTERVAL} {money(ends[0])} to "
        f"{money(ends[1])}); {_difference(found)}"
    )
    if not found.measured:
        told = "estimated, not measured: " + told
    below = facts.asked.target is not None and _standing(material) is Standing.BREACH
    if below and saved.value >= 0:
        title = "Cheaper, but below target"
    standing = Standing.ON_TRACK if saved.low > 0 and not below else Standing.WATCH
    better = found.accuracy_difference is not None and found.accuracy_difference.low > 0
    if saved.high < 0 and not better:
        standing = Standing.BREACH
    tile = _tile("saved", title, money(abs(saved.value)), told, standing)
    return {**tile, "measured": found.measured}


def accuracy_tile(material: Material) -> Plain:
    """Give the accuracy and how it stands to the target."""
    found, target = material.facts.whole.accuracy, material.facts.asked.target
    if found is None:
        told = f"{_graded(material)}; 30 are needed"
        return _tile("accuracy", "Accuracy", None, told, Standing.NOT_ENOUGH_DATA)
    told = f"{INTERVAL} {share_range(found.to_dict())}, from {count(found.n, 'graded answer')}; "
    told += "no target is set" if target is None else f"the target is {percent(target)}"
    standing = None if target is None else _standing(material)
    return _tile("accuracy", "Accuracy", percent(found.value), told, standing)


def forecast_tile(material: Material) -> Plain:
    """Give what will be spent: by the end, or where the period is over, in the next one."""
    question = material.question
    title = "Forecast, next period" if question.over else "Forecast, whole period"
    found = material.coming if question.over else material.facts.forecast
    limit = material.coming_limit_nano_usd if question.over else material.limit_nano_usd
    if found is None or isinstance(found, Refused):
        reason = "" if found is None else found.reason
        return _tile("forecast", title, None, f"no forecast: {reason}", Standing.NOT_ENOUGH_DATA)
    told = f"{INTERVAL} {money_range(found.total_usd.to_dict())}; {_backtest(found)}"
    standing = Standing.NOT_ENOUGH_DATA
    if found.over is None or limit is None:
        told += "; there is no budget to hold it against"
    else:
        chance = f"{percent(found.over, 0)} likely to exceed {nano(limit)}"
        told = f"{chance}; {told}"
        standing = Standing.BREACH if found.over >= LIKELY_OVER else Standing.ON_TRACK
        if MAYBE_OVER <= found.over < LIKELY_OVER:
            standing = Standing.WATCH
    tile = _tile("forecast", title, money(found.total_usd.value), told, standing)
    return {**tile, "probability_over": found.over}


def _tile(name: str, title: str, value: str | None, told: str, status: Standing | None) -> Plain:
    return {
        "name": name,
        "title": title,
        "value": value,
        "detail": told,
        "status": None if status is None else status.value,
    }


def _standing(material: Material) -> Standing:
    standing = material.facts.whole.to_dict(material.facts.asked.target)["standing"]
    return Standing(standing)


def _graded(material: Material) -> str:
    coverage = material.facts.coverage
    return f"{coverage.n_graded:,} of {count(coverage.n_answered, 'answer')} are graded"


def _difference(found: Savings) -> str:
    difference = found.accuracy_difference
    if difference is None:
        return "too few grades to compare its accuracy"
    return (
        f"accuracy is {points(difference.value)} against it "
        f"({points(difference.low)} to {points(difference.high)})"
    )


def _backtest(found: Forecast) -> str:
    if found.backtest_error is None:
        return "too short a history to tell how wrong it was before"
    return (
        f"for the last {count(found.backtest_days, 'day')} it was {found.backtest_error:+.1%} off"
    )


def _model(arm: str) -> str:
    return arm.partition("|")[0]
