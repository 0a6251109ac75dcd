"""The model as generator and evaluator of a tree search, with the bound of every call."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from router.strategies.calls import first_error, side_by_side
from router.strategies.prompts import bound, carried_bytes, hint_bound, request, tail, with_hint
from router.trees.tasks import value_of, voted
from router.types import CallRole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cost_models.estimates import CallBound
    from router.providers.base import Sampler
    from router.trees.tasks import Puzzle
    from router.types import Sample, Task

INSTRUCTIONS_BYTES = 1_200
"""Most bytes of a puzzle's own words in a prompt."""

VOTE_ASK = (
    "Above are {n} choices. Analyse them briefly, then say which one is the most promising. End "
    "with one last line 'Choice N', where N is its number."
)
CHOICE = "Choice {i}:\n"


@dataclass(frozen=True, slots=True)
class Growth:
    """How a tree grows and is judged; see `TreeOfThoughts` for the fields."""

    puzzle: Puzzle
    generator: str
    evaluator: str
    n_generate: int
    n_evaluate: int
    temperature: float
    judge_tokens: int

    def generating(self, task: Task, prompt_tokens: int) -> CallBound:
        """Bound one call that grows one state."""
        n = self.n_generate if self.generator == "sample" else 1
        return bound(task, prompt_tokens, self._added(task, 1), n=n)

    def evaluating(self, task: Task, prompt_tokens: int, n_states: int) -> tuple[CallBound, ...]:
        """Bound the calls that judge what one level with ``n_states`` parents gave."""
        n_candidates = n_states * self.n_generate
        shown, n_calls = (1, n_candidates) if self.evaluator == "value" else (n_candidates, 1)
        call = bound(
            task,
            prompt_tokens,
            self._added(task, shown),
            max_tokens=self.judge_tokens,
            n=self.n_evaluate,
        )
        return (call,) * n_calls

    def hint(self, task: Task, text: str, n_shown: int = 1) -> str:
        """Cut a prompt to what `_added` bounds."""
        return tail(text, self._hint_bytes(task, n_shown))

    def _added(self, task: Task, n_shown: int) -> int:
        return hint_bound("x" * self._hint_bytes(task, n_shown))

    def _hint_bytes(self, task: Task, n_shown: int) -> int:
        return INSTRUCTIONS_BYTES + n_shown * (state_bytes(task) + len(CHOICE) + 8)


def state_bytes(task: Task) -> int:
    """Bound what is shown of one state."""
    return carried_bytes(task)


@dataclass(slots=True)
class ModelGenerator:
    """Grows states by asking the model, one call a state, beside one another."""

    task: Task
    growth: Growth
    sampler: Sampler
    samples: list[Sample] = field(default_factory=list)

    async def generate(self, states: Sequence[str], depth: int) -> list[list[str]]:
        """Give up to ``n_generate`` children a state; raises what stopped one of the calls."""
        results = await side_by_side([self._drawn(state, depth) for state in states])
        drawn = [result for result in results if isinstance(result, tuple)]
        self.samples.extend(sample for samples in drawn for sample in samples)
        if (error := first_error(results)) is not None:
            raise error
        return [
            self._children(state, depth, samples)
            for state, samples in zip(states, drawn, strict=True)
        ]

    async def _drawn(self, state: str, depth: int) -> tuple[Sample, ...]:
        growth, puzzle = self.growth, self.growth.puzzle
        samples = growth.generator == "sample"
        text = (puzzle.sampling if samples else puzzle.proposing)(state, depth)
        messages = with_hint(self.task.messages, growth.hint(self.task, text))
        asked = request(self.task, messages, n=growth.n_generate if samples else 1)
        asked = replace(asked, temperature=self.task.temperature or growth.temperature)
        return await self.sampler.sample(asked)

    def _children(self, state: str, depth: int, samples: Sequence[Sample]) -> list[str]:
        puzzle = self.growth.puzzle
        if self.growth.generator == "sample":
            found = [puzzle.extended(state, sample.text, depth) for sample in samples]
        else:
            found = [*puzzle.proposals(state, samples[0].text, depth)]
        return [child for child in found if child is not None][: self.growth.n_generate]


@dataclass(slots=True)
class ValueEvaluator:
    """Values each state on its own: the mean worth of ``n_evaluate`` verdicts."""

    task: Task
    growth: Growth
    sampler: Sampler

    async def evaluate(self, states: Sequence[str], depth: int) -> list[float]:
        """Value states beside one another; what is known by rule is not asked."""
        known = [self.growth.puzzle.known_value(state, depth) for state in states]
        asked = [state for state, value in zip(states, known, strict=True) if value is None]
        results = await side_by_side([self._value(state, depth) for state in asked])
        if (error := first_error(results)) is not None:
            raise error
        told = iter(result for result in results if isinstance(result, float))
        return [next(told) if value is None else value for value in known]

    async def _value(self, state: str, depth: int) -> float:
        text = self.growth.hint(self.task, self.growth.puzzle.valuing(state, depth))
        samples = await _judge(self.task, self.growth, self.sampler, text)
        return sum(value_of(sample.text) for sample in samples) / len(samples)


@dataclass(slots=True)
class VoteEvaluator:
    """Shows all candidates at once; the value is the share of ``n_evaluate`` votes."""

    task: Task
    growth: Growth
    sampler: Sampler

    async def evaluate(self, states: Sequence[str], depth: int) -> list[float]:  # noqa: ARG002 - protocol
        """Ask for votes; a single candidate, or one text alone, needs none."""
        distinct = list(dict.fromkeys(states))
        if len(distinct) == 1:
            return [1.0] + [0.0] * (len(states) - 1)
        n_bytes = state_bytes(self.task)
        shown = [
            f"{CHOICE.format(i=i)}{tail(state, n_bytes)}"
            for i, state in enumerate(distinct, start=1)
        ]
        text = "\n".join((*shown, VOTE_ASK.format(n=len(distinct))))
        text = self.growth.hint(self.task, text, len(distinct))
        samples = await _judge(self.task, self.growth, self.sampler, text)
        votes = dict.fromkeys(distinct, 0)
        for sample in samples:
            at = voted(sample.text, len(distinct))
            if at is not None:
                votes[distinct[at]] += 1
        first = {state: states.index(state) for state in distinct}
        return [
            votes[state] / len(samples) if first[state] == i else 0.0
            for i, state in enumerate(states)
        ]


async def _judge(task: Task, growth: Growth, sampler: Sampler, text: str) -> tuple[Sample, ...]:
    asked = request(
        task,
        with_hint(task.messages, text),
        max_tokens=growth.judge_tokens,
        n=growth.n_evaluate,
    )
    several = growth.n_evaluate > 1
    temperature = (task.temperature or growth.temperature) if several else 0.0
    asked = replace(asked, logprobs=False, temperature=temperature)
    return await sampler.sample(asked, CallRole.JUDGE)
