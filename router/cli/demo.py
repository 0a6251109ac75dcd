"""``rheostat demo``: the main job end to end, on embedded models, without a key or a server."""

from __future__ import annotations

import asyncio
import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cost_models.errors import RheostatError
from router.cli.console import console, errors_shown, fail
from router.cli.contest import show_results, show_routing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from policies.artifacts import FittedPolicy
    from router.gateway.config import Config
    from router.jobs.comparison import Contestant, Graded, Result
    from router.questions.base import Question

CONFIG_FILE = "rheostat.yaml"
STRATEGIES = "[direct, cot, {self_consistency: {samples: 3}}]"
MACHINE_USD_PER_HOUR = "0.085"
DAY_USD = "5.00"
MAX_TOKENS = 256
PRACTICE_QUESTIONS = 270
PRACTICE_SEED = 1
TRIALS = 30
CONCURRENCY = 4
ROUND = 6
SECONDS = 220.0

POOLS = {
    False: {"small": "qwen2.5-coder-0.5b", "large": "qwen2.5-coder-1.5b"},
    True: {"tiny": "smollm2-135m"},
}
"""Embedded models by shown name, the cheaper first; True is the light pool."""

SIMULATED = {"sim-small": (0.10, 0.40), "sim-medium": (0.50, 2.00), "sim-large": (2.00, 8.00)}
"""Simulated models with made-up prices, USD per million input and output tokens."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a demo runs: its folder, its configuration, and whether its models are simulated."""

    home: Path
    config: Config
    simulated: bool

    @property
    def label(self) -> str:
        """What every table of simulated models says."""
        return " (SIMULATED models: no language model ran)" if self.simulated else ""


def demo(
    light: Annotated[
        bool, typer.Option("--light", help="Only the smallest model (98 MB).")
    ] = False,
    simulated: Annotated[
        bool, typer.Option("--simulated", help="Simulated models: nothing is fetched.")
    ] = False,
    questions: Annotated[
        int, typer.Option(min=1, help="Ask at most so many fresh questions of each.")
    ] = 90,
    seconds: Annotated[
        float, typer.Option(min=1.0, help="Stop asking after about so many seconds.")
    ] = SECONDS,
    seed: Annotated[int, typer.Option(help="Another seed asks other questions.")] = 2026,
    home: Annotated[Path, typer.Option(help="Where ledger and policy are kept.")] = Path(
        ".rheostat/demo"
    ),
) -> None:
    """Run the main job on embedded models: learn, route, answer, pay, record, compare."""
    with errors_shown():
        stage = _stage(home, light=light, simulated=simulated)
        fitted = _learn(stage)
        asked = _fresh_questions(questions, seed)
        contestants = _contestants(stage, fitted)
        results, since = _ask(stage, contestants, asked, seconds)
        screen = console()
        screen.print(f"\n[bold]4. What it bought[/]{stage.label}")
        show_results(screen, results, CONCURRENCY)
        screen.print(f"\n[bold]Which arm for which difficulty[/]{stage.label}")
        show_routing(screen, results[-1])
        _show_ledger(stage, results, since)


def _stage(home: Path, *, light: bool, simulated: bool) -> Stage:
    """Fetch the weights, or fall back to simulated models and say so; write the configuration."""
    from router.cli.models import fetch_with_progress
    from router.gateway.config import load

    screen = console()
    screen.print("[bold]1. Models[/]")
    pool = POOLS[light]
    if not simulated:
        try:
            fetch_with_progress(list(pool.values()))
        except RheostatError as error:
            screen.print(str(error), style="yellow", markup=False)
            simulated = True
    if simulated:
        screen.print(
            "Running on SIMULATED models: of known skill, over questions of known difficulty. "
            "Every figure below is theirs, not a language model's."
        )
    else:
        shown = ", ".join(f"{name} = {weights}" for name, weights in pool.items())
        screen.print(
            f"{shown}; in this process, on the CPU, at {MACHINE_USD_PER_HOUR} USD per machine-hour"
        )
    folder = home / ("simulated" if simulated else "light" if light else "embedded")
    folder.mkdir(parents=True, exist_ok=True)
    models = _simulated_models() if simulated else _embedded_models(pool)
    path = folder / CONFIG_FILE
    path.write_text(_configuration(folder / "ledger.db", models), encoding="utf-8")
    return Stage(folder, load(path), simulated)


def _embedded_models(pool: dict[str, str]) -> str:
    return "".join(
        f"  - {{name: {name}, model: local/{weights}}}\n" for name, weights in pool.items()
    )


def _simulated_models() -> str:
    return "".join(
        f"  - name: {name}\n    model: simulated/{name}\n    price: "
        f"{{input_usd_per_million_tokens: {read}, output_usd_per_million_tokens: {written}}}\n"
        for name, (read, written) in SIMULATED.items()
    )


def _configuration(ledger: Path, models: str) -> str:
    url = json.dumps(f"sqlite:///{ledger.absolute()}".replace("$", "$$"), ensure_ascii=False)
    return (
        "# Written by `rheostat demo`, again at each run.\n"
        f"ledger: {url}\n"
        f"machine: {{usd_per_hour: {MACHINE_USD_PER_HOUR}}}\n"
        f"models:\n{models}"
        f"strategies: {STRATEGIES}\n"
        f"budgets:\n  - {{scope: organisation, limit_usd: {DAY_USD}, period: day}}\n"
        f"default_max_tokens: {MAX_TOKENS}\n"
        "auth: {mode: open}\n"
    )


def _learn(stage: Stage) -> FittedPolicy:
    """Fit estimator and policy on practice outcomes and put them in service."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from policies.training import Training
    from router.cli.build import assemble, open_ledger, utc_now
    from router.jobs.practice import fit_into_service, practised

    screen = console()
    screen.print(f"\n[bold]2. Learn[/]{stage.label}")
    path = _practice_outcomes(stage)
    table = practised(path, assemble(stage.config).arms)
    screen.print(
        f"{len(table):,} graded answers of {len(table.arms)} arms to {len(table.queries)} "
        f"questions ({'made just now' if stage.simulated else 'shipped, remakeable'})"
    )
    training = Training(trials=TRIALS, epsilon=stage.config.exploration)
    ledger = open_ledger(stage.config)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    try:
        with Progress(*columns, console=screen, transient=True) as bars:
            bar = bars.add_task("tuning", total=training.trials)
            fitted, is_new = fit_into_service(
                ledger,
                table,
                training,
                utc_now(),
                lambda done, _total, _loss: bars.update(bar, completed=done),
            )
    finally:
        ledger.close()
    metrics = fitted.manifest["metrics"]
    score = metrics["calibration"]
    screen.print(
        f"policy {fitted.version}, {'fitted now' if is_new else 'as fitted before'}: predicts a "
        f"right answer with AUC {score['auc']:.2f}, calibration error {score['ece']:.3f} "
        "(cross-validated)"
    )
    return fitted


def _practice_outcomes(stage: Stage) -> Path:
    from router.jobs.practice import shipped_outcomes

    if not stage.simulated:
        return shipped_outcomes()
    from router.cli.build import load_catalog
    from router.cli.collect import collect_with_progress
    from router.jobs.collect import CollectSettings
    from router.questions.registry import generate

    path = stage.home / "outcomes.jsonl"
    asked = generate(PRACTICE_QUESTIONS, PRACTICE_SEED)

    async def run() -> None:
        async with load_catalog(stage.config, asked) as catalog:
            settings = CollectSettings(output=path, max_tokens=MAX_TOKENS)
            await collect_with_progress(catalog, asked, catalog.arms, settings)

    asyncio.run(run())
    return path


def _fresh_questions(n: int, seed: int) -> list[Question]:
    """Make questions that were not practised on, every family in each round."""
    from router.questions.registry import generate

    practised = {question.text for question in generate(PRACTICE_QUESTIONS, PRACTICE_SEED)}
    made = [q for q in generate(n + PRACTICE_QUESTIONS, seed) if q.text not in practised]
    by_family: dict[str, list[Question]] = {}
    for question in made:
        by_family.setdefault(question.family, []).append(question)
    longest = max(map(len, by_family.values()))
    dealt = [held[i] for i in range(longest) for held in by_family.values() if i < len(held)]
    return dealt[:n]


def _contestants(stage: Stage, fitted: FittedPolicy) -> list[Contestant]:
    """Say who is compared: each end of the pool asked once, the best fixed arm, and routing."""
    from router.jobs.comparison import Contestant

    names = [model.name for model in stage.config.models]
    best = fitted.policy.safe_arm
    ends = [("always small", names[0]), ("always large", names[-1])]
    if len(names) == 1:
        ends = [("asked once", names[0])]
    fixed = [Contestant(label, name, "direct") for label, name in ends]
    if (best.model, best.strategy) not in {(c.model, c.strategy) for c in fixed}:
        fixed.append(Contestant("best fixed", best.model, best.strategy))
    return [*fixed, Contestant("routed", "auto")]


def _ask(
    stage: Stage, contestants: Sequence[Contestant], asked: Sequence[Question], seconds: float
) -> tuple[tuple[Result, ...], str]:
    """Ask everybody through a running gateway with the OpenAI client."""
    from openai import APIError

    from router.cli.build import build_app, utc_now
    from router.gateway.background import serving

    screen = console()
    screen.print(f"\n[bold]3. Serve and ask[/]{stage.label}")
    failures: list[RheostatError] = []
    app = build_app(stage.config, asked if stage.simulated else (), on_failure=failures.append)
    since = f"{utc_now():%Y-%m-%dT%H:%M:%SZ}"
    with ExitStack() as stack:
        try:
            with screen.status("loading the models and measuring their speed"):
                base_url = stack.enter_context(serving(app))
        except RuntimeError:
            if failures:
                raise failures[0] from None
            raise
        screen.print(
            f"gateway on {base_url}/v1; fresh questions, asked with the OpenAI Python client, "
            f"for about {seconds:.0f} s",
            soft_wrap=True,
        )
        try:
            return asyncio.run(_compare(base_url, contestants, asked, seconds)), since
        except APIError as error:
            fail(f"the gateway refused a question: {error.message}")


async def _compare(
    base_url: str, contestants: Sequence[Contestant], asked: Sequence[Question], seconds: float
) -> tuple[Result, ...]:
    from openai import AsyncOpenAI
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from router.jobs.comparison import compare

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TextColumn("{task.completed:.0f} answered, {task.fields[right]} right"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console(), transient=True) as bars:
        tasks = {c.label: bars.add_task(c.label, total=len(asked), right=0) for c in contestants}
        right = dict.fromkeys(tasks, 0)

        def progress(contestant: Contestant, graded: Graded) -> None:
            right[contestant.label] += graded.correct
            bars.update(tasks[contestant.label], advance=1, right=right[contestant.label])

        async with AsyncOpenAI(
            base_url=f"{base_url}/v1", api_key="unused", max_retries=0, timeout=600
        ) as client:
            return await compare(
                client,
                contestants,
                asked,
                round_size=ROUND,
                seconds=seconds,
                concurrency=CONCURRENCY,
                progress=progress,
            )


def _show_ledger(stage: Stage, results: Sequence[Result], since: str) -> None:
    from cost_models.money import format_usd
    from router.cli.build import open_ledger
    from router.cli.report import PLACES
    from storage.reports import totals

    screen = console()
    screen.print(f"\n[bold]5. The ledger[/]{stage.label}")
    ledger = open_ledger(stage.config)
    try:
        whole = ledger.read(totals)
        findings = ledger.examine()
    finally:
        ledger.close()
    told = sum(result.cost_usd for result in results)
    screen.print(
        f"{stage.home / 'ledger.db'}: {whole.n_requests:,} requests, {whole.n_calls:,} calls, "
        f"{format_usd(whole.cost_nano_usd, PLACES)} in all, ${told:.9f} in this run",
        markup=False,
        soft_wrap=True,
    )
    wrong = "; ".join(map(str, findings))
    screen.print(f"checked: {wrong or 'every counter equals the sum of its rows'}", markup=False)
    config = stage.home / CONFIG_FILE
    screen.print("\n[bold]Try next[/]")
    for command in (
        f"rheostat report --config {config} --since {since}",
        f'rheostat plan "What is 34 + 57 * 2?" --kind number --config {config}',
        f"rheostat serve --config {config}",
    ):
        screen.print(f"  .venv/bin/{command}", markup=False, soft_wrap=True)
