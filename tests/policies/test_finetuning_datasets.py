"""Exports for fine-tuning load with `datasets`, with the columns and types that TRL documents.

The package is heavy and no dependency: ``make trl`` installs it beside the others and runs this.
Columns: https://huggingface.co/docs/trl/dataset_formats, conversational forms.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from policies.finetuning import Form, groups
from policies.outcomes import OutcomeTable

if TYPE_CHECKING:
    from pathlib import Path

datasets = pytest.importorskip("datasets", reason="not installed; run: make trl")

MESSAGES = [{"role": "string", "content": "string"}]
COLUMNS = {
    Form.SFT: {"prompt": MESSAGES, "completion": MESSAGES},
    Form.KTO: {"prompt": MESSAGES, "completion": MESSAGES, "label": "bool"},
    Form.DPO: {"prompt": MESSAGES, "chosen": MESSAGES, "rejected": MESSAGES},
    Form.GRPO: {
        "prompt": MESSAGES,
        "answer": "string",
        "answers": ["string"],
        "rewards": ["float64"],
    },
}
GRADED = [("2 + 2?", "4", 1.0), ("2 + 2?", "5", 0.0), ("3 + 3?", "six \N{SNOWMAN}\n", 1.0)]


def plain(feature: object) -> object:
    """Give a feature of `datasets` as lists, objects and names of types."""
    if isinstance(feature, dict):
        return {name: plain(part) for name, part in feature.items()}
    inner = getattr(feature, "feature", None)
    if isinstance(feature, list):
        return [plain(feature[0])]
    return [plain(inner)] if inner is not None else feature.dtype  # type: ignore[attr-defined]


@pytest.mark.parametrize("form", list(Form))
def test_a_file_loads_with_the_columns_of_its_trainer(form: Form, tmp_path: Path) -> None:
    """Every row comes back as it was written, every column has the type that is read."""
    rows = [
        {"query_id": f"q{i}", "query": q, "model": "m", "strategy": "s", "answer": a, "score": s}
        for i, (q, a, s) in enumerate(GRADED)
    ]
    made = groups(OutcomeTable.from_rows(rows), form).rows
    path = tmp_path / f"{form}.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in made), "utf-8")
    loaded = datasets.load_dataset(
        "json", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert {name: plain(of) for name, of in loaded.features.items()} == COLUMNS[form]
    assert loaded.to_list() == list(made)
