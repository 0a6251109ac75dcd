"""``rheostat import`` and ``rheostat export``: the same outcomes in and out."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import pytest
from planted import planted

from policies.outcomes import OutcomeTable, read_outcomes
from policies.writing import write_outcomes

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Cli


@pytest.fixture
def outcomes(tmp_path: Path) -> Path:
    """Thirty graded outcomes with answers."""
    path = tmp_path / "outcomes.jsonl"
    table = planted(10)
    with path.open("w") as sink:
        for row in table.rows():
            answer = "4" if row["correct"] else "5"
            sink.write(json.dumps({**row, "answer": answer}) + "\n")
    return path


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".parquet"])
def test_what_was_imported_is_exported_and_can_be_imported_again(
    cli: Cli, config: Path, outcomes: Path, tmp_path: Path, ending: str
) -> None:
    """The file has the same outcomes; the second time none of them is new."""
    done = cli("import", outcomes, "--config", config)
    assert "30 outcomes imported, 0 were there already" in done.stdout
    output = tmp_path / f"out{ending}"
    done = cli("export", "--output", output, "--config", config)
    assert done.exit_code == 0, done.output
    assert f"30 outcomes of 10 questions written to {output}" in done.stdout
    found = [{**row, "sample_index": None} for row in read_outcomes(output).rows()]
    given = [{**row, "sample_index": None} for row in read_outcomes(outcomes).rows()]
    assert sorted(found, key=str) == sorted(given, key=str)
    again = cli("import", output, outcomes, "--config", config)
    assert "0 outcomes imported, 60 were there already" in again.stdout
    assert cli("doctor", "--config", config).exit_code == 0
    told = json.loads(cli("report", "--config", config, "--json").stdout)
    assert (told["totals"]["cost_nano_usd"], told["totals"]["n_imported"]) == (0, 30)
    assert "30 imported answers are in none" in cli("report", "--config", config).stdout


def test_nothing_is_imported_when_one_file_is_unusable(
    cli: Cli, config: Path, outcomes: Path, tmp_path: Path
) -> None:
    """The file, row and column are named, and the good file is not imported either."""
    bad = tmp_path / "bad.jsonl"
    bad.write_text(outcomes.read_text().replace('"correct": 1', '"correct": 3', 1))
    done = cli("import", outcomes, bad, "--config", config)
    assert done.exit_code == 1
    assert "column 'correct'" in done.stderr
    assert "no graded answer to export" in cli("export", "-o", bad, "--config", config).stderr


@pytest.mark.parametrize("form", ["grpo", "dpo", "kto", "sft"])
def test_groups_are_json_lines_of_the_kept_answers(
    cli: Cli, config: Path, outcomes: Path, tmp_path: Path, form: str
) -> None:
    """Each line has a conversational prompt; another ending than .jsonl is refused."""
    cli("import", outcomes, "--config", config)
    output = tmp_path / "groups.jsonl"
    done = cli("export", "--format", form, "--output", output, "--config", config)
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert f"{len(rows)} rows for {form} written" in done.stdout
    texts = set(read_outcomes(outcomes).queries)
    assert {row["prompt"][0]["content"] for row in rows} <= texts
    refused = cli("export", "--format", form, "--output", tmp_path / "x.csv", "-c", config)
    assert refused.exit_code == 1
    assert "ends in .jsonl" in refused.stderr


def test_ungraded_answers_are_counted_and_not_exported(
    cli: Cli, config: Path, outcomes: Path, tmp_path: Path
) -> None:
    """An answer that nobody graded is left out, and said to be."""
    cli("ask", "What is 3 + 4?", "--config", config)
    output = tmp_path / "out.csv"
    alone = cli("export", "--output", output, "--config", config)
    assert alone.exit_code == 1
    assert "1 answers without a grade" in alone.stderr
    assert not output.exists()
    cli("import", outcomes, "--config", config)
    done = cli("export", "--output", output, "--config", config)
    assert "left out: 1 answers without a grade" in done.stdout
    early = cli("export", "-o", output, "--until", "2020-01-01", "--config", config)
    assert "no graded answer" in early.stderr


@pytest.mark.parametrize("answer", ["=1+2", "-4", "@x", "'=1", "''", "it's"])
def test_answers_that_look_like_formulas_come_back_as_they_were(
    tmp_path: Path, answer: str
) -> None:
    """No cell of the CSV begins like a formula, and no answer is changed by that."""
    row = {**next(iter(planted(1).rows())), "answer": answer}
    path = tmp_path / "out.csv"
    write_outcomes(OutcomeTable.from_rows([row]), path)
    with path.open(newline="") as source:
        (cells,) = csv.DictReader(source)
    assert not cells["answer"].startswith(("=", "-", "@"))
    assert [row["answer"] for row in read_outcomes(path).rows()] == [answer]
