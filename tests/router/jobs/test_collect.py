"""Collecting outcomes: every arm over every question, graded, resumable, the same for a seed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from parts import N_WORDS, OUTPUT_NANO_USD, PRICE, PROMPT_NANO_USD, TEXT, catalog, scripted

from policies.errors import OutcomeError
from policies.outcomes import read_outcomes
from policies.types import AnswerKind
from router.errors import ProviderError
from router.jobs.collect import CollectSettings, collect
from router.providers.openai_compatible import OpenAICompatibleProvider
from router.providers.simulated import build_simulated
from router.questions.base import Question
from router.questions.registry import generate
from router.routing.catalog import Model

if TYPE_CHECKING:
    from pathlib import Path

    from upstream import Upstream

    from cost_models.types import Arm
    from router.providers.scripted import Reply
    from router.routing.catalog import Catalog
    from router.types import SampleRequest

pytestmark = pytest.mark.anyio

QUESTIONS = generate(6, seed=1, families=["add", "countdown", "letters"])


def own(name: str, text: str = TEXT, kind: AnswerKind = AnswerKind.NUMBER) -> Question:
    """Give a question whose answer is 4, or four."""
    gold = "4" if kind is AnswerKind.NUMBER else "It is four"
    return Question(name, "own", 1, text, gold, kind, 0.5)


def simulated() -> Catalog:
    """Give two simulated models and a vote among the strategies."""
    models = [Model(n, build_simulated(n, n, QUESTIONS), PRICE) for n in ("small", "large")]
    return catalog(*models, strategies=("direct", "self_consistency(samples=5)"))


def read(path: Path) -> list[dict[str, Any]]:
    """Read the rows of an output, in the order of question and arm."""
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return sorted(rows, key=lambda row: (row["query_id"], row["model"], row["strategy"]))


def timeless(path: Path) -> list[dict[str, Any]]:
    """Read the rows without what a clock decides."""
    return [{k: v for k, v in row.items() if k != "latency_s"} for row in read(path)]


async def run(
    found: Catalog,
    output: Path,
    questions: list[Question] = QUESTIONS,
    arms: tuple[Arm, ...] | None = None,
    **settings: int,
) -> int:
    """Collect without anybody looking."""
    chosen = found.arms if arms is None else arms
    wanted = CollectSettings(output, **settings)
    return await collect(found, questions, chosen, wanted, lambda _arm, _done, _total: None)


async def test_every_arm_answers_every_question_once(tmp_path: Path) -> None:
    """The rows are an outcomes table as they are; progress counts up for each arm."""
    output = tmp_path / "outcomes.jsonl"
    told: list[tuple[Arm, int, int]] = []
    found = simulated()
    n_run = await collect(
        found, QUESTIONS, found.arms, CollectSettings(output), lambda *done: told.append(done)
    )
    assert n_run == 24
    assert told == [(arm, done, 6) for arm in found.arms for done in range(1, 7)]
    table = read_outcomes(output)
    assert (len(table), set(table.arms)) == (24, set(found.arms))
    assert set(table.query_ids) == {question.question_id for question in QUESTIONS}
    assert await run(found, output) == 0
    assert len(read(output)) == 24


async def test_the_same_seed_collects_the_same_rows(tmp_path: Path) -> None:
    """At whatever concurrency; another seed draws other samples."""
    one, two, other = (tmp_path / f"{name}.jsonl" for name in ("one", "two", "other"))
    await run(simulated(), one, seed=5, concurrency=1)
    await run(simulated(), two, seed=5, concurrency=6)
    await run(simulated(), other, seed=6)
    assert timeless(one) == timeless(two)
    assert timeless(one) != timeless(other)


async def test_a_run_goes_on_after_a_torn_last_line(tmp_path: Path) -> None:
    """What a crash left half-written is asked again, and nothing else."""
    whole, torn = tmp_path / "whole.jsonl", tmp_path / "torn.jsonl"
    await run(simulated(), whole, concurrency=1)
    lines = whole.read_bytes().splitlines(keepends=True)
    for kept in (b'{"query_id":"ad', lines[10][:-1][:-5], lines[10][:1]):
        torn.write_bytes(b"".join(lines[:10]) + kept)
        assert await run(simulated(), torn, concurrency=1) == 14
        assert timeless(torn) == timeless(whole)


async def test_a_whole_last_line_without_its_line_break_is_kept(tmp_path: Path) -> None:
    """It was paid for; the next row begins on a line of its own."""
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    await run(simulated(), whole, concurrency=1)
    lines = whole.read_bytes().splitlines(keepends=True)
    cut.write_bytes(b"".join(lines[:10])[:-1])
    assert await run(simulated(), cut, concurrency=1) == 14
    assert timeless(cut) == timeless(whole)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"my diary, of one line", id="no line break"),
        pytest.param(b"dear diary,\nI", id="two lines"),
        pytest.param(b'{"name": "a row of something else"}\n', id="other rows"),
        pytest.param(b"[1, 2]\n", id="no object"),
        pytest.param(b"\xff\xfe\n", id="bytes"),
    ],
)
async def test_a_file_that_is_not_an_output_is_left_as_it_is(
    tmp_path: Path, content: bytes
) -> None:
    """Neither cut nor appended to: the error names the file and its row."""
    diary = tmp_path / "diary.txt"
    diary.write_bytes(content)
    with pytest.raises(OutcomeError, match=r"diary\.txt, row 1"):
        await run(simulated(), diary)
    assert diary.read_bytes() == content


async def test_answers_are_graded_by_their_kind(tmp_path: Path) -> None:
    """A number by its value, free text by its words; free text has no canonical answer."""
    texts = {"right": "It is 4.0", "wrong": "It is 5"}

    def script(request: SampleRequest, _i: int) -> str:
        asked = request.messages[-1].text
        return next((text for name, text in texts.items() if name in asked), "it is  FOUR")

    questions = [
        own("right", "right?"),
        own("wrong", "wrong?"),
        own("free", "free?", AnswerKind.TEXT),
        own("other", "wrong, free?", AnswerKind.TEXT),
    ]
    await run(catalog(scripted("small", script)), tmp_path / "o.jsonl", questions)
    rows = {row["query_id"]: row for row in read(tmp_path / "o.jsonl")}
    assert {name: row["correct"] for name, row in rows.items()} == {
        "right": 1,
        "wrong": 0,
        "free": 1,
        "other": 0,
    }
    assert (rows["right"]["answer"], rows["free"]["answer"]) == ("4", None)
    assert (rows["right"]["gold"], rows["right"]["kind"]) == ("4", "number")


async def test_a_row_costs_what_was_metered(tmp_path: Path) -> None:
    """Six words, the hint of the kind, and the answer's one word, at the price of the model."""
    model = scripted("small")
    await run(catalog(model), tmp_path / "o.jsonl", [own("q", kind=AnswerKind.TEXT)])
    (row,) = read(tmp_path / "o.jsonl")
    assert (row["prompt_tokens"], row["completion_tokens"]) == (N_WORDS, 1)
    assert row["cost_usd"] == (N_WORDS * PROMPT_NANO_USD + OUTPUT_NANO_USD) / 1e9
    assert (row["n_samples"], row["machine_s"]) == (1, 0.0)


async def test_a_vote_is_one_row_of_all_its_samples(tmp_path: Path) -> None:
    """Cost and tokens are sums over every call."""
    vote = catalog(
        scripted("small", lambda _r, _i: "Answer: 4"),
        strategies=("self_consistency(samples=5, stop_at=1.0)",),
    )
    await run(vote, tmp_path / "o.jsonl", [own("q")])
    (row,) = read(tmp_path / "o.jsonl")
    assert (row["n_samples"], row["confidence"], row["completion_tokens"]) == (5, 1.0, 10)
    spent = row["prompt_tokens"] * PROMPT_NANO_USD + 10 * OUTPUT_NANO_USD
    assert row["cost_usd"] == spent / 1e9


async def test_an_upstream_error_ends_the_run_and_keeps_what_was_written(
    tmp_path: Path,
) -> None:
    """The next run asks the rest alone."""
    replies: list[Reply | str | ProviderError] = ["4", "5", ProviderError("small", "it is gone")]
    questions = [own(f"q{i}") for i in range(5)]
    output = tmp_path / "o.jsonl"
    with pytest.raises(ProviderError, match="it is gone"):
        await run(catalog(scripted("small", replies)), output, questions, concurrency=1)
    assert [row["query_id"] for row in read(output)] == ["q0", "q1"]
    assert await run(catalog(scripted("small")), output, questions) == 3
    assert [row["query_id"] for row in read(output)] == [f"q{i}" for i in range(5)]


async def test_no_more_questions_are_asked_at_once_than_wanted(
    tmp_path: Path, upstream: Upstream
) -> None:
    """A model on this machine has only so many slots."""
    upstream.default = upstream.Served(("4",), delay_s=0.02)
    provider = OpenAICompatibleProvider("small", "some-model", upstream.base_url)
    questions = [own(f"q{i}") for i in range(9)]
    found = catalog(Model("small", provider, PRICE))
    assert await run(found, tmp_path / "o.jsonl", questions, concurrency=3) == 9
    assert upstream.peak_in_flight == 3
    await provider.aclose()
