"""Graded answers as data to fine-tune a model on, in the columns that TRL's trainers read.

Conversational forms of https://huggingface.co/docs/trl/dataset_formats: prompt-completion for
SFTTrainer, preference for DPOTrainer, unpaired preference for KTOTrainer, and prompt-only with
further columns, which its reward functions are given, for GRPOTrainer. ``prompts`` and
``completions`` are names of its own arguments there, so no column is called so.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from policies.outcomes import OutcomeTable

RIGHT = 0.5
"""Answers with a mean grade above this count as right."""

Grades = dict[str, float]


class Form(StrEnum):
    """What a group is for: the method that a model is trained with."""

    GRPO = "grpo"
    DPO = "dpo"
    KTO = "kto"
    SFT = "sft"


@dataclass(frozen=True, slots=True)
class Groups:
    """Rows of plain JSON, and how many questions were left out for which reason."""

    rows: tuple[dict[str, Any], ...]
    left_out: Mapping[str, int] = field(default_factory=dict)


def groups(table: OutcomeTable, form: Form) -> Groups:
    """Group answers by the text of their question; equal answers are one, with their mean grade.

    ``sft``: one row a right answer. ``kto``: one an answer, labelled right or wrong. ``dpo``: the
    best answer against each wrong one. ``grpo``: one a question, with its best answer as ``answer``
    and all ``answers`` with their ``rewards``. Questions whose text or answers were not kept, or
    that lack what a form needs, are left out.
    """
    make: dict[Form, Callable[[str, Grades], list[dict[str, Any]] | str]] = {
        Form.GRPO: _grpo,
        Form.DPO: _dpo,
        Form.KTO: _kto,
        Form.SFT: _sft,
    }
    rows: list[dict[str, Any]] = []
    left_out: Counter[str] = Counter()
    for text, grades in _graded(table).items():
        if not text:
            made: list[dict[str, Any]] | str = "no text was kept"
        elif not grades:
            made = "no answer was kept"
        else:
            made = make[form](text, grades)
        if isinstance(made, str):
            left_out[made] += 1
        else:
            rows += made
    return Groups(tuple(rows), dict(left_out))


def _graded(table: OutcomeTable) -> dict[str, Grades]:
    """Mean grade of each distinct answer to each text, in the order of first rows."""
    found: dict[str, defaultdict[str, list[float]]] = {}
    qualities = table.quality.tolist()
    for text, answer, quality in zip(
        table.texts["query"], table.texts["answer"], qualities, strict=True
    ):
        answers = found.setdefault(text or "", defaultdict(list))
        if answer:
            answers[answer].append(quality)
    return {
        text: {answer: float(np.mean(seen)) for answer, seen in answers.items()}
        for text, answers in found.items()
    }


def _said(role: str, content: str) -> list[dict[str, str]]:
    return [{"role": role, "content": content}]


def _best(grades: Grades) -> str | None:
    best = max(grades, key=lambda answer: grades[answer])
    return best if grades[best] > RIGHT else None


def _sft(text: str, grades: Grades) -> list[dict[str, Any]] | str:
    return [
        {"prompt": _said("user", text), "completion": _said("assistant", answer)}
        for answer, quality in grades.items()
        if quality > RIGHT
    ] or "no answer is right"


def _kto(text: str, grades: Grades) -> list[dict[str, Any]] | str:
    return [
        {
            "prompt": _said("user", text),
            "completion": _said("assistant", answer),
            "label": quality > RIGHT,
        }
        for answer, quality in grades.items()
    ]


def _dpo(text: str, grades: Grades) -> list[dict[str, Any]] | str:
    best = _best(grades)
    if best is None:
        return "no answer is right"
    return [
        {
            "prompt": _said("user", text),
            "chosen": _said("assistant", best),
            "rejected": _said("assistant", answer),
        }
        for answer, quality in grades.items()
        if quality <= RIGHT
    ] or "no answer is wrong"


def _grpo(text: str, grades: Grades) -> list[dict[str, Any]] | str:
    best = _best(grades)
    if best is None:
        return "no answer is right"
    return [
        {
            "prompt": _said("user", text),
            "answer": best,
            "answers": list(grades),
            "rewards": list(grades.values()),
        }
    ]
