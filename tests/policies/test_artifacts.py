"""Artifacts come back as they were, or not at all."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest
from planted import ARMS, planted

from cost_models.types import Arm
from policies.artifacts import assemble, from_bytes, load, save, to_bytes
from policies.base import Forecast, Limits
from policies.errors import PolicyNotReadyError
from policies.group_relative import Correction, learned_policy
from policies.training import Training, train

if TYPE_CHECKING:
    from pathlib import Path

FITTED = train(planted(60), Training(trials=1), created_at=datetime(2026, 1, 2, tzinfo=UTC))
DATA = to_bytes(FITTED)
TEXTS = [*planted(12, seed=4).queries, "something else"]


def changed(name: str, value: np.ndarray) -> bytes:
    """Give the artifact with one array replaced."""
    with np.load(io.BytesIO(DATA)) as stored:
        arrays = {**stored, name: value}
    sink = io.BytesIO()
    np.savez(sink, allow_pickle=False, **arrays)
    return sink.getvalue()


def header(data: bytes = DATA) -> dict[str, object]:
    """Give the JSON inside the artifact."""
    with np.load(io.BytesIO(data)) as stored:
        parsed: dict[str, object] = json.loads(stored["header"].tobytes())
    return parsed


def as_array(value: object) -> np.ndarray:
    """JSON as the artifact holds it."""
    return np.frombuffer(json.dumps(value).encode(), dtype=np.uint8)


def test_bytes_give_the_same_policy_back() -> None:
    """Every prediction, also of unknown arms, every parameter, the version and the manifest."""
    back = from_bytes(DATA)
    arms = [*ARMS, Arm("large", "new")]
    before, after = (f.estimator.predict(TEXTS, arms) for f in (FITTED, back))
    for name in ("quality", "completion_tokens", "cost_usd", "difficulty", "in_distribution"):
        np.testing.assert_array_equal(getattr(before, name), getattr(after, name))
    assert back.policy == FITTED.policy
    assert back.manifest == FITTED.manifest
    assert back.version == FITTED.version


def test_a_group_relative_policy_comes_back() -> None:
    """With all that it learned; who knows the utility rule alone is told by another format."""
    rng = np.random.default_rng(0)
    features = FITTED.estimator.predict(TEXTS).features
    weights = 20.0 * rng.normal(size=(2, features.shape[1], 3))
    correction = Correction(ARMS, weights, 0.5, 2e3, 0.01)
    made = assemble(FITTED.estimator, learned_policy(FITTED.policy, correction), {"source": "x"})
    data = to_bytes(made)
    back = from_bytes(data)
    assert to_bytes(back) == data
    assert back.version == made.version != FITTED.version
    prediction = back.estimator.predict(TEXTS, ARMS)
    cost = prediction.cost_usd
    assert cost is not None
    asked = Forecast(ARMS, cost, prediction.quality, features=prediction.features)
    before, after = (fitted.policy.probability(asked, Limits()) for fitted in (made, back))
    np.testing.assert_array_equal(before, after)
    assert np.abs(after - FITTED.policy.probability(asked, Limits())).max() > 0.1
    assert (header(data)["format"], header()["format"]) == (3, 2)


def test_a_policy_of_an_unknown_kind_is_refused() -> None:
    """It is not served as something else, though nothing is damaged."""
    told = header()
    told["policy"] = {**cast("dict[str, object]", told["policy"]), "kind": "oracle"}
    text = json.dumps(told, sort_keys=True)
    with np.load(io.BytesIO(DATA)) as stored:
        arrays = {name: stored[name] for name in stored.files if name not in {"header", "digest"}}
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        digest.update(f"|{name}|{arrays[name].dtype.str}|{arrays[name].shape}|".encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    texts = {"header": text, "digest": digest.hexdigest()}
    sink = io.BytesIO()
    np.savez(sink, **arrays, **{k: np.frombuffer(v.encode(), np.uint8) for k, v in texts.items()})
    with pytest.raises(PolicyNotReadyError, match="kind 'oracle'"):
        from_bytes(sink.getvalue())


def test_writing_twice_gives_the_same_bytes() -> None:
    """Also after reading: the ledger keeps one artifact for one version."""
    assert to_bytes(FITTED) == DATA == to_bytes(from_bytes(DATA))


def test_a_directory_gives_the_same_policy_back(tmp_path: Path) -> None:
    """Two files: the policy, and a manifest that people can read."""
    save(FITTED, tmp_path / "new" / "policy")
    assert to_bytes(load(tmp_path / "new" / "policy")) == DATA
    manifest = json.loads((tmp_path / "new" / "policy" / "manifest.json").read_text())
    assert manifest["version"] == FITTED.version


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x80\x04N.", id="a pickle"),
        pytest.param(DATA[: len(DATA) // 2], id="cut off"),
        pytest.param(changed("success.shared", np.zeros(3)), id="other coefficients"),
        pytest.param(changed("extra", np.zeros(3)), id="an array more"),
        pytest.param(changed("header", as_array({**header(), "policy": {}})), id="other policy"),
        pytest.param(changed("header", as_array({**header(), "format": 99})), id="other format"),
        pytest.param(changed("header", as_array([])), id="no header"),
    ],
)
def test_damaged_artifacts_are_refused(data: bytes) -> None:
    """Whatever is wrong, nothing is chosen with it."""
    with pytest.raises(PolicyNotReadyError):
        from_bytes(data)


def test_arrays_of_objects_are_never_loaded() -> None:
    """A pickle hidden in an array is refused, not run."""
    sink = io.BytesIO()
    np.savez(sink, header=np.array([{"a": 1}], dtype=object), digest=np.zeros(1))
    with pytest.raises(PolicyNotReadyError, match="allow_pickle"):
        from_bytes(sink.getvalue())


def test_a_manifest_of_another_policy_is_refused(tmp_path: Path) -> None:
    """What people read must be what serves."""
    save(FITTED, tmp_path)
    path = tmp_path / "manifest.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(PolicyNotReadyError, match="does not belong"):
        load(tmp_path)


def test_an_empty_directory_has_no_policy(tmp_path: Path) -> None:
    """The message names the directory."""
    with pytest.raises(PolicyNotReadyError, match=str(tmp_path)):
        load(tmp_path)


def test_a_stored_policy_predicts_without_scikit_learn_and_scipy(tmp_path: Path) -> None:
    """A server that reads one does not pay their time and memory; what it predicts is the same."""
    save(FITTED, tmp_path)
    script = """
import sys
from pathlib import Path
from policies.artifacts import load
fitted = load(Path(sys.argv[1]))
print(fitted.estimator.predict([sys.argv[2]]).quality.tolist())
print([name for name in ("scipy", "sklearn") if name in sys.modules])
"""
    command = [sys.executable, "-c", script, str(tmp_path), TEXTS[0]]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603 - this interpreter
    quality, loaded = map(json.loads, said.splitlines())
    assert loaded == []
    assert quality == FITTED.estimator.predict([TEXTS[0]]).quality.tolist()
