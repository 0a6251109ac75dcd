"""Recorded searches: written by our own, read back, replayed exactly."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from cost_models.pricing import Price
from policies.types import AnswerKind
from router.cli.main import app
from router.jobs.replay import replay
from router.providers.metered import Allowance, Meter
from router.providers.scripted import ScriptedProvider
from router.strategies.calls import Seeded
from router.strategies.tree_calls import Growth, ModelGenerator, ValueEvaluator
from router.trees.game24 import Game24
from router.trees.recorded import RecordedPuzzle, RecordingError, by_parent, read_log, to_log
from router.trees.search import CachedEvaluator, Greedy, Level, Searched, breadth_first
from router.types import Message, Task

if TYPE_CHECKING:
    from pathlib import Path

    from router.types import SampleRequest

PUZZLES = ("4 9 10 13", "1 1 4 6", "6 6 6 6", "1 1 1 1", "2 3 4 6")


def player(request: SampleRequest, i: int) -> str:
    """Propose joining neighbours; judge by a rule of thumb that is often wrong."""
    said = request.messages[-1].text
    left = re.search(r"Numbers left: ([^\n]+)", said)
    numbers = left[1].split() if left else []
    if "Can these numbers reach" in said:
        return ("sure", "likely", "impossible")[(sum(map(len, numbers)) + i) % 3]
    lines = []
    for at, (a, b) in enumerate(pairwise(numbers)):
        sign = "*+-"[(at + len(numbers)) % 3]
        if a.isdigit() and b.isdigit():
            value = {"*": int(a) * int(b), "+": int(a) + int(b), "-": int(a) - int(b)}[sign]
            lines.append(f"{a} {sign} {b} = {value}")
            lines.append(f"{a} * {b} = {int(a) * int(b)}")
    return "\n".join([*lines, *lines[:1]])


async def searched(puzzle: str, breadth: int = 5) -> Searched:
    """Let the scripted model search one puzzle."""
    game = Game24.posed(puzzle)
    task = Task((Message("user", puzzle),), AnswerKind.EXPRESSION, max_tokens=200, seed=0)
    growth = Growth(game, "propose", "value", 8, 3, 0.7, 64)
    sampler = Seeded(task, Meter(ScriptedProvider(player), Price(free=True), Allowance()))
    return await breadth_first(
        ModelGenerator(task, growth, sampler),
        CachedEvaluator(ValueEvaluator(task, growth, sampler), game.key),
        depth=game.depth,
        selector=Greedy(breadth),
    )


def made_log() -> list[dict[str, Any]]:
    """Make a log of every puzzle in the recorded form."""
    entries = []
    for i, puzzle in enumerate(PUZZLES):
        found = anyio.run(searched, puzzle)
        solved = [Game24.posed(puzzle).solved(state) for state in found.states]
        entries.append(to_log(900 + i, puzzle, found, solved))
    return entries


def written(tmp_path: Path, entries: object) -> Path:
    """Write a log to a file."""
    file = tmp_path / "log.json"
    file.write_text(json.dumps(entries), "utf-8")
    return file


def test_a_log_of_our_own_search_replays_exactly(tmp_path: Path) -> None:
    """Path and success are those recorded, puzzle by puzzle, through the command line."""
    entries = made_log()
    file = written(tmp_path, entries)
    shown = CliRunner().invoke(app, ["replay", "tot", str(file), "--json"])
    assert shown.exit_code == 0, shown.output
    told = json.loads(shown.output)
    first = [bool(entry["infos"][0]["r"]) for entry in entries]
    anywhere = [any(info["r"] for info in entry["infos"]) for entry in entries]
    assert [puzzle["solved_first"] for puzzle in told["puzzles"]] == first
    assert [puzzle["solved_any"] for puzzle in told["puzzles"]] == anywhere
    assert (told["n"], told["solved_first"], told["solved_any"]) == (5, sum(first), sum(anywhere))
    assert told["same_path"] == 5
    assert told["rule_disagrees"] == 0
    assert told["calls"] == sum(puzzle["calls"] for puzzle in told["puzzles"])
    assert 0 < sum(anywhere) < 5
    steps = entries[0]["steps"]
    assert set(steps[0]) == {"step", "x", "ys", "new_ys", "values", "select_new_ys"}
    table = CliRunner().invoke(app, ["replay", "tot", str(file)])
    assert f"{sum(first)} of 5 solved" in table.output


def test_the_logs_own_grade_decides_and_a_disagreement_is_counted(tmp_path: Path) -> None:
    """Success is what was recorded, whatever the rule thinks of the state."""
    entries = made_log()
    for info in entries[0]["infos"]:
        info["r"] = 1 - info["r"]
    done = anyio.run(replay, read_log(written(tmp_path, entries)), 5)
    assert done.puzzles[0].solved_first is bool(entries[0]["infos"][0]["r"])
    assert done.puzzles[0].rule_disagrees == len(set(entries[0]["ys"]))


def test_a_smaller_breadth_follows_only_what_it_kept(tmp_path: Path) -> None:
    """Fewer calls; every state that it ends with grew from one that it kept."""
    log = read_log(written(tmp_path, made_log()))
    wide, narrow = (anyio.run(replay, log, breadth) for breadth in (5, 1))
    assert narrow.calls < wide.calls
    assert narrow.n_solved_any <= wide.n_solved_any


def test_answer_lines_of_the_papers_logs_are_graded_by_the_rule() -> None:
    """The last level of those logs adds a line with the whole expression."""
    game = Game24.posed("4 9 10 13")
    thoughts = "10 - 4 = 6 (left: 6 9 13)\n13 - 9 = 4 (left: 4 6)\n4 * 6 = 24 (left: 24)\n"
    assert game.solved(thoughts)
    assert game.answer(thoughts).endswith("Answer: (13 - 9) * (10 - 4) = 24")
    assert game.solved(f"{thoughts}Answer: (10 - 4) * (13 - 9) = 24\n")
    assert not game.solved(f"{thoughts}Answer: (10 - 4) * 4 = 24\n")
    assert not game.solved(thoughts.replace("13 - 9 = 4", "13 - 9 = 5"))
    assert not Game24(None).solved(thoughts)


def test_candidates_are_given_to_the_state_that_they_begin_with() -> None:
    """In order; equal states share out what follows the first of them."""
    level = Level(1, ("a\n", "b\n", "a\n"), ("a\nx", "a\ny", "b\nx", "a\nz"), (1, 1, 1, 1), ())
    assert by_parent(level) == [["a\nx", "a\ny"], ["b\nx"], ["a\nz"]]


levels = st.lists(
    st.tuples(st.text("ab", max_size=2), st.sampled_from([0.0, 0.001, 1.0, 20.0, 60.0])),
    min_size=1,
    max_size=9,
)


@given(rows=levels, breadth=st.integers(1, 5))
@settings(deadline=None)
def test_any_recorded_level_is_selected_as_the_papers_code_does(
    rows: list[tuple[str, float]], breadth: int
) -> None:
    """Positions sorted by value, stable, the first so many; repeated texts included."""
    texts, values = tuple(text for text, _ in rows), tuple(value for _, value in rows)
    ids = sorted(range(len(rows)), key=lambda i: values[i], reverse=True)[:breadth]
    kept = tuple(texts[i] for i in ids)
    level = Level(0, ("",), texts, values, kept)
    recorded = RecordedPuzzle("0", "1 2 3 4", (level,), kept, tuple(t == "a" for t in kept))
    (done,) = anyio.run(replay, [recorded], breadth).puzzles
    assert done.same_path
    assert done.solved_first == (kept[0] == "a")
    assert done.solved_any == ("a" in kept)


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        ({}, "a list of puzzles"),
        ([], "a list of puzzles"),
        ([{"ys": []}], "puzzle 0 needs steps"),
        ([{"steps": [], "ys": [], "infos": []}], "puzzle 0 needs steps"),
        (
            [
                {
                    "steps": [
                        {"x": "1", "ys": [""], "new_ys": ["a"], "values": [], "select_new_ys": []}
                    ],
                    "ys": [],
                    "infos": [],
                }
            ],
            "1 new_ys and 0 values",
        ),
        (
            [
                {
                    "steps": [
                        {"x": "1", "ys": [""], "new_ys": [], "values": [], "select_new_ys": []}
                    ],
                    "ys": ["a"],
                    "infos": [],
                }
            ],
            "1 final states and 0 infos",
        ),
    ],
)
def test_a_log_of_another_form_is_refused(tmp_path: Path, entries: object, problem: str) -> None:
    """The message names the puzzle and what it needs; the command exits with 1."""
    file = written(tmp_path, entries)
    with pytest.raises(RecordingError, match=re.escape(problem)):
        read_log(file)
    assert CliRunner().invoke(app, ["replay", "tot", str(file)]).exit_code == 1
    assert CliRunner().invoke(app, ["replay", "tot", str(tmp_path / "none")]).exit_code == 1


def drawn_log(kept: tuple[int, ...] = (2, 0, 2)) -> list[dict[str, Any]]:
    """Make a log whose states were drawn in proportion to their values, with repetition."""
    children = ["a\n", "b\n", "c\n"]
    selected = [children[i] for i in kept]
    grown = [f"{state}{end}\n" for state in selected for end in "xy"]
    final = [grown[i] for i in (5, 2, 2)]
    first = {"x": "1 2 3 4", "ys": [""], "new_ys": children, "values": [20.0, 1, 0.003]}
    last = {"x": "1 2 3 4", "ys": selected, "new_ys": grown, "values": [1] * 5 + [0.001]}
    return [
        {
            "steps": [
                {"step": 0, **first, "select_new_ys": selected},
                {"step": 1, **last, "select_new_ys": final},
            ],
            "idx": 900,
            "ys": final,
            "infos": [{"r": 0}, {"r": 1}, {"r": 1}],
            "usage_so_far": {"completion_tokens": 1, "prompt_tokens": 2, "cost": 0.1},
        }
    ]


def test_a_log_of_sampled_selection_is_followed_where_it_went(tmp_path: Path) -> None:
    """Its success is reproduced, and it is told that chance kept the states."""
    file = written(tmp_path, drawn_log())
    shown = CliRunner().invoke(app, ["replay", "tot", str(file), "--json"])
    told = json.loads(shown.output)
    (puzzle,) = told["puzzles"]
    assert (puzzle["solved_first"], puzzle["solved_any"], puzzle["same_path"]) == (
        False,
        True,
        True,
    )
    assert (told["breadth"], told["sampled"], puzzle["greedy"]) == (3, 1, False)


def test_the_breadth_is_that_of_the_log_unless_it_is_given(tmp_path: Path) -> None:
    """The logs of the creative writing task keep one state a level; another is kept greedily."""
    log = read_log(written(tmp_path, drawn_log()))
    assert anyio.run(replay, log).breadth == 3
    (alone,) = anyio.run(replay, log, 1).puzzles
    assert not alone.same_path
    assert alone.solved_first  # the best of the first level leads to another end


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"idx": 900, "ys": ["a"], "infos": [{"r": 0}], "usage_so_far": {}}, "a naive run"),
        ([{"total_step": 0, "actions": ["h1. tasks"], "info": {}}], "depth-first crosswords"),
        ("4 5 6 10", "is str, and not an object"),
        ({**drawn_log()[0], "ys": ["z\n"] * 3}, "ends with ys that its last step did not select"),
        (
            {"steps": [{**drawn_log()[0]["steps"][0], "select_new_ys": ["z"]}], "ys": []},
            "not among its new_ys",
        ),
        ({**drawn_log()[0], "infos": [{"r": None}] * 3}, "puzzle 0 needs steps"),
    ],
)
def test_the_other_logs_of_those_authors_are_told_by_their_kind(
    tmp_path: Path, entry: object, problem: str
) -> None:
    """Plain samples, depth-first crosswords, and logs that contradict themselves."""
    with pytest.raises(RecordingError, match=re.escape(problem)):
        read_log(written(tmp_path, [entry]))


def test_states_outside_the_log_are_graded_as_its_authors_do(tmp_path: Path) -> None:
    """By the expression of the last line alone: thoughts that come to 24 are no answer."""
    lines = ("10 - 4 = 6 (left: 6 9 13)\n", "13 - 9 = 4 (left: 4 6)\n", "4 * 6 = 24 (left: 24)\n")
    states = ["", lines[0], lines[0] + lines[1], "".join(lines)]
    ends = [f"{states[3]}\n", f"{states[3]}Answer: (10 - 4) * (13 - 9) = 24\n"]
    steps = [
        {"ys": [before], "new_ys": [after], "values": [1.0], "select_new_ys": [after]}
        for before, after in pairwise(states)
    ]
    steps.append(
        {"ys": states[3:], "new_ys": ends, "values": [60.0, 60.0], "select_new_ys": ends[:1]}
    )
    told = [{"step": i, "x": "4 9 10 13", **step} for i, step in enumerate(steps)]
    log = read_log(written(tmp_path, [{"steps": told, "ys": ends[:1], "infos": [{"r": 0}]}]))
    (own,) = anyio.run(replay, log).puzzles
    assert (own.solved_any, own.rule_disagrees) == (False, 0)
    (wider,) = anyio.run(replay, log, 2).puzzles
    assert (wider.solved_first, wider.solved_any) == (False, True)
