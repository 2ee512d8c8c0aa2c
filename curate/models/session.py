"""A recipe's models, ready to be called: what steps are given while a run lasts."""

import gc
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

import numpy as np

from curate.errors import StepError, UsageError
from curate.models.asking import Attempt, Backend, Likelihood, LikelihoodRequest, Reply, Request
from curate.models.caller import GRACE_SECONDS, Caller
from curate.models.jobs import Asked
from curate.models.lane import Lane
from curate.models.limits import CALLER_OPTIONS, Rules
from curate.models.numbers import (
    LocalEmbedModel,
    LocalRewardModel,
    Rewards,
    Vectors,
    head_names,
    kept_rewards,
    kept_vectors,
    shelf_name,
)
from curate.models.shelf import VectorShelf
from curate.models.spec import ModelSpec
from curate.models.spending import Statistics

if TYPE_CHECKING:
    from curate.models.fine_tuning import RewardTrainer
    from curate.models.likelihood import LikelihoodModel, Logprobs

Kind = Literal["chat", "reward", "embed"]


def openai_backend(spec: ModelSpec, kind: Kind) -> Any:
    """A server that speaks OpenAI's protocol, or vLLM's for rewards."""
    from curate.models.openai_backend import OpenAIBackend, OpenAIEmbed, OpenAIReward

    return {"chat": OpenAIBackend, "reward": OpenAIReward, "embed": OpenAIEmbed}[kind](spec)


def fake_backend(spec: ModelSpec, kind: Kind) -> Any:
    """Deterministic answers without a model."""
    from curate.models.fake import FakeBackend
    from curate.models.fake_numbers import FakeEmbed, FakeReward

    return {"chat": FakeBackend, "reward": FakeReward, "embed": FakeEmbed}[kind](spec)


def local_backend(spec: ModelSpec, kind: Kind) -> Any:
    """A model loaded into this process."""
    from curate.models.local import local_model

    return local_model(spec, kind)


def vllm_backend(spec: ModelSpec, kind: Kind) -> Any:
    """A model that vLLM runs in a process of its own."""
    from curate.models.vllm_backend import backend

    return backend(spec, kind)


LOCAL = ("sentence_transformers", "transformers", "hashing")
"""Back ends that compute in this process: no calls, no limits, no retries."""
BACKENDS: Mapping[str, Callable[[ModelSpec, Kind], Any]] = {
    "openai": openai_backend,
    "fake": fake_backend,
    "vllm": vllm_backend,
    **dict.fromkeys(LOCAL, local_backend),
}
"""What builds a model, by its `backend`."""


def answer_options(spec: ModelSpec) -> dict[str, Any]:
    """The options that change what a model answers."""
    if spec.backend == "openai":
        from curate.models.openai_backend import answer_options as of_openai

        return of_openai(spec)
    if spec.backend == "fake":
        from curate.models.fake_settings import answer_options as of_fake

        return of_fake(spec)
    if spec.backend == "vllm":
        from curate.models.vllm_backend import answer_options as of_vllm

        return of_vllm(spec)
    if spec.backend in LOCAL:
        from curate.models.local import answer_options as of_local

        return of_local(without_caller_options(spec))
    return {name: value for name, value in sorted(spec.options.items()) if name not in CALLER_OPTIONS}


def identity_of(spec: ModelSpec, kind: Kind | None = None) -> dict[str, Any]:
    """What tells a model from others, wherever it runs: name, revision, kind, and the options that change its answers."""
    identity: dict[str, Any] = {"name": spec.name, "revision": spec.revision, "kind": kind or spec.kind or "chat"}
    if spec.backend == "fake":
        identity["backend"] = "fake"  # what it says must never pass for the answer of a model of that name
    if spec.backend in LOCAL:
        from curate.models.local import local_identity, pinned

        identity |= {"backend": spec.backend, "revision": pinned(spec).revision} | local_identity(spec)
    if spec.backend == "vllm":
        from curate.models.local import local_identity

        identity |= local_identity(spec)  # of the hub's models the answers are those of any vLLM server
    return identity | ({"options": options} if (options := answer_options(spec)) else {})


def without_caller_options(spec: ModelSpec) -> ModelSpec:
    """The specification as its back end sees it."""
    return spec.model_copy(update={"options": {k: v for k, v in spec.options.items() if k not in CALLER_OPTIONS}})


def free_memory() -> None:
    """Give back what models that nothing refers to any more held, on a GPU too."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


class NumberBackend(Protocol):
    """What answers numbers: one conversation's rewards, or the vectors of some texts."""

    async def send(self, payload: Any) -> Any:
        """One try; an object like `openai_backend.Numbers`."""

    async def close(self) -> None:
        """Free connections."""


@dataclass(frozen=True)
class AsReplies:
    """A back end of numbers behind the caller: the numbers travel in the reply's `raw`."""

    inner: NumberBackend

    async def send(self, request: Any) -> Attempt:
        """One try."""
        found = await self.inner.send(request)
        reply = Reply(
            prompt_tokens=found.prompt_tokens,
            seconds=found.seconds,
            cost_usd=found.cost_usd,
            raw={"values": found.values},
            error=found.error,
            detail=found.detail,
        )
        return Attempt(reply, found.retry_after)

    async def close(self) -> None:
        """Free connections."""
        await self.inner.close()


@dataclass(frozen=True)
class ChatModel:
    """A chat model behind the caller and the ledger, asked in the name of a step."""

    caller: Caller
    lane: Lane
    step: str | None

    def reply(self, requests: Sequence[Request]) -> list[Reply]:
        """One reply for each request, in order; a failure is an error in the reply."""
        return self.begin(requests).replies()

    def begin(self, requests: Sequence[Request]) -> Asked:
        """Hand requests over, whose replies are waited for later: others may be put together meanwhile."""
        return self.caller.begin(self.lane, requests, self.step)

    def disown(self, requests: Sequence[Request]) -> None:
        """Say that the answers to these requests were of no use: they are kept, and never served again."""
        self.caller.disown(self.lane, requests, self.step)


@dataclass(frozen=True)
class RewardModel:
    """A reward model behind the caller."""

    caller: Caller
    lane: Lane
    shelf: VectorShelf
    named: str | None = None
    """The option `heads`: names of its outputs, commas between."""

    def score(self, conversations: Sequence[Sequence[Mapping[str, Any]]]) -> np.ndarray:
        """Raw rewards, (N, heads) float32; NaN where a conversation could not be scored."""
        return self.score_or_error(conversations)[0]

    def score_or_error(self, conversations: Sequence[Sequence[Mapping[str, Any]]]) -> tuple[np.ndarray, list[str | None]]:
        """Rewards, and why a row has none ("timeout: ..."), or None."""
        found = self.rewards(conversations)
        return found.values, found.errors

    def rewards(self, conversations: Sequence[Sequence[Mapping[str, Any]]]) -> Rewards:
        """Rewards and errors; what was answered before is not asked again. A server does not tell what it cut off."""
        return kept_rewards(self.shelf, conversations, self._ask)

    def heads(self, count: int) -> tuple[str, ...]:
        """Names of its outputs."""
        return head_names(self.named, count)

    def _ask(self, conversations: Sequence[Sequence[Mapping[str, Any]]]) -> Rewards:
        replies = self.caller.ask_unkept(self.lane, conversations)
        rows = [reply.raw["values"][0] if reply.error is None and reply.raw else None for reply in replies]
        heads = next((len(row) for row in rows if row is not None), 1)
        missing = np.full(heads, np.nan, np.float32)
        values = np.array([missing if row is None else row for row in rows], np.float32).reshape(len(rows), heads)
        cut = np.array([(reply.raw or {}).get("cut", np.nan) for reply in replies], np.float32)
        return Rewards(values, [in_words(reply) for reply in replies], cut)


@dataclass(frozen=True)
class EmbedModel:
    """An embedding model behind the caller."""

    caller: Caller
    lane: Lane
    batch_size: int
    shelf: VectorShelf
    cuts: VectorShelf
    likeness = "semantic"

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors, (N, D) float32, unit length. Raises StepError if any text has none: what rests on distances needs all."""
        return self.vectors(texts).values

    def vectors(self, texts: Sequence[str]) -> Vectors:
        """The same, and how many tokens of each text were not read; most servers do not tell."""
        return kept_vectors(self.shelf, self.cuts, texts, self._ask)

    def _ask(self, texts: Sequence[str]) -> Vectors:
        parts = [list(texts[start : start + self.batch_size]) for start in range(0, len(texts), self.batch_size)]
        replies = self.caller.ask_unkept(self.lane, parts)
        failed = [reply for reply in replies if reply.error is not None]
        if failed:
            raise StepError(
                f"model {self.lane.key}: {len(failed)} of {len(parts)} calls for embeddings failed, "
                f"the first by {in_words(failed[0])}; run again"
            )
        raws = [reply.raw for reply in replies if reply.raw]
        return Vectors.joined(
            [Vectors(raw["values"], raw.get("cut", np.full(len(raw["values"]), np.nan, np.float32))) for raw in raws]
        )


def in_words(reply: Reply) -> str | None:
    """The error as rows carry it: "kind: detail"; None if there is none."""
    return None if reply.error is None else f"{reply.error}: {reply.detail}"


class Session:
    """Models behind one caller and one ledger, for as long as a run lasts.

    root: the store; answers are kept under `<root>/ledger`. max_cost (US dollars) and max_calls bound this run alone.
    """

    def __init__(
        self,
        models: Mapping[str, ModelSpec],
        root: Path,
        *,
        max_cost: float | None = None,
        max_calls: int | None = None,
        step: str | None = None,
    ) -> None:
        from curate.models.ledger import Ledger

        for key, spec in models.items():
            Rules.of(spec.options, key)  # a faulty option is found before anything is asked
        if max_cost is not None and models and not any(spec.usd_per_mtok for spec in models.values()):
            raise UsageError("--max-cost needs prices: give a model usd_per_mtok: {in: ..., out: ...}, or use --max-calls")
        for key, spec in models.items():
            mode = spec.options.get("mode")
            if mode not in (None, "batch") or (mode == "batch" and spec.backend != "openai"):
                raise UsageError(
                    f"model {key}, options, mode: only `batch`, with backend openai; got {mode!r} with {spec.backend}"
                )
        self.models = dict(models)
        self.root = Path(root)
        self.ledger = Ledger(Path(root) / "ledger")
        self.caller = Caller(self.ledger, max_cost=max_cost, max_calls=max_calls)
        self._lock = threading.Lock()
        self._backends: dict[tuple[str, Kind], Any] = {}
        self._shelves: dict[str, VectorShelf] = {}
        self._measurers: dict[str, Likelihood] = {}
        self._step = step

    # -- what steps call

    def for_step(self, step: str) -> "StepModels":
        """The same models, asked in the name of a step: the ledger says which step spent what."""
        return StepModels(self, step)

    def chat(self, key: str) -> ChatModel:
        """A chat model."""
        return self.chat_for(key, self._step)

    def chat_for(self, key: str, step: str | None) -> ChatModel:
        """A chat model, asked in the name of a step."""
        backend: Backend = self._backend(key, "chat")
        return ChatModel(self.caller, self._lane(key, "chat", backend), step)

    def reward(self, key: str) -> RewardModel | LocalRewardModel:
        """A reward model."""
        if self._spec(key).backend in LOCAL:
            return LocalRewardModel(lambda: self._backend(key, "reward"), self._shelf(key, "reward"))
        lane, named = self._lane(key, "reward", self._numbers(key, "reward")), self._spec(key).options.get("heads")
        return RewardModel(self.caller, lane, self._shelf(key, "reward"), named if isinstance(named, str) else None)

    def embed(self, key: str) -> EmbedModel | LocalEmbedModel:
        """An embedding model."""
        if self._spec(key).backend in LOCAL:
            likeness = "lexical" if self._spec(key).backend == "hashing" else "semantic"
            shelves = self._shelf(key, "embed"), self._shelf(key, "embed", measures="cut")
            return LocalEmbedModel(lambda: self._backend(key, "embed"), *shelves, likeness)
        backend = self._backend(key, "embed")
        lane, batch_size = self._lane(key, "embed", self._numbers(key, "embed")), int(getattr(backend, "batch_size", 64))
        return EmbedModel(self.caller, lane, batch_size, self._shelf(key, "embed"), self._shelf(key, "embed", measures="cut"))

    def _numbers(self, key: str, kind: Kind) -> Backend:
        """A back end of numbers as the caller takes it."""
        backend: Backend = self._backend(key, kind)
        return backend if self._spec(key).backend == "vllm" else AsReplies(backend)

    def likelihood(self, key: str) -> "LikelihoodModel":
        """A model that measures answers; vLLM does it in the engine that answers, too."""
        from curate.models.likelihood import LikelihoodModel, asked_by, measurer

        spec, shelf = self._spec(key), self._shelf(key, "chat", measures="likelihood")
        if spec.backend == "vllm":
            backend: Backend = self._backend(key, "chat")
            return LikelihoodModel(asked_by(self.caller, self._lane(key, "chat", backend)), shelf)

        def ask(requests: Sequence[LikelihoodRequest]) -> "Sequence[Logprobs]":
            with self._lock:
                if key not in self._measurers:
                    self._measurers[key] = measurer(without_caller_options(spec))
            return self._measurers[key].logprobs(requests)

        return LikelihoodModel(ask, shelf)

    def trainer(self, key: str) -> "RewardTrainer":
        """What trains copies of a reward model on pairs; nothing of it is kept."""
        from curate.models.fine_tuning import RewardTrainer

        return RewardTrainer(without_caller_options(self._spec(key)))

    def _shelf(self, key: str, kind: Kind, **more: str) -> VectorShelf:
        """Where a model's numbers are kept: by what tells it from others, so that two keys of one model share them."""
        name = shelf_name(identity_of(self._spec(key), kind) | more)
        with self._lock:
            return self._shelves.setdefault(name, VectorShelf(self.root / "vectors", name))

    def identity(self, key: str) -> Mapping[str, Any]:
        """What tells the model from others: name, revision, kind and options that change answers; neither address nor key."""
        return identity_of(self._spec(key))

    def _spec(self, key: str) -> ModelSpec:
        if key not in self.models:
            raise UsageError(f"no model is called {key!r}; the recipe has {', '.join(self.models) or 'none'}")
        return self.models[key]

    def _backend(self, key: str, kind: Kind) -> Any:
        """The back end of a model, built when it is first asked for."""
        spec = self._spec(key)
        if spec.kind not in (None, kind):
            raise UsageError(f"model {key} is a {spec.kind} model, but a step uses it as a {kind} model")
        with self._lock:
            if (key, kind) not in self._backends:
                self._backends[key, kind] = BACKENDS[spec.backend](without_caller_options(spec), kind)
            return self._backends[key, kind]

    def _lane(self, key: str, kind: Kind, backend: Backend) -> Lane:
        spec = self._spec(key)
        name = key if spec.kind or kind == "chat" else f"{key} ({kind})"
        identity, rules = identity_of(spec, kind), Rules.of(spec.options, key)

        def made() -> Lane:
            if spec.backend == "vllm":
                from curate.models.vllm_backend import VllmLane

                return VllmLane(self.caller, name, backend, identity, rules, spec.usd_per_mtok)
            if kind != "chat" or spec.options.get("mode") != "batch":
                return Lane(self.caller, name, backend, identity, rules, spec.usd_per_mtok)
            from curate.models.batch import Batches
            from curate.models.batch_lane import BatchLane

            batches = Batches(self._backend(key, "chat"), self.root)
            return BatchLane(self.caller, name, backend, identity, rules, spec.usd_per_mtok, batches)

        return self.caller.lane_made_by(name, made)

    # -- what the run calls

    def rest(self) -> None:
        """A step is over: free what models hold on this machine that no other step is using. They come back when asked."""
        with self._lock:
            local = [place for place in self._backends if self.models[place[0]].backend in LOCAL]
            dropped = [*(self._backends.pop(place) for place in local), *self._measurers.values()]
            self._measurers.clear()
            backends = list(self._backends.values())
        for backend in backends:
            if (rest := getattr(backend, "rest", None)) is not None:
                rest()
        if dropped:
            dropped.clear()
            free_memory()

    def statistics(self) -> dict[str, Statistics]:
        """How each model's calls stand, and under "" all together."""
        return self.caller.statistics()

    def troubles(self) -> list[str]:
        """One sentence for each model that was given up, and one if the budget was reached."""
        return self.caller.troubles()

    def try_again(self) -> None:
        """Ask models that were given up once more: a step is tried again."""
        self.caller.try_again()

    def stop(self, grace: float = GRACE_SECONDS) -> None:
        """Send nothing new and let what is in flight finish; a second call waits no longer."""
        self.caller.stop(grace)

    @contextmanager
    def interruptible(self) -> Iterator[Self]:
        """Within it, Ctrl-C stops the calls before it interrupts the main thread; a second Ctrl-C waits for none of them.

        So does a termination signal that somebody handles, such as a flow being cancelled. Threads that wait in `ask` are
        told by Stopped, so that a pool of them can be joined. Main thread only; elsewhere it changes nothing.
        """
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def stopping(number: int, frame: FrameType | None) -> None:
            self.stop()
            before = handlers[signal.Signals(number)]
            (before if callable(before) else signal.default_int_handler)(number, frame)

        if not callable(handlers[signal.SIGTERM]):
            del handlers[signal.SIGTERM]  # it ends the process at once, which loses nothing either
        for number in handlers:
            signal.signal(number, stopping)
        try:
            yield self
        finally:
            for number, before in handlers.items():
                signal.signal(number, before)

    def close(self) -> None:
        """Let what is in flight finish and be recorded, then free everything."""
        try:
            self.caller.close()
        finally:
            self.ledger.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


@dataclass(frozen=True)
class StepModels:
    """A session's models in the hands of one step."""

    session: Session
    step: str

    def chat(self, key: str) -> ChatModel:
        """A chat model."""
        return self.session.chat_for(key, self.step)

    def reward(self, key: str) -> RewardModel | LocalRewardModel:
        """A reward model."""
        return self.session.reward(key)

    def embed(self, key: str) -> EmbedModel | LocalEmbedModel:
        """An embedding model."""
        return self.session.embed(key)

    def likelihood(self, key: str) -> "LikelihoodModel":
        """A model that measures answers."""
        return self.session.likelihood(key)

    def trainer(self, key: str) -> "RewardTrainer":
        """What trains copies of a reward model."""
        return self.session.trainer(key)

    def identity(self, key: str) -> Mapping[str, Any]:
        """What tells the model from others."""
        return self.session.identity(key)
