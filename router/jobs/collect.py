"""Run every arm over a question file, grade it, and append one row an answer: real outcomes.

The rows have the columns of an outcomes table (`policies.outcomes`). A run that was stopped goes
on where it was: rows that are there already are not asked again.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cost_models.estimates import NS_PER_S
from cost_models.money import to_usd
from policies.errors import OutcomeError
from router.providers.metered import Allowance, Meter
from router.questions.registry import grade
from router.types import Message, Task

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence
    from pathlib import Path

    from cost_models.types import Arm
    from router.questions.base import Question
    from router.routing.catalog import Catalog

Row = dict[str, Any]
Key = tuple[str, str, str]

ROW_START = b'{"query_id":'


@dataclass(frozen=True, slots=True)
class CollectSettings:
    """Rows go to ``output``; ``max_tokens`` caps a sample; ``concurrency`` questions at once."""

    output: Path
    max_tokens: int = 256
    concurrency: int = 4
    seed: int = 0


def task_for(question: Question, max_tokens: int, seed: int) -> Task:
    """Ask ``question`` as a client would: one user message, the answer kind declared."""
    return Task(
        messages=(Message("user", question.text),),
        answer_kind=question.kind,
        kind_is_declared=True,
        max_tokens=max_tokens,
        seed=seed,
    )


def done_keys(path: Path) -> set[Key]:
    """(query_id, model, strategy) of the rows in ``path``; a torn last line is cut off.

    Raises OutcomeError, with the file left as it is, if it holds anything but rows of such runs.
    """
    if not path.exists():
        return set()
    keys = set()
    n_whole, ending = 0, b"\n"
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            key = _key(line)
            if key is None and (line.endswith(b"\n") or not _is_torn(line)):
                msg = "this is no row that `collect` wrote; name another output"
                raise OutcomeError(str(path), msg, row=number)
            if key is not None:
                keys.add(key)
                n_whole += len(line)
                ending = line[-1:]
    with path.open("r+b") as file:
        file.truncate(n_whole)
        if ending != b"\n":
            file.seek(n_whole)
            file.write(b"\n")
    return keys


def _key(line: bytes) -> Key | None:
    """Name what a row is the outcome of; None for what is no whole row."""
    try:
        row = json.loads(line)
        return row["query_id"], row["model"], row["strategy"]
    except (ValueError, TypeError, KeyError):
        return None


def _is_torn(line: bytes) -> bool:
    return line.startswith(ROW_START) or ROW_START.startswith(line)


async def collect(
    catalog: Catalog,
    questions: Sequence[Question],
    arms: Sequence[Arm],
    settings: CollectSettings,
    progress: Callable[[Arm, int, int], None],
) -> int:
    """Append the missing rows of ``arms`` x ``questions`` to the output; give how many were run.

    ``progress`` is told (arm, questions done, questions in all) after each answer. An upstream
    error ends the run with that error; the rows written stay. OutcomeError if the output is
    another kind of file.
    """
    done = done_keys(settings.output)
    n_run = 0
    with settings.output.open("a", encoding="utf-8") as sink:
        for arm in arms:
            missing = [q for q in questions if (q.question_id, arm.model, arm.strategy) not in done]
            n_before = len(questions) - len(missing)
            pending = _Pending(catalog, arm, missing, settings)
            async with aclosing(pending.rows()) as rows:
                async for row in rows:
                    sink.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")
                    sink.flush()
                    n_run += 1
                    n_before += 1
                    progress(arm, n_before, len(questions))
    return n_run


class _Pending:
    """The questions that one arm has yet to answer, at most ``concurrency`` at once."""

    def __init__(
        self, catalog: Catalog, arm: Arm, questions: Sequence[Question], settings: CollectSettings
    ) -> None:
        self._model = catalog.models[arm.model]
        self._strategy = catalog.strategies[arm.strategy]
        self._arm = arm
        self._questions = questions
        self._settings = settings
        self._slots = asyncio.Semaphore(settings.concurrency)

    async def rows(self) -> AsyncGenerator[Row, None]:
        """Yield one graded row per question, in the order in which answers arrive."""
        tasks = [asyncio.ensure_future(self._ask(question)) for question in self._questions]
        try:
            for next_row in asyncio.as_completed(tasks):
                yield await next_row
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, question: Question) -> Row:
        async with self._slots:
            loop = asyncio.get_running_loop()
            started = loop.time()
            meter = Meter(
                self._model.provider, self._model.price, Allowance(), self._model.throughput
            )
            key = f"{self._settings.seed}|{question.question_id}|{self._arm}"
            seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4]) >> 1
            task = task_for(question, self._settings.max_tokens, seed)
            answer = await self._strategy.run(task, meter)
            usage = meter.usage
            return {
                "query_id": question.question_id,
                "query": question.text,
                "posing": str(task.posing),
                "model": self._arm.model,
                "strategy": self._arm.strategy,
                "correct": int(grade(question, answer.text) >= 1.0),
                "answer": answer.value,
                "gold": question.gold,
                "task": question.family,
                "level": question.level,
                "kind": question.kind.value,
                "confidence": answer.confidence,
                "n_samples": len(answer.samples),
                "prompt_tokens": usage.prompt_tokens,
                "completion_tokens": usage.completion_tokens,
                "machine_s": round(usage.machine_ns / NS_PER_S, 4),
                "cost_usd": float(to_usd(meter.cost_nano_usd)),
                "latency_s": round(loop.time() - started, 4),
            }
