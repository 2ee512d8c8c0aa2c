"""What `generate`, `rewrite` and `perturb` share: how they ask, and how they keep what went wrong."""

import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
import pyarrow as pa
from pydantic import Field, FiniteFloat, PrivateAttr

from curate import tables
from curate.generate.messages import storable
from curate.generate.wording import number_named
from curate.ids import canonical_json, digest, quoted, short_id
from curate.models.asking import Chat, Models, Reply, Request, Sampling
from curate.models.operator import ModelOperator

SEED_BITS = 31  # servers differ in how large a seed may be; all take these
FIRST, PORTION = 50, 500
"""Requests handed over together, at first and later: the first are under way while others are still put together."""
AT_ONCE = 4 * PORTION
"""Replies made use of together, while others are under way."""


class Waiting(Protocol):
    """Requests that were handed over."""

    def replies(self) -> list[Reply]:
        """One for each, in order; blocks until all are there."""


@runtime_checkable
class Ahead(Protocol):
    """A chat model that takes requests without being waited for."""

    def begin(self, requests: Sequence[Request]) -> Waiting:
        """Hand them over."""


class Later:
    """Requests to a chat model that is waited for: they are asked when their replies are wanted."""

    def __init__(self, chat: Chat, requests: Sequence[Request]) -> None:
        self._asked = chat, requests

    def replies(self) -> list[Reply]:
        """Ask now."""
        chat, requests = self._asked
        return chat.reply(requests)


class Sampled(ModelOperator):
    """A step that draws texts from chat models."""

    _known: dict[str, tuple[str, str]] = PrivateAttr(default_factory=dict)

    temperature: FiniteFloat | None = Field(default=None, ge=0, description="Sampling temperature; the model's own if not given.")
    top_p: FiniteFloat | None = Field(default=None, gt=0, le=1, description="Share of probability that tokens are drawn from.")
    max_tokens: int | None = Field(default=None, ge=1, description="Longest reply in tokens; the model's own limit if not given.")
    seed: int | None = Field(
        default=0, ge=0, description="What all draws and the seeds of requests follow from; null: requests carry no seed."
    )

    def sampling(self) -> Sampling:
        """How tokens are drawn."""
        return Sampling(temperature=self.temperature, top_p=self.top_p, max_tokens=self.max_tokens)

    def seed_for(self, row: str | None, key: str, sample: int, *more: Any) -> int | None:
        """The seed of one request: the same for the same row, model and sample, whatever else is asked."""
        return self._seed(row, self.told_apart(key), sample, *more)

    def _seed(self, row: str | None, told: str, sample: int, *more: Any) -> int | None:
        """The same for what tells the model apart."""
        if self.seed is None:
            return None
        further = "".join(f"\0{value}" for value in more) if more else ""
        return number_named(f"seed\0{self.seed}\0{row}\0{told}\0{sample}{further}") >> (64 - SEED_BITS)  # as of values apart

    def with_models(self, models: Models) -> Self:
        """A copy that can call the recipe's models."""
        ready = super().with_models(models)
        ready._known = {}
        return ready

    def told_apart(self, key: str) -> str:
        """What stands for a model in draws: renaming its key in a recipe changes nothing."""
        return self._about(key)[0]

    def model_name(self, key: str) -> str:
        """The model's name, as rows carry it."""
        return self._about(key)[1]

    def _about(self, key: str) -> tuple[str, str]:
        """What stands for a model, and its name; found out once, for every row asks."""
        # twice a row: pydantic's own way to a private attribute costs more than the rest of it
        known: dict[str, tuple[str, str]] = (self.__pydantic_private__ or {}).get("_known", {})
        if key not in known:
            identity = dict(self.called.identity(key))
            known[key] = digest(identity), str(identity.get("name") or key)
        return known[key]

    def ask(self, wanted: Iterable[tuple[str, Request]]) -> list[Reply]:
        """A reply for each (model key, request), in order; the models answer side by side."""
        return [reply for portion in self.ask_ahead(wanted) for reply in portion]

    def ask_ahead(self, wanted: Iterable[tuple[str, Request]]) -> Iterator[list[Reply]]:
        """The same in parts of about AT_ONCE. The first requests are under way while `wanted` still makes up others, all are
        before the first reply is waited for, and the last still are while those before them are made use of.
        """
        chats: dict[str, Chat] = {}
        rest, size = iter(wanted), FIRST
        waiting: deque[tuple[int, list[tuple[list[int], Waiting]]]] = deque()
        while portion := list(islice(rest, size)):
            waiting.append((len(portion), self._begun(portion, chats)))
            size = min(2 * size, PORTION)
        replies: list[Reply] = []
        while waiting:
            replies += in_order(*waiting.popleft())
            if len(replies) >= AT_ONCE or len(waiting) <= 1:  # what came before the last portion does not wait for it
                yield replies
                replies = []

    def _begun(self, portion: Sequence[tuple[str, Request]], chats: dict[str, Chat]) -> list[tuple[list[int], Waiting]]:
        """Hand requests over, those of each model together: their places, and where their replies come."""
        places: dict[str, list[int]] = {}
        for place, (key, _) in enumerate(portion):
            places.setdefault(key, []).append(place)
        begun: list[tuple[list[int], Waiting]] = []
        for key, where in places.items():
            chat = chats[key] = chats.get(key) or self.called.chat(key)
            requests = [portion[at][1] for at in where]
            begun.append((where, chat.begin(requests) if isinstance(chat, Ahead) else Later(chat, requests)))
        return begun


def in_order(count: int, begun: Sequence[tuple[Sequence[int], Waiting]]) -> list[Reply]:
    """The replies of all models at the places of their requests."""
    if len(begun) == 1:
        return begun[0][1].replies()
    replies = [Reply()] * count
    for where, asked in begun:
        for at, reply in zip(where, asked.replies(), strict=True):
            replies[at] = reply
    return replies


def error_text(reply: Reply) -> str | None:
    """The error as a score keeps it: its kind, then its words; None for an answer."""
    return None if reply.error is None else storable(f"{reply.error}: {reply.detail or 'no answer'}")


def response_id_of(prompt_id: str, response: str | None, model: str, seed: int | None, sample: int, *about: str) -> str:
    """`ids.response_id` of the same values, whose canonical JSON is put together here."""
    text = "null" if response is None else quoted(response)
    told = "".join([f",{quoted(text)}" for text in about])
    values = f"{quoted(prompt_id)},{text},{quoted(model)},{'null' if seed is None else seed},{sample}{told}"
    return short_id(f"[{values}]")


def with_column(table: pa.Table, name: str, column: pa.Array) -> pa.Table:
    """The table with another column of that name."""
    return table.set_column(table.column_names.index(name), name, column)


def with_errors(lists: Any, by: str, aspect: str, errors: Sequence[tuple[int, str]]) -> pa.Array:
    """The score column with a null score for each (row number, error), rows ascending."""
    entries = tables.structs(tables.SCORE, len(errors), rater=by, aspect=aspect, error=[error for _, error in errors])
    return tables.append(lists, entries, np.array([row for row, _ in errors], dtype=np.int64))


def meta_with(meta: str | None, more: Mapping[str, Any]) -> str | None:
    """The meta column's JSON object with more fields."""
    return canonical_json({**(json.loads(meta) if meta else {}), **more}) if more else meta
