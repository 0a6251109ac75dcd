"""A user's own check, announced by an installed package."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from router.errors import StrategyConfigError
from router.types import Answer, Message, Task
from router.verifiers.registry import parse_verifier

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio
TASK = Task((Message("user", "How long?"),))
CODE = """
import time

def short(question, answer):
    assert question == "How long?"
    return len(answer) < 4

def unsure(question, answer):
    return None

def odd(question, answer):
    return 7

def broken(question, answer):
    raise KeyError("x")

def slow(question, answer):
    time.sleep(0.3)
    return True

NOT_A_FUNCTION = 3
"""
POINTS = "".join(
    f"{name} = checks_of_a_user:{attribute}\n"
    for name, attribute in {
        **{name: name for name in ("short", "unsure", "odd", "broken", "slow")},
        "constant": "NOT_A_FUNCTION",
        "missing": "not_there",
    }.items()
)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a package with entry points where Python finds packages."""
    (tmp_path / "checks_of_a_user.py").write_text(CODE, "utf-8")
    info = tmp_path / "checks_of_a_user-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: checks-of-a-user\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[rheostat.verifiers]\n{POINTS}")
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("entry", "answer", "wanted"),
    [
        ("short", "yes", 1.0),
        ("short", "a long answer", 0.0),
        ("unsure", "yes", None),
        ("odd", "yes", None),
        ("broken", "yes", None),
    ],
)
async def test_it_judges_and_a_broken_one_cannot_say(
    entry: str, answer: str, wanted: float | None
) -> None:
    """Bool or quality; None, a value out of range and an exception decide nothing."""
    verdict = await parse_verifier({"predicate": {"entry": entry}}).verify(TASK, Answer(answer))
    assert verdict.quality == wanted
    assert entry in verdict.reason


@pytest.mark.usefixtures("installed")
async def test_a_slow_one_cannot_say() -> None:
    """Its time is bounded."""
    verifier = parse_verifier({"predicate": {"entry": "slow", "timeout_s": 0.05}})
    verdict = await verifier.verify(TASK, Answer("yes"))
    assert verdict.quality is None
    assert "0.05 s" in verdict.reason


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("shirt", "did you mean 'short'"),
        ("constant", "names int, no function"),
        ("missing", "cannot be loaded"),
    ],
)
def test_one_that_cannot_be_called_is_refused_at_start(entry: str, problem: str) -> None:
    """Only what an installed package announces can be named."""
    with pytest.raises(StrategyConfigError, match=problem):
        parse_verifier({"predicate": {"entry": entry}})
