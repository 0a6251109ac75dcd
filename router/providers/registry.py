"""From a configured model to the provider that serves it."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from router.errors import ConfigError, WeightsError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from router.providers.base import Provider
    from router.providers.machine import Machine
    from router.providers.simulated import Posed
    from router.providers.timeouts import Timeouts

SEPARATOR = "/"


class ProviderKind(StrEnum):
    """Who serves a model."""

    LOCAL = "local"
    SIMULATED = "simulated"
    OPENAI_COMPATIBLE = "openai"
    LITELLM = "litellm"


def provider_kind(model: str, base_url: str | None = None) -> ProviderKind:
    """Say who serves ``model`` (litellm form, ``local/NAME`` or ``simulated/NAME``).

    An ``openai/`` model at an address of its own is asked directly, every other one by litellm.
    """
    prefix = model.partition(SEPARATOR)[0]
    if prefix in {ProviderKind.LOCAL, ProviderKind.SIMULATED}:
        return ProviderKind(prefix)
    if prefix == ProviderKind.OPENAI_COMPATIBLE and base_url:
        return ProviderKind.OPENAI_COMPATIBLE
    return ProviderKind.LITELLM


class Providers:
    """Make the providers of one process; its embedded models share one machine.

    ``weights_directory`` is where embedded weights lie, by default the user's own. ``questions``
    are those that simulated models can be graded on.
    """

    def __init__(
        self, weights_directory: Path | None = None, questions: Iterable[Posed] = ()
    ) -> None:
        self._weights_directory = weights_directory
        self._questions = tuple(questions)
        self._machine: Machine | None = None

    def build(  # noqa: PLR0913 - what to call, where, and how
        self,
        name: str,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        context_tokens: int | None = None,
        timeouts: Timeouts | None = None,
    ) -> Provider:
        """Make the provider of ``model``, shown to clients as ``name``; nothing is contacted.

        ``context_tokens`` is the window of an embedded model, at most what it was trained for;
        ``timeouts`` are for one that is asked over the network.
        Raises ConfigError for a model or address that cannot be one, WeightsError for an
        embedded model whose weights are not installed.
        """
        kind = provider_kind(model, base_url)
        upstream_model = model.partition(SEPARATOR)[2]
        if kind is not ProviderKind.LITELLM and not upstream_model:
            msg = f"model {name!r}: {model!r} names no model; write {kind}{SEPARATOR}NAME"
            raise ConfigError(msg)
        if kind is ProviderKind.LOCAL:
            return self._local(name, upstream_model, context_tokens)
        if kind is ProviderKind.SIMULATED:
            from router.providers.simulated import build_simulated  # noqa: PLC0415 - lazy

            return build_simulated(name, upstream_model, self._questions)
        if kind is ProviderKind.OPENAI_COMPATIBLE and base_url:
            from router.providers.openai_compatible import (  # noqa: PLC0415 - lazy
                OpenAICompatibleProvider,
            )

            return OpenAICompatibleProvider(
                name, upstream_model, base_url, api_key=api_key, timeouts=timeouts
            )
        from router.providers.litellm_provider import LiteLLMProvider  # noqa: PLC0415 - lazy

        return LiteLLMProvider(name, model, base_url=base_url, api_key=api_key, timeouts=timeouts)

    def _local(self, name: str, weights_name: str, context_tokens: int | None) -> Provider:
        from router.providers import weights  # noqa: PLC0415 - only with embedded models
        from router.providers.local import DEFAULT_CONTEXT_TOKENS, LocalProvider  # noqa: PLC0415
        from router.providers.machine import Machine  # noqa: PLC0415

        directory = self._weights_directory or weights.default_directory()
        path = weights.find(weights_name, directory)
        if path is None:
            msg = (
                f"model {name!r}: the weights of {weights_name!r} are not in {directory}; "
                f"run: rheostat models fetch {weights_name}"
            )
            raise WeightsError(msg)
        trained = weights.manifest()[weights_name].context_tokens
        if context_tokens is not None and context_tokens > trained:
            msg = (
                f"model {name!r}: context_tokens is {context_tokens} and {weights_name!r} was "
                f"trained for {trained}; lower it"
            )
            raise ConfigError(msg)
        self._machine = self._machine or Machine()
        window = context_tokens or min(DEFAULT_CONTEXT_TOKENS, trained)
        return LocalProvider(name, path, self._machine, context_tokens=window)
