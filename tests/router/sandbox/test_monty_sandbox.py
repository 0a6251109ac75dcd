"""The sandbox against programs that mean harm."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from router.sandbox.base import Ending, Execution, Limits
from router.sandbox.monty import MAX_CODE_CHARS, MontySandbox, installed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not installed(), reason="needs rheostat[sandbox]"),
]
LIMITS = Limits(time_s=0.5, memory_bytes=16 << 20, output_chars=100)


@pytest.fixture(scope="module")
def box() -> Iterator[MontySandbox]:
    """One pool for the file."""
    made = MontySandbox()
    yield made
    made.close()


@pytest.mark.parametrize(
    ("code", "result"),
    [
        ("print(6 * 7)", "42"),
        ("import math\nprint(math.gcd(12, 18))", "6"),
        ("def solution():\n    return sum(range(10))", "45"),
        ("a = [n * n for n in range(5)]\na[-1]", "16"),
        ("print('\\ud800 x')", None),
        ("x = 1", None),
        ("", None),
    ],
)
async def test_plain_programs_give_their_result(
    box: MontySandbox, code: str, result: str | None
) -> None:
    """A value, the last line printed, or nothing."""
    done = await box.run(code, LIMITS)
    assert done.result == result or (result is None and "x" in (done.result or "x"))


HOSTILE = {
    "loop": "while True: pass",
    "memory": "a = [0] * 10**9",
    "growing memory": "x = 'ab'\nwhile True: x = x + x",
    "huge number": "10 ** 10 ** 9",
    "recursion": "def f(): return f()\nf()",
    "sleep": "import time\ntime.sleep(30)",
    "fork": "import os\nos.fork()",
    "spawn": "import subprocess\nsubprocess.run(['ls'])",
    "shell": "import os\nos.system('touch {marker}')",
    "read a file": "print(open('/etc/passwd').read())",
    "write a file": "open('{marker}', 'w').write('x')",
    "read through pathlib": "from pathlib import Path\nprint(Path('/etc/passwd').read_text())",
    "network": "import socket\nsocket.create_connection(('127.0.0.1', 80))",
    "http": "import urllib.request\nurllib.request.urlopen('http://127.0.0.1')",
    "environment": "import os\nprint(os.environ['PATH'])",
    "escape by classes": "print(().__class__.__bases__[0].__subclasses__())",
    "escape by builtins": "print(__builtins__)",
    "escape by import": "__import__('os').system('touch {marker}')",
    "escape by eval": "eval('__import__(\"os\").getcwd()')",
    "escape by frames": "import sys\nprint(sys._getframe().f_globals)",
    "native code": "import ctypes\nctypes.string_at(0)",
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_program_is_stopped_and_leaves_nothing(
    box: MontySandbox, name: str, tmp_path: Path
) -> None:
    """It ends within its time, with an error and without a result; the next program runs."""
    marker = tmp_path / "marker"
    started_s = time.monotonic()
    done = await box.run(HOSTILE[name].replace("{marker}", str(marker)), LIMITS)
    assert done.ending is not Ending.OK, done
    assert done.result is None
    assert done.error
    assert "root:" not in done.output
    assert not marker.exists()
    assert time.monotonic() - started_s < 20
    after = await box.run("print(1)", LIMITS)
    assert after.result == "1"


async def test_output_is_capped(box: MontySandbox) -> None:
    """However much is printed, in one piece or in many."""
    done = await box.run("print('x' * 10**6)", LIMITS)
    assert len(done.output) == 100
    done = await box.run("for i in range(10**7): print('y' * 50)", LIMITS)
    assert len(done.output) <= 100
    done = await box.run("'z' * 10**6", LIMITS)
    assert len(done.value or "") == 100


async def test_what_the_sandbox_lacks_is_told_from_a_mistake(box: MontySandbox) -> None:
    """So that a program is not called wrong for using what is missing here."""
    endings = [
        (await box.run(code, LIMITS)).ending
        for code in ("import statistics", "def g():\n    yield 1\ng()", "1 / 0", "x ==", "'a' + 1")
    ]
    assert endings == [Ending.UNSUPPORTED] * 2 + [Ending.ERROR] * 3


async def test_sessions_do_not_see_one_another(box: MontySandbox) -> None:
    """Nothing stays from one program to the next."""
    await box.run("secret = 7", LIMITS)
    assert (await box.run("print(secret)", LIMITS)).ending is Ending.ERROR


async def test_programs_beside_one_another_share_one_pool() -> None:
    """More of them than workers; each gets its own result."""
    own = MontySandbox()
    try:
        done = await asyncio.gather(*(own.run(f"print({i} * 2)", LIMITS) for i in range(12)))
    finally:
        own.close()
    assert [one.result for one in done] == [str(i * 2) for i in range(12)]


async def test_a_program_beyond_its_size_is_not_run(box: MontySandbox) -> None:
    """The limit is stated."""
    done = await box.run("x = 1\n" * MAX_CODE_CHARS, LIMITS)
    assert done == Execution(Ending.LIMIT, error=done.error)
    assert str(MAX_CODE_CHARS) in done.error
