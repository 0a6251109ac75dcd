"""Simulated models: of known skill, over questions of known difficulty. Not language models.

A sample is right with probability ``sigmoid(discrimination * (skill + boost - difficulty))``, the
two-parameter logistic model of item response theory (Birnbaum 1968); ``boost`` is added when the
prompt asks for steps. Wrong answers lean towards one popular mistake a question, so that voting is
as helpful or as harmful as it is with real models. The truth is known: see `true_probability`.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Protocol

from cost_models.types import Usage
from policies.types import AnswerKind
from router.answers import detect_kind, extract
from router.chance import Dice
from router.errors import ConfigError, RequestError
from router.providers.base import bytes_bound
from router.types import Chunk, Sample

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

    from router.providers.base import Tally
    from router.types import Message, SampleRequest

ASKS_FOR_STEPS = "step by step"
PARAGRAPH = "\n\n"
TOKENS_PER_MESSAGE = 4
TOKEN = re.compile(r"\s*\S{1,4}|\s+$")
WORD = re.compile(r"\s*\S+|\s+$")
POPULAR_SHARE = 0.45
"""Share of the wrong samples that make the question's popular mistake."""
MISTAKES = (1, -1, 10, -10, 2, -2, 9, -9, 100, -100)
"""Near misses in units of the last digit, from likely to unlikely: slips and lost carries."""
LETTERS = "ABCD"
THOUGHTS = (
    "First I write down what is given and what is asked.",
    "Next I take the parts one after the other.",
    "I work this part out and keep the result.",
    "Then I put it together with what came before.",
    "I check that nothing was left out on the way.",
    "That leaves one more part to work out.",
)


class Posed(Protocol):
    """What the simulator needs to know of a question; `router.questions` makes such ones."""

    @property
    def text(self) -> str:
        """What is asked."""
        ...

    @property
    def gold(self) -> str:
        """The right answer."""
        ...

    @property
    def kind(self) -> AnswerKind:
        """What kind of answer that is."""
        ...

    @property
    def difficulty(self) -> float:
        """Latent difficulty in [0, 1]."""
        ...


@dataclass(frozen=True, slots=True)
class SimulatedModel:
    """How good and how wordy a simulated model is.

    ``skill`` is on the scale of difficulty: a question as difficult as the model is skilled is
    answered right half of the time. ``steps_boost`` is added to it when steps are asked for.
    ``direct_tokens`` and ``steps_tokens`` are the usual lengths of an answer without and with.
    """

    skill: float
    steps_boost: float = 0.2
    discrimination: float = 8.0
    direct_tokens: int = 6
    steps_tokens: int = 90

    def __post_init__(self) -> None:
        if self.discrimination <= 0 or min(self.direct_tokens, self.steps_tokens) < 1:
            msg = f"discrimination must be above 0 and answers have tokens, got {self!r}"
            raise ValueError(msg)

    def probability(self, difficulty: float, *, steps: bool) -> float:
        """Probability in (0, 1) that a sample is right."""
        ability = self.skill + (self.steps_boost if steps else 0.0)
        return 1.0 / (1.0 + math.exp(-self.discrimination * (ability - difficulty)))


SIMULATED_MODELS: Mapping[str, SimulatedModel] = {
    "small": SimulatedModel(skill=0.25, steps_boost=0.15, steps_tokens=70),
    "medium": SimulatedModel(skill=0.45, steps_boost=0.2, steps_tokens=90),
    "large": SimulatedModel(skill=0.7, steps_boost=0.2, steps_tokens=120),
}
PREFIX = "sim-"


@dataclass(frozen=True, slots=True)
class _Unknown:
    """A question that is in no bank, with an answer and a difficulty made up from its text."""

    text: str
    gold: str
    kind: AnswerKind
    difficulty: float


class SimulatedProvider:
    """One simulated model; ``questions`` are those that it can be graded on.

    A request is about the known question in its last user message that holds one. For any other
    text an answer and a difficulty are made up, the same ones each time. A sample depends on the
    request's seed alone, completion i having seed + i; at temperature 0 it does not depend on the
    seed. Without a seed the samples follow from ``seed`` and the order of the calls. ``latency_s``
    passes before each reply.
    """

    def __init__(
        self,
        model: str,
        simulated: SimulatedModel,
        questions: Iterable[Posed] = (),
        *,
        seed: int = 0,
        latency_s: float = 0.0,
    ) -> None:
        self.model = model
        self.native_n = True
        self.simulated = simulated
        self._bank = {question.text.strip(): question for question in questions}
        self._seed = seed
        self._latency_s = latency_s
        self._n_unseeded = 0

    def count_prompt_tokens(self, messages: Sequence[Message]) -> int:
        """Bound the prompt by its bytes."""
        return bytes_bound(messages)

    def true_probability(self, question: Posed, *, steps: bool) -> float:
        """Probability that one sample is right: the truth that an estimator should find."""
        return self.simulated.probability(question.difficulty, steps=steps)

    async def sample(self, request: SampleRequest, tally: Tally) -> tuple[Sample, ...]:
        """Draw ``request.n`` completions; a cancelled call has used its prompt alone."""
        samples: tuple[Sample, ...] = ()
        try:
            await asyncio.sleep(self._latency_s)
            samples = self._draw(request)
        finally:
            tally.settle(_usage(request.messages, sum(sample.n_tokens for sample in samples)))
        return samples

    async def stream(self, request: SampleRequest, tally: Tally) -> AsyncIterator[Chunk]:
        """Yield one completion word by word; what was yielded is what was used."""
        if request.n != 1:
            msg = f"a stream has one completion, got n={request.n}"
            raise RequestError(msg, param="n")
        said = ""
        try:
            await asyncio.sleep(self._latency_s)
            (sample,) = self._draw(request)
            yield Chunk({"role": "assistant", "content": ""})
            for word in WORD.findall(sample.text):
                said += word
                yield Chunk({"content": word})
                await asyncio.sleep(0)
            yield Chunk({}, finish_reason=sample.finish_reason)
        finally:
            tally.settle(_usage(request.messages, count_tokens(said)))

    async def aclose(self) -> None:
        """Nothing is open."""

    def _draw(self, request: SampleRequest) -> tuple[Sample, ...]:
        first = request.seed
        if first is None:
            first = self._seed + self._n_unseeded
            self._n_unseeded += request.n
        question = self._question(request.messages)
        steps = any(ASKS_FOR_STEPS in message.text.lower() for message in request.messages)
        greedy = request.temperature == 0
        keys = ("greedy" if greedy else str(first + i) for i in range(request.n))
        return tuple(_capped(self._reply(question, key, steps=steps), request) for key in keys)

    def _question(self, messages: Sequence[Message]) -> Posed:
        """Known question in the last user message that holds one, or a made-up one."""
        asked = [message.text for message in messages if message.role == "user"]
        for text in reversed(asked):
            parts = text.split(PARAGRAPH)
            for start in range(len(parts)):
                for end in range(len(parts), start, -1):
                    found = self._bank.get(PARAGRAPH.join(parts[start:end]).strip())
                    if found is not None:
                        return found
        for text in reversed(asked):
            held = [known for known in self._bank if known in text]
            if held:
                return self._bank[max(held, key=len)]
        return _made_up(asked[-1] if asked else "")

    def _reply(self, question: Posed, key: str, *, steps: bool) -> str:
        digest = hashlib.sha256(question.text.encode(errors="replace")).hexdigest()
        dice = Dice(f"{self.model}|{digest}|{steps}|{key}")
        is_right = dice.uniform() < self.true_probability(question, steps=steps)
        answer = question.gold if is_right else wrong_answer(question, dice)
        if question.kind in {AnswerKind.CODE, AnswerKind.JSON}:
            answer = f"\n```\n{answer.strip()}\n```"
        if steps:
            return _with_steps(answer, self.simulated.steps_tokens + dice.between(-10, 10))
        long = f"The answer is {answer}."
        fits = count_tokens(long) <= self.simulated.direct_tokens
        return long if fits and question.kind is AnswerKind.NUMBER else answer


def simulated_pool(questions: Iterable[Posed] = (), seed: int = 0) -> list[SimulatedProvider]:
    """Give one provider of each shipped simulated model, from the weakest to the strongest."""
    bank = list(questions)
    return [
        SimulatedProvider(f"{PREFIX}{name}", model, bank, seed=seed)
        for name, model in SIMULATED_MODELS.items()
    ]


def build_simulated(
    name: str, upstream_model: str, questions: Iterable[Posed] = ()
) -> SimulatedProvider:
    """Make the shipped model ``upstream_model``, shown to clients as ``name``."""
    model = SIMULATED_MODELS.get(upstream_model.removeprefix(PREFIX))
    if model is None:
        known = ", ".join(f"simulated/{known}" for known in SIMULATED_MODELS)
        msg = f"model {name!r}: there is no simulated model {upstream_model!r}; use one of: {known}"
        raise ConfigError(msg)
    return SimulatedProvider(name, model, questions)


def count_tokens(text: str) -> int:
    """Tokens of the simulator: words, in pieces of at most four characters."""
    return len(TOKEN.findall(text))


def wrong_answer(question: Posed, dice: Dice) -> str:
    """Draw a wrong answer: often the popular mistake of the question, else another near miss."""
    shared = Dice(f"mistake|{question.text}")
    popular = dice.uniform() < POPULAR_SHARE
    if question.kind is AnswerKind.CHOICE:
        others = _other_choices(question.gold)
        return shared.pick(others) if popular else dice.pick(others)
    if popular:
        slip = MISTAKES[min(shared.below(len(MISTAKES)), shared.below(len(MISTAKES)))]
    else:
        slip = MISTAKES[min(dice.below(len(MISTAKES)), dice.below(len(MISTAKES)))]
    if question.kind is AnswerKind.NUMBER:
        return _slipped(question.gold, slip)
    if question.kind is AnswerKind.EXPRESSION:
        return f"{question.gold} {'+' if slip > 0 else '-'} {abs(slip)}"
    if question.kind in {AnswerKind.JSON, AnswerKind.TOOL_CALL}:
        return f'{{"unknown": {slip}}}'
    return f"{question.gold} (version {slip})"


def _slipped(gold: str, slip: int) -> str:
    """``gold`` with an error of ``slip`` in the last digit that is written; exact."""
    canonical = extract(gold, AnswerKind.NUMBER)
    if canonical is None:
        return str(slip)
    over, slash, under = canonical.partition("/")
    if slash:
        return f"{int(over) + slip}/{under}"
    digits = int(canonical.replace(".", ""))
    n_places = len(canonical.partition(".")[2])
    return f"{Decimal(f'{digits + slip}e-{n_places}'):f}"


def _other_choices(gold: str) -> list[str]:
    canonical = extract(gold, AnswerKind.CHOICE) or gold
    if canonical in {"yes", "no"}:
        return ["no" if canonical == "yes" else "yes"]
    return [letter for letter in LETTERS if letter != canonical]


def _with_steps(answer: str, n_tokens: int) -> str:
    """Reasoning of about ``n_tokens`` tokens that ends in ``answer``."""
    last = f"Answer: {answer}"
    lines: list[str] = []
    left = n_tokens - count_tokens(last)
    while left > 0:
        line = f"Step {len(lines) + 1}: {THOUGHTS[len(lines) % len(THOUGHTS)]}"
        left -= count_tokens(line)
        lines.append(line)
    return "\n".join([*lines, last])


def _made_up(text: str) -> _Unknown:
    dice = Dice(f"unknown|{text}")
    kind = detect_kind(text)
    difficulty = dice.uniform()
    golds = {
        AnswerKind.NUMBER: str(dice.between(1, 999)),
        AnswerKind.CHOICE: dice.pick(("yes", "no")),
        AnswerKind.EXPRESSION: f"{dice.between(1, 9)} + {dice.between(1, 9)}",
        AnswerKind.JSON: f'{{"simulated": {dice.between(1, 999)}}}',
    }
    return _Unknown(text, golds.get(kind, "This is a simulated answer."), kind, difficulty)


def _capped(text: str, request: SampleRequest) -> Sample:
    """Cut a reply at ``max_tokens`` and before the first stop sequence, as an upstream does."""
    tokens = TOKEN.findall(text)
    reason = "length" if len(tokens) > request.max_tokens else "stop"
    text = "".join(tokens[: request.max_tokens])
    ends = [at for at in (text.find(stop) for stop in request.stop if stop) if at >= 0]
    if ends:
        text, reason = text[: min(ends)], "stop"
    return Sample(text=text, finish_reason=reason, n_tokens=count_tokens(text))


def _usage(messages: Sequence[Message], completion_tokens: int) -> Usage:
    prompt = sum(TOKENS_PER_MESSAGE + count_tokens(message.text) for message in messages)
    return Usage(n_calls=1, prompt_tokens=prompt, completion_tokens=completion_tokens)
