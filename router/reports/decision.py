"""The one decision that a report asks for: what, its cost, its effect on quality, by when."""

from __future__ import annotations

from datetime import timedelta
from math import ceil, floor, log10
from typing import TYPE_CHECKING, Any

from cost_models.accuracy import Standing
from cost_models.budgets import zone
from cost_models.money import NANO_PER_USD
from cost_models.unit_costs import frontier
from router.reports.sections import short_name
from router.reports.tiles import LIKELY_OVER
from router.reports.words import count, money, nano, percent, points
from storage.measured import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from cost_models.unit_costs import FrontierPoint, Step
    from router.reports.reading import Material

    Plain = dict[str, Any]

ROUND_UP = 1.05
"""A limit is proposed that much above the forecast."""
Z = 1.96


def decision(material: Material, ownership: Plain) -> Plain:
    """Give the decision asked for, and in ``also`` what else stands out, most urgent first."""
    found = [
        told
        for rule in (_nothing, _worse_than_one_arm, _over_budget, _too_few_right, _lost, _ungraded)
        if (told := rule(material)) is not None
    ]
    if ownership["status"] == "own":
        found.append(("own", ownership["text"], None))
    if not found:
        text = "No decision is needed: spend, accuracy and forecast are where they should be."
        if material.limit_nano_usd is None and material.facts.asked.target is None:
            text = (
                "No decision can be asked for: set a budget of the organisation for this period "
                "and an accuracy_target in the configuration, and this line will hold the period "
                "against them."
            )
        found = [("none", text, None)]
    (kind, text, deadline), *others = found
    return {
        "kind": kind,
        "text": text,
        "deadline": deadline,
        "also": [other[1] for other in others],
    }


Told = tuple[str, str, "str | None"]


def _nothing(material: Material) -> Told | None:
    if material.facts.whole.cost_nano_usd is not None:
        return None
    text = (
        "No decision can be asked for: nothing was charged in this period. Check that clients send "
        "their requests to this gateway, and that the period is the one you mean."
    )
    return "nothing", text, None


def _worse_than_one_arm(material: Material) -> Told | None:
    """Tell of one arm for everything that is both cheaper and more often right than all answers."""
    right, each = material.facts.whole.accuracy, _each(material)
    if right is None or each is None:
        return None
    better = [
        point
        for point in material.facts.frontier
        if point.cost_usd + Z * point.cost_error < each
        and point.accuracy - Z * point.accuracy_error > right.value
    ]
    if not better:
        return None
    best = max(better, key=lambda point: (point.accuracy, -point.cost_usd))
    share = 1.0 - best.cost_usd / each
    text = (
        f"Retrain or replace the policy: {short_name(best.name)} alone is right {percent(best.accuracy)} of "
        f"the time at {money(best.cost_usd)} a question, the policy {percent(right.value)} at "
        f"{money(each)}. Per question that is {percent(share, 0)} less money and "
        f"{points(best.accuracy - right.value)} of accuracy. `rheostat retrain` fits a new one."
    )
    return "replace_policy", text, None


def _over_budget(material: Material) -> Told | None:
    limit, forecast = material.limit_nano_usd, material.facts.forecast
    spent = material.facts.whole.cost_nano_usd
    if material.question.over:
        limit, forecast = material.coming_limit_nano_usd, material.coming
        spent = 0
    if not limit or spent is None:
        return None
    if forecast is None or isinstance(forecast, Refused):
        if spent <= limit:
            return None
        text = f"The budget of {nano(limit)} is spent ({nano(spent)}): raise it or stop spending."
        return "over_budget", text, None
    if forecast.over is None or (forecast.over < LIKELY_OVER and spent <= limit):
        return None
    need = forecast.total_usd.value
    excess = need - limit / NANO_PER_USD
    deadline = _run_out(material, forecast.days_left)
    by = "" if deadline is None else f" before {deadline}, when it will be spent"
    text = (
        f"Raise the budget from {nano(limit)} to about {money(_rounded(need))}{by}, or spend "
        f"{money(excess)} less{_price_of_saving(material, excess)}: the forecast is {money(need)}, "
        f"{percent(forecast.over, 0)} likely to exceed the budget."
    )
    return "over_budget", text, deadline


def _run_out(material: Material, days_left: int | None) -> str | None:
    if days_left is None:
        return None
    start = material.question.until.astimezone(zone(material.question.time_zone)).date()
    return (start + timedelta(days=days_left - 1)).isoformat()


def _price_of_saving(material: Material, usd: float) -> str:
    """Say about how many right answers a saving costs, by the last step below the policy."""
    each = _each(material)
    step = _step(material, lambda end: each is not None and end <= each, last=True)
    if step is None:
        return ""
    fewer = usd / step.usd_per_correct.value
    return f", giving up about {count(round(fewer), 'correct answer')}"


def _too_few_right(material: Material) -> Told | None:
    target, right = material.facts.asked.target, material.facts.whole.accuracy
    if target is None or right is None:
        return None
    if material.facts.whole.to_dict(target)["standing"] != Standing.BREACH:
        return None
    missing = target - right.value
    hull = frontier(material.facts.frontier)
    best = hull[-1] if hull else None
    text = f"Accuracy is {percent(right.value)}, below its target of {percent(target)}: "
    if best is not None and best.accuracy < target:
        text += (
            f"no measured arm reaches it (best is {short_name(best.name)}, {percent(best.accuracy)}); add a "
            "stronger one or lower the target."
        )
        return "below_target", text, None
    each = _each(material)
    step = _step(material, lambda end: each is None or end > each, last=False)
    n = material.facts.whole.n_answered
    if step is None:
        text += "raise the accuracy the policy is tuned for, or lower the target."
    else:
        cost = missing * n * step.usd_per_correct.value
        text += (
            f"about {count(round(missing * n), 'more correct answer')} would have cost about "
            f"{money(cost)} at {money(step.usd_per_correct.value)} each; retune for it, or lower "
            "the target."
        )
    return "below_target", text, None


def _lost(material: Material) -> Told | None:
    """Tell of spending more than the largest model asked once, where that is not known to help."""
    found = material.facts.savings
    if isinstance(found, Refused) or found.saved_usd.high >= 0:
        return None
    difference = found.accuracy_difference
    if difference is not None and difference.low > 0:
        return None
    why = (
        "whether that bought accuracy cannot be told, as too few of its answers are graded"
        if difference is None
        else "and accuracy is not told to be higher for it"
    )
    text = (
        f"Spend is {money(-found.saved_usd.value)} above asking {short_name(str(material.facts.baseline))} once for "
        f"everything; {why}."
    )
    return "lost", text, None


def _ungraded(material: Material) -> Told | None:
    facts = material.facts
    if facts.whole.cost_nano_usd is None or facts.whole.accuracy is not None:
        return None
    text = (
        f"Have answers graded: {facts.coverage.n_graded:,} of "
        f"{count(facts.coverage.n_answered, 'answer')} are, so nobody can say what "
        f"{nano(facts.whole.cost_nano_usd)} bought. POST /v1/feedback takes grades; 30 are enough "
        "for a first figure."
    )
    return "grade", text, None


def _each(material: Material) -> float | None:
    """Give what one answer cost, USD."""
    whole = material.facts.whole
    if whole.cost_nano_usd is None or not whole.n_answered:
        return None
    return whole.cost_nano_usd / NANO_PER_USD / whole.n_answered


def _step(material: Material, wanted: Callable[[float], bool], *, last: bool) -> Step | None:
    """Give the first or last step of the frontier whose end costs what is ``wanted``."""
    costs: dict[str, FrontierPoint] = {point.name: point for point in material.facts.frontier}
    found = [
        step
        for step in material.facts.marginal
        if wanted(costs[step.end].cost_usd) and step.usd_per_correct.value > 0
    ]
    if not found:
        return None
    return found[-1] if last else found[0]


def _rounded(usd: float) -> float:
    """Round an amount up to two significant digits, a little above."""
    if usd <= 0:
        return 0.0
    unit = 10.0 ** (floor(log10(usd)) - 1)
    return ceil(usd * ROUND_UP / unit) * unit
