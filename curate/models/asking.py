"""What is asked of a model and what comes back: the values that operators, the caller, the ledger and back ends share."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import tables

if TYPE_CHECKING:
    from curate.models.likelihood import Tokens
    from curate.models.numbers import Vectors

ErrorKind = Literal["rate_limit", "timeout", "connection", "server", "bad_reply", "refused", "budget", "request", "engine"]
"""Why there is no usable answer.

request: the request itself is wrong (over-long, empty): asking again changes nothing. refused: the provider's filter
declined. budget: --max-cost or --max-calls was reached before it was asked. All others may go away by themselves.
"""
FINAL_ERRORS: frozenset[ErrorKind] = frozenset({"request", "refused"})
"""Errors that stay: a snapshot that holds them is final; any other error is asked again by the next run."""


RETRYABLE = tuple(sorted({"rate_limit", "timeout", "connection", "server", "bad_reply", "budget", "engine"}))


def retryable_rows(table: pa.Table) -> Counter[str]:
    """Rows that hold an error another run may mend, by its kind. Looks through every score and vote of the table."""
    return _error_rows(table, True)


def final_rows(table: pa.Table) -> Counter[str]:
    """Rows that hold an error which asking again would not mend, by its kind: request, refused, an unreadable verdict."""
    return _error_rows(table, False)


def _error_rows(table: pa.Table, retryable: bool) -> Counter[str]:
    kinds: Counter[str] = Counter()
    seen = np.zeros(table.num_rows, dtype=bool)
    for name in table.column_names:
        if name not in ("scores", "chosen_scores", "rejected_scores", "votes"):
            continue
        lists = tables.flat(table[name])
        errors = pc.struct_field(lists.flatten(), "error")
        if errors.null_count == len(errors):
            continue
        parents = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
        kind = pc.struct_field(pc.extract_regex(errors, r"^(?P<kind>[a-z_]+)(?::|$)"), "kind")
        mends = pc.fill_null(pc.is_in(kind, pa.array(RETRYABLE)), False).to_numpy(zero_copy_only=False)
        wanted = mends if retryable else pc.is_valid(errors).to_numpy(zero_copy_only=False) & ~mends
        rows, first = np.unique(parents[wanted], return_index=True)
        fresh = ~seen[rows]
        kinds.update(pc.fill_null(kind.filter(pa.array(wanted)).take(pa.array(first[fresh])), "other").to_pylist())
        seen[rows] = True
    return kinds


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn. None: the model's own default."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    stop: tuple[str, ...] = ()
    max_tokens: int | None = None
    logprobs: int | None = None
    """How many alternatives a token's log-probabilities list; None for no log-probabilities."""


@dataclass(frozen=True)
class Request:
    """One sample asked of a chat model. n samples are n requests that differ in `sample` (and in `seed`, if one is set)."""

    messages: tuple[Mapping[str, Any], ...]
    """Messages with role and content; content may be a list of parts (text, image by reference)."""
    sampling: Sampling = field(default_factory=Sampling)
    seed: int | None = None
    sample: int = 0
    tools: tuple[Mapping[str, Any], ...] = ()
    response_format: Mapping[str, Any] | None = None
    """A JSON schema the reply must fit: {"name": ..., "schema": {...}}; None for free text."""


@dataclass(frozen=True)
class LikelihoodRequest:
    """An answer to be measured: how probable a model thinks each of its tokens."""

    messages: tuple[Mapping[str, Any], ...]
    """A conversation whose last message is the assistant's answer; what stands before it is given."""
    end: bool = True
    """Whether the token that ends an answer belongs to it."""


@dataclass(frozen=True)
class Reply:
    """What came back for one request: an answer, or an error, never both."""

    text: str | None = None
    reasoning: str | None = None
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    response_tokens: int | None = None
    logprobs: tuple[Mapping[str, Any], ...] | None = None
    """Per token of the text: {"token": str, "logprob": float, "top": {token: logprob}}."""
    seconds: float | None = None
    cost_usd: float | None = None
    raw: Mapping[str, Any] | None = None
    """The choice as the server sent it, with its usage."""
    error: ErrorKind | None = None
    detail: str | None = None
    """The error in words; never holds a key, a header or an address with credentials."""
    from_ledger: bool = False

    @property
    def usable(self) -> bool:
        """Whether there is an answer."""
        return self.error is None


@dataclass(frozen=True)
class Attempt:
    """One try at a request."""

    reply: Reply
    retry_after: float | None = None
    """Seconds the server asks to wait before the next try; None if it did not say."""


class Backend(Protocol):
    """What answers one request, without ledger, retries or limits: those are the caller's."""

    async def send(self, request: Request) -> Attempt:
        """One try. Never raises for what a server may do: that is an error in the reply."""

    async def close(self) -> None:
        """Free connections."""


class Chat(Protocol):
    """A chat model, called in batches. Order is kept; every request has a reply, whatever happened."""

    def reply(self, requests: Sequence[Request]) -> list[Reply]:
        """One reply for each request."""

    def disown(self, requests: Sequence[Request]) -> None:
        """Say that the answers to these requests were of no use: they are kept, and never served again."""


class Reward(Protocol):
    """A reward model."""

    def score(self, conversations: Sequence[Sequence[Mapping[str, Any]]]) -> np.ndarray:
        """Raw rewards, (N, heads) float32; NaN where a conversation could not be scored."""


class Embed(Protocol):
    """An embedding model."""

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors, (N, D) float32, unit length."""

    def vectors(self, texts: Sequence[str]) -> "Vectors":
        """The same, and how many tokens of each text were not read."""


class Likelihood(Protocol):
    """A model that says how probable it thinks an answer is."""

    def logprobs(self, requests: Sequence[LikelihoodRequest]) -> "Sequence[Tokens | str]":
        """What is thought of each token of each answer; or why there is nothing ("kind: detail")."""


class Models(Protocol):
    """What a step is given: the recipe's models, ready to be called, by their keys."""

    def chat(self, key: str) -> Chat:
        """A chat model behind the caller and the ledger."""

    def reward(self, key: str) -> Reward:
        """A reward model."""

    def embed(self, key: str) -> Embed:
        """An embedding model."""

    def likelihood(self, key: str) -> Likelihood:
        """A model that measures answers."""

    def trainer(self, key: str) -> Any:
        """What trains copies of a reward model: `fine_tuning.RewardTrainer`."""

    def identity(self, key: str) -> Mapping[str, Any]:
        """What tells the model from others: name, revision, kind; neither address nor key."""
