"""The configuration file: its form, its defaults, its secrets, and every way to get it wrong."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
import yaml

from cost_models.budgets import Period
from cost_models.pricing import shipped_price
from policies.pacing import Pacing
from router.errors import ConfigError
from router.gateway.config import Config, load, parse

if TYPE_CHECKING:
    from pathlib import Path

ISSUE = """\
ledger: sqlite:///rheostat.db          # or postgresql+psycopg://...
models:
  - name: small                        # the name clients and reports see
    model: openai/some-model           # litellm form
    base_url: http://127.0.0.1:9000/v1 # optional
    api_key: ${UPSTREAM_KEY}           # optional
    price: {input_usd_per_million_tokens: 0.10, output_usd_per_million_tokens: 0.40}
strategies: [direct, cot, {self_consistency: {samples: 5}}]
budgets:
  - {scope: organisation, limit_usd: 5.00, period: day}
auth: {mode: open}                     # open | keys
"""
FREE = "{name: small, model: openai/x, price: {free: true}}"


def read(text: str, **environ: str) -> Config:
    """Read a configuration; the keywords are its environment."""
    return parse(text, "rheostat.yaml", environ)


def refusal(text: str, **environ: str) -> str:
    """Give what is said against a configuration."""
    with pytest.raises(ConfigError) as caught:
        read(text, **environ)
    return str(caught.value)


def test_the_form_of_the_documentation_is_read() -> None:
    """Every key of the documented example arrives as the value that it means."""
    config = read(ISSUE, UPSTREAM_KEY="secret-1")
    (model,) = config.models
    assert model.name == "small"
    assert model.api_key is not None
    assert model.api_key.get_secret_value() == "secret-1"
    assert config.strategies == ("direct", "cot", "self_consistency(samples=5)")
    assert config.budgets[0].to_budget().limit_nano_usd == 5_000_000_000
    assert config.budgets[0].to_budget().period is Period.DAY
    assert config.gateway_settings().keys is None


def test_amounts_never_pass_through_binary_floats() -> None:
    """A price is exactly the decimal that stands in the file, or comes from the environment."""
    text = (
        "models: [{name: a, model: openai/x, price: {input_usd_per_million_tokens: "
        "0.1234567890123456789, output_usd_per_million_tokens: '${OUT}'}}]"
    )
    config = read(text, OUT="1e-3")
    price = config.price_of(config.models[0])
    assert price.input_usd_per_million_tokens == Decimal("0.1234567890123456789")
    assert price.output_usd_per_million_tokens == Decimal("0.001")


def test_the_shipped_price_map_knows_well_known_models() -> None:
    """A model without a price of its own takes the one that ships with litellm."""
    config = read("models: [{name: a, model: openai/gpt-4o-mini}]")
    assert config.price_of(config.models[0]) == shipped_price("openai/gpt-4o-mini")


def test_a_local_model_costs_what_the_machine_costs() -> None:
    """Local models need no price of their own, only that of the machine."""
    config = read("machine: {usd_per_hour: 0.085}\nmodels: [{name: a, model: local/smollm2-135m}]")
    assert config.price_of(config.models[0]).usd_per_machine_hour == Decimal("0.085")
    assert config.models[0].local_name == "smollm2-135m"
    assert config.uses_local_models


def test_a_throughput_is_read_for_an_owned_model() -> None:
    """Measured speeds may be given, with how much slower than that a call may run."""
    config = read(
        "machine: {usd_per_hour: 1}\n"
        "models: [{name: a, model: local/smollm2-135m, throughput: "
        "{prompt_tokens_per_s: 100, completion_tokens_per_s: 20.5}}]"
    )
    assert config.models[0].throughput is not None
    throughput = config.models[0].throughput.to_throughput()
    assert throughput.completion_tokens_per_s == 20.5
    assert throughput.worst_case_slowdown == 4.0


def test_references_have_defaults_and_an_escape() -> None:
    """``${NAME:-default}`` also stands in for an empty variable; ``$$`` is a plain dollar."""
    text = (
        "ledger: sqlite:///${DIR:-data}/${FILE:-x.db}\n"
        "auth: {mode: keys, keys: [{name: a, key: 'pa$$word-0123456789'}]}\n"
        f"models: [{FREE}]"
    )
    config = read(text, FILE="")
    assert config.ledger == "sqlite:///data/x.db"
    assert config.gateway_settings().keys == {"a": "pa$word-0123456789"}


def test_a_reference_cannot_add_keys() -> None:
    """What comes out of the environment is one text, whatever it looks like."""
    config = read(f"ledger: ${{L}}\nmodels: [{FREE}]", L="sqlite:///a.db\nauth: {mode: keys}")
    assert config.ledger == "sqlite:///a.db\nauth: {mode: keys}"
    assert config.auth.mode == "open"


def test_no_secret_is_shown() -> None:
    """Neither ``show``, nor ``repr``, nor an error tells a key or a password."""
    text = (
        "ledger: postgresql+psycopg://me:canary-1@db/ledger\n"
        "auth: {mode: keys, keys: [{name: a, key: canary-2-0123456789}]}\n"
        "models: [{name: a, model: openai/x, api_key: canary-3, "
        "base_url: 'http://u:canary-4@h/v1', price: {free: true}}]\n"
    )
    config = read(text)
    told = config.show() + repr(config) + config.ledger_shown + refusal(text + "exploration: 7")
    told += refusal(text.replace("postgresql+psycopg", "mysql"))
    told += refusal(text.replace("http://u", "ftp://u"))
    assert "canary" not in told
    assert config.ledger_shown == "postgresql+psycopg://***@db/ledger"


def test_cascades_are_read_in_either_form_and_need_their_models() -> None:
    """The canonical text is kept; a stage's model has to be one of the file."""
    one = "model: openai/x, price: {free: true}"
    models = f"models: [{{name: a, {one}}}, {{name: b, {one}}}]\n"
    config = read(
        f"{models}cascades: ['cascade|agree(a/cot > a/direct > b/direct)', a|cot then b|cot]"
    )
    assert config.cascades == (
        "a|cot then escalate to a|direct then escalate to b|direct until agree",
        "a|cot then escalate to b|cot until confident 0.8",
    )
    assert "there is no model 'c'" in refusal(f"{models}cascades: [a|cot then c|cot]")
    assert "at least 2 stages" in refusal(f"{models}cascades: [a|cot]")
    assert "twice" in refusal(f"{models}cascades: [a|cot then b|cot, a|cot then escalate to b|cot]")


def test_what_is_shown_can_be_read_again() -> None:
    """``show`` gives YAML of the same form, amounts to the digit, defaults included."""
    config = read(ISSUE.replace("0.10", "0.1234567890123456789"), UPSTREAM_KEY="k")
    again = read(config.show())
    assert again.models[0].price == config.models[0].price
    assert again.default_max_tokens == config.default_max_tokens == 512
    assert yaml.safe_load(config.show())["exploration"] == config.exploration


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param("", ["is empty"], id="nothing at all"),
        pytest.param("# only this\n", ["is empty"], id="only a comment"),
        pytest.param("- a\n", ["is not a mapping"], id="a list"),
        pytest.param("models: []", ["models"], id="no model"),
        pytest.param("ledger: sqlite:///a", ["models: is required"], id="models left out"),
        pytest.param(
            "models:\n - name: a\n   model: b\n   pricee: {}\n",
            ["line 4", "models[0].pricee", "did you mean 'price'?"],
            id="a misspelt key",
        ),
        pytest.param(
            f"modles: [{FREE}]", ["line 1", "modles", "did you mean 'models'?"], id="at the top"
        ),
        pytest.param(
            f"models: [{FREE}]\nzzz: 1", ["zzz", "use one of: ledger, models"], id="nothing is near"
        ),
        pytest.param(
            f"models: [{FREE}]\nledger: sqlite:///a\nledger: sqlite:///b\n",
            ["line 3", "'ledger' is there twice"],
            id="a key twice",
        ),
        pytest.param(
            f"models: [{FREE}, {FREE}]", ["two models are called 'small'"], id="a name twice"
        ),
        pytest.param(
            "models: [{name: auto, model: b, price: {free: true}}]",
            ["models[0].name", "'auto' is reserved"],
            id="the reserved name",
        ),
        pytest.param(
            "models: [{name: 'a|b', model: b, price: {free: true}}]",
            ["models[0].name", "'a|b'"],
            id="a name that headers and arms cannot carry",
        ),
        pytest.param(
            "models: [{name: a, model: nobody/knows-this}]",
            ["models[0].price", "no price is known for 'nobody/knows-this'", "free: true"],
            id="an unknown price",
        ),
        pytest.param(
            "models: [{name: a, model: local/smollm2-135m}]",
            ["models[0].price", "machine: {usd_per_hour"],
            id="a local model on a machine without a price",
        ),
        pytest.param(
            "models: [{name: a, model: b, price: {}}]",
            ["models[0].price", "free: true"],
            id="a price that says nothing",
        ),
        pytest.param(
            "models: [{name: a, model: b, price: {input_usd_per_million_tokens: -1}}]",
            ["models[0].price.input_usd_per_million_tokens", "greater than or equal to 0", "-1"],
            id="a negative price",
        ),
        pytest.param(
            "models: [{name: a, model: b, price: {usd_per_request: .nan}}]",
            ["models[0].price.usd_per_request", "finite"],
            id="a price that is no number",
        ),
        pytest.param(
            "models: [{name: a, model: b, price: {usd_per_request: true}}]",
            ["models[0].price.usd_per_request", "a number is needed here, got true"],
            id="a price that is a truth value",
        ),
        pytest.param(
            "models: [{name: a, model: b, price: {usd_per_machine_hour: 1}}]",
            ["usd_per_machine_hour", "a price per token"],
            id="machine time of a machine that nobody measures",
        ),
        pytest.param(
            "models: [{name: a, model: b, price: {free: true}, throughput: "
            "{prompt_tokens_per_s: 1, completion_tokens_per_s: 1}}]",
            ["models[0].throughput", "remove it"],
            id="a throughput that nothing uses",
        ),
        pytest.param(
            "models: [{name: a, model: b, price: {free: true}, base_url: 'localhost:9000'}]",
            ["models[0].base_url", "http://"],
            id="an address without a scheme",
        ),
        pytest.param(
            f"models: [{FREE}]\nstrategies: [direkt]",
            ["strategies[0]", "direct"],
            id="a misspelt strategy",
        ),
        pytest.param(
            f"models: [{FREE}]\nstrategies: [{{self_consistency: {{sample: 5}}}}]",
            ["strategies[0]", "samples"],
            id="a misspelt parameter",
        ),
        pytest.param(
            f"models: [{FREE}]\nstrategies: [direct, direct]",
            ["'direct' is there twice"],
            id="a strategy twice",
        ),
        pytest.param(f"models: [{FREE}]\nstrategies: []", ["strategies"], id="no strategy"),
        pytest.param(
            f"models: [{FREE}]\nbudgets: [{{scope: organization, limit_usd: 1, period: day}}]",
            ["budgets[0].scope", "did you mean 'organisation'?"],
            id="a scope that nothing spends from",
        ),
        pytest.param(
            f"models: [{FREE}]\n"
            "alerts: {webhook: 'https://a.example/x', secret: 'whsec_not*in*base64'}",
            ["alerts.secret", "in base64 is needed"],
            id="a secret that is no key",
        ),
        pytest.param(
            f"models: [{FREE}]\n"
            "budgets: [{scope: organisation, limit_usd: 1, period: total, pacing: {}}]",
            ["budgets[0].pacing", "a period that ends: day, week or month"],
            id="pacing without an end",
        ),
        pytest.param(
            f"models: [{FREE}]\n"
            "budgets: [{scope: organisation, limit_usd: 1, period: day, pacing: {hours: [1, 2]}}]",
            ["budgets[0].pacing.hours", "24 weights are needed"],
            id="hours of a short day",
        ),
        pytest.param(
            f"models: [{FREE}]\nbudgets: [{{scope: organisation, limit_usd: 1, period: hour}}]",
            ["budgets[0].period", "'day'", "got 'hour'"],
            id="an unknown period",
        ),
        pytest.param(
            f"models: [{FREE}]\nbudgets:\n"
            " - {scope: organisation, limit_usd: 1, period: day}\n"
            " - {scope: organisation, limit_usd: 2, period: day}\n",
            ["two budgets for organisation per day"],
            id="two budgets that are one",
        ),
        pytest.param(
            f"models: [{FREE}]\nbudgets: "
            "[{scope: organisation, limit_usd: 1, period: day, time_zone: Mars}]",
            ["budgets[0].time_zone", "'Mars'"],
            id="an unknown time zone",
        ),
        pytest.param(
            f"models: [{FREE}]\nauth: {{mode: keys}}",
            ["auth.keys", "at least one key"],
            id="nobody could come in",
        ),
        pytest.param(
            f"models: [{FREE}]\nauth: {{mode: open, keys: [{{name: a, key: b-0123456789abcdef}}]}}",
            ["auth.mode", "protect nothing"],
            id="keys that protect nothing",
        ),
        pytest.param(
            f"models: [{FREE}]\nauth: {{mode: keys, keys: "
            "[{name: a, key: b-0123456789abcdef}, {name: c, key: b-0123456789abcdef}]}",
            ["auth.keys", "the same"],
            id="one key with two names",
        ),
        pytest.param(
            f"models: [{FREE}]\nauth: {{mode: keys, keys: [{{name: a, key: sk-1234}}]}}",
            ["auth.keys[0].key", "at least 16 characters"],
            id="a key from a manual",
        ),
        pytest.param(
            f"models: [{FREE}]\nauth: {{mode: keys, keys: [{{name: a, key: changemechangeme}}]}}",
            ["auth.keys[0].key", "8 of them different"],
            id="a key of one word",
        ),
        pytest.param(
            f"models: [{FREE}]\nledger: mysql://h/d", ["ledger", "sqlite:///"], id="no such ledger"
        ),
        pytest.param(
            f"models: [{FREE}]\nexploration: 1.5",
            ["exploration", "less than or equal to 1"],
            id="a share above one",
        ),
        pytest.param(
            f"models: [{FREE}]\ndefault_max_tokens: many",
            ["default_max_tokens", "integer", "'many'"],
            id="a wrong type",
        ),
        pytest.param(
            f"models: [{FREE}]\nledger: sqlite:///${{DIR}}/x",
            ["line 2", "variable DIR is not set", "${DIR:-default}"],
            id="a variable that is not set",
        ),
        pytest.param(
            f"models: [{FREE}]\nledger: sqlite:///${{1}}",
            ["line 2", "${NAME}", "$$"],
            id="a reference that is none",
        ),
        pytest.param(
            "models: [{name: a, model: b, api_key: ${KEY}}]",
            ["line 1", "not valid YAML", 'quotes: "${NAME}"'],
            id="a reference without quotes inside braces",
        ),
        pytest.param("? [a, b]\n: 1\n", ["line 1", "a key is plain text"], id="a list as key"),
        pytest.param("models: [", ["not valid YAML"], id="broken off"),
        pytest.param("a: \x00", ["not valid YAML"], id="a control character"),
        pytest.param("a: !!python/name:os.system", ["not valid YAML"], id="an object"),
        pytest.param("a: 1:30.5", ["'1:30.5' is not a number"], id="a number to base sixty"),
    ],
)
def test_a_wrong_file_says_what_to_do(text: str, told: list[str]) -> None:
    """The error names the place, the value seen, and what to write instead."""
    message = refusal(text)
    assert "rheostat.yaml" in message
    for words in told:
        assert words in message


def test_every_problem_is_told_at_once() -> None:
    """One reading of the file finds all that is wrong with its values."""
    message = refusal(f"models: [{FREE}]\nexploration: 2\nshadow_price: -1\n")
    assert "line 2: exploration" in message
    assert "line 3: shadow_price" in message


def test_a_file_that_is_not_there_is_a_config_error(tmp_path: Path) -> None:
    """It says how to write a first one; a folder and a binary file are told apart."""
    with pytest.raises(ConfigError, match="rheostat init"):
        load(tmp_path / "no.yaml", {})
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path, {})
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load(tmp_path / "binary.yaml", {})


def test_a_file_is_loaded_from_its_path(tmp_path: Path) -> None:
    """``load`` reads the file with the environment that it is given."""
    path = tmp_path / "rheostat.yaml"
    path.write_text(ISSUE)
    assert load(path, {"UPSTREAM_KEY": "k"}).models[0].name == "small"


def test_loading_imports_nothing_heavy() -> None:
    """Reading a configuration loads no web framework, no vendor SDK, no numerical library."""
    heavy = ("litellm", "sklearn", "optuna", "fastapi", "aiohttp", "xllamacpp", "sqlalchemy")
    code = (
        "import sys; from router.gateway.config import parse; "
        f"parse({f'models: [{FREE}, {{name: b, model: gpt-4o}}]'!r}, 'x', {{}}); "
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    run = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"


def test_a_wrong_item_is_not_also_called_a_list_that_is_too_short() -> None:
    """One mistake gives one line."""
    with pytest.raises(ConfigError) as raised:
        read("models: [{name: a, model: openai/gpt-4o-mini, prize: 3}]")
    assert len(str(raised.value).splitlines()) == 1
    assert "did you mean 'price'?" in str(raised.value)


@pytest.mark.parametrize("model", ["local/smollm2-135n", "simulated/smol"])
def test_a_model_that_does_not_exist_here_is_named_with_those_that_do(model: str) -> None:
    """Embedded and simulated models are known, so a misspelt one fails when the file is read."""
    with pytest.raises(ConfigError, match=r"there is no model .*(did you mean|use one of)"):
        read(f"machine: {{usd_per_hour: 1}}\nmodels: [{{name: a, model: {model}}}]")


def test_a_paced_budget_gives_its_law() -> None:
    """By scope and period, with defaults for what is not said."""
    budget = "{scope: organisation, limit_usd: 1, period: week, pacing: {gain: 20}}"
    config = read(f"models: [{FREE}]\nbudgets: [{budget}]")
    assert config.paced() == {("organisation", "week"): Pacing(gain=20)}
    assert read(f"models: [{FREE}]").paced() == {}
