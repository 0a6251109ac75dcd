"""The documentation says what the code has: commands, strategies, configuration keys, models."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from router.cli.main import app
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
