"""Strategies by name: reading them from a configuration, and saying what is wrong."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from typing import TYPE_CHECKING

import pytest

from router.errors import StrategyConfigError
from router.sandbox.monty import installed
from router.strategies.few_shot import FewShot
from router.strategies.registry import STRATEGIES, parse_strategy
from router.strategies.self_consistency import SelfConsistency

if TYPE_CHECKING:
    from pathlib import Path


def test_the_registry_knows_each_strategy_by_its_name() -> None:
    """The names are what configurations and ledgers hold, so they never change."""
    assert list(STRATEGIES) == [
        "direct",
        "cot",
        "few_shot",
        "self_consistency",
        "vote",
        "weighted_self_consistency",
        "universal_self_consistency",
        "sample_aggregation",
        "trained_aggregation",
        "best_of_n",
        "weighted_best_of_n",
        "beam_search",
        "diverse_tree_search",
        "tree_of_thoughts",
        "revision",
        "program_aided",
        "long_thought",
        "budget_forcing",
    ]
    for name, strategy in STRATEGIES.items():
        assert strategy.name == name
        if name != "program_aided" or installed():
            assert strategy() == parse_strategy(name)


def test_a_strategy_without_its_optional_install_says_what_to_install() -> None:
    """When it is made; shown by an interpreter that no longer finds what is installed."""
    code = (
        "import sys\n"
        "from router.errors import StrategyConfigError\n"
        "from router.strategies.registry import parse_strategy\n"
        "sys.path[:] = [p for p in sys.path if not p.endswith('site-packages')]\n"
        "sys.path_importer_cache.clear()\n"
        "try:\n"
        "    parse_strategy('program_aided')\n"
        "except StrategyConfigError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(  # noqa: S603 - this interpreter, with fixed code
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert "rheostat[sandbox]" in done.stdout


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("cot", "cot"),
        ("direct()", "direct"),
        ({"cot": {}}, "cot"),
        ("self_consistency", "self_consistency(samples=5)"),
        ({"self_consistency": {"samples": 5}}, "self_consistency(samples=5)"),
        ({"self_consistency": {"samples": 8, "temperature": 0.7}}, "self_consistency(samples=8)"),
        (
            "self_consistency( samples = 8, stop_at=1.0 )",
            "self_consistency(samples=8, stop_at=1.0)",
        ),
        ({"self_consistency": {"temperature": 1}}, "self_consistency(samples=5, temperature=1.0)"),
        ("few_shot", "few_shot(n_exemplars=3)"),
        ("vote", "vote(cot,samples=5)"),
        ("vote(of='direct()', samples=5, batch=2)", "vote(direct,samples=5,batch=2)"),
        (
            {"vote": {"of": {"few_shot": {}}, "stop_at": 0.9}},
            "vote(few_shot(n_exemplars=3),samples=5,stop_at=0.9)",
        ),
    ],
)
def test_every_form_gives_the_canonical_text(value: object, text: str) -> None:
    """Defaults are left out, except the parameters that are always shown."""
    assert str(parse_strategy(value)) == text


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("self_consistancy", "did you mean 'self_consistency'"),
        ("magic", "known: beam_search, best_of_n, budget_forcing, cot, direct,"),
        ({"self_consistency": {"sampels": 5}}, "did you mean 'samples'"),
        ({"cot": {"samples": 5}}, "it takes none"),
        ({"self_consistency": {"samples": 1}}, r"samples must be in \[2, 128\], got 1"),
        ({"self_consistency": {"samples": "five"}}, "samples must be a whole number, got 'five'"),
        ({"self_consistency": {"samples": 5.0}}, "whole number"),
        ({"self_consistency": {"samples": True}}, "whole number"),
        ({"self_consistency": {"stop_at": 0.5}}, r"stop_at must be in \(0.5, 1\], got 0.5"),
        ({"self_consistency": {"temperature": 0}}, r"temperature must be in \(0, 2\]"),
        ({"self_consistency": {"temperature": float("nan")}}, "temperature must be in"),
        ({"self_consistency": {"batch": 0}}, "batch must be in"),
        ({"self_consistency": 5}, "parameter: value"),
        ({"few_shot": {"file": 3}}, "file must be text"),
        ({"cot": {}, "direct": {}}, "one name"),
        (["cot"], "one name"),
        (None, "one name"),
        ("", "does not name a strategy"),
        ("cot(", "does not name a strategy"),
        ("cot(5)", "does not name a strategy"),
        ("cot(direct)", "no parameter of cot 'of'; it takes none"),
        ("vote(vote(cot,samples=3))", "drawn of direct, cot or few_shot"),
        ("vote(kot)", "did you mean 'cot'"),
        ("vote(cot, direct)", "does not name a strategy"),
        ("self_consistency(**{'samples': 5})", "does not name a strategy"),
        ("self_consistency(samples=__import__('os').getpid())", "does not name a strategy"),
        ("(" * 5000, "does not name a strategy"),
    ],
)
def test_what_is_wrong_is_said(value: object, said: str) -> None:
    """The nearest name, the parameter, its range; always at start."""
    with pytest.raises(StrategyConfigError, match=said):
        parse_strategy(value)


def test_a_parameter_cannot_break_an_arms_text(tmp_path: Path) -> None:
    """The separator of an arm is refused in a file name."""
    path = tmp_path / "a|b.yaml"
    path.write_text(
        '[{"kind": "number", "question": "1+1?", "reasoning": "Count.", "answer": "2"}]'
    )
    with pytest.raises(StrategyConfigError, match="must not contain"):
        parse_strategy({"few_shot": {"file": str(path)}})


def test_every_parameter_has_a_plain_default() -> None:
    """Listings show it, and a strategy can be named without parameters."""
    for kind in (SelfConsistency, FewShot):
        for parameter in fields(kind):
            assert isinstance(parameter.default, int | float | str)
