"""What is installed: light imports, a whole wheel, and locks that say what pyproject says."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PACKAGES = ("cost_models", "policies", "storage", "router")
HEAVY = ("litellm", "sklearn", "optuna", "xllamacpp", "fastapi", "pydantic", "sqlalchemy", "numpy")
PIN = re.compile(r"^(?P<name>[a-z0-9._-]+)==(?P<version>[^ ;]+).* \\$")


def run_python(*arguments: str, cwd: Path = ROOT) -> str:
    """Give what a fresh interpreter prints, with its errors when it fails."""
    done = subprocess.run(  # noqa: S603 - this interpreter, with arguments from this file
        [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("module", [*PACKAGES, "router.cli.main"])
def test_importing_a_package_or_the_command_line_loads_nothing_heavy(module: str) -> None:
    """Each heavy library is loaded by the module that owns it, when it is used."""
    code = f"import sys, {module}; print(*(name for name in {HEAVY} if name in sys.modules))"
    assert run_python("-c", code).split() == []


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    run_python("-m", "hatchling", "build", "-t", "wheel", "-d", str(folder))
    return next(folder.glob("rheostat-*.whl"))


def test_the_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    """Prices, weights, migrations, shipped outcomes and type markers travel with the code."""
    expected = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == expected
    assert {f"{package}/py.typed" for package in PACKAGES} <= held


def test_the_wheel_states_its_licence_and_its_command(wheel: Path) -> None:
    """Metadata is complete: licence text, SPDX expression, and the console script."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name.split(".dist-info/")[-1]: name for name in archive.namelist()}
        metadata = message_from_bytes(archive.read(names["METADATA"]))
        commands = archive.read(names["entry_points.txt"]).decode()
        licence = archive.read(names["licenses/LICENSE"]).decode()
    assert metadata["License-Expression"] == "Apache-2.0"
    assert licence.split()[:2] == ["Apache", "License"]
    assert "rheostat = router.cli.main:main" in commands


def test_the_installed_wheel_runs_away_from_the_checkout(wheel: Path, tmp_path: Path) -> None:
    """The unpacked wheel, with the locked libraries, answers ``--help`` and reads its data."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import router; print(router.__file__)\n"
        "from router.providers.weights import manifest; print(*manifest())\n"
        "sys.argv = ['rheostat', '--help']\n"
        "from router.cli.main import main; main()\n"
    )
    printed = run_python("-I", "-c", code, cwd=tmp_path)
    assert printed.startswith(str(tmp_path))
    assert "smollm2-135m" in printed
    assert "serve" in printed


def pyproject() -> dict[str, Any]:
    """Read pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def required(*extras: str) -> list[Requirement]:
    """Direct requirements of the project with ``extras``, its references to itself followed."""
    project = pyproject()["project"]
    found: list[Requirement] = []
    texts = list(project["dependencies"])
    for extra in extras:
        texts += project["optional-dependencies"][extra]
    for requirement in map(Requirement, texts):
        if requirement.name == project["name"]:
            found += required(*sorted(requirement.extras))
        else:
            found.append(requirement)
    return found


def pins(lock: str) -> dict[str, set[str]]:
    """Versions that a lock pins for each package: more than one where platforms differ."""
    found: dict[str, set[str]] = {}
    for line in (ROOT / "requirements" / f"{lock}.lock").read_text("utf-8").splitlines():
        if match := PIN.match(line):
            found.setdefault(match["name"], set()).add(match["version"])
    return found


@pytest.mark.parametrize("lock", ["demo", "dev", "server"])
def test_a_lock_pins_what_pyproject_asks_for(lock: str) -> None:
    """Each direct requirement is pinned to a version that it allows; if not, run `make lock`."""
    pinned = pins(lock)
    for requirement in [
        *required(lock),
        *map(Requirement, pyproject()["build-system"]["requires"]),
    ]:
        versions = pinned.get(canonicalize_name(requirement.name), set())
        assert versions, f"{requirement} is not in {lock}.lock"
        assert all(requirement.specifier.contains(version) for version in versions), requirement


@pytest.mark.parametrize("lock", ["demo", "dev", "server"])
def test_a_lock_has_a_hash_for_every_pin_and_names_no_machine(lock: str) -> None:
    """Nothing can be installed unchecked, and the file is the same wherever it is made."""
    text = (ROOT / "requirements" / f"{lock}.lock").read_text("utf-8")
    blocks = re.split(r"\n(?=[a-z0-9])", text)
    packages = [block for block in blocks if "==" in block.splitlines()[0]]
    assert packages
    assert all("--hash=sha256:" in block for block in packages)
    assert "://" not in text
    assert "--find-links" not in text
    assert "--index-url" not in text


def test_the_demo_installs_the_same_versions_as_the_tests() -> None:
    """What is tested is what a newcomer runs."""
    tested = pins("dev")
    assert all(tested[name] == versions for name, versions in pins("demo").items())


def test_make_lists_its_targets_when_asked_for_nothing() -> None:
    """The targets that the README names are there with a line of help each."""
    done = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S607 - make from PATH, as a user runs it
    listed = {line.split()[1] for line in done.stdout.splitlines()}
    assert {"demo", "test", "check", "docs", "lock", "bench", "clean"} <= listed
