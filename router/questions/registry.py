"""Every question family by name; making a balanced set of them, and grading replies."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from router import answers
from router.chance import Dice
from router.questions.arithmetic import ADD, MIXED, MULTIPLY, SUBTRACT
from router.questions.base import Question, QuestionError, question_id
from router.questions.comparison import COMPARE
from router.questions.countdown import COUNTDOWN
from router.questions.letters import LETTERS
from router.questions.logic import LOGIC
from router.questions.words import WORD

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from router.questions.base import Draft, Family

FAMILIES: Mapping[str, Family] = {
    "add": ADD,
    "subtract": SUBTRACT,
    "multiply": MULTIPLY,
    "mixed": MIXED,
    "word": WORD,
    "compare": COMPARE,
    "logic": LOGIC,
    "letters": LETTERS,
    "countdown": COUNTDOWN,
}
MAX_TRIES = 500


def generate(n: int, seed: int, families: Sequence[str] | None = None) -> list[Question]:
    """Make ``n`` different questions, the same ones for the same arguments on every machine.

    Families are equally frequent, and so are the levels within each (both up to one question);
    the order is random. A level without any new question left passes its share to the others.

    Raises
    ------
    QuestionError
        If a family is unknown or given twice, or if there are no ``n`` different questions.
    """
    names = list(FAMILIES) if families is None else list(families)
    unknown = [name for name in names if name not in FAMILIES]
    if unknown or not names or len(set(names)) < len(names):
        shown = ", ".join(FAMILIES)
        msg = f"families must be different ones of: {shown}; got {names}"
        raise QuestionError(msg)
    makers = {name: _Maker(name, seed) for name in names}
    made: list[Question] = []
    while len(made) < n:
        fresh = [maker.make() for maker in makers.values()]
        kept = [question for question in fresh if question is not None]
        if not kept:
            msg = f"there are only {len(made)} different questions of {names}, {n} were asked for"
            raise QuestionError(msg)
        missing = n - len(made)
        made += kept if len(kept) <= missing else Dice(f"last|{seed}|{n}").sample(kept, missing)
    return Dice(f"order|{seed}|{n}").shuffled(made)


def grade(question: Question, text: str) -> float:
    """Grade a reply: 1.0 if its answer is right, else 0.0. Never raises on odd text."""
    family = FAMILIES.get(question.family)
    if family is not None and family.rule is not None:
        return float(family.rule(question, text))
    found = answers.extract(text, question.kind)
    return float(answers.same(text if found is None else found, question.gold, question.kind))


class _Maker:
    """Makes the questions of one family, one level after the other, none twice."""

    def __init__(self, name: str, seed: int) -> None:
        self._name = name
        self._family = FAMILIES[name]
        self._seed = seed
        self._texts: set[str] = set()
        self._golds: Counter[tuple[int, str]] = Counter()
        self._n_made = 0
        n_levels = len(self._family.difficulties)
        self._levels = Dice(f"levels|{name}|{seed}").shuffled(range(1, n_levels + 1))

    def make(self) -> Question | None:
        """Give one more question; None when no level has a new one."""
        while self._levels:
            level = self._levels.pop(0)
            draft = self._draft(level)
            if draft is None:
                continue
            self._levels.append(level)
            self._texts.add(draft.text)
            for key in (0, level):
                self._golds[key, draft.gold] += 1
            self._n_made += 1
            return Question(
                question_id=question_id(self._name, level, draft.text),
                family=self._name,
                level=level,
                text=draft.text,
                gold=draft.gold,
                kind=draft.kind,
                difficulty=self._family.difficulties[level - 1],
                payload=draft.payload,
            )
        return None

    def _draft(self, level: int) -> Draft | None:
        wanted = self._wanted(level)
        for i in range(MAX_TRIES):
            dice = Dice(f"{self._name}|{level}|{self._seed}|{self._n_made}|{i}")
            draft = self._family.draft(dice, level)
            if draft.text not in self._texts and (not wanted or draft.gold in wanted):
                return draft
        return None

    def _wanted(self, level: int) -> set[str]:
        """Right answers that are the rarest so far, in the level first, then in the family."""
        balanced = self._family.balanced
        seen = {gold: (self._golds[level, gold], self._golds[0, gold]) for gold in balanced}
        return {gold for gold in balanced if seen[gold] == min(seen.values())}
