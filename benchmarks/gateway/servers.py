"""The servers that are compared: each started, waited for, watched from outside, and ended."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).resolve().parents[2]
LOAD_CPU, SERVER_CPU = 0, 1
START_S = 60.0
POLL_S = 0.01
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PEPPER = "a pepper of the benchmark's own"

OURS = """\
ledger: sqlite:///{folder}/ledger.db
models:
  - name: small
    model: openai/small
    base_url: {upstream}
    price: {{input_usd_per_million_tokens: 0.1, output_usd_per_million_tokens: 0.4}}
  - name: large
    model: openai/large
    base_url: {upstream}
    price: {{input_usd_per_million_tokens: 2, output_usd_per_million_tokens: 8}}
strategies: [direct]
auth: {{mode: keys, pepper: "{pepper}"}}
budgets:
  - {{scope: organisation, limit_usd: 100000, period: day}}
  - {{scope: "key:bench", limit_usd: 10000, period: month}}
"""
LITELLM = """\
model_list:
  - model_name: small
    litellm_params:
      model: openai/gpt-4o-mini
      api_base: {upstream}
      api_key: sk-none
general_settings: {{master_key: sk-bench}}
litellm_settings: {{telemetry: false}}
"""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers; ``models`` maps what a row is called to the model that it asks for.

    ``ready_s`` is the time from its start to its first answer; ``process`` is None for the upstream
    itself, whose work is counted for nobody.
    """

    models: Mapping[str, str]
    base_url: str
    key: str = ""
    ready_s: float = 0.0
    process: subprocess.Popen[bytes] | None = None

    @property
    def cpu_s(self) -> float:
        """User and system seconds that its processes used so far."""
        return sum(sum(map(int, stat(pid)[11:15])) for pid in self._pids()) / TICKS_PER_S

    @property
    def rss_mb(self) -> float:
        """Resident megabytes of its processes."""
        pages = sum(int(stat(pid)[21]) for pid in self._pids())
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def _pids(self) -> list[int]:
        return [] if self.process is None else family(self.process.pid)


def stat(pid: int) -> list[str]:
    """Read what Linux says of a process, after its name: 11 to 14 are its ticks, 21 its pages."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def family(pid: int) -> list[int]:
    """Give a process and all that it started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(one for child in children for one in family(int(child)))]


@contextmanager
def upstream(folder: Path) -> Iterator[Server]:
    """Start the upstream, on the CPU of the load."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.gateway.upstream", str(port)]
    base_url = f"http://127.0.0.1:{port}/v1"
    with running(command, folder, LOAD_CPU) as process:
        wait(base_url, "", "small", process)
        yield Server({"direct": "small"}, base_url)


@contextmanager
def rheostat(folder: Path, to: str, *, fitted: bool) -> Iterator[Server]:
    """Start our gateway with a key of its ledger and two budgets.

    ``fitted`` puts a policy in service and asks for `auto`; else a model is named and none decides.
    """
    (folder / "rheostat.yaml").write_text(OURS.format(folder=folder, upstream=to, pepper=PEPPER))
    (folder / "outcomes.jsonl").write_text(outcomes())
    steps = [["keys", "create", "bench"]]
    if fitted:
        fit = ["fit", "outcomes.jsonl", "-o", "policy", "--no-derived", "--trials", "5", "--json"]
        steps += [fit, ["policy", "promote", "policy"]]
    command = [sys.executable, "-c", "from router.cli.main import main; main()"]
    key = ""
    for step in steps:
        done = subprocess.run(  # noqa: S603 - our own command
            [*command, *step], cwd=folder, env=environment(), check=True, capture_output=True
        )
        key = next((w for w in done.stdout.decode().split() if w.startswith("rh_")), key)
    port = free_port()
    with running([*command, "serve", "--port", str(port)], folder, SERVER_CPU) as process:
        base_url = f"http://127.0.0.1:{port}/v1"
        ready_s = wait(base_url, key, "small", process)
        models = {"rheostat auto": "auto"} if fitted else {"rheostat": "small"}
        yield Server(models, base_url, key, ready_s, process)


@contextmanager
def bare(folder: Path, to: str) -> Iterator[Server]:
    """Start an application that only passes requests on."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.gateway.bare", str(port), to]
    with running(command, folder, SERVER_CPU) as process:
        base_url = f"http://127.0.0.1:{port}/v1"
        ready_s = wait(base_url, "", "small", process)
        yield Server({"bare FastAPI": "small"}, base_url, "", ready_s, process)


@contextmanager
def litellm(folder: Path, to: str, program: str | None) -> Iterator[Server | None]:
    """Start litellm's proxy, without a database; None where it is not installed."""
    found = shutil.which(program or "litellm")
    if found is None or not proxy_is_installed(found):
        yield None
        return
    (folder / "litellm.yaml").write_text(LITELLM.format(upstream=to))
    port = free_port()
    command = [found, "--config", "litellm.yaml", "--host", "127.0.0.1", "--port", str(port)]
    with running(command, folder, SERVER_CPU) as process:
        base_url = f"http://127.0.0.1:{port}/v1"
        ready_s = wait(base_url, "sk-bench", "small", process)
        yield Server({"litellm proxy": "small"}, base_url, "sk-bench", ready_s, process)


def proxy_is_installed(program: str) -> bool:
    """Tell whether the proxy's own requirements are there too, not litellm's library alone."""
    python = Path(program).resolve().with_name("python")
    python = python if python.exists() else Path(program).with_name("python")
    probe = [str(python), "-c", "import apscheduler, backoff, orjson"]
    return subprocess.run(probe, check=False, capture_output=True).returncode == 0  # noqa: S603


def outcomes() -> str:
    """Give recorded outcomes whose truth is planted: the small model fails at long questions."""
    chance = random.Random(1)
    rows = []
    for i in range(120):
        hard = i % 2 == 1
        text = "Prove, step by step, that the series converges: " * 3 if hard else "What is it?"
        for model, right, usd in (("small", 0.1 if hard else 0.9, 1e-5), ("large", 0.9, 1e-3)):
            rows.append(
                {
                    "query_id": f"q{i}",
                    "query": f"{text} {chance.randrange(10**6)}",
                    "model": model,
                    "strategy": "direct",
                    "correct": int(chance.random() < right),
                    "completion_tokens": 50,
                    "cost_usd": usd,
                }
            )
        rows[-1]["query"] = rows[-2]["query"]
    return "".join(json.dumps(row) + "\n" for row in rows)


@contextmanager
def running(command: Sequence[str], folder: Path, cpu: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command on one CPU, where there are two, until the block ends."""
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 - what this benchmark compares
            command, cwd=folder, env=environment(), stdout=log, stderr=log
        )
    pin(process.pid, cpu)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(START_S)


def pin(pid: int, cpu: int) -> None:
    """Keep a process on one CPU, where there is more than one."""
    if len(os.sched_getaffinity(0)) > 1:
        os.sched_setaffinity(pid, {cpu})


def environment() -> dict[str, str]:
    """Give the environment of what is started: our code, and no look-ups of prices elsewhere."""
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
        "LITELLM_MODE": "PRODUCTION",
    }


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def wait(base_url: str, key: str, model: str, process: subprocess.Popen[bytes]) -> float:
    """Ask until there is an answer; give the seconds that it took."""
    began_s = time.perf_counter()
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
    request = urllib.request.Request(  # noqa: S310 - loopback
        f"{base_url}/chat/completions",
        json.dumps(body).encode(),
        {"content-type": "application/json", "authorization": f"Bearer {key}"},
    )
    while time.perf_counter() - began_s < START_S and process.poll() is None:
        try:
            with urllib.request.urlopen(request, timeout=START_S):  # noqa: S310 - loopback
                return time.perf_counter() - began_s
        except OSError:
            time.sleep(POLL_S)
    msg = f"{process.args!r} did not answer; read server.log in its folder"
    raise RuntimeError(msg)
