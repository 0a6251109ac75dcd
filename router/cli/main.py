"""The command ``rheostat``: one module per command, each loading what it needs when it runs."""

from __future__ import annotations

import typer

from router.cli.aggregator import fit_aggregator
from router.cli.alerts import alerts_app
from router.cli.ask import ask, plan
from router.cli.budget import budget_app
from router.cli.collect import collect, questions
from router.cli.config import config_app
from router.cli.demo import demo
from router.cli.doctor import doctor
from router.cli.evaluate import evaluate
from router.cli.export import export
from router.cli.fit import fit
from router.cli.importing import import_outcomes
from router.cli.init import init
from router.cli.keys import keys_app
from router.cli.models import models_app
from router.cli.policy import policy_app
from router.cli.prices import prices_app
from router.cli.reconcile import reconcile
from router.cli.replay import replay_app
from router.cli.report import report
from router.cli.reprice import reprice
from router.cli.retrain import retrain
from router.cli.serve import serve
from router.cli.simulate import simulate
from router.cli.strategies import strategies
from router.cli.trials import add_trials

app = typer.Typer(
    name="rheostat",
    help="Decide how much thinking each LLM request is worth, under a hard budget.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    rich_markup_mode=None,
)
app.command()(demo)
app.command()(init)
app.command()(serve)
app.command()(ask)
app.command()(plan)
app.command()(report)
app.command()(doctor)
app.command()(reprice)
app.command()(reconcile)
app.command()(questions)
app.command()(collect)
app.command()(fit)
app.command()(evaluate)
app.command("import")(import_outcomes)
app.command()(export)
app.command()(retrain)
app.command()(simulate)
app.command()(strategies)
app.add_typer(alerts_app, name="alerts")
app.add_typer(budget_app, name="budget")
app.command()(fit_aggregator)
app.add_typer(config_app, name="config")
app.add_typer(keys_app, name="keys")
app.add_typer(models_app, name="models")
app.add_typer(prices_app, name="prices")
app.add_typer(replay_app, name="replay")
add_trials(policy_app)
app.add_typer(policy_app, name="policy")


def main() -> None:
    """Run the command line."""
    app()
