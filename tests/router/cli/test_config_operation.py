"""Where values come from, and a LiteLLM proxy's configuration taken over."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from router.cli.litellm_config import import_litellm
from router.errors import ConfigError
from router.gateway.config import parse

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Cli

FILE = """\
ledger: postgresql+psycopg://me:${DB_PASSWORD}@db/ledger
models:
  - name: small
    model: openai/small-model
    base_url: ${WHERE:-http://127.0.0.1:9000/v1}
    api_key: ${UPSTREAM_KEY}
    price: {input_usd_per_million_tokens: 0.10, output_usd_per_million_tokens: 0.40}
strategies:
  - self_consistency: {samples: 3}
default_max_tokens: 100
"""

THEIRS = """\
model_list:
  - model_name: gpt
    litellm_params:
      model: azure/gpt-deployment
      api_base: os.environ/AZURE_BASE
      api_key: os.environ/AZURE_KEY
      api_version: "2025-01-01"
      rpm: 6
    model_info:
      input_cost_per_token: 0.000002
      output_cost_per_token: 8e-06
      max_output_tokens: 900
  - model_name: gpt
    litellm_params: {model: openai/gpt-other, api_key: sk-in-clear}
  - model_name: own
    litellm_params: {model: own-model, api_base: "http://h/v1?a=$b", api_key: sk-in-clear-2}
    model_info: {input_cost_per_token: 0, output_cost_per_token: 0}
  - model_name: unpriced
    litellm_params: {model: openai/nobody-knows-it, api_base: "http://h/v1"}
  - model_name: embed
    litellm_params: {model: openai/text-embedding-3-small}
    model_info: {mode: embedding}
  - model_name: paint
    litellm_params: {model: openai/dall-e-3}
    model_info: {mode: image_generation}
  - model_name: "anthropic/*"
    litellm_params: {model: "anthropic/*"}
litellm_settings:
  max_budget: 12.5
  budget_duration: 30d
  request_timeout: 60
  num_retries: 3
  cache: true
  cache_params: {type: redis, ttl: 600}
router_settings: {routing_strategy: least-busy}
general_settings:
  master_key: os.environ/LITELLM_MASTER_KEY
  database_url: os.environ/DATABASE_URL
environment_variables: {A: b}
"""


def test_every_value_is_shown_with_its_origin(
    tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line, a variable, the default of a reference, or our default; never a secret."""
    monkeypatch.setenv("UPSTREAM_KEY", "upstream-secret")
    monkeypatch.setenv("DB_PASSWORD", "db-secret")
    monkeypatch.delenv("WHERE", raising=False)
    file = tmp_path / "rheostat.yaml"
    file.write_text(FILE)
    done = cli("config", "show", "--origin", "--config", file)
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    for expected in (
        f"ledger = postgresql+psycopg://***@db/ledger  # {file}:1, ${{DB_PASSWORD}}",
        f"models[0].name = small  # {file}:3",
        f"models[0].base_url = http://127.0.0.1:9000/v1  # {file}:5, default of ${{WHERE}}",
        f"models[0].api_key = ***  # {file}:6, ${{UPSTREAM_KEY}}",
        f"models[0].price.output_usd_per_million_tokens = 0.40  # {file}:7",
        "models[0].price.free = false  # default",
        f"strategies[0] = self_consistency(samples=3)  # {file}:9",
        f"default_max_tokens = 100  # {file}:10",
        "auth.mode = open  # default",
        "budgets = []  # default",
    ):
        assert expected in lines, expected
    assert "secret" not in done.stdout.replace("alerts.secret", "")


def test_a_litellm_proxy_is_taken_over() -> None:
    """Models, prices, budget, key, time-out and cache; the rest is named; keys are not copied."""
    made = import_litellm(THEIRS, "litellm.yaml")
    environ = {
        "AZURE_BASE": "https://azure.example/v1",
        "AZURE_KEY": "k",
        "OWN_API_KEY": "k",
        "LITELLM_MASTER_KEY": "sk-0123456789abcdef",
    }
    with pytest.raises(ConfigError, match="no price is known for 'openai/nobody-knows-it'"):
        parse(made.text, "made", environ)
    priced = made.text.replace(
        "model: openai/nobody-knows-it", "model: openai/nobody-knows-it\n  price: {free: true}"
    )
    config = parse(priced, "made", environ)
    gpt, own, unpriced = config.models
    assert (gpt.name, gpt.model, gpt.base_url) == (
        *("gpt", "azure/gpt-deployment"),
        "https://azure.example/v1",
    )
    assert gpt.price is not None
    assert gpt.price.input_usd_per_million_tokens == Decimal(2)
    assert gpt.price.output_usd_per_million_tokens == Decimal(8)
    assert gpt.max_output_tokens == 900
    assert own.base_url == "http://h/v1?a=$b"
    assert (own.model, own.price is not None and own.price.free) == ("openai/own-model", True)
    assert unpriced.api_key is None
    assert [e.name for e in config.embeddings] == ["embed"]
    (budget,) = config.budgets
    assert (budget.limit_usd, budget.period, budget.scope) == (
        *(Decimal("12.5"), "month"),
        "organisation",
    )
    assert config.request_timeout_s == 60
    assert config.cache is not None
    assert config.cache.ttl_s == 600
    assert [key.name for key in config.auth.keys] == ["admin"]
    assert "in-clear" not in made.text
    assert made.unmapped == [
        "model_list[0] (gpt).litellm_params.api_version",
        "model_list[0] (gpt).litellm_params.rpm",
        "model_list[1] (gpt): another deployment of a name that is there already",
        "model_list[5] (paint): models of the mode 'image_generation' are not served",
        "model_list[6] (anthropic/*): only models with a plain name of their own are served",
        "litellm_settings.cache_params.type",
        "litellm_settings.num_retries",
        "general_settings.database_url",
        "router_settings.routing_strategy",
        "environment_variables.A",
    ]
    assert made.to_do == [
        "model_list[2] (own): its key is not copied; export OWN_API_KEY=...",
        "model_list[3] (unpriced): no price is known; add `price:` to the model",
    ]


def test_init_takes_a_proxys_file(tmp_path: Path, cli: Cli) -> None:
    """What is not mapped is told and is in the file; a file that is none of theirs is refused."""
    theirs, ours = tmp_path / "litellm.yaml", tmp_path / "rheostat.yaml"
    theirs.write_text(THEIRS)
    done = cli("init", ours, "--from", theirs)
    assert done.exit_code == 0
    assert "num_retries" in done.output
    assert "# Not mapped: litellm_settings.num_retries" in ours.read_text()
    assert cli("init", tmp_path / "x.yaml", "--from", theirs, "--embedded").exit_code == 1
    for text in ("a: 1\n", "model_list: [{model_name: x}]\n", "model_list: [\n"):
        theirs.write_text(text)
        refused = cli("init", tmp_path / "other.yaml", "--from", theirs)
        assert refused.exit_code == 1
        assert not (tmp_path / "other.yaml").exists()


@pytest.mark.parametrize("duration", ["3h", "90d"])
def test_a_budget_of_another_period_is_not_guessed(duration: str) -> None:
    """It would be another limit."""
    text = THEIRS.replace("30d", duration)
    made = import_litellm(text, "litellm.yaml")
    assert f"litellm_settings.max_budget: there is no period of {duration!r}" in made.unmapped
    assert "limit_usd" not in made.text
