"""The `vllm` back end: models that vLLM runs on this machine, in an interpreter and a process of its own.

It ends with the step that used it, and its GPU is free again. What an answer is called in the ledger is the same as from a
vLLM server of that model's name; a model in a folder is known by what is in its files.

Settings of a model under `options`, besides those of the caller:

    max_length      tokens of prompt and response together; the model's own limit if not given
    dtype, quantization, kv_cache_dtype, load_format, tokenizer, max_num_seqs, max_num_batched_tokens, gpu_memory_utilization,
    kv_cache_memory_bytes, tensor_parallel_size, pipeline_parallel_size, enable_prefix_caching, enforce_eager, max_lora_rank,
    cpu_offload_gb, hf_config_path   as vLLM calls them
    data_parallel_size   copies of the model, each on GPUs of its own, that share the requests
    (without a GPU, parts of a model get cores of their own, but where env.VLLM_CPU_OMP_THREADS_BIND says which)
    lora            folder of an adapter that every request goes through
    chat_template   file of a chat template to use instead of the model's own
    body.chat_template_kwargs.NAME   a value for the chat template, as with backend openai
    tool_parser, reasoning_parser    vLLM's parser of these names
    think           true: split <think>…</think> off the answer as its reasoning
    media           folder that images marked `inline` may come from
    fits_beside     true: may be loaded while other models are that say so, too
    env.NAME        a variable for vLLM's process, such as env.VLLM_CPU_KVCACHE_SPACE
    truncate, template, eos, heads   for rewards, as with backend transformers
    dimensions      for embeddings: their length
"""

import asyncio
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from curate.errors import UsageError
from curate.models.asking import Attempt, ErrorKind, LikelihoodRequest, Reply, Request
from curate.models.completion import BadQuestion, BadReply, data_url, read_reply
from curate.models.lane import Lane
from curate.models.local import Options, local_identity, trusted
from curate.models.rendering import TRUNCATE
from curate.models.spec import ModelSpec
from curate.models.vllm_engine import Engine
from curate.models.vllm_install import gpus, need_interpreter

ENGINE_NUMBERS = (
    "max_num_seqs",
    "max_num_batched_tokens",
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "max_lora_rank",
    "kv_cache_memory_bytes",
)
ENGINE_SHARES = ("gpu_memory_utilization", "cpu_offload_gb")
ENGINE_TRUTHS = ("enable_prefix_caching", "enforce_eager")
ENGINE_WORDS = ("dtype", "quantization", "kv_cache_dtype", "load_format", "tokenizer", "hf_config_path")
OTHERS = (
    "max_length",
    "data_parallel_size",
    "lora",
    "chat_template",
    "tool_parser",
    "reasoning_parser",
    "think",
    "media",
    "fits_beside",
    "truncate",
    "template",
    "eos",
    "heads",
    "dimensions",
)
OPTIONS = (*ENGINE_NUMBERS, *ENGINE_SHARES, *ENGINE_TRUTHS, *ENGINE_WORDS, *OTHERS)
TEMPLATE_VALUE = "body.chat_template_kwargs."
VARIABLE = "env."
ANSWER_CHANGING = frozenset(
    {"dtype", "quantization", "kv_cache_dtype", "tokenizer", "hf_config_path", "chat_template", "tool_parser"}
    | {"reasoning_parser", "think", "heads", "truncate", "template", "eos", "dimensions"}
)
IN_FLIGHT = 2048
"""Requests handed to the engine at once, which queues them itself: several times what it computes together."""
DTYPES = ("auto", "half", "float16", "bfloat16", "float", "float32")
Kind = Literal["chat", "reward", "embed"]


def answer_options(spec: ModelSpec) -> dict[str, Any]:
    """The options that change what is answered: they belong to a model's identity in the ledger and in a step's key."""
    told: dict[str, Any] = {
        name: value
        for name, value in sorted(spec.options.items())
        if (name in ANSWER_CHANGING or name.startswith(TEMPLATE_VALUE)) and value is not None
    }
    if spec.kind == "reward" and spec.options.get("max_length") is not None:
        told["max_length"] = spec.options["max_length"]  # it changes what is cut off
    if (adapter := spec.options.get("lora")) is not None:
        told["lora"] = local_identity(spec.model_copy(update={"name": str(adapter)})) or str(adapter)
    if (template := spec.options.get("chat_template")) is not None:
        told["chat_template"] = file_text(spec, "chat_template", str(template))
    return told


def file_text(spec: ModelSpec, option: str, path: str) -> str:
    """What a file holds that an option names."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"model {spec.name}, options, {option}: {path} cannot be read: {error}") from None


class Settings(Options):
    """A model's options as vLLM's worker is told them."""

    def __init__(self, spec: ModelSpec) -> None:
        rest = {n: v for n, v in spec.options.items() if not n.startswith((TEMPLATE_VALUE, VARIABLE))}
        super().__init__(spec.model_copy(update={"options": rest}), dict.fromkeys(OPTIONS, ""))
        self.told = spec.options

    def share(self, name: str) -> float | None:
        """A number above zero."""
        told = self.told.get(name)
        if told is not None and (not isinstance(told, int | float) or isinstance(told, bool) or told <= 0):
            raise UsageError(f"model {self.spec.name}, options, {name}: a number above 0, got {told!r}")
        return None if told is None else float(told)

    def prefixed(self, prefix: str) -> dict[str, Any]:
        """The options of one family, by the rest of their names."""
        return {name.removeprefix(prefix): value for name, value in self.told.items() if name.startswith(prefix)}

    def engine(self) -> dict[str, Any]:
        """Arguments of vllm.LLM."""
        given: dict[str, Any] = {name: self.number(name) for name in ENGINE_NUMBERS}
        given |= {name: self.share(name) for name in ENGINE_SHARES}
        given |= {name: self.truth(name) for name in ENGINE_TRUTHS}
        given |= {name: self.text(name) for name in ENGINE_WORDS}
        self.choice("dtype", DTYPES, "auto")
        given |= {"model": self.spec.name, "revision": self.spec.revision, "max_model_len": self.number("max_length")}
        given["trust_remote_code"] = trusted(self.spec) or None
        return {name: value for name, value in given.items() if value is not None}

    def rendering(self) -> dict[str, Any]:
        """How a reward model's conversations are rendered."""
        truncate = self.choice("truncate", TRUNCATE, "left")
        return {"limit": self.number("max_length"), "truncate": truncate, "template": self.truth("template"), "eos": self.eos}

    @property
    def eos(self) -> bool:
        """Whether a conversation ends with the tokenizer's last token."""
        return bool(self.truth("eos", False))

    def worker(self, kind: Kind) -> dict[str, Any]:
        """All that the worker is told."""
        engine = self.engine()
        if kind == "reward":
            engine.pop("max_model_len", None)  # what is longer is cut here, not refused there
        template, adapter = self.text("chat_template"), self.text("lora")
        if adapter and not (Path(adapter) / "adapter_config.json").is_file():
            raise UsageError(f"model {self.spec.name}, options, lora: {adapter} is no folder with an adapter_config.json")
        return {
            "kind": kind,
            "engine": engine,
            "lora": adapter and str(Path(adapter).absolute()),
            "chat_template": file_text(self.spec, "chat_template", template) if template else None,
            "template": self.prefixed(TEMPLATE_VALUE),
            "tool_parser": self.text("tool_parser"),
            "reasoning_parser": self.text("reasoning_parser"),
            "rendering": self.rendering(),
        }


class VllmModel:
    """What the three kinds share: an engine, and how it is asked from an event loop."""

    kind: Kind

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        self.settings = Settings(spec)
        variables = {name: str(value) for name, value in self.settings.prefixed(VARIABLE).items()}
        copies = self.settings.number("data_parallel_size", 1) or 1
        told, group = self.settings.worker(self.kind), object()
        size = int(told["engine"].get("tensor_parallel_size", 1)) * int(told["engine"].get("pipeline_parallel_size", 1))
        self.engines = [
            Engine(
                spec.name,
                lambda: need_interpreter(spec.python),
                told,
                fits_beside=bool(self.settings.truth("fits_beside", False)),
                group=group,
                variables=devices(copy, size, copies, spec) | variables,
            )
            for copy in range(copies)
        ]

    @property
    def engine(self) -> Engine:
        """The copy with the least to do."""
        return min(self.engines, key=lambda engine: engine.waiting)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.spec.name})"

    def begin(self, payload: Any, n: int, done: Callable[[Sequence[Attempt]], None]) -> "InFlight":
        """Ask without waiting; `done` is told in the event loop, after this returned."""
        flight = InFlight(self.engine, done)
        try:
            asked = self.asked(payload)
        except BadQuestion as error:
            flight.settle(Attempt(Reply(error="request", detail=str(error))))
            return flight
        flight.ask(asked, lambda rows: self.answered(payload, rows))
        return flight

    async def send(self, payload: Any) -> Attempt:
        """One try, waited for."""
        waiter: asyncio.Future[Attempt] = asyncio.get_running_loop().create_future()

        def done(attempts: Sequence[Attempt]) -> None:
            if not waiter.done():
                waiter.set_result(attempts[0])

        flight = self.begin(payload, 1, done)
        try:
            return await waiter
        except asyncio.CancelledError:
            flight.cancel()
            raise

    def asked(self, payload: Any) -> list[tuple[str, str]]:
        """What the worker is asked for a payload: kinds and bodies. Raises BadQuestion where it cannot be."""
        raise NotImplementedError

    def answered(self, payload: Any, rows: Sequence[Mapping[str, Any]]) -> Reply:
        """The reply that the worker's rows make, none of which is an error."""
        raise NotImplementedError

    def rest(self) -> None:
        """The step is over: end the engine, unless another step is using it."""
        for engine in self.engines:
            engine.rest()

    async def close(self) -> None:
        """End the engine, whatever it does."""
        await asyncio.gather(*(asyncio.to_thread(engine.close) for engine in self.engines))


class InFlight:
    """One payload on its way, in one or several rows."""

    __slots__ = ("engine", "done", "loop", "numbers", "rows", "left", "cancelled", "read")

    def __init__(self, engine: Engine, done: Callable[[Sequence[Attempt]], None]) -> None:
        self.engine = engine
        self.done = done
        self.loop = asyncio.get_running_loop()
        self.numbers: list[int] = []
        self.rows: list[Mapping[str, Any] | None] = []
        self.left = 0
        self.cancelled = False

    def ask(self, asked: Sequence[tuple[str, str]], read: Callable[[Sequence[Mapping[str, Any]]], Reply]) -> None:
        """Ask all rows; the reply is read when the last has come."""
        self.rows = [None] * len(asked)
        self.left = len(asked)
        self.read = read
        for place, (kind, body) in enumerate(asked):
            self.numbers.append(self.engine.ask(kind, body, lambda row, place=place: self._came(place, row)))  # type: ignore[misc]

    def _came(self, place: int, row: Mapping[str, Any]) -> None:
        """A row came; in the engine's thread."""
        self.rows[place] = row
        self.left -= 1
        if not self.left:
            rows = [row for row in self.rows if row is not None]
            failed = next((row for row in rows if row.get("error") is not None), None)
            if failed is not None:
                self.settle(Attempt(Reply(error=cast(ErrorKind, failed["error"]), detail=failed["detail"])))
            else:
                self.settle(Attempt(self._read(rows)))

    def _read(self, rows: Sequence[Mapping[str, Any]]) -> Reply:
        try:
            return self.read(rows)
        except (ValueError, KeyError, TypeError, BadReply) as problem:
            return Reply(error="bad_reply", detail=f"{type(problem).__name__}: {problem}")

    def settle(self, attempt: Attempt) -> None:
        """Tell it, from any thread."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._tell, attempt)

    def _tell(self, attempt: Attempt) -> None:
        if not self.cancelled:
            self.done([attempt])

    def cancel(self) -> None:
        """Give it up; nobody is told."""
        self.cancelled = True
        for number in self.numbers:
            self.engine.forget(number)


class VllmChat(VllmModel):
    """A model that answers, and measures answers."""

    kind = "chat"

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.think = bool(self.settings.truth("think", False))
        media = self.settings.text("media")
        self.media = Path(media) if media else None

    def asked(self, payload: Request | LikelihoodRequest) -> list[tuple[str, str]]:
        """One row."""
        if isinstance(payload, LikelihoodRequest):
            body: dict[str, Any] = {"messages": list(payload.messages), "end": payload.end}
            return [("likelihood", as_json(body))]
        return [("ask", as_json(self._body(payload)))]

    def _body(self, request: Request) -> dict[str, Any]:
        if not request.messages:
            raise BadQuestion("there are no messages")
        sampling = {name: value for name, value in vars(request.sampling).items() if value is not None and value != ()}
        messages = [with_pictures(message, self.media) for message in request.messages]
        body: dict[str, Any] = {"messages": messages, "sampling": sampling}
        if request.seed is not None:
            body["seed"] = request.seed
        if request.tools:
            body["tools"] = list(request.tools)
        if request.response_format is not None:
            body["schema"] = request.response_format.get("schema") or {}
        return body

    def answered(self, payload: Request | LikelihoodRequest, rows: Sequence[Mapping[str, Any]]) -> Reply:
        """Read as a server's completion is."""
        row = rows[0]
        found = json.loads(row["body"])
        if isinstance(payload, LikelihoodRequest):
            values = np.array(row["values"], np.float32)
            raw = {"values": values, "ends": found["ends"]}
            return Reply(prompt_tokens=found["prompt_tokens"], seconds=found["seconds"], raw=raw)
        body = {"usage": found["usage"]}
        return read_reply(found["choice"], body, think=self.think, price=self.spec.usd_per_mtok, seconds=found["seconds"])


class VllmReward(VllmModel):
    """A reward model. Rewards are raw: a one-label model's sigmoid is declined."""

    kind = "reward"

    def asked(self, payload: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
        """One row for a conversation that ends with the response."""
        return [("reward", as_json({"messages": list(payload)}))]

    def answered(self, payload: Any, rows: Sequence[Mapping[str, Any]]) -> Reply:
        """(1, heads) float32 and the tokens that were cut off, in `raw`."""
        values = np.array([rows[0]["values"]], np.float32)
        if not np.isfinite(values).all():
            return Reply(error="engine", detail="the model gave a number that is none")
        found = json.loads(rows[0]["body"])
        raw = {"values": values, "cut": rows[0]["cut"]}
        return Reply(prompt_tokens=found["prompt_tokens"], seconds=found["seconds"], raw=raw)


class VllmEmbed(VllmModel):
    """An embedding model."""

    kind = "embed"
    batch_size = 64

    def asked(self, payload: Sequence[str]) -> list[tuple[str, str]]:
        """A row for each text."""
        told = {"dimensions": dimensions} if (dimensions := self.settings.number("dimensions")) else {}
        return [("embed", as_json({"text": text, **told})) for text in payload]

    def answered(self, payload: Any, rows: Sequence[Mapping[str, Any]]) -> Reply:
        """(N, D) float32 of unit length, in `raw`."""
        values = np.array([row["values"] for row in rows], np.float32)
        lengths = np.linalg.norm(values, axis=1, keepdims=True)
        if not np.isfinite(values).all() or not lengths.all():
            return Reply(error="engine", detail="the model gave a vector that is none")
        return Reply(raw={"values": values / lengths, "cut": np.array([row["cut"] for row in rows], np.float32)})


class VllmLane(Lane):
    """The queue of a model in an engine: there is nobody to be gentle with, and what it is at work on costs nothing."""

    waits_at_stop = False

    @property
    def limit(self) -> int:
        """Requests handed over at once; the engine has a queue of its own."""
        told = self.rules.max_concurrency
        return told if told != type(self.rules).max_concurrency else IN_FLIGHT


def backend(spec: ModelSpec, kind: str) -> VllmModel:
    """A model of a kind; nothing is started before it is asked."""
    kinds: dict[str, type[VllmModel]] = {"chat": VllmChat, "reward": VllmReward, "embed": VllmEmbed}
    return kinds[kind](spec)


def devices(copy: int, size: int, copies: int, spec: ModelSpec) -> dict[str, str]:
    """The GPUs of one of several copies of a model, as a variable; nothing where it has them all, or there are none."""
    if copies == 1:
        return {}
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    there = named.split(",") if named else [str(number) for number in range(gpus())]
    if not there:
        return {}
    if len(there) < copies * size:
        raise UsageError(f"model {spec.name}: {copies} copies of {size} GPU each, and there are {len(there)}")
    return {"CUDA_VISIBLE_DEVICES": ",".join(there[copy * size : (copy + 1) * size])}


def as_json(body: Mapping[str, Any]) -> str:
    """What is asked as text that Arrow takes; half a surrogate pair, which a tokenizer refuses, is an error of the request."""
    try:
        text = json.dumps(body, ensure_ascii=False, allow_nan=False)
        text.encode()
    except (TypeError, ValueError) as error:
        raise BadQuestion(f"the request cannot be written: {error}") from None
    return text


def with_pictures(message: Mapping[str, Any], media: Path | None) -> Mapping[str, Any]:
    """A message as vLLM takes it. Pictures come from the folder of media alone: nothing is fetched for a dataset's text."""
    content = message.get("content")
    kept = {name: value for name, value in message.items() if value is not None}
    if isinstance(kept.get("tool_calls"), str):
        kept["tool_calls"] = json.loads(kept["tool_calls"])
    if not isinstance(content, list):
        return kept
    parts = []
    for part in content:
        if isinstance(part, Mapping) and part.get("type") == "image_url":
            url = str(part["image_url"]["url"])
            if url.startswith(("http://", "https://")):
                raise BadQuestion(f"image {url[:80]!r} is an address: vllm is given files of the folder `media` alone")
            part = {"type": "image_url", "image_url": {"url": data_url(url, media)}}
        parts.append(part)
    return {**kept, "content": parts}
