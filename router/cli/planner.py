"""``rheostat plan`` without a question: what a budget buys, own or rent, train or think."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import timedelta
from math import isinf
from typing import TYPE_CHECKING, Any

from router.cli.console import console, plain_table, usd

if TYPE_CHECKING:
    from pathlib import Path

    from cost_models.training import Verdict
    from router.cli.scenario import MachinesForm, Scenario, TrainingForm
    from router.reports.planning import Ground

Plain = dict[str, Any]

MANY = 1000.0


def show_plan(scenario: Scenario, config: Path, seed: int, *, as_json: bool) -> None:
    """Work a scenario out and print it, as tables or as one JSON document."""
    document = planned(scenario, config, seed)
    if as_json:
        console().print_json(json.dumps(_finite(document)))
        return
    for name, show in (("budget", _show_budget), ("machines", _show_machines)):
        if document[name] is not None:
            show(document[name])
    if document["training"] is not None:
        _show_training(document["training"])


def planned(scenario: Scenario, config: Path, seed: int) -> Plain:
    """Give the document: ``budget``, ``machines`` and ``training``, None where not asked for."""
    machines, training = scenario.machines, scenario.training
    budget = None
    if scenario.asks_for_a_budget or not (machines or training):
        budget = _budget(scenario, config)
    return {
        "schema_version": 1,
        "budget": budget,
        "machines": None if machines is None else _machines(machines, seed),
        "training": None if training is None else _training(training),
    }


def _budget(scenario: Scenario, config: Path) -> Plain:
    from cost_models.allocation import Shortfall
    from router.errors import ConfigError
    from router.reports.planning import NO_CURVE, Ground, budget_plan

    ground, source = Ground({}, None, "the scenario"), "the scenario"
    if scenario.curve is None or scenario.teams is None:
        ground, source = _from_ledger(config, scenario)
    curve = scenario.budget_curve(ground.curve)
    if curve is None:
        raise ConfigError(NO_CURVE)
    demands = scenario.demands(ground.demand, curve)
    if not demands:
        msg = (
            f"the ledger has no answered question of the last {scenario.days} days; raise `days`, "
            "or say under `teams` of the scenario what will be asked"
        )
        raise ConfigError(msg)
    try:
        found = budget_plan(curve, demands, scenario.budget_usd, scenario.target)
    except Shortfall as short:
        if short.team is not None:
            best = curve.corners[-1].accuracy
            msg = f"{short.team} asks for more than the best on the curve, {best:.1%}; lower it"
        else:
            msg = (
                f"{usd(short.budget_usd)} does not pay for the least that is asked, "
                f"{usd(short.needed_usd)}; raise the budget or lower `least_accuracy`"
            )
        raise ConfigError(msg) from short
    return {"days": scenario.days, "source": source, **found}


def _from_ledger(config: Path, scenario: Scenario) -> tuple[Ground, str]:
    """Read what the ledger knows, and say where it is from."""
    from router.cli.build import open_ledger, utc_now
    from router.gateway.config import load
    from router.reports.planning import read_ground

    loaded = load(config)
    until = scenario.until or utc_now()
    since = until - timedelta(days=scenario.days)
    with closing(open_ledger(loaded)) as ledger:
        ground = ledger.read(lambda session: read_ground(session, since, until, scenario.mix))
    return ground, f"{loaded.ledger_shown}, {ground.source}"


def _machines(form: MachinesForm, seed: int) -> Plain:
    from cost_models.ownership import break_even, payback_months, simulate, tornado

    machines, ranges = form.likely(), form.ranges()
    found = break_even(machines)
    volume = form.queries_per_month
    document: Plain = {
        "break_even": {
            "first": found.first,
            "always": found.always,
            "busy_share": found.busy_share,
        },
        "queries_per_machine": machines.queries_per_machine,
        "interval": None,
        "tornado": [],
        "volume": None,
    }
    if ranges:
        drawn = simulate(machines, ranges, seed=seed)
        document["interval"] = {
            "low": drawn.low,
            "median": drawn.median,
            "high": drawn.high,
            "never": drawn.never,
        }
        document["tornado"] = [
            {"name": bar.name, "at_low": bar.at_low, "at_high": bar.at_high}
            for bar in tornado(machines, ranges)
        ]
    if volume is not None:
        document["volume"] = {
            "queries_per_month": volume,
            "tokens_usd": machines.bought_usd(volume),
            "owned_usd": machines.owned_usd(volume),
            "machines": machines.needed(volume),
            "busy_share": machines.busy_share(volume),
            "payback_months": payback_months(machines, volume),
        }
    return document


def _training(form: TrainingForm) -> Plain:
    from cost_models.training import think_or_train

    return {
        "scale": form.scale,
        "reliability": form.reliability,
        "ratios": [
            {
                "ratio": scaling.ratio,
                "samples": scaling.samples,
                "bins": [
                    _verdict(think_or_train(part, scaling, form.reliability))
                    for part in form.parts()
                ],
            }
            for scaling in form.scalings()
        ],
    }


def _verdict(found: Verdict) -> Plain:
    return {
        "name": found.bin.name,
        "thinking": found.thinking,
        "training": found.training,
        "think": found.think,
        "break_even_ratio": found.break_even_ratio,
    }


def _show_budget(found: Plain) -> None:
    screen = console()
    screen.print(
        f"What a budget buys: {found['n_queries']:,.0f} questions in {found['days']} days; "
        f"curve and demand from {found['source']}",
        markup=False,
        soft_wrap=True,
    )
    table = plain_table("budget", "right", "at least", "one more right answer")
    for row in found["curve"]:
        accuracy, low, price = (
            row[name] for name in ("accuracy", "accuracy_low", "usd_per_next_right")
        )
        mark = "> " if row["budget_usd"] == found["budget_usd"] else "  "
        if accuracy is None:
            table.add_row(f"{mark}{usd(row['budget_usd'])}", "too little", "-", "-")
            continue
        table.add_row(
            f"{mark}{usd(row['budget_usd'])}",
            f"{accuracy:.1%}",
            f"{low:.1%}",
            "no way to buy one" if price is None else usd(price),
        )
    screen.print(table)
    if found["target"] is not None:
        _show_target(found["target"])
    if len(found["teams"]) > 1:
        table = plain_table("team", "questions", "share", "right", "one more right answer")
        for team, share in found["teams"].items():
            price = share["usd_per_next_right"]
            table.add_row(
                team,
                f"{share['n_queries']:,.0f}",
                usd(share["usd"]),
                f"{share['accuracy']:.1%}",
                "-" if price is None else usd(price),
            )
        screen.print(table)
    used = sum(share["usd"] for share in found["teams"].values())
    if used < 0.999 * found["budget_usd"]:
        left = found["budget_usd"] - used
        screen.print(f"{usd(left)} of it buys nothing more", markup=False)


def _show_target(found: Plain) -> None:
    expected, surely = found["usd"], found["usd_by_lower_bound"]
    text = "out of reach of the curve"
    if expected is not None:
        bound = "no budget" if surely is None else usd(surely)
        text = f"takes {usd(expected)}; {bound} reaches it with the lower bound"
    console().print(f"{found['accuracy']:.1%} right {text}", markup=False, soft_wrap=True)


def _show_machines(found: Plain) -> None:
    screen = console()
    even = found["break_even"]
    if isinf(even["first"]):
        screen.print("Own or pay by token: owning never pays at these figures, whatever the volume")
    else:
        later = (
            ""
            if even["always"] == even["first"]
            else f" (for good from {_volume(even['always'])}: each new machine is a step)"
        )
        screen.print(
            f"Own or pay by token, at equal accuracy: owning pays from {_volume(even['first'])} "
            f"questions a month{later}; the machines are then busy {even['busy_share']:.0%}",
            markup=False,
            soft_wrap=True,
        )
    drawn = found["interval"]
    if drawn is not None:
        screen.print(
            f"nine draws in ten lie between {_volume(drawn['low'])} and {_volume(drawn['high'])} "
            f"(middle {_volume(drawn['median'])}); in {drawn['never']:.0%} it never pays",
            markup=False,
            soft_wrap=True,
        )
        table = plain_table("what matters most", "break-even at its low", "at its high")
        for bar in found["tornado"]:
            table.add_row(bar["name"], _volume(bar["at_low"]), _volume(bar["at_high"]))
        screen.print(table)
    volume = found["volume"]
    if volume is not None:
        months = volume["payback_months"]
        back = "never paid back" if isinf(months) else f"back in {months:.1f} months"
        count = volume["machines"]
        screen.print(
            f"at {_volume(volume['queries_per_month'])} questions a month: tokens "
            f"{usd(volume['tokens_usd'])}, own {usd(volume['owned_usd'])} for "
            f"{count} machine{'' if count == 1 else 's'}, busy {volume['busy_share']:.0%}; "
            f"the setup is {back}",
            markup=False,
            soft_wrap=True,
        )


def _show_training(found: Plain) -> None:
    screen = console()
    screen.print(
        f"Train a model {found['scale']:g} times as large, or think longer, at equal FLOPs "
        f"(a selector finds a right sample {found['reliability']:.0%} of the time: assumed)",
        markup=False,
        soft_wrap=True,
    )
    table = plain_table("answered / trained", "samples", "questions", "think", "train", "better")
    for row in found["ratios"]:
        for part in row["bins"]:
            table.add_row(
                f"{row['ratio']:g}",
                f"{row['samples']:,.0f}",
                part["name"],
                f"{part['thinking']:.0%}",
                f"{part['training']:.0%}",
                "think" if part["think"] else "train",
            )
    screen.print(table)


def _volume(queries: float) -> str:
    return "never" if isinf(queries) else f"{queries:,.0f}"


def _finite(value: Any) -> Any:  # noqa: ANN401 - plain JSON
    """Write what is infinite as null: JSON has no infinity."""
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and isinf(value) else value
