"""Few-shot chain of thought: show worked examples before the question.

Sources: Wei et al. (2022), arXiv:2201.11903; Liu et al. (2021), arXiv:2101.06804, for the examples
nearest to the question, in order of growing nearness.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from policies.types import AnswerKind
from router.errors import StrategyConfigError
from router.parameters import canonical, check, number, one_of
from router.strategies.base import Needs
from router.strategies.prompts import (
    answer_from,
    before_question,
    bound,
    hint_bound,
    request,
    step_by_step,
    turns_bound,
    with_hint,
)
from router.types import Exemplar

if TYPE_CHECKING:
    from cost_models.estimates import CallBound
    from router.providers.base import Sampler
    from router.types import Answer, Message, SampleRequest, Task

SHIPPED = "exemplars.yaml"
FIELDS = ("kind", "question", "reasoning", "answer")
MAX_EXEMPLARS = 32
FILE = "file"
NEAREST = "nearest"


@dataclass(frozen=True, slots=True)
class FewShot:
    """One call after up to ``n_exemplars`` worked examples of the answer's kind.

    ``file`` is a JSONL or YAML list of objects with the fields kind, question, reasoning and
    answer; empty means the shipped ones. It is read once, when the strategy is made. With
    ``exemplars="nearest"`` the task's own come first, and the file's fill the places that are left;
    the nearest stands last, next to the question.
    """

    name: ClassVar[str] = "few_shot"
    title: ClassVar[str] = "show worked examples, then reason step by step"
    source: ClassVar[str] = "Wei et al. 2022, arXiv:2201.11903; Liu et al. 2021, 2101.06804"
    needs: ClassVar[Needs] = Needs()

    n_exemplars: int = number(3, 1, MAX_EXEMPLARS, always_shown=True)
    file: str = ""
    exemplars: str = one_of(FILE, FILE, NEAREST)

    def __post_init__(self) -> None:
        check(self)
        load_exemplars(self.file)

    def __str__(self) -> str:
        return canonical(self)

    def worst_case(self, task: Task, prompt_tokens: int) -> tuple[CallBound, ...]:
        """Bound the one call, examples included."""
        added = turns_bound(self._turns(task)) + hint_bound(step_by_step(task))
        return (bound(task, prompt_tokens, added),)

    async def run(self, task: Task, sampler: Sampler) -> Answer:
        """Answer with one call; raises what the provider or the meter raises."""
        (sample, *_) = await sampler.sample(self.request(task))
        return answer_from(task, sample)

    def request(self, task: Task) -> SampleRequest:
        """Give the one call of a run."""
        messages = before_question(task.messages, self._turns(task))
        return request(task, with_hint(messages, step_by_step(task)))

    def _turns(self, task: Task) -> tuple[Message, ...]:
        near = task.exemplars if self.exemplars == NEAREST else ()
        known = (*near, *load_exemplars(self.file))
        fitting = [e for e in known if e.kind is task.answer_kind][: self.n_exemplars]
        if near:
            fitting.reverse()
        return tuple(turn for exemplar in fitting for turn in exemplar.turns())


@lru_cache(maxsize=32)
def load_exemplars(file: str) -> tuple[Exemplar, ...]:
    """Read a file of exemplars, or the shipped ones; raise StrategyConfigError naming the row."""
    if not file:
        text = resources.files("router.strategies").joinpath(SHIPPED).read_text("utf-8")
        return _exemplars(SHIPPED, text)
    try:
        return _exemplars(file, Path(file).read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        msg = f"few_shot: the exemplars in {file!r} cannot be read: {error}"
        raise StrategyConfigError(msg) from error


def _exemplars(file: str, text: str) -> tuple[Exemplar, ...]:
    import yaml  # noqa: PLC0415 - only a process that uses few_shot loads it

    rows: Any
    try:
        if file.endswith(".jsonl"):
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
        else:
            rows = yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        msg = f"few_shot: {file!r} is neither JSONL nor YAML: {error}"
        raise StrategyConfigError(msg) from error
    if not isinstance(rows, list) or not rows:
        msg = f"few_shot: {file!r} holds no list of exemplars"
        raise StrategyConfigError(msg)
    return tuple(_exemplar(file, i, row) for i, row in enumerate(rows, start=1))


def _exemplar(file: str, i: int, row: Any) -> Exemplar:  # noqa: ANN401 - whatever the file holds
    if not isinstance(row, dict) or set(row) != set(FIELDS):
        msg = f"few_shot: exemplar {i} of {file!r} needs the fields {', '.join(FIELDS)}"
        raise StrategyConfigError(msg)
    try:
        kind = AnswerKind(row["kind"])
    except ValueError as error:
        known = ", ".join(AnswerKind)
        msg = f"few_shot: exemplar {i} of {file!r} has kind {row['kind']!r}; use one of: {known}"
        raise StrategyConfigError(msg) from error
    return Exemplar(kind, str(row["question"]), str(row["reasoning"]), str(row["answer"]))
