"""The sections of a report below its tiles, as plain data: charts, drivers, own or rent, events."""

from __future__ import annotations

from datetime import timedelta
from itertools import accumulate
from math import isfinite
from typing import TYPE_CHECKING, Any

from cost_models.budgets import zone
from cost_models.money import NANO_PER_USD
from cost_models.unit_costs import frontier
from router.reports.words import count, money, money_range, nano, percent, signed
from storage.measured import Refused
from storage.rollups import LOST
from storage.slices import UNTAGGED, Slice

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from router.reports.reading import Material

    Plain = dict[str, Any]

MOST_DRIVERS = 5
MOST_EVENTS = 12
DAYS_PER_MONTH = 30.4
ROLES = {LOST: "left by a crash"}
CHANGES = {
    "volume": "more or fewer questions",
    "questions": "harder or easier questions",
    "choices": "other models or methods",
    "prices": "prices",
    "usage": "usage a question",
    "added": "new models or methods",
    "retired": "no longer used",
}


def burn_up(material: Material) -> Plain:
    """Give the spend day by day, where it leads, and the limit."""
    question, facts = material.question, material.facts
    tz = zone(question.time_zone)
    first = question.period.since.astimezone(tz).date()
    last = (question.period.end - timedelta(microseconds=1)).astimezone(tz).date()
    sums = list(accumulate(day.cost_nano_usd for day in facts.days))
    found = facts.forecast
    ahead: list[Plain] = []
    if found is not None and not isinstance(found, Refused) and found.daily:
        today = question.until.astimezone(tz).date()
        for i, (low, middle, high) in enumerate(found.fan):
            day = (today + timedelta(days=i)).isoformat()
            ahead.append({"day": day, "low_usd": low, "middle_usd": middle, "high_usd": high})
    limit = material.limit_nano_usd
    told = f"Spent {nano(facts.whole.cost_nano_usd)} by the end of {count(len(sums), 'day')}. "
    told += "No budget covers exactly this period." if limit is None else f"Limit {nano(limit)}."
    if ahead:
        told += f" Forecast for the end {money(ahead[-1]['middle_usd'])}."
    return {
        "title": "Spend since the start of the period",
        "description": told,
        "empty": "no cost is known in this period" if facts.whole.cost_nano_usd is None else None,
        "first": first.isoformat(),
        "last": last.isoformat(),
        "days": [day.day.isoformat() for day in facts.days],
        "complete": [day.complete for day in facts.days],
        "daily_nano_usd": [day.cost_nano_usd for day in facts.days],
        "cumulated_nano_usd": sums,
        "limit_nano_usd": limit,
        "forecast": ahead,
        "table": _table(
            ["day", "spent", "since the start", "forecast"],
            [
                [
                    day.day.isoformat() + ("" if day.complete else " (in part)"),
                    nano(day.cost_nano_usd),
                    nano(total),
                    "",
                ]
                for day, total in zip(facts.days, sums, strict=True)
            ]
            + [
                [
                    each["day"],
                    "",
                    "",
                    (
                        f"{money(each['middle_usd'])} "
                        f"({money(each['low_usd'])} to {money(each['high_usd'])})"
                    ),
                ]
                for each in ahead
            ],
        ),
    }


def frontier_chart(material: Material) -> Plain:
    """Give each measured arm's cost and accuracy, all answers together, and the target."""
    facts = material.facts
    on = {point.name for point in frontier(facts.frontier)}
    whole, live = facts.whole, None
    if whole.accuracy is not None and whole.cost_nano_usd and whole.n_answered:
        each = whole.cost_nano_usd / NANO_PER_USD / whole.n_answered
        live = {"cost_usd": each, "accuracy": whole.accuracy.to_dict()}
    points: list[Plain] = [
        {
            "name": point.name,
            "label": short_name(point.name),
            "on_frontier": point.name in on,
            "cost_usd": point.cost_usd,
            "cost_error": point.cost_error,
            "accuracy": point.accuracy,
            "accuracy_error": point.accuracy_error,
            "n": point.n,
        }
        for point in sorted(facts.frontier, key=lambda point: point.cost_usd)
    ]
    steps = [
        {
            "start": step.start,
            "end": step.end,
            "usd_per_correct": step.usd_per_correct.to_dict(),
            "text": (
                f"from {short_name(step.start)} to {short_name(step.end)}: "
                f"{money(step.usd_per_correct.value)} for each more correct answer "
                f"({money_range(step.usd_per_correct.to_dict())})"
            ),
        }
        for step in facts.marginal
    ]
    return {
        "title": "Accuracy against cost, by model and method",
        "description": (
            f"{count(len(points), 'way')} of answering (a model and a method) measured by random "
            f"picks, of which {len(on)} are not "
            "beaten by any mix of others; bars are 95 % intervals."
        ),
        "empty": None
        if points
        else "too few random picks and grades to place any model and method",
        "points": points,
        "live": live,
        "target": facts.asked.target,
        "steps": steps,
        "table": _table(
            ["model and method", "USD a question", "accuracy", "picks", "on the frontier"],
            [
                [
                    point["name"],
                    money(point["cost_usd"]),
                    f"{percent(point['accuracy'])} (+/- {percent(1.96 * point['accuracy_error'])})",
                    f"{point['n']:,}",
                    "yes" if point["on_frontier"] else "no",
                ]
                for point in points
            ],
        ),
    }


def change_chart(material: Material) -> Plain:
    """Give the bridge from the earlier time to this one; parts of 0 stay out of the picture."""
    change, (since, until) = material.change, material.question.earlier
    parts: list[Plain] = [
        {"name": CHANGES[name], "key": name, "nano_usd": amount}
        for name, amount in change.parts.items()
        if amount
    ]
    delta = change.after - change.before
    empty = None
    if material.before.whole.cost_nano_usd is None:
        empty = "nothing was charged in the time before, so there is no change to explain"
    elif material.facts.whole.cost_nano_usd is None:
        empty = "nothing was charged in this period, so there is no change to explain"
    unpriced = "" if change.prices is not None else " Prices could not be told apart from usage."
    return {
        "title": "Why spend changed",
        "description": (
            f"From {nano(change.before)} ({_span(since, until, material)}) to "
            f"{nano(change.after)}: {signed(delta / NANO_PER_USD)}.{unpriced}"
        ),
        "empty": empty,
        "before_nano_usd": change.before,
        "after_nano_usd": change.after,
        "parts": parts,
        "table": _table(
            ["cause", "change"],
            [[part["name"], signed(part["nano_usd"] / NANO_PER_USD)] for part in parts]
            + [["all of it", signed(delta / NANO_PER_USD)]],
        ),
    }


def compute_chart(material: Material) -> Plain:
    """Give what the spend was for, and how much of the output was reasoning."""
    split = material.facts.compute
    whole = sum(split.values())
    parts: list[Plain] = [
        {"name": ROLES.get(name, name), "nano_usd": amount, "share": amount / whole}
        for name, amount in sorted(split.items(), key=lambda item: (-item[1], item[0]))
    ]
    extras = material.extras
    share = extras.reasoning_tokens / extras.output_tokens if extras.output_tokens else None
    told = "Reasoning tokens are not reported by the providers used."
    if extras.reasoning_tokens and share is not None:
        told = f"{percent(share)} of output tokens were reported as reasoning."
    wasted = split.get("failed calls", 0)
    waste = f"Failed calls cost {nano(wasted)}. " if wasted else "Failed calls cost nothing. "
    return {
        "title": "Where test-time compute goes",
        "description": waste + told,
        "empty": None if parts else "nothing was spent in this period",
        "parts": parts,
        "reasoning_share": share if extras.reasoning_tokens else None,
        "table": _table(
            ["for", "cost", "share"],
            [[part["name"], nano(part["nano_usd"]), percent(part["share"])] for part in parts],
        ),
    }


def drivers(material: Material) -> Plain:
    """Give the teams that spent most, all others as one, and what has no team; they add up."""
    slices = material.facts.by["team"]
    before = {part.name: part for part in material.before.teams}
    named = [part for part in slices if part.name != UNTAGGED]
    rows = [_driver(part.name, part, before.get(part.name)) for part in named[:MOST_DRIVERS]]
    if rest := named[MOST_DRIVERS:]:
        names = {part.name for part in named[:MOST_DRIVERS]} | {UNTAGGED}
        earlier = [part for part in before.values() if part.name not in names]
        rows.append(_driver(count(len(rest), "other team"), _sum(rest), _sum(earlier)))
    without = next((part for part in slices if part.name == UNTAGGED), None)
    rows.append(_driver("no team", without or Slice(UNTAGGED), before.get(UNTAGGED)))
    rows.append(_driver("all", material.facts.whole, material.before.whole))
    whole = material.facts.whole.cost_nano_usd
    for row in rows:
        cost = row["cost_nano_usd"]
        row["share"] = cost / whole if whole and cost is not None else None
    return {"title": "Who drives it", "rows": rows}


def buy_or_rent(material: Material) -> Plain:
    """Say from what volume own machines pay, at the accuracy that they reach."""
    machines = material.question.machines
    if machines is None:
        text = (
            "Not enough data: say with --scenario what machines would cost and carry, and this "
            "line tells from what volume owning pays."
        )
        return {"status": "not enough data", "text": text}
    from cost_models.ownership import break_even, simulate  # noqa: PLC0415 - arrays, if asked

    found = break_even(machines)
    days = (material.question.until - material.question.period.since) / timedelta(days=1)
    volume = material.facts.n_requests * DAYS_PER_MONTH / days
    ranges = material.question.ranges
    drawn = simulate(machines, ranges) if ranges else None
    data = {
        "queries_per_month": volume,
        "break_even": found.first if isfinite(found.first) else None,
        "busy_share": found.busy_share,
        "low": drawn.low if drawn is not None and isfinite(drawn.low) else None,
        "high": drawn.high if drawn is not None and isfinite(drawn.high) else None,
    }
    if not isfinite(found.first):
        text = "Rent: at these figures owning never pays, whatever the volume."
        return {"status": "rent", "text": text, **data}
    bounds = ""
    if drawn is not None:
        high = f"{drawn.high:,.0f}" if isfinite(drawn.high) else "never"
        bounds = f" (90 % of draws: {drawn.low:,.0f} to {high})" if isfinite(drawn.low) else ""
    own = volume >= found.first
    text = (
        f"{'Own' if own else 'Rent'}: owning pays from {found.first:,.0f} questions a month"
        f"{bounds}, the machines then {percent(found.busy_share, 0)} busy; at this period's rate "
        f"there are {volume:,.0f}. `rheostat plan --scenario` shows the sensitivities."
    )
    return {"status": "own" if own else "rent", "text": text, **data}


def events(material: Material) -> list[Plain]:
    """Give what happened on one line of time: odd days, alerts, policies put in service."""
    tz = zone(material.question.time_zone)
    found = [
        {
            "day": day.day.isoformat(),
            "kind": "unusual spend",
            "text": f"{money(seen.spent_usd)} spent where {money(seen.expected_usd)} was usual",
            "impact_usd": seen.impact_usd,
        }
        for day, seen in material.facts.anomalies
    ]
    found += [
        {
            "day": at.astimezone(tz).date().isoformat(),
            "kind": "policy",
            "text": f"{version} put in service",
            "impact_usd": None,
        }
        for version, at in material.extras.promoted
    ]
    found += [
        {
            "day": alert.window_start.astimezone(tz).date().isoformat(),
            "kind": "budget alert",
            "text": (
                f"budget of {alert.scope} per {alert.period} that began on this day: "
                + ("forecast to be exceeded" if alert.by_forecast else f"{alert.percent}% used")
            ),
            "impact_usd": None,
        }
        for alert in material.extras.alerts
    ]
    return sorted(found, key=lambda event: (str(event["day"]), str(event["text"])))


def short_name(arm: str) -> str:
    """``sim-large cot``: an arm without its parameters, for a label."""
    model, _, strategy = arm.partition("|")
    return f"{model} {strategy.partition('(')[0]}".strip()


def _driver(name: str, part: Slice, before: Slice | None) -> Plain:
    was = None if before is None else before.cost_nano_usd
    cost, each = part.cost_nano_usd, part.usd_per_correct
    return {
        "name": name,
        "cost_nano_usd": cost,
        "n_answered": part.n_answered,
        "accuracy": None if part.accuracy is None else part.accuracy.to_dict(),
        "usd_per_correct": None if each is None else each.to_dict(),
        "before_nano_usd": was,
        "change_nano_usd": None if cost is None or was is None else cost - was,
    }


def _sum(parts: Sequence[Slice]) -> Slice:
    whole = Slice("")
    for part in parts:
        whole = whole.plus(part)
    return whole


def _span(since: datetime, until: datetime, material: Material) -> str:
    tz = zone(material.question.time_zone)
    last = (until - timedelta(microseconds=1)).astimezone(tz).date()
    return f"{since.astimezone(tz).date().isoformat()} to {last.isoformat()}"


def _table(columns: list[str], rows: list[list[str]]) -> Plain:
    return {"columns": columns, "rows": rows}
