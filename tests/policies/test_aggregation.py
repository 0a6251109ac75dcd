"""The trained aggregator: what it learns, what it never does, and how it is measured."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from policies.aggregation import cross_validate, fit_aggregator, read_aggregator
from policies.errors import OutcomeError, PolicyNotReadyError
from policies.outcomes import OutcomeTable, read_outcomes
from policies.sample_sets import FEATURES, Drawn, SampleSet, clusters, features, majority, sets_of
from router.cli.main import app

DATA = Path(os.environ.get("RHEOSTAT_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
drawn = st.builds(
    Drawn,
    answer=st.none() | st.sampled_from(["1", "2", " 2", "x", ""]),
    n_tokens=st.none() | st.floats(0, 1e6),
    logprob=st.none() | st.floats(-50, 0),
    score=st.none() | st.floats(-100, 100),
    step_score=st.none() | st.floats(0, 1),
)


def planted(n_sets: int, seed: int = 0) -> list[SampleSet]:
    """Make sets whose verifier knows better than the vote: what is right is rare, scored high."""
    rng = np.random.default_rng(seed)
    sets = []
    for i in range(n_sets):
        right = rng.random(5) < 0.4
        samples = tuple(
            Drawn(
                "right" if good else f"wrong {rng.integers(2)}",
                n_tokens=float(rng.integers(50, 90)),
                score=float(rng.normal(1.5 if good else 0.0)),
            )
            for good in right
        )
        sets.append(SampleSet(f"q{i}", samples, tuple(map(bool, right)), i % 5))
    return sets


def test_where_nothing_tells_more_than_the_votes_it_is_the_vote() -> None:
    """Scores and lengths drawn at random, answers of one length: what the majority says."""
    rng = np.random.default_rng(1)
    same = {"right": "a", "wrong 0": "b", "wrong 1": "c"}
    noise = [
        SampleSet(
            one.query_id,
            tuple(
                Drawn(same[drawn.answer or ""], float(rng.integers(50, 90)), score=rng.normal())
                for drawn in one.samples
            ),
            one.correct,
            one.fold,
        )
        for one in planted(120)
    ]
    fitted = fit_aggregator(noise)
    assert fitted.manifest["is_vote"]
    for one in noise:
        assert fitted.choose(one.samples) == majority(one.samples)
        share = fitted.probabilities(one.samples)
        assert share.argmax() == majority(one.samples)
    whole_fold = [replace(one, fold=0) for one in planted(120)]
    assert not fit_aggregator(whole_fold).manifest["is_vote"]


def test_it_beats_the_vote_where_a_score_tells_more() -> None:
    """On folds that it never saw, with the interval above nothing gained."""
    standing = cross_validate(planted(300))
    assert standing.low > 0.05
    assert standing.trained > standing.vote
    assert standing.oracle >= standing.trained
    assert standing.best_score is not None
    assert standing.gap_closed is not None
    assert standing.gap_closed > 0.3


def test_it_is_no_worse_than_the_vote_where_nothing_else_is_known() -> None:
    """Without scores and lengths the share of the votes is all that it can learn from."""
    bare = [
        SampleSet(one.query_id, tuple(Drawn(s.answer) for s in one.samples), one.correct, one.fold)
        for one in planted(300)
    ]
    standing = cross_validate(bare)
    assert standing.best_score is None
    assert standing.trained >= standing.vote - 0.02


@given(st.lists(drawn, max_size=9))
@settings(deadline=None)
def test_any_set_has_finite_facts_and_a_choice_exactly_when_it_can_be_read(
    samples: list[Drawn],
) -> None:
    """An unreadable sample is in no cluster and is never chosen."""
    described = features(samples)
    groups = clusters(samples)
    assert described.shape == (len(groups), len(FEATURES))
    assert np.all(np.isfinite(described))
    assert sum(map(len, groups)) == sum(sample.answer is not None for sample in samples)
    chosen = FITTED.choose(samples)
    assert (chosen is None) == (majority(samples) is None) == (not groups)
    assert chosen is None or 0 <= chosen < len(groups)
    assert np.all((FITTED.probabilities(samples) > 0) & (FITTED.probabilities(samples) < 1))


FITTED = fit_aggregator(planted(60), manifest={"why": "a test"})


def test_it_is_written_and_read_back_as_plain_numbers(tmp_path: Path) -> None:
    """The same probabilities; damage is an error with its file."""
    file = tmp_path / "aggregator.json"
    FITTED.write(file)
    again = read_aggregator(file)
    for one in planted(5, seed=3):
        assert np.allclose(again.probabilities(one.samples), FITTED.probabilities(one.samples))
    assert again.manifest == {"why": "a test", "is_vote": False}
    held = json.loads(file.read_text("utf-8"))
    for damage in (
        {"format": 99},
        {"features": ["votes"]},
        {"weights": [1.0]},
        {"mean": ["x"] * len(FEATURES)},
        {"scale": [float("nan")] * len(FEATURES)},
    ):
        file.write_text(json.dumps({**held, **damage}), "utf-8")
        with pytest.raises(PolicyNotReadyError, match=r"aggregator\.json"):
            read_aggregator(file)
    with pytest.raises(PolicyNotReadyError):
        read_aggregator(tmp_path / "none.json")


def test_nothing_can_be_learned_where_every_set_agrees() -> None:
    """The error says so."""
    samples = (Drawn("1"), Drawn("1"))
    with pytest.raises(ValueError, match="nothing to learn"):
        fit_aggregator([SampleSet("q", samples, (True, True))] * 30)


def table(n_queries: int, n_samples: int) -> OutcomeTable:
    """Record ``n_samples`` samples for each query."""
    rng = np.random.default_rng(1)
    rows = []
    for i in range(n_queries):
        for j in range(n_samples):
            good = bool(rng.random() < 0.55)
            rows.append(
                {
                    "query_id": f"q{i}",
                    "query": f"question {i}",
                    "model": "m",
                    "strategy": "s",
                    "answer": "7" if good else str(rng.integers(3)),
                    "correct": float(good),
                    "score": float(good),
                    "sample_index": n_samples - 1 - j,
                    "completion_tokens": 20 + j,
                }
            )
    return OutcomeTable.from_rows(rows)


def test_sets_are_cut_in_the_order_of_the_samples_and_queries_stay_in_one_fold() -> None:
    """A rest is left out; a score is only taken when it is said to be a verifier's."""
    sets = sets_of(table(30, 7), 3)
    assert len(sets) == 60
    assert [s.n_tokens for s in sets[0].samples] == [26, 25, 24]
    assert all(s.score is None for one in sets for s in one.samples)
    assert all(
        s.score is not None
        for one in sets_of(table(30, 7), 3, with_score=True)
        for s in one.samples
    )
    folds = {one.query_id: set() for one in sets}
    for one in sets:
        folds[one.query_id].add(one.fold)
    assert all(len(found) == 1 for found in folds.values())
    with pytest.raises(OutcomeError, match="at least 20"):
        sets_of(table(30, 7), 8)


def test_the_command_fits_measures_and_writes(tmp_path: Path) -> None:
    """What it prints is what it measured; the file can be used."""
    source, file = tmp_path / "samples.jsonl", tmp_path / "aggregator.json"
    table(40, 8).write_jsonl(source)
    typed = ["fit-aggregator", str(source), "-o", str(file), "--set-size", "4"]
    told = CliRunner().invoke(app, [*typed, "--json"])
    assert told.exit_code == 0, told.output
    shown = json.loads(told.output)
    assert (shown["n_sets"], shown["n_queries"]) == (80, 40)
    assert read_aggregator(file).manifest["held_out"]["vote"] == shown["vote"]
    text = CliRunner().invoke(app, typed)
    assert "majority vote" in text.output
    assert CliRunner().invoke(app, [*typed, "--set-size", "9"]).exit_code == 1


def test_the_command_fits_from_a_ledger(tmp_path: Path) -> None:
    """Imported samples and repeated questions are sets; the grades are no verifier's scores."""
    source, file = tmp_path / "samples.jsonl", tmp_path / "aggregator.json"
    table(40, 8).write_jsonl(source)
    config = tmp_path / "rheostat.yaml"
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    config.write_text(
        f"ledger: {url}\nmodels: [{{name: m, model: openai/x, price: {{free: true}}}}]\n"
    )
    typed = ["fit-aggregator", "--database", url, "-o", str(file), "--set-size", "4"]
    empty = CliRunner().invoke(app, typed)
    assert empty.exit_code == 1
    assert "no graded answers" in empty.output
    assert CliRunner().invoke(app, ["import", str(source), "-c", str(config)]).exit_code == 0
    told = CliRunner().invoke(app, [*typed, "--json"])
    assert told.exit_code == 0, told.output
    shown = json.loads(told.output)
    assert (shown["n_sets"], shown["n_queries"]) == (80, 40)
    assert read_aggregator(file).manifest["outcomes"] == ["ledger"]
    assert CliRunner().invoke(app, [*typed, "--with-score"]).exit_code == 1
    assert CliRunner().invoke(app, [*typed, str(source)]).exit_code == 1
    assert CliRunner().invoke(app, ["fit-aggregator", "-o", str(file)]).exit_code == 1


@pytest.mark.skipif(not (DATA / "math_rm8.parquet").is_file(), reason="needs the recorded data")
def test_on_recorded_samples_with_reward_scores_it_is_no_worse_than_the_vote() -> None:
    """47 problems x 8: vote and oracle are 1 point apart at most, so there is little to win."""
    sets = sets_of(read_outcomes(DATA / "math_rm8.parquet"), 4, with_score=True)
    standing = cross_validate(sets)
    assert standing.n_queries == 47
    assert standing.oracle - standing.vote < 0.03
    assert standing.trained >= standing.vote


@pytest.mark.skipif(not (DATA / "esc_samples.parquet").is_file(), reason="needs the recorded data")
def test_on_recorded_last_letters_it_closes_a_little_of_the_gap() -> None:
    """Sets of eight: better than the vote on held-out folds, by little."""
    table_ = read_outcomes(DATA / "esc_samples.parquet", ("last_letters",))
    standing = cross_validate(sets_of(table_, 8))
    assert standing.n_queries == 256
    assert standing.oracle - standing.vote > 0.04
    assert standing.trained > standing.vote
