"""``rheostat serve`` as a process of its own: answers, refusals to start, and its end."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Cli

RHEOSTAT = Path(sys.executable).with_name("rheostat")


@contextmanager
def server(*arguments: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start the command and wait for the address that it prints."""
    process = subprocess.Popen(  # noqa: S603 - this project's command
        [RHEOSTAT, "serve", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "300"},
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://\S+(?=/v1)", line)
        assert found, line + process.communicate()[1]
        yield process, found[0]
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def ask(base_url: str, question: str = "What is 3 + 4?") -> httpx.Response:
    """Post one question; a server that still starts keeps it waiting."""
    with httpx.Client(trust_env=False, timeout=60) as client:
        return client.post(
            f"{base_url}/v1/chat/completions",
            json={"model": "auto", "messages": [{"role": "user", "content": question}]},
        )


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_server_leaves_a_correct_ledger(
    cli: Cli, config: Path, stop: signal.Signals
) -> None:
    """What was answered is settled, nothing is open, and the doctor finds nothing."""
    with server("--config", config, "--port", 0) as (process, base_url):
        assert ask(base_url).status_code == 200
        process.send_signal(stop)
        process.wait(timeout=20)
    told = json.loads(cli("report", "--config", config, "--json").stdout)
    assert told["totals"]["n_entries"] == 1
    assert told["totals"]["n_open"] == 0
    assert cli("doctor", "--config", config).exit_code == 0


def test_a_port_in_use_is_said_before_anything_is_loaded(cli: Cli, config: Path) -> None:
    """The address and what to do are named; status 1."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = cli("serve", "--config", config, "--port", port)
    assert done.exit_code == 1
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr
    assert "choose another --port" in done.stderr


def test_two_workers_share_one_ledger(cli: Cli, config: Path) -> None:
    """Both processes serve on one port and write to one file."""
    with server("--config", config, "--port", 0, "--workers", 2) as (process, base_url):
        assert all(ask(base_url).status_code == 200 for _ in range(6))
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)
    told = json.loads(cli("report", "--config", config, "--json").stdout)
    assert told["totals"]["n_entries"] == 6
    assert cli("doctor", "--config", config).exit_code == 0


def test_workers_end_when_their_supervisor_is_killed(cli: Cli, config: Path) -> None:
    """Nobody is left on the port after a kill -9, and what was answered is in the ledger."""
    with server("--config", config, "--port", 0, "--workers", 2) as (process, base_url):
        assert ask(base_url).status_code == 200
        process.kill()
        address = ("127.0.0.1", httpx.URL(base_url).port)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with socket.socket() as caller:
                if caller.connect_ex(address):
                    break
            time.sleep(0.1)
        else:
            pytest.fail("a worker still serves")
    assert cli("doctor", "--config", config).exit_code == 0


def test_a_missing_model_file_is_said_in_one_line(tmp_path: Path) -> None:
    """Weights that were never fetched keep the server from starting, with the command to run."""
    config = tmp_path / "rheostat.yaml"
    config.write_text(
        f"ledger: sqlite:///{tmp_path}/ledger.db\nmachine: {{usd_per_hour: 1}}\n"
        "models: [{name: tiny, model: local/smollm2-135m}]\n"
    )
    done = subprocess.run(  # noqa: S603 - this project's command
        [RHEOSTAT, "serve", "--config", config, "--port", "0"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "RHEOSTAT_HOME": str(tmp_path)},
    )
    assert done.returncode == 1
    assert "rheostat models fetch smollm2-135m" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_the_first_start_shows_a_key_that_opens_and_the_second_shows_none(config: Path) -> None:
    """With a pepper and no key nobody could ask; the key is printed once."""
    auth = "auth: {mode: keys, pepper: 'a pepper of some length'}\n"
    config.write_text(config.read_text().rstrip() + "\n" + auth)
    with server("--config", config, "--port", 0) as (process, base_url):
        assert process.stdout is not None
        assert "it is not shown again" in process.stdout.readline()
        headers = {"authorization": f"Bearer {process.stdout.readline().strip()}"}
        with httpx.Client(trust_env=False, timeout=60) as client:
            assert client.get(f"{base_url}/v1/models", headers=headers).status_code == 200
            assert client.get(f"{base_url}/v1/models").status_code == 401
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)
    with server("--config", config, "--port", 0) as (process, base_url):
        with httpx.Client(trust_env=False, timeout=60) as client:
            assert client.get(f"{base_url}/v1/models", headers=headers).status_code == 200
        process.send_signal(signal.SIGTERM)
        assert "shown again" not in process.communicate(timeout=30)[0]
