"""Language models that run inside this process, on the CPU. The only door to the inference library.

The library (llama.cpp through ``xllamacpp``) cannot run without its own HTTP listener, which would
be a way around the ledger. It is therefore bound to a socket file in a directory that only this
user can enter (on a system without such sockets: to a free loopback port) and asks for a random
key. The provider itself uses that listener for one thing, counting prompt tokens.
"""

from __future__ import annotations

import asyncio
import http.client
import importlib
import json
import os
import secrets
import socket
import tempfile
from collections import OrderedDict, deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cost_models.estimates import NS_PER_S, Throughput
from cost_models.types import Usage
from router.errors import ProviderError, RequestError
from router.providers.base import Tally, bytes_bound
from router.providers.machine import physical_cores
from router.types import Chunk, Message, Sample, SampleRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from router.providers.machine import Lease, Machine

DEFAULT_SLOTS = 4
DEFAULT_CONTEXT_TOKENS = 2048
PROMPT_BATCH_TOKENS = 128
"""Prompt tokens between two moments at which a call can stop; costs no speed on a CPU."""

FORWARDED = frozenset({"response_format", "presence_penalty", "frequency_penalty", "logit_bias"})
"""Further OpenAI fields that the runtime understands."""

IGNORED = frozenset(
    {"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"}
)
"""Further OpenAI fields that change nothing about the text."""

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
MAX_TOP_LOGPROBS = 20
N_SEEDS = 2**32 - 1
"""Seeds of the runtime; the one after the last means "random"."""

SOCKET_PATH_BYTES = 100
COUNT_TIMEOUT_S = 2.0
N_COUNTS_KEPT = 256
PROBE_WORDS = 48
PROBE_TOKENS = 16
HTTP_OK = 200
HTTP_SERVER_ERROR = 500


class LocalProvider:
    """One embedded model, loaded once, at first use or by ``load``.

    ``path`` is its GGUF file. ``slots`` completions are generated together, each with a window of
    ``context_tokens`` for prompt and answer. ``threads`` defaults to the physical cores that this
    process may use.
    Where a request leaves ``temperature`` or ``top_p`` open the runtime's defaults hold (0.8 and
    0.95). Temperature 0 gives the likeliest token, but the same text only for the same batch.

    Loading is not part of any call's machine time; waiting in the machine's queue is not either.
    """

    native_n = True

    def __init__(  # noqa: PLR0913 - three say what to run, three how, each with a default
        self,
        model: str,
        path: Path,
        machine: Machine,
        *,
        threads: int | None = None,
        slots: int = DEFAULT_SLOTS,
        context_tokens: int = DEFAULT_CONTEXT_TOKENS,
    ) -> None:
        if min(slots, context_tokens, 1 if threads is None else threads) < 1:
            msg = f"slots, context_tokens and threads are at least 1; model {model!r}"
            raise ValueError(msg)
        self.model = model
        self.path = path
        self.slots = slots
        self.context_tokens = context_tokens
        self.threads = threads
        self.machine = machine
        self._pool = ThreadPoolExecutor(slots + 1, thread_name_prefix=f"model-{model}")
        self._loading: Future[_Runtime] | None = None
        self._runtime: _Runtime | None = None
        self._rounds: set[_Round] = set()
        self._closed = False

    @property
    def listening_address(self) -> str | None:
        """Where the library's own listener is, see the top of this file; None before loading."""
        return None if self._runtime is None else self._runtime.listening_address

    async def load(self) -> None:
        """Load the model if it is not loaded yet; raise ProviderError when that fails."""
        await self._loaded()

    def count_prompt_tokens(self, messages: Sequence[Message]) -> int:
        """Count the prompt tokens exactly once the model is loaded; before, bound them by bytes.

        Messages that the model cannot take are bounded by bytes too: ``sample`` refuses them.
        """
        if self._runtime is not None:
            with suppress(RequestError, OSError, http.client.HTTPException):
                return self._runtime.count_tokens(_to_wire(messages))
        return bytes_bound(messages)

    async def sample(self, request: SampleRequest, tally: Tally) -> tuple[Sample, ...]:
        """Draw ``request.n`` completions, at most ``slots`` at a time; choice i has seed + i.

        They share one prompt and are one call. A call that reaches ``max_machine_s`` stops there:
        what it has by then is returned with finish reason ``length``, and choices that were not
        begun are left out. Raises RequestError, OverloadedError or ProviderError.
        """
        async with self._call(request, tally) as call:
            while call.n_begun < request.n and not call.capped:
                await self._run(call.next_round())
            return call.samples()

    async def stream(self, request: SampleRequest, tally: Tally) -> AsyncIterator[Chunk]:
        """Yield one completion piece by piece; closing the iterator early stops the model."""
        if request.n != 1:
            msg = f"a local model streams one completion at a time, got n={request.n}"
            raise RequestError(msg, param="n")
        async with self._call(request, tally) as call:
            chunks: asyncio.Queue[Chunk | None] = asyncio.Queue()
            loop = asyncio.get_running_loop()
            round_ = call.next_round()
            round_.emit = lambda chunk: loop.call_soon_threadsafe(chunks.put_nowait, chunk)
            running = asyncio.create_task(self._run(round_))
            running.add_done_callback(lambda _task: chunks.put_nowait(None))
            try:
                while (chunk := await chunks.get()) is not None:
                    yield chunk
                await running
                if round_.capped:
                    yield Chunk(delta={}, finish_reason="length")
            finally:
                running.cancel()
                await _until_done(running)

    async def aclose(self) -> None:
        """Stop what is running, unload the model and end its threads. Idempotent."""
        self._closed = True
        for round_ in self._rounds:
            round_.stopped = True
        await asyncio.to_thread(self._shut_down)

    def _shut_down(self) -> None:
        self._pool.shutdown(wait=True)
        runtime, self._runtime, self._loading = self._runtime, None, None
        if runtime is not None:
            runtime.close()

    async def _loaded(self) -> _Runtime:
        if self._closed:
            raise ProviderError(self.model, "this provider was closed; make a new one")
        loading = self._loading = self._loading or self._pool.submit(self._load)
        try:
            return await asyncio.shield(asyncio.wrap_future(loading))
        except ProviderError:
            if self._loading is loading:
                self._loading = None  # the next call tries again
            raise

    def _load(self) -> _Runtime:
        if not self.path.is_file():
            msg = f"there is no model file {self.path}; fetch the weights or correct the path"
            raise ProviderError(self.model, msg)
        try:
            self._runtime = _Runtime(
                self.path,
                threads=self.threads or physical_cores(),
                slots=self.slots,
                context_tokens=self.context_tokens,
            )
        except ImportError as error:
            msg = "the inference library is missing; install it with: pip install 'rheostat[local]'"
            raise ProviderError(self.model, msg) from error
        except (RuntimeError, ValueError, OSError) as error:
            msg = (
                f"{self.path} could not be loaded ({error}); it may be damaged or need more "
                "memory: fetch it again, or lower slots and context_tokens"
            )
            raise ProviderError(self.model, msg) from error
        return self._runtime

    @asynccontextmanager
    async def _call(self, request: SampleRequest, tally: Tally) -> AsyncIterator[_Call]:
        """Check, load, wait for the machine, and settle the tally whatever happens."""
        tally.settle(Usage())
        body = _to_body(request)
        runtime = await self._loaded()
        n_slots = min(request.n, self.slots)
        async with self.machine.lease(self.model, slots=n_slots, capacity=self.slots) as lease:
            call = _Call(request=request, body=body, runtime=runtime, lease=lease)
            try:
                yield call
            finally:
                lease.shrink(0)
                tally.settle(call.usage())

    async def _run(self, round_: _Round) -> None:
        """Let the runtime generate one round; a cancelled task waits until the model has stopped.

        The machine is busy until then, so the call's share of its time would be wrong otherwise.
        """
        if self._closed:
            raise ProviderError(self.model, "closed while the call waited")
        generating = asyncio.get_running_loop().run_in_executor(self._pool, round_.generate)
        self._rounds.add(round_)
        try:
            await asyncio.shield(generating)
        except asyncio.CancelledError:
            round_.stopped = True
            await _until_done(generating)
            raise
        except ValueError as error:  # the runtime refused a field before it began
            msg = f"model {self.model!r} cannot serve this request: {error}"
            raise RequestError(msg) from error
        except RuntimeError as error:
            raise ProviderError(self.model, str(error), status=HTTP_SERVER_ERROR) from error
        finally:
            self._rounds.discard(round_)
        if round_.error is not None:
            raise self._translated(round_.error)
        if self._closed:
            raise ProviderError(self.model, "closed while it was generating")

    def _translated(self, error: Mapping[str, Any]) -> ProviderError | RequestError:
        status = int(error.get("code", HTTP_SERVER_ERROR))
        message = str(error.get("message", error))
        if error.get("type") == "exceed_context_size_error":
            message = (
                f"the prompt has {error.get('n_prompt_tokens')} tokens and model {self.model!r} "
                f"has room for {error.get('n_ctx')} with its answer; shorten the prompt or raise "
                "the model's context_tokens"
            )
            return RequestError(message, param="messages", code="context_length_exceeded")
        if status < HTTP_SERVER_ERROR:
            return RequestError(f"model {self.model!r} cannot serve this request: {message}")
        return ProviderError(self.model, message, status=status)


@dataclass(slots=True)
class _Call:
    """One request: the rounds that serve it, on one lease."""

    request: SampleRequest
    body: Mapping[str, Any]
    runtime: _Runtime
    lease: Lease
    rounds: list[_Round] = field(default_factory=list)

    @property
    def n_top(self) -> int | None:
        """Alternatives to show at each token; None when no log-probabilities are to be shown."""
        return (self.request.top_logprobs or 0) if self.request.logprobs else None

    @property
    def n_begun(self) -> int:
        """Completions that were begun."""
        return sum(len(r.choices) for r in self.rounds)

    @property
    def capped(self) -> bool:
        """Whether ``max_machine_s`` stopped the call."""
        return any(r.capped for r in self.rounds)

    def next_round(self) -> _Round:
        """Plan as many of the missing completions as there are slots."""
        begun = self.n_begun
        n = min(self.lease.slots, self.request.n - begun)
        body = {**self.body, "n": n}
        if self.request.seed is not None:
            body["seed"] = (self.request.seed + begun) % N_SEEDS
        cap_s = self.request.max_machine_s
        round_ = _Round(
            runtime=self.runtime,
            body=body,
            lease=self.lease,
            cap_ns=None if cap_s is None else int(cap_s * NS_PER_S),
            n_top=self.n_top,
            is_last=begun + n == self.request.n,
            loop=asyncio.get_running_loop(),
            choices=[_Choice() for _ in range(n)],
            steps_ns=deque(maxlen=2 * n),
        )
        self.rounds.append(round_)
        return round_

    def samples(self) -> tuple[Sample, ...]:
        """Give every completion that was begun, in the order of their seeds."""
        return tuple(c.to_sample(self.n_top) for r in self.rounds for c in r.choices)

    def usage(self) -> Usage:
        """Give what the call has used: the prompt once, every completion, its machine time."""
        return Usage(
            n_calls=1,
            prompt_tokens=max((r.prompt_tokens for r in self.rounds), default=0),
            completion_tokens=sum(c.n_tokens for r in self.rounds for c in r.choices),
            machine_ns=self.lease.share_ns,
        )


@dataclass(slots=True)
class _Choice:
    """One completion as it grows. ``n_tokens`` is the runtime's own count."""

    pieces: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    tokens: list[Mapping[str, Any]] = field(default_factory=list)
    n_tokens: int = 0
    finish_reason: str | None = None

    def to_sample(self, n_top: int | None) -> Sample:
        """Give the sample; ``n_top`` None leaves its token log-probabilities out."""
        mean = sum(t["logprob"] for t in self.tokens) / len(self.tokens) if self.tokens else None
        return Sample(
            text="".join(self.pieces),
            finish_reason=self.finish_reason or "length",
            n_tokens=self.n_tokens,
            mean_logprob=mean,
            logprobs=None if n_top is None else _to_logprobs(self.tokens, n_top),
            reasoning="".join(self.reasoning) or None,
        )


@dataclass(slots=True, eq=False)
class _Round:
    """One call of the runtime. Its fields are written by one worker thread while it generates.

    ``stopped`` is the exception: any thread may set it, and the runtime stops at its next event,
    one token or ``PROMPT_BATCH_TOKENS`` prompt tokens later. ``capped`` says that the call reached
    its machine time: it stops where the next step, as long as the last ones, would not fit.
    """

    runtime: _Runtime
    body: Mapping[str, Any]
    lease: Lease
    cap_ns: int | None
    n_top: int | None
    is_last: bool
    loop: asyncio.AbstractEventLoop
    choices: list[_Choice]
    steps_ns: deque[int]
    emit: Callable[[Chunk], object] | None = None
    prompt_tokens: int = 0
    error: Mapping[str, Any] | None = None
    stopped: bool = False
    capped: bool = False
    _last_index: int = 0
    _last_share_ns: int = 0
    _role_sent: bool = False

    def generate(self) -> None:
        """Generate until every choice is complete or something says stop. Blocks."""
        self._last_share_ns = self.lease.share_ns
        self.runtime.chat(self.body, self._on_event)

    def _on_event(self, event: Mapping[str, Any]) -> bool:
        """Take one event of the runtime; True tells it to stop."""
        if "error" in event:
            self.error = event["error"]
            return True
        if "prompt_progress" in event:
            self.prompt_tokens = int(event["prompt_progress"]["total"])
        for choice in event["choices"]:
            self._on_choice(choice, event)
        if "usage" in event:  # follows the last event of each choice
            self.prompt_tokens = int(event["usage"]["prompt_tokens"])
            self.choices[self._last_index].n_tokens = int(event["usage"]["completion_tokens"])
            self._free_finished()
        return self.stopped or self._reaches_cap()

    def _on_choice(self, news: Mapping[str, Any], event: Mapping[str, Any]) -> None:
        self._last_index = int(news["index"])
        choice = self.choices[self._last_index]
        delta = {key: text for key, text in news["delta"].items() if text and key != "role"}
        tokens = (news.get("logprobs") or {}).get("content") or []
        choice.pieces.append(delta.get("content", ""))
        choice.reasoning.append(delta.get("reasoning_content", ""))
        choice.tokens.extend(tokens)
        choice.finish_reason = news.get("finish_reason")
        if delta and "timings" in event:
            choice.n_tokens = int(event["timings"]["predicted_n"])
        if self.emit is None:
            return
        if not self._role_sent:
            self._role_sent = True
            self.emit(Chunk(delta={"role": "assistant", "content": ""}))
        if delta or choice.finish_reason:
            shown = _to_logprobs(tokens, self.n_top) if tokens and self.n_top is not None else None
            self.emit(Chunk(delta=delta, finish_reason=choice.finish_reason, logprobs=shown))

    def _free_finished(self) -> None:
        """Let waiting calls have the slots of choices that are complete."""
        n_open = sum(choice.finish_reason is None for choice in self.choices)
        if self.is_last and n_open:
            self.loop.call_soon_threadsafe(self.lease.shrink, n_open)

    def _reaches_cap(self) -> bool:
        if self.cap_ns is None or all(choice.finish_reason for choice in self.choices):
            return False
        share_ns = self.lease.share_ns
        self.steps_ns.append(share_ns - self._last_share_ns)
        self._last_share_ns = share_ns
        self.capped = share_ns + max(self.steps_ns) >= self.cap_ns
        return self.capped


class _Runtime:
    """The inference library's server for one model file, in this process. Its methods block."""

    def __init__(self, path: Path, *, threads: int, slots: int, context_tokens: int) -> None:
        # The library's threads wait for each other hundreds of times a token. Waiting by spinning
        # makes them many times slower as soon as another process wants a core; read at first load.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        library = importlib.import_module("xllamacpp")
        params = library.CommonParams()
        params.model.path = str(path)
        params.n_parallel = slots
        params.n_ctx = slots * context_tokens
        params.n_batch = params.n_ubatch = PROMPT_BATCH_TOKENS
        for cpu in (params.cpuparams, params.cpuparams_batch):
            cpu.n_threads = threads
            cpu.poll = 0  # idle threads sleep instead of taking the cores from others
        params.fit_params = False
        params.cache_ram_mib = 0
        params.n_threads_http = 2
        params.ui = params.endpoint_slots = False
        params.verbosity = -1
        self._key = secrets.token_urlsafe(32)
        params.api_keys = [self._key]
        self._home = tempfile.TemporaryDirectory(prefix="rheostat-", ignore_cleanup_errors=True)
        self._socket = os.path.join(self._home.name, "model.sock")  # noqa: PTH118 - bytes count
        if hasattr(socket, "AF_UNIX") and len(os.fsencode(self._socket)) < SOCKET_PATH_BYTES:
            params.hostnames = [self._socket]
        try:
            self._server = library.Server(params)
        except BaseException:
            self._home.cleanup()
            raise
        self.listening_address = str(self._server.listening_address)
        self._counts: OrderedDict[str, int] = OrderedDict()

    def chat(self, body: Mapping[str, Any], on_event: Callable[[Mapping[str, Any]], bool]) -> None:
        """Generate, calling ``on_event`` with each event until it returns True."""
        self._server.handle_chat_completions(dict(body), on_event)

    def count_tokens(self, messages: Sequence[Mapping[str, str]]) -> int:
        """Count the tokens of the prompt that the chat template makes of ``messages``."""
        body = json.dumps({"messages": messages})
        if (known := self._counts.get(body)) is not None:
            return known
        connection = self._connect()
        try:
            headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
            connection.request("POST", "/v1/chat/completions/input_tokens", body, headers)
            response = connection.getresponse()
            reply = response.read()
            if response.status != HTTP_OK:
                raise http.client.HTTPException(response.status)
        finally:
            connection.close()
        self._counts[body] = n_tokens = int(json.loads(reply)["input_tokens"])
        if len(self._counts) > N_COUNTS_KEPT:
            self._counts.popitem(last=False)
        return n_tokens

    def close(self) -> None:
        """Unload the model and remove the listener."""
        del self._server
        self._home.cleanup()

    def _connect(self) -> http.client.HTTPConnection:
        address = str(self._server.listening_address)
        if address.startswith("unix:"):
            return _SocketFileConnection(self._socket)
        return http.client.HTTPConnection(address.removeprefix("http://"), timeout=COUNT_TIMEOUT_S)


class _SocketFileConnection(http.client.HTTPConnection):
    """HTTP over a socket file."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=COUNT_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


async def measure_throughput(provider: LocalProvider) -> Throughput:
    """Measure prompt and completion tokens per second of machine time, every slot busy.

    Two short calls, about 1 to 5 s in all for models below 2 billion parameters on two cores. The
    first reads a long prompt and writes one token, which costs nothing beyond the reading; the
    second fills every slot, and the time for its short prompt is taken off. Both prompts are new
    each time, so that nothing comes from the runtime's cache. Other work on the machine during
    the probe makes the rates lower.
    """
    await provider.load()
    reading = await _probe(provider, n_words=PROBE_WORDS, n=1, max_tokens=1)
    writing = await _probe(provider, n_words=1, n=provider.slots, max_tokens=PROBE_TOKENS)
    prompt_rate = NS_PER_S * reading.prompt_tokens / max(1, reading.machine_ns)
    writing_s = writing.machine_ns / NS_PER_S
    writing_s -= min(writing.prompt_tokens / prompt_rate, writing_s / 2)
    n_steps_tokens = max(1, writing.completion_tokens - provider.slots)
    return Throughput(
        prompt_tokens_per_s=prompt_rate, completion_tokens_per_s=n_steps_tokens / writing_s
    )


async def _probe(provider: LocalProvider, *, n_words: int, n: int, max_tokens: int) -> Usage:
    words = " ".join(secrets.token_hex(2) for _ in range(n_words))
    tally = Tally()
    request = SampleRequest(
        messages=(
            Message("system", words),
            Message("user", "Write a long story about a fox and a river."),
        ),
        max_tokens=max_tokens,
        n=n,
    )
    await provider.sample(request, tally)
    return tally.usage


def _to_wire(messages: Sequence[Message]) -> list[dict[str, str]]:
    """Give the messages as the runtime takes them; raise RequestError for what it cannot read."""
    if not messages:
        msg = "messages is empty; send at least one user message"
        raise RequestError(msg, param="messages")
    wire = []
    for i, message in enumerate(messages):
        if message.role not in ROLES:
            msg = (
                f"messages[{i}] has the role {message.role!r}; a local model reads "
                f"{', '.join(ROLES)}"
            )
            raise RequestError(msg, param="messages")
        foreign = sorted(key for key, value in message.extra.items() if value and key != "name")
        if not (message.content is None or isinstance(message.content, str)):
            foreign += sorted({str(p.get("type")) for p in message.content} - {"text"})
        if foreign:
            msg = (
                f"messages[{i}] has {foreign[0]!r}, which a local model cannot read; "
                "send text only or choose another model"
            )
            raise RequestError(msg, param="messages")
        wire.append({"role": ROLES[message.role], "content": message.text})
    return wire


def _to_body(request: SampleRequest) -> dict[str, Any]:
    """Give everything of the runtime's request but ``n`` and ``seed``; check it first."""
    if min(request.n, request.max_tokens) < 1:
        msg = f"n and max_tokens are at least 1, got {request.n} and {request.max_tokens}"
        raise RequestError(msg, param="n" if request.n < 1 else "max_tokens")
    n_top = request.top_logprobs or 0
    if not 0 <= n_top <= MAX_TOP_LOGPROBS:
        msg = f"top_logprobs must be between 0 and {MAX_TOP_LOGPROBS}, got {n_top}"
        raise RequestError(msg, param="top_logprobs")
    extra = {key: value for key, value in request.extra.items() if value not in (None, [], {})}
    unknown = sorted(extra.keys() - FORWARDED - IGNORED)
    if unknown:
        msg = f"a local model cannot serve the field {unknown[0]!r}; leave it out"
        raise RequestError(msg, param=unknown[0])
    optional = {"temperature": request.temperature, "top_p": request.top_p}
    return {
        **{key: value for key, value in extra.items() if key in FORWARDED},
        **{key: value for key, value in optional.items() if value is not None},
        "messages": _to_wire(request.messages),
        "max_tokens": request.max_tokens,
        "stop": list(request.stop),
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_progress": True,
        "timings_per_token": True,
        "logprobs": True,
        "top_logprobs": max(1, n_top),
    }


def _to_logprobs(tokens: Sequence[Mapping[str, Any]], n_top: int) -> dict[str, Any]:
    """Give the runtime's token log-probabilities as the OpenAI ``logprobs`` object."""
    keys = ("token", "logprob", "bytes")
    return {
        "content": [
            {key: token[key] for key in keys}
            | {"top_logprobs": [{k: top[k] for k in keys} for top in token["top_logprobs"][:n_top]]}
            for token in tokens
        ],
        "refusal": None,
    }


async def _until_done(future: asyncio.Future[None]) -> None:
    """Wait for the end of ``future`` even when this task is cancelled again meanwhile."""
    while not future.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([future])
    if not future.cancelled():
        future.exception()  # seen: whoever waits for the future's result deals with it
