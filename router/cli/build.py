"""Where concrete classes meet: from a configuration to the parts that serve it, built once."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cost_models.errors import RheostatError
from cost_models.pricing import PriceBook, shipped_context_window
from router.errors import ConfigError
from router.providers.breaker import Breaker
from router.providers.deployments import Deployment
from router.providers.pool import Pool
from router.providers.registry import Providers
from router.routing.catalog import Catalog, Model
from router.strategies.escalation import parse_escalation
from router.strategies.registry import parse_strategy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
    from pathlib import Path

    from fastapi import FastAPI

    from router.gateway.config import Config
    from router.gateway.config_models import ModelConfig
    from router.gateway.kept_answers import LedgerAnswers
    from router.gateway.settings import GatewaySettings
    from router.gateway.telemetry import Telemetry, TracedEngine
    from router.providers.base import Provider
    from router.providers.simulated import Posed
    from router.routing.embeddings import EmbeddingModel
    from router.routing.service import RoutingService
    from router.routing.switching import SwitchingEngine
    from storage.store import Ledger


def utc_now() -> datetime:
    """Tell the time: the clock of the command line."""
    return datetime.now(UTC)


def open_ledger(config: Config) -> Ledger:
    """Open the ledger, its schema brought up to date and the configured budgets in force."""
    ledger = open_database(config.ledger)
    try:
        ledger.declare_budgets(budget.to_budget() for budget in config.budgets)
    except BaseException:
        ledger.close()
        raise
    return ledger


def open_database(url: str) -> Ledger:
    """Open the ledger at ``url``, its schema brought up to date and its budgets as they are."""
    from storage.engine import create_ledger_engine, migrate
    from storage.store import Ledger

    engine = create_ledger_engine(url)
    try:
        migrate(engine)
        return Ledger(engine)
    except BaseException:
        engine.dispose()
        raise


def assemble(
    config: Config, questions: Iterable[Posed] = (), weights_directory: Path | None = None
) -> Catalog:
    """Make providers and strategies; nothing is contacted or loaded.

    ``questions`` are those that simulated models can be graded on. A model on this machine has no
    throughput yet unless the file gives it one: see `measured`.
    """
    providers = Providers(weights_directory, questions)
    strategies = [parse_strategy(text) for text in config.strategies]
    cascades = [parse_escalation(text) for text in config.cascades]
    return Catalog(
        models={model.name: _model(config, model, providers) for model in config.models},
        strategies={str(strategy): strategy for strategy in strategies},
        prices=PriceBook(
            tuple(e for m in config.models if m.price_changes for e in config.dated_prices(m))
        ),
        cascades={cascade.arm.strategy: cascade for cascade in cascades},
    )


async def measured(catalog: Catalog) -> Catalog:
    """Load the models of this machine and measure how fast they are, where nobody said it.

    A model paid by machine time has no worst case without its speed.
    """
    models = {name: await _measured(model) for name, model in catalog.models.items()}
    return replace(catalog, models=models)


@asynccontextmanager
async def load_catalog(
    config: Config, questions: Iterable[Posed] = (), weights_directory: Path | None = None
) -> AsyncIterator[Catalog]:
    """Give a measured catalog; its models are closed at the end of the block."""
    catalog = assemble(config, questions, weights_directory)
    try:
        yield await measured(catalog)
    finally:
        for model in catalog.models.values():
            await model.provider.aclose()


def build_service(
    config: Config, questions: Iterable[Posed] = (), weights_directory: Path | None = None
) -> RoutingService:
    """Build the service over its ledger; `start_service` makes it ready."""
    catalog = assemble(config, questions, weights_directory)
    return _service(config, catalog, open_ledger(config))


def make_service(config: Config, ledger: Ledger) -> RoutingService:
    """Build the service over a ledger that is open; its budgets stay as they are."""
    return _service(config, assemble(config), ledger)


def _service(config: Config, catalog: Catalog, ledger: Ledger) -> RoutingService:
    from router.routing.chooser import Chooser, ChooserSettings
    from router.routing.pacing import Pacer
    from router.routing.service import RoutingService
    from router.routing.settings import ServiceSettings

    chooser = Chooser(
        catalog,
        ChooserSettings(config.exploration, config.accuracy_target, config.shadow_price),
    )
    settings = ServiceSettings(
        request_timeout_s=config.request_timeout_s,
        budget_wait_s=config.budget_wait_s,
        max_retries=config.max_retries,
        max_fallbacks=config.max_fallbacks,
        keep_query_text=config.keep_query_text,
        store_prompts=config.store_prompts,
    )
    paced = config.paced()
    parts: dict[str, Any] = {
        "webhook": config.alerts.to_webhook(),
        "embedders": _embedders(config),
        "pacer": Pacer(paced) if paced else None,
    }
    if config.cache is None:
        return RoutingService(catalog, chooser, ledger, settings, **parts)
    from router.routing.cache import AnswerCache
    from router.routing.cached import CachingService

    return CachingService(
        catalog,
        chooser,
        ledger,
        settings,
        cache=AnswerCache(config.cache.to_settings()),
        **parts,
    )


async def start_service(service: RoutingService) -> None:
    """Measure the models of this machine, then start the service."""
    service.catalog = service.chooser.catalog = await measured(service.catalog)
    await service.start()


@asynccontextmanager
async def running_service(config: Config) -> AsyncIterator[RoutingService]:
    """Give a started service; it is closed at the end of the block."""
    service = build_service(config)
    try:
        await start_service(service)
        yield service
    finally:
        await service.aclose()


def build_app(
    config: Config,
    questions: Iterable[Posed] = (),
    weights_directory: Path | None = None,
    on_failure: Callable[[RheostatError], object] = lambda _error: None,
) -> FastAPI:
    """Build the gateway; models are loaded and the ledger is tended when the server starts it."""
    return build_gateway(config, questions, weights_directory, on_failure=on_failure).app


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway with what can be replaced while it serves."""

    app: FastAPI
    engine: SwitchingEngine
    answers: LedgerAnswers


async def nothing() -> None:
    """Do nothing."""


def build_gateway(
    config: Config,
    questions: Iterable[Posed] = (),
    weights_directory: Path | None = None,
    *,
    on_failure: Callable[[RheostatError], object] = lambda _error: None,
    on_ready: Callable[[], object] = lambda: None,
    on_end: Callable[[], Awaitable[None]] = nothing,
) -> Gateway:
    """Build the gateway with its parts.

    ``on_failure`` is told the error, if it was raised on purpose, that keeps it from starting;
    ``on_ready`` is called when all is loaded; ``on_end`` is awaited before all is closed.
    """
    from router.gateway.app import create_app
    from router.gateway.kept_answers import LedgerAnswers
    from router.routing.switching import SwitchingEngine

    telemetry = _telemetry(config)
    service = build_service(config, questions, weights_directory)
    engine = SwitchingEngine(service)

    async def start() -> None:
        try:
            await start_service(service)
        except RheostatError as error:
            on_failure(error)
            raise
        on_ready()

    async def stop() -> None:
        await on_end()
        await engine.service.aclose()
        if telemetry is not None:
            await asyncio.to_thread(telemetry.close)

    ledger = service.ledger
    stale_after_s = service.settings.stale_after_s
    answers = LedgerAnswers(ledger, utc_now, config.idempotency_ttl_s, stale_after_s)
    app = create_app(
        engine if telemetry is None else _traced(engine, telemetry),
        gateway_settings(config, ledger),
        answers=answers,
        telemetry=telemetry,
        on_start=start,
        on_stop=stop,
    )
    return Gateway(app, engine, answers)


def _telemetry(config: Config) -> Telemetry | None:
    if config.telemetry is None:
        return None
    from router.gateway.telemetry import TelemetrySettings, connect

    return connect(TelemetrySettings(**config.telemetry.model_dump()))


def _traced(engine: SwitchingEngine, telemetry: Telemetry) -> TracedEngine:
    from router.gateway.telemetry import TracedEngine

    return TracedEngine(engine, telemetry)


def gateway_settings(config: Config, ledger: Ledger) -> GatewaySettings:
    """Give what the HTTP face needs to know, keys of the ledger included."""
    from storage.keys import find_key

    return replace(
        config.gateway_settings(),
        find_key=lambda key_id: ledger.read(lambda session: find_key(session, key_id)),
    )


def _embedders(config: Config) -> dict[str, EmbeddingModel]:
    if not config.embeddings:
        return {}
    from router.providers.embedders import build_embedder
    from router.routing.embeddings import EmbeddingModel

    made = {}
    for model in config.embeddings:
        api_key = None if model.api_key is None else model.api_key.get_secret_value()
        embedder = build_embedder(model.name, model.model, base_url=model.base_url, api_key=api_key)
        vendor = model.model.partition("/")[0]
        price = config.embedding_price(model)
        made[model.name] = EmbeddingModel(model.name, embedder, price, vendor)
    return made


def _model(config: Config, model: ModelConfig, providers: Providers) -> Model:
    provider = _provider(config, model, providers)
    context_tokens, max_output_tokens = _windows(model, provider)
    throughput = None if model.throughput is None else model.throughput.to_throughput()
    price = config.price_of(model)
    if price.owned and throughput is None and model.local_name is None:
        msg = (
            f"model {model.name!r} is paid by machine time and cannot be measured; give it a "
            "`throughput: {prompt_tokens_per_s: ..., completion_tokens_per_s: ...}`"
        )
        raise ConfigError(msg)
    return Model(
        name=model.name,
        provider=provider,
        price=price,
        throughput=throughput,
        context_tokens=context_tokens,
        max_output_tokens=max_output_tokens,
        simulated=model.is_simulated,
        vendor=_vendor(model.model),
        fallbacks=model.fallbacks,
    )


def _provider(config: Config, model: ModelConfig, providers: Providers) -> Provider:
    """Make the provider of a model, over its deployments where it is asked over the network."""
    if not model.is_remote:
        return providers.build(model.name, model.model, context_tokens=model.context_tokens)
    settings = None if model.breaker is None else model.breaker.to_settings()
    timeouts = None if model.timeouts is None else model.timeouts.to_timeouts()
    deployments = []
    for served in model.served_at:
        upstream_model = served.model or model.model
        key = served.api_key
        provider = providers.build(
            model.name,
            upstream_model,
            base_url=served.base_url,
            api_key=None if key is None else key.get_secret_value(),
            timeouts=timeouts,
        )
        price = config.deployment_price(model, served) if model.has_own_prices else None
        deployments.append(
            Deployment(served.name, provider, _vendor(upstream_model), price, Breaker(settings))
        )
    return Pool(model.name, deployments, hedge_quantile=model.hedge_quantile)


def _vendor(model: str) -> str:
    return model.partition("/")[0]


def _windows(model: ModelConfig, provider: Provider) -> tuple[int | None, int | None]:
    """Give the limits of prompt plus completion and of one completion, None where unknown."""
    known: tuple[int | None, int | None] = (getattr(provider, "context_tokens", None), None)
    if model.local_name is None and not model.is_simulated:
        known = shipped_context_window(model.model)
    return model.context_tokens or known[0], model.max_output_tokens or known[1]


async def _measured(model: Model) -> Model:
    if not model.price.owned or model.throughput is not None:
        return model
    from router.providers.local import LocalProvider, measure_throughput

    if not isinstance(model.provider, LocalProvider):
        return model
    return replace(model, throughput=await measure_throughput(model.provider))
