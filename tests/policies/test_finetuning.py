"""Groups for fine-tuning: columns as TRL documents them, and what is left out."""

from __future__ import annotations

from typing import Any

import pytest

from policies.finetuning import Form, groups
from policies.outcomes import OutcomeTable

GRADED = [
    ("2 + 2?", "4", 1.0),
    ("2 + 2?", "5", 0.0),
    ("2 + 2?", "4", 0.9),
    ("2 + 2?", "6", 0.5),
    ("all right?", "yes", 1.0),
    ("all wrong?", "no", 0.0),
    ("kept?", None, 1.0),
    ("", "?", 1.0),
]
TABLE = OutcomeTable.from_rows(
    {
        "query_id": f"q{i}",
        "query": text,
        "model": "m",
        "strategy": "s",
        "score": score,
        "answer": answer,
    }
    for i, (text, answer, score) in enumerate(GRADED)
)


def user(text: str) -> list[dict[str, str]]:
    """Make a prompt."""
    return [{"role": "user", "content": text}]


def said(text: str) -> list[dict[str, str]]:
    """Make a completion."""
    return [{"role": "assistant", "content": text}]


SUM, RIGHT, WRONG = user("2 + 2?"), user("all right?"), user("all wrong?")


@pytest.mark.parametrize(
    ("form", "rows", "left_out"),
    [
        pytest.param(
            Form.SFT,
            [
                {"prompt": SUM, "completion": said("4")},
                {"prompt": RIGHT, "completion": said("yes")},
            ],
            {"no answer is right": 1},
            id="sft: every right answer once",
        ),
        pytest.param(
            Form.KTO,
            [
                {"prompt": SUM, "completion": said("4"), "label": True},
                {"prompt": SUM, "completion": said("5"), "label": False},
                {"prompt": SUM, "completion": said("6"), "label": False},
                {"prompt": RIGHT, "completion": said("yes"), "label": True},
                {"prompt": WRONG, "completion": said("no"), "label": False},
            ],
            {},
            id="kto: every answer once, labelled",
        ),
        pytest.param(
            Form.DPO,
            [
                {"prompt": SUM, "chosen": said("4"), "rejected": said("5")},
                {"prompt": SUM, "chosen": said("4"), "rejected": said("6")},
            ],
            {"no answer is right": 1, "no answer is wrong": 1},
            id="dpo: the best against each wrong one",
        ),
        pytest.param(
            Form.GRPO,
            [
                {
                    "prompt": SUM,
                    "answer": "4",
                    "answers": ["4", "5", "6"],
                    "rewards": [0.95, 0.0, 0.5],
                },
                {"prompt": RIGHT, "answer": "yes", "answers": ["yes"], "rewards": [1.0]},
            ],
            {"no answer is right": 1},
            id="grpo: one row a question",
        ),
    ],
)
def test_each_form_has_its_columns(
    form: Form, rows: list[dict[str, Any]], left_out: dict[str, int]
) -> None:
    """Rows are exactly these; questions that cannot serve are counted by their reason."""
    made = groups(TABLE, form)
    assert list(made.rows) == rows
    assert made.left_out == {**left_out, "no answer was kept": 1, "no text was kept": 1}
