"""A configured model finds its provider."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from router.errors import ConfigError, WeightsError
from router.providers.litellm_provider import LiteLLMProvider
from router.providers.openai_compatible import OpenAICompatibleProvider
from router.providers.registry import ProviderKind, Providers, provider_kind

if TYPE_CHECKING:
    from pathlib import Path

URL = "http://127.0.0.1:9000/v1"


@pytest.mark.parametrize(
    ("model", "base_url", "kind"),
    [
        ("local/smollm2-135m", None, ProviderKind.LOCAL),
        ("simulated/small", None, ProviderKind.SIMULATED),
        ("openai/some-model", URL, ProviderKind.OPENAI_COMPATIBLE),
        ("openai/gpt-4o-mini", None, ProviderKind.LITELLM),
        ("anthropic/claude-3-haiku-20240307", None, ProviderKind.LITELLM),
        ("mistral/mistral-small", URL, ProviderKind.LITELLM),
        ("gpt-4o-mini", None, ProviderKind.LITELLM),
    ],
)
def test_the_prefix_decides(model: str, base_url: str | None, kind: ProviderKind) -> None:
    """An address makes an openai/ model a direct one."""
    assert provider_kind(model, base_url) is kind


def test_the_provider_has_the_shown_name() -> None:
    """Clients and reports see the configured name, the upstream its own."""
    providers = Providers()
    direct = providers.build("small", "openai/org/model:7b", base_url=URL)
    assert isinstance(direct, OpenAICompatibleProvider)
    assert direct.model == "small"
    vendor = providers.build("large", "anthropic/claude-3-haiku-20240307")
    assert isinstance(vendor, LiteLLMProvider)
    assert vendor.model == "large"


def test_missing_weights_say_how_to_get_them(tmp_path: Path) -> None:
    """The command is in the message."""
    with pytest.raises(WeightsError, match="rheostat models fetch smollm2-135m"):
        Providers(tmp_path).build("small", "local/smollm2-135m")
    with pytest.raises(WeightsError, match="no embedded model"):
        Providers(tmp_path).build("small", "local/nonesuch")


@pytest.mark.parametrize("model", ["local/", "simulated", "openai/"])
def test_a_prefix_alone_is_no_model(model: str) -> None:
    """It is refused at start, with the form to write."""
    with pytest.raises(ConfigError, match="names no model"):
        Providers().build("small", model, base_url=URL)
