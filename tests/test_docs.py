"""The documentation says what the code has: commands, strategies, configuration keys, models."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import typer

from router.cli.main import app
from router.gateway.compute import Compute
from router.gateway.config import Config
from router.gateway.config_parts import (
    AlertsConfig,
    AuthConfig,
    BudgetConfig,
    CacheConfig,
    EmbeddingConfig,
    ModelConfig,
    PacingConfig,
    PriceChangeConfig,
    PriceConfig,
    TelemetryConfig,
    ThroughputConfig,
)
from router.gateway.handlers import FORMS, HTTP_CODES
from router.gateway.strict import CODES
from router.providers.weights import manifest
from router.strategies.registry import STRATEGIES

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def page(name: str) -> str:
    """Read one page's source."""
    return (DOCS / f"{name}.md").read_text("utf-8")


def commands() -> list[str]:
    """Every command as it is typed, such as ``rheostat models fetch``."""

    def walk(command: object, typed: str) -> list[str]:
        below = getattr(command, "commands", None)
        if below is None:
            return [typed]
        return [full for name, sub in below.items() for full in walk(sub, f"{typed} {name}")]

    return walk(typer.main.get_command(app), "rheostat")


@pytest.mark.parametrize("command", commands())
def test_every_command_is_described(command: str) -> None:
    """A command has its own heading on the page about the command line."""
    assert re.search(rf"^##+ `{re.escape(command)}[` ]", page("cli"), re.MULTILINE)


@pytest.mark.parametrize("typed", commands())
def test_every_option_is_described_with_its_command(typed: str) -> None:
    """The section of a command names each of its options and arguments, and no other option."""
    command = typer.main.get_command(app)
    for name in typed.split()[1:]:
        command = command.commands[name]
    section = page("cli").partition(f"## `{typed}`")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    told = {name for row in rows for name in re.findall(r"`(-[\w-]+|[A-Z]+)[ `]", row)}
    known = {
        name
        for parameter in command.params
        for name in (
            parameter.opts
            if parameter.param_type_name == "option"
            else [str(parameter.name).upper()]
        )
    }
    assert told == known - {"--help"}


def headed(text: str, heading: str) -> str:
    """Give the part of a page under a heading, up to the next one of its level."""
    return text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize(
    ("shape", "heading"),
    [
        (Config, "The file"),
        (ModelConfig, "Models"),
        (EmbeddingConfig, "Models"),
        (PriceConfig, "Models"),
        (PriceChangeConfig, "Models"),
        (ThroughputConfig, "Models"),
        (BudgetConfig, "Budgets"),
        (AlertsConfig, "Budgets"),
        (PacingConfig, "Budgets"),
        (CacheConfig, "Cache"),
        (TelemetryConfig, "Telemetry"),
        (AuthConfig, "Keys"),
        (Compute, "What a request may ask for"),
    ],
)
def test_every_key_is_described(shape: type, heading: str) -> None:
    """Keys of the configuration, and what a request may ask for, are where a reader looks."""
    text = headed(page("configuration"), heading)
    for key in shape.model_fields:
        assert re.search(rf"`{key}[`:]|\b{key}: ", text), key


def test_every_error_code_is_described() -> None:
    """What a client can be told is in the table of errors."""
    table = headed(page("configuration"), "Errors")
    codes = {form.code for form in FORMS.values()} | set(CODES.values()) | set(HTTP_CODES.values())
    for source in (ROOT / "router").rglob("*.py"):
        codes |= set(re.findall(r'code="(\w+)"', source.read_text("utf-8")))
    assert codes - set(re.findall(r"`(\w+)`", table)) == set()


def test_every_parameter_of_a_strategy_is_described() -> None:
    """The table of parameters has each with its default."""
    text = page("strategies")
    for name, strategy in STRATEGIES.items():
        for parameter in fields(strategy):
            nothing = "the shipped ones" if name == "few_shot" else "none"
            shown = nothing if parameter.default == "" else parameter.default
            assert f"| `{name}`: `{parameter.name}` | {shown} |" in text


@pytest.mark.parametrize(
    "path", [*sorted(DOCS.glob("*.md")), ROOT / "README.md"], ids=lambda p: p.name
)
def test_what_examples_import_is_there(path: Path) -> None:
    """Python in the documentation is valid, and every name that it imports exists."""
    for block in re.findall(r"```python\n(.*?)```", path.read_text("utf-8"), re.DOTALL):
        for line in ast.walk(ast.parse(block)):
            if isinstance(line, ast.ImportFrom):
                module = importlib.import_module(str(line.module))
                for name in line.names:
                    assert hasattr(module, name.name), f"{line.module}.{name.name}"


def test_every_strategy_is_described_with_its_source() -> None:
    """A registered strategy has its row, and its paper's identifier is there too."""
    text = page("strategies")
    for name, strategy in STRATEGIES.items():
        assert f"`{name}`" in text
        for paper in re.findall(r"\d{4}\.\d{5}", strategy.source):
            assert paper in text, f"{name}: arXiv:{paper}"


def test_every_embedded_model_is_described() -> None:
    """Name and model of all weights that can be fetched are on the page."""
    text = page("local-models")
    for name, weights in manifest().items():
        assert f"`local/{name}`" in text
        assert weights.upstream in text


def test_every_error_page_link_and_anchor_resolves_and_nothing_is_loaded_from_elsewhere(
    tmp_path: Path,
) -> None:
    """The site builds without a warning, and no page loads a script, style, font or image."""
    done = subprocess.run(  # noqa: S603 - this interpreter, with fixed arguments
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "-d", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loads = re.compile(r"<(?:script|img|iframe)[^>]+src=\"?(?:https?:)?//|url\((?:https?:)?//")
    styles = re.compile(r"<link[^>]+rel=\"?(?:stylesheet|preconnect|icon)[^>]+href=\"?https?://")
    for html in tmp_path.rglob("*.html"):
        text = html.read_text("utf-8")
        assert not loads.search(text), html.name
        assert not styles.search(text), html.name
