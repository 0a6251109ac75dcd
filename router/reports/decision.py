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
    name = short_name(best.name)
    share = 1.0 - best.cost_usd / each
    text = (
        f"Retrain or replace the policy: {name} alone is right {percent(best.accuracy)} of "
        f"the time at {money(best.cost_usd)} a question, the policy {percent(right.value)} at "
        f"{money(each)}. Per question that is {percent(share, 0)} less money and "
        f"{points(best.accuracy - right.value)} of accuracy. `rheostat retrain` fits a new one."
    )
    return "replace_policy", text, None


def _over_budget(material: Material) -> Told | None:
    """Tell of a budget that is spent or likely will be; of the next one's, once this is over."""
    question, spent = material.question, material.facts.whole.cost_nano_usd
    over = question.over
    limit = material.coming_limit_nano_usd if over else material.limit_nano_usd
    forecast = material.coming if over else material.facts.forecast
    if spent is None:
        return None
    if not limit or forecast is None or isinstance(forecast, Refused) or forecast.over is None:
        return _overspent(material, spent)
    if forecast.over < LIKELY_OVER:
        return _overspent(material, spent)
    need = forecast.total_usd.value
    excess = max(0.0, need - limit / NANO_PER_USD)
    deadline = _run_out(material, forecast.days_left)
    by = "" if deadline is None else f" before {deadline}, when it will be spent"
    whose = f"the budget of {_next_name(material)}" if over else "the budget"
    text = (
        f"Raise {whose} from {nano(limit)} to about {money(_rounded(need))}{by}, or spend "
        f"{money(excess)} less{_price_of_saving(material, excess)}: the forecast is {money(need)}, "
        f"{percent(forecast.over, 0)} likely to exceed the budget."
    )
    return "over_budget", text, deadline


def _overspent(material: Material, spent: int) -> Told | None:
    """Tell of a limit that is exceeded already."""
    limit = material.limit_nano_usd
    if not limit or spent <= limit:
        return None
    over = material.question.over
    then = "look below for why" if over else "raise it, or stop what can wait"
    text = f"The budget of {nano(limit)} is exceeded by {nano(spent - limit)}: {then}."
    return "over_budget", text, None


def _next_name(material: Material) -> str:
    return material.question.period.later(zone(material.question.time_zone)).name


def _run_out(material: Material, days_left: int | None) -> str | None:
    if days_left is None:
        return None
    start = material.question.until.astimezone(zone(material.question.time_zone)).date()
    return (start + timedelta(days=days_left - 1)).isoformat()


def _price_of_saving(material: Material, usd: float) -> str:
    """Say about how many correct answers a saving costs, along the frontier's step at the policy.

    Nothing where the step does not reach so far down.
    """
    step = _step(material)
    if step is None:
        return ""
    fewer = usd / step.usd_per_correct.value
    right = material.facts.whole.accuracy
    if right is None or fewer > right.value * material.facts.whole.n_answered:
        return ""
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
            f"no measured model and method reaches it (best is {short_name(best.name)}, "
            f"{percent(best.accuracy)}); add a stronger one or lower the target."
        )
        return "below_target", text, None
    step = _step(material)
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
        "Whether that bought accuracy cannot be told, as too few of its answers are graded: have "
        "more graded, then keep or replace the policy"
        if difference is None
        else "Accuracy is not told to be higher: replace the policy, or send everything there"
    )
    text = (
        f"Spend is {money(-found.saved_usd.value)} above asking "
        f"{short_name(str(material.facts.baseline))} once for everything. {why}."
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


def _step(material: Material) -> Step | None:
    """Give the step of the frontier that spans what an answer costs now; None beside it."""
    each = _each(material)
    costs: dict[str, FrontierPoint] = {point.name: point for point in material.facts.frontier}
    for step in material.facts.marginal:
        spans = each is not None and costs[step.start].cost_usd <= each < costs[step.end].cost_usd
        if spans and step.usd_per_correct.value > 0:
            return step
    return None


def _rounded(usd: float) -> float:
    """Round an amount up to two significant digits, a little above."""
    if usd <= 0:
        return 0.0
    unit = 10.0 ** (floor(log10(usd)) - 1)
    return ceil(usd * ROUND_UP / unit) * unit
