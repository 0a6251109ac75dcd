"""``rheostat ask`` and ``rheostat plan``: one question through the engine, without a server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import uuid4

import typer

from cost_models.money import NANO_PER_USD
from policies.types import AnswerKind
from router.cli.console import console, errors_shown, fail, plain_table, usd

if TYPE_CHECKING:
    from router.gateway.config import Config
    from router.routing.types import ChatRequest, Plan, Served

ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="The YAML file.")]
ModelOption = Annotated[str, typer.Option(help="`auto`, or a configured model's name.")]
KindOption = Annotated[
    AnswerKind | None, typer.Option("--kind", help="What the answer is; text if not given.")
]
TargetOption = Annotated[
    float | None, typer.Option(min=0.0, max=1.0, help="Wanted probability of a right answer.")
]
CostOption = Annotated[float | None, typer.Option(min=0.0, help="Most that this may cost, USD.")]
StrategyOption = Annotated[str | None, typer.Option(help="Use this strategy.")]
DEFAULT_CONFIG = Path("rheostat.yaml")


def ask(
    question: Annotated[str, typer.Argument(help="The question.")],
    config: ConfigOption = DEFAULT_CONFIG,
    model: ModelOption = "auto",
    kind: KindOption = None,
    accuracy_target: TargetOption = None,
    max_cost_usd: CostOption = None,
    strategy: StrategyOption = None,
) -> None:
    """Ask one question and show the answer, the arm that gave it, and what it cost."""
    with errors_shown():
        from router.gateway.config import load

        loaded = load(config)
        request = _request(loaded, question, model, kind)
        request = _limited(request, accuracy_target, max_cost_usd, strategy)
        served = asyncio.run(_answer(loaded, request))
        screen = console()
        screen.print(served.answer.text, markup=False)
        screen.rule(style="dim")
        predicted = served.decision.predicted_quality
        screen.print(
            f"{served.decision.arm}  {usd(served.cost_nano_usd / NANO_PER_USD)}  "
            f"{served.latency_s:.1f} s"
            + (f"  predicted right: {predicted:.0%}" if predicted is not None else "")
            + (f"  answer: {served.answer.value}" if served.answer.value else ""),
            markup=False,
        )
        screen.print(served.decision.reason, style="dim", markup=False)


def plan(
    question: Annotated[str | None, typer.Argument(help="The question.")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    model: ModelOption = "auto",
    kind: KindOption = None,
    accuracy_target: TargetOption = None,
    max_cost_usd: CostOption = None,
    strategy: StrategyOption = None,
    budget_usd: Annotated[
        float | None, typer.Option(min=0.0, help="Without a question: what this budget buys.")
    ] = None,
    days: Annotated[
        int | None, typer.Option(min=1, help="Days that the budget is for, and of the demand.")
    ] = None,
    scenario: Annotated[
        Path | None, typer.Option(help="Without a question: a YAML file of what is to come.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the draws of a scenario.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="A plan as one JSON document.")] = False,
) -> None:
    """Show what would be done with a question, and why; or plan a budget, without a question."""
    with errors_shown():
        if question is None:
            _plan_ahead(config, budget_usd, days, scenario, seed, as_json=as_json)
            return
        if budget_usd is not None or days is not None or scenario is not None or as_json:
            fail("--budget-usd, --days, --scenario and --json plan ahead: leave the question out")
        from router.gateway.config import load

        loaded = load(config)
        request = _request(loaded, question, model, kind)
        request = _limited(request, accuracy_target, max_cost_usd, strategy)
        _show(asyncio.run(_plan(loaded, request)))


def _plan_ahead(
    config: Path,
    budget_usd: float | None,
    days: int | None,
    file: Path | None,
    seed: int,
    *,
    as_json: bool,
) -> None:
    from router.cli.planner import show_plan
    from router.cli.scenario import Scenario, load_scenario

    if file is None and budget_usd is None and days is None:
        fail("ask a question, or plan ahead with --budget-usd, --days or --scenario FILE")
    scenario = Scenario() if file is None else load_scenario(file)
    given = {"budget_usd": budget_usd, "days": days}
    told = {name: value for name, value in given.items() if value is not None}
    show_plan(scenario.model_copy(update=told), config, seed, as_json=as_json)


def _request(config: Config, question: str, model: str, kind: AnswerKind | None) -> ChatRequest:
    from router.routing.types import ChatRequest
    from router.types import Message, Task

    task = Task(
        messages=(Message("user", question),),
        answer_kind=kind or AnswerKind.TEXT,
        kind_is_declared=kind is not None,
        max_tokens=config.default_max_tokens,
    )
    return ChatRequest(
        request_id=uuid4().hex, model=model, task=task, min_max_tokens=config.min_max_tokens
    )


def _limited(
    request: ChatRequest,
    accuracy_target: float | None,
    max_cost_usd: float | None,
    strategy: str | None,
) -> ChatRequest:
    from dataclasses import replace

    from router.routing.types import Limits

    limits = Limits(accuracy_target=accuracy_target, max_cost_usd=max_cost_usd, strategy=strategy)
    return replace(request, limits=limits)


async def _answer(config: Config, request: ChatRequest) -> Served:
    from router.cli.build import running_service

    async with running_service(config) as service:
        return await service.answer(request)


async def _plan(config: Config, request: ChatRequest) -> Plan:
    from router.cli.build import running_service

    async with running_service(config) as service:
        return await service.plan(request)


def _show(found: Plan) -> None:
    screen = console()
    chosen = found.decision.arm if found.decision else None
    table = plain_table("arm", "right", "cost", "at most", "seconds")
    for candidate in found.candidates:
        quality = candidate.predicted_quality
        cost = candidate.expected_cost_usd
        most = candidate.worst_case_nano_usd
        seconds = candidate.expected_latency_s
        table.add_row(
            f"{'>' if candidate.arm == chosen else ' '} {candidate.arm}",
            "-" if quality is None else f"{quality:.0%}",
            "-" if cost is None else usd(cost),
            "-" if most is None else usd(most / NANO_PER_USD),
            "-" if seconds is None else f"{seconds:.1f}",
        )
    screen.print(table)
    for candidate in found.candidates:
        if candidate.rejected is not None:
            screen.print(f"out: {candidate.arm}: {candidate.rejected}", markup=False)
    if found.difficulty is not None:
        strange = "" if found.in_distribution else ", unlike anything seen"
        screen.print(
            f"difficulty {found.difficulty:.2f}{strange}; policy {found.policy_version}",
            markup=False,
        )
    if found.decision is None:
        fail("no arm is left for this question; allow more arms or loosen its limits")
    screen.print(f"{found.decision.arm}: {found.decision.reason}", markup=False)
