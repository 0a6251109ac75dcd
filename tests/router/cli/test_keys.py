"""``rheostat keys``, and a gateway that is opened with what it prints."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from router.cli.build import build_app
from router.gateway.background import serving
from router.gateway.config import load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import Cli

AUTH = "auth: {mode: keys, pepper: 'a pepper of some length'}\n"


@pytest.fixture
def guarded(config: Path) -> Path:
    """Let nobody in without a key of the ledger."""
    config.write_text(config.read_text().rstrip() + "\n" + AUTH)
    return config


@contextmanager
def open_gateway(config: Path) -> Iterator[httpx.Client]:
    """Serve a configuration; give a client of it."""
    with (
        serving(build_app(load(config))) as base_url,
        httpx.Client(base_url=base_url, trust_env=False, timeout=60) as client,
    ):
        yield client


def ask(client: httpx.Client, key: str, **more: Any) -> httpx.Response:  # noqa: ANN401 - a body
    """Ask with a key."""
    body = {"model": "auto", "messages": [{"role": "user", "content": "2+2?"}], **more}
    headers = {"authorization": f"Bearer {key}"}
    return client.post("/v1/chat/completions", json=body, headers=headers)


def test_a_key_opens_the_gateway_for_its_models_alone(cli: Cli, guarded: Path) -> None:
    """Made, used, shown without its secret, replaced, ended."""
    made = cli("keys", "create", "acme", "--model", "small", "--config", guarded)
    assert made.exit_code == 0, made.output
    key = made.stdout.splitlines()[0]
    key_id, secret = key.split("_", 2)[1:]
    listed = cli("keys", "list", "--config", guarded).stdout
    assert key_id in listed
    assert "acme" in listed
    assert secret not in listed
    with open_gateway(guarded) as client:
        assert ask(client, "rh_nobody_nothing").status_code == 401
        served = ask(client, key)
        assert served.status_code == 200, served.text
        assert served.json()["compute"]["model"] == "small"
        for more in ({"model": "large"}, {"compute": {"allowed_models": ["large"]}}):
            assert ask(client, key, **more).status_code == 403
        refused = ask(client, key, compute={"allowed_models": ["large"]})
        assert refused.json()["error"]["code"] == "model_not_allowed"
        rotated = cli("keys", "rotate", key_id, "--overlap-hours", 0, "--config", guarded)
        new = rotated.stdout.splitlines()[0]
        assert ask(client, new).status_code == 200
    assert cli("keys", "revoke", key_id, "--config", guarded).exit_code == 0
    assert "revoked" in cli("keys", "list", "--config", guarded).stdout
    with open_gateway(guarded) as client:
        assert ask(client, key).status_code == 401
        assert client.get("/readyz").status_code == 200


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        pytest.param(("create", "a", "--model", "huge"), "no model 'huge'", id="model"),
        pytest.param(("revoke", "nobody"), "no valid key 'nobody'", id="revoke"),
        pytest.param(("rotate", "nobody"), "no valid key 'nobody'", id="rotate"),
        pytest.param(
            ("limit", "nobody", "--parallel-requests", 1), "no valid key 'nobody'", id="limit"
        ),
        pytest.param(("limit", "nobody"), "name a limit to change", id="no limit"),
    ],
)
def test_what_is_not_there_is_named(
    cli: Cli, guarded: Path, arguments: tuple[str, ...], told: str
) -> None:
    """On standard error, with status 1."""
    done = cli("keys", *arguments, "--config", guarded)
    assert done.exit_code == 1
    assert told in done.stderr


def test_without_a_pepper_there_are_no_keys_in_the_ledger(cli: Cli, config: Path) -> None:
    """The message says what to write; a pepper in mode open, or a short one, is refused."""
    done = cli("keys", "create", "a", "--config", config)
    assert done.exit_code == 1
    assert "pepper" in done.stderr
    for auth in ("{mode: open, pepper: 'a pepper of some length'}", "{mode: keys, pepper: short}"):
        config.write_text(config.read_text().split("auth:")[0].rstrip() + f"\nauth: {auth}\n")
        assert cli("config", "check", "--config", config).exit_code == 1


def test_a_team_a_tag_and_a_session_are_limited_beside_the_key(cli: Cli, guarded: Path) -> None:
    """The key brings its team, the request its tags and session; any of them can refuse."""
    more = "".join(
        f'  - {{scope: "{scope}", limit_usd: {limit}, period: total}}\n'
        for scope, limit in (("team:blue", 2), ("tag:batch", 3), ("session:dear", 0))
    )
    text = guarded.read_text().replace("auth:", more + "tags: [batch, night]\nauth:")
    guarded.write_text(text)
    made = cli("keys", "create", "acme", "--team", "blue", "--config", guarded)
    key = made.stdout.splitlines()[0]
    assert "blue" in cli("keys", "list", "--config", guarded).stdout
    with open_gateway(guarded) as client:
        tagged = {"tags": ["batch", "batch"], "session": "s-1"}
        assert ask(client, key, compute=tagged).status_code == 200
        refused = ask(client, key, compute={"session": "dear"})
        assert refused.status_code == 402
        assert refused.json()["error"]["budget"]["scope"] == "session:dear"
        unlisted = ask(client, key, compute={"tags": ["day"]})
        assert (unlisted.status_code, unlisted.json()["error"]["code"]) == (400, "tag_not_allowed")
        assert "use one of: batch, night" in unlisted.json()["error"]["message"]
        for wrong in ({"tags": ["a"] * 9}, {"tags": ["no blanks"]}, {"session": "x" * 129}):
            assert ask(client, key, compute=wrong).json()["error"]["code"] == "invalid_value"
    explain = ("budget", "explain", "acme", "--json", "--config", guarded)
    told = json.loads(cli(*explain, "--tag", "batch", "--session", "s-1").stdout)
    spent = {b["scope"]: b["spent_nano_usd"] for b in told}
    assert set(spent) == {"organisation", "team:blue", "tag:batch"}
    assert len(set(spent.values())) == 1
    assert spent["team:blue"] > 0


def test_a_model_that_is_gone_leaves_a_key_its_other_models(cli: Cli, guarded: Path) -> None:
    """The key of a removed model still serves with what is left, and says so with nothing left."""
    both = cli("keys", "create", "a", "--model", "small", "--model", "large", "--config", guarded)
    one = cli("keys", "create", "b", "--model", "large", "--config", guarded)
    text = guarded.read_text()
    start, end = text.index("  - name: large"), text.index("strategies:")
    guarded.write_text(text[:start] + text[end:])
    with open_gateway(guarded) as client:
        key = both.stdout.splitlines()[0]
        assert ask(client, key).json()["compute"]["model"] == "small"
        assert ask(client, key, model="large").json()["error"]["code"] == "model_not_allowed"
        refused = ask(client, one.stdout.splitlines()[0])
        assert (refused.status_code, "configured any more" in refused.text) == (403, True)


def test_a_key_is_limited_in_how_fast_it_asks(cli: Cli, guarded: Path) -> None:
    """429 in OpenAI's form, with headers that say what is left; a limit is changed, and taken."""
    limits = ("--requests-per-minute", 2, "--tokens-per-minute", 100_000)
    made = cli("keys", "create", "acme", *limits, "--config", guarded)
    key = made.stdout.splitlines()[0]
    key_id = key.split("_", 2)[1]
    listed = cli("keys", "list", "--config", guarded).stdout
    assert "2 requests/min" in " ".join(listed.split())
    with open_gateway(guarded) as client:
        first = ask(client, key, max_tokens=10)
        assert first.headers["x-ratelimit-limit-requests"] == "2"
        assert first.headers["x-ratelimit-remaining-requests"] == "1"
        assert first.headers["x-ratelimit-reset-requests"] == "30.000s"
        assert first.headers["x-ratelimit-limit-tokens"] == "100000"
        assert 0 < 100_000 - int(first.headers["x-ratelimit-remaining-tokens"]) < 100
        streamed = ask(client, key, stream=True)
        assert (streamed.status_code, "data: [DONE]" in streamed.text) == (200, True)
        assert streamed.headers["x-ratelimit-remaining-requests"] == "0"
        refused = ask(client, key)
        assert refused.status_code == 429
        error = refused.json()["error"]
        assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
        assert "2 requests per minute" in error["message"]
        assert 1 <= int(refused.headers["retry-after"]) <= 30
        assert refused.headers["x-ratelimit-remaining-requests"] == "0"
        theirs = client.post(
            "/v1/messages",
            json={"model": "auto", "max_tokens": 9, "messages": [{"role": "user", "content": "?"}]},
            headers={"x-api-key": key},
        )
        assert (theirs.status_code, theirs.json()["error"]["type"]) == (429, "rate_limit_error")
        changed = ("--requests-per-minute", 0, "--parallel-requests", 1)
        told = cli("keys", "limit", key_id, *changed, "--config", guarded)
        assert "100000 tokens/min, 1 at once" in told.stdout
        end = time.monotonic() + 10
        while (again := ask(client, key)).status_code == 429:
            assert time.monotonic() < end
            time.sleep(0.05)
        assert again.status_code == 200
        assert "x-ratelimit-limit-requests" not in again.headers
    rotated = cli("keys", "rotate", key_id, "--config", guarded).stdout.splitlines()[0]
    assert rotated
    assert " ".join(cli("keys", "list", "--config", guarded).stdout.split()).count("1 at once") == 2


def test_a_key_of_the_file_is_limited_too(config: Path) -> None:
    """By its members in the file."""
    shown = "a-key-that-is-hard-to-guess"
    key = f"{{name: acme, key: {shown}, requests_per_minute: 1}}"
    text = config.read_text().split("auth:")[0].rstrip()
    config.write_text(f"{text}\nauth: {{mode: keys, keys: [{key}]}}\n")
    with open_gateway(config) as client:
        assert [ask(client, shown).status_code for _ in range(2)] == [200, 429]
        assert client.get("/v1/models", headers={"authorization": f"Bearer {shown}"}).is_success
