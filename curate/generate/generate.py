"""Ask models for candidate responses: a pool of models, m of them a prompt, n samples each."""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, field_validator, model_validator

from curate import tables
from curate.errors import DataError
from curate.generate.sampled import (
    PORTION,
    Message,
    Sampled,
    error_text,
    messages_of,
    meta_with,
    plain,
    response_id_of,
    said,
    split_thought,
    storable,
    stored,
    with_errors,
)
from curate.generate.wording import block, filled, instruction, number_of, pick, principles, share_of, text_hashes
from curate.ids import canonical_json
from curate.models.asking import Reply, Request, Sampling
from curate.models.replies import request_of
from curate.operator import Made
from curate.tables import Grain

ASPECT = "generate"
SHARES = {"helpfulness": 0.6, "truthfulness": 0.2, "honesty": 0.18, "verbalised_calibration": 0.02}
"""How often each principle is drawn: UltraFeedback's shares for conversations."""
END = re.compile(r"\W*END\W*")
FIELD = re.compile(r"reference|domain|meta\.[^.\s]+")
POOL = "pool"
ROWS_AT_ONCE = 4 * PORTION
"""Rows made together from replies, while others are under way."""
CARRIED = [c.name for c in tables.PROMPT_COLUMNS if c.name not in ("row", "meta", "scores", "flags")]
PENALTIES = ("top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty")


class Direction(BaseModel):
    """A direction in the space of ratings, given to the model as whole numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    attributes: tuple[str, ...] = Field(default=("helpfulness", "verbosity"), min_length=2, description="What is rated.")
    angles: tuple[FiniteFloat, FiniteFloat] = Field(
        default=(-45.0, 45.0), description="Two attributes: degrees between which the direction is drawn; 0 is the first alone."
    )
    weights: tuple[FiniteFloat, ...] | None = Field(default=None, description="One direction for all, instead of drawing it.")

    @model_validator(mode="after")
    def _points_somewhere(self) -> Self:
        if self.weights is None and len(self.attributes) != 2:
            raise ValueError(f"angles are drawn for two attributes, got {len(self.attributes)}: give weights")
        if self.weights is not None and (len(self.weights) != len(self.attributes) or not any(self.weights)):
            raise ValueError("weights need one number for each attribute, not all zero")
        if self.angles[0] > self.angles[1]:
            raise ValueError(f"angles must ascend, got {list(self.angles)}")
        return self

    def drawn(self, share: float) -> dict[str, int]:
        """The weights, hundredths of a unit vector, for a draw in [0, 1)."""
        if self.weights is not None:
            vector: Sequence[float] = self.weights
        else:
            angle = math.radians(self.angles[0] + share * (self.angles[1] - self.angles[0]))
            vector = (math.cos(angle), math.sin(angle))
        length = math.hypot(*vector)
        return {name: round(100 * value / length) for name, value in zip(self.attributes, vector, strict=True)}


class System(BaseModel):
    """What the system message says; one of the fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    principles: dict[str, FiniteFloat] | None = Field(
        default=None, description="Shares of curate's principles, such as {honesty: 0.5, helpfulness: 0.5}."
    )
    texts: tuple[str, ...] | None = Field(default=None, min_length=1, description="Texts of your own; one is drawn.")
    direction: Direction | None = Field(default=None, description="A direction in reward space.")
    goal: dict[str, FiniteFloat | tuple[int, int]] | None = Field(
        default=None, min_length=1, description="Target scores by name: a number, or [lowest, highest] to draw a whole one."
    )

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        told = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(told) != 1:
            raise ValueError(f"system is one of principles, texts, direction and goal, got {', '.join(told) or 'none'}")
        if self.principles is not None:
            unknown = sorted(set(self.principles) - set(principles()))
            if unknown:
                raise ValueError(f"no principle is called {unknown[0]}; there are {', '.join(principles())}")
            if min(self.principles.values()) < 0 or not any(self.principles.values()):
                raise ValueError("shares of principles are at least 0, and one is above")
        return self

    def drawn(self, *about: Any) -> tuple[str, dict[str, Any]]:
        """The text for a row and model, and what `meta` tells of it."""
        share, second = share_of("system", *about), share_of("wording", *about)
        if self.principles is not None:
            name = weighted(self.principles, share)
            return pick(principles()[name], second), {"principle": name}
        if self.texts is not None:
            return pick(self.texts, share), {}
        if self.direction is not None:
            weights = self.direction.drawn(share)
            terms = "".join(f" {'-' if weight < 0 else '+'} {abs(weight)} × {name}" for name, weight in weights.items())
            text = filled(instruction("direction"), attributes=" and ".join(weights), weighted=terms.removeprefix(" + ").strip())
            return text, {"direction": weights}
        assert self.goal is not None
        goals = {
            name: target if not isinstance(target, tuple) else target[0] + number_of(*about, name) % (target[1] - target[0] + 1)
            for name, target in self.goal.items()
        }
        lines = "\n".join(f"{name}: {value:g}" for name, value in goals.items())
        return filled(instruction("goal"), goals=lines), {"goal": goals}


def weighted(shares: Mapping[str, float], share: float) -> str:
    """The name at a point of the shares laid end to end."""
    names = sorted(name for name in shares if shares[name] > 0)
    ends = np.cumsum([shares[name] for name in names])
    return names[min(int(np.searchsorted(ends, share * ends[-1], side="right")), len(names) - 1)]


class Ask(NamedTuple):
    """One sample wanted of one model for one prompt."""

    row: int
    prompt_id: str
    key: str
    """The model's key in the recipe."""
    sample: int
    seed: int | None
    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...]
    about: Mapping[str, Any]
    """What `meta` gains: system, context and what was drawn for them."""


@dataclass(slots=True)
class Talk:
    """What came of an Ask so far."""

    ask: Ask
    turns: list[Message] = field(default_factory=list)
    """Messages after the prompt."""
    replies: list[Reply] = field(default_factory=list)
    """The model's own, as they came."""
    thought: str | None = None
    text: str = ""
    """Reasoning and response of the latest of them."""
    error: str | None = None
    over: bool = False


class Generate(Sampled):
    """Responses to each prompt. A prompt without a single one is dropped with the reason no_response.

    A sample that failed stays as a row without a response that carries the error and is flagged, and so does an empty
    one. Which models a prompt gets, its system message and its seeds follow from its id, the models and `seed`: more
    samples, models or prompts later leave those of before as they were, so they are not paid for again. Equal prompts
    get equal responses.

    Source of the pool and the principles: Cui et al., "UltraFeedback: Boosting Language Models with Scaled AI Feedback",
    2023, arXiv:2310.01377; of directions: Wang et al., "Arithmetic Control of LLMs for Diverse User Preferences:
    Directional Preference Alignment with Multi-Objective Rewards", 2024, arXiv:2402.18571. The wordings are ours.
    """

    takes: ClassVar[tuple[Grain, ...]] = ("prompts",)
    makes: ClassVar[Grain | None] = "responses"

    model: str | tuple[str, ...] = Field(description="The model, or the pool of models, by their keys under `models`.")
    models_per_prompt: int | None = Field(default=None, ge=1, description="Models drawn for each prompt; all if not given.")
    n: int = Field(default=1, ge=1, description="Samples of each model.")
    top_k: int | None = Field(default=None, ge=1, description="Number of likeliest tokens that are drawn from.")
    min_p: FiniteFloat | None = Field(default=None, ge=0, le=1, description="Least probability, relative to the likeliest token.")
    presence_penalty: FiniteFloat | None = Field(default=None, description="Penalty on tokens that occurred.")
    frequency_penalty: FiniteFloat | None = Field(default=None, description="Penalty on tokens by how often they occurred.")
    repetition_penalty: FiniteFloat | None = Field(default=None, gt=0, description="Factor against tokens that occurred.")
    stop: tuple[str, ...] = Field(default=(), description="Texts that end a response.")
    logprobs: bool = Field(default=False, description="Ask for log-probabilities and keep their sum.")
    system: Literal["none", "principles"] | System = Field(
        default="none", description="System message: none, curate's principles, or one of principles, texts, direction, goal."
    )
    context: dict[str, str | None] | None = Field(
        default=None,
        description="Variants by name: a field with the material (reference, domain, meta.NAME), `pool`, or null for none.",
    )
    context_pool: Path | None = Field(
        default=None, description="`pool`: a .jsonl (strings) or text file with a material a line, drawn by the prompt's id."
    )
    turns: int = Field(default=1, ge=1, le=20, description="Responses in a conversation; the last one is judged.")
    user_model: str | None = Field(default=None, description="turns: the model that writes what the user says in between.")
    reasoning: Literal["split", "keep"] = Field(
        default="split", description="split: <think>…</think> before a response goes to the column reasoning."
    )
    policy: Literal["on", "off", "unknown"] | dict[str, Literal["on", "off"]] = Field(
        default="unknown", description="Whether the model to be trained writes the responses; by model where they differ."
    )

    @field_validator("model")
    @classmethod
    def _a_pool(cls, model: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if not model or len(set(model)) < len(model) and not isinstance(model, str):
            raise ValueError("model names at least one model, and none twice")
        return model

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.models_per_prompt or 1) > len(self.pool):
            raise ValueError(f"models_per_prompt is {self.models_per_prompt}, but there are {len(self.pool)} models")
        if (self.turns > 1) != (self.user_model is not None):
            raise ValueError("turns above 1 and user_model go together")
        if isinstance(self.policy, dict) and (strangers := sorted(set(self.policy) - set(self.pool))):
            raise ValueError(f"policy names {strangers[0]}, which is not among the models")
        wrong = [name for name in (self.context or {}).values() if name not in (None, POOL) and not FIELD.fullmatch(name)]
        if wrong:
            raise ValueError(f"context takes reference, domain, meta.NAME, pool or null, got {wrong[0]!r}")
        if (POOL in (self.context or {}).values()) != (self.context_pool is not None):
            raise ValueError("context_pool and a context variant of `pool` go together")
        return self

    @property
    def pool(self) -> tuple[str, ...]:
        """Keys of the models that write responses."""
        return (self.model,) if isinstance(self.model, str) else self.model

    def models(self) -> set[str]:
        """The pool, and the one that plays the user."""
        return {*self.pool, *([self.user_model] if self.user_model else [])}

    def files(self) -> set[str]:
        """The pool of materials."""
        return {str(self.context_pool)} if self.context_pool else set()

    def parameters(self) -> dict[str, Any]:
        """The texts asked with count by what they say, a file by its contents."""
        texts: dict[str, Any] = {}
        if self._system is not None:
            texts |= {"principles": principles()} if self._system.principles else {}
            texts |= {"direction": instruction("direction")} if self._system.direction else {}
            texts |= {"goal": instruction("goal")} if self._system.goal else {}
        if self.context:
            texts["context"] = instruction("context")
        if self.turns > 1:
            texts["simulate_user"] = [instruction("simulate_user"), instruction("text")]
        told = super().parameters() | ({"context_pool": self.context_pool.name} if self.context_pool else {})
        return told | ({"texts": text_hashes(**texts)} if texts else {})

    def reads(self, grain: Grain) -> set[str]:
        """The prompt, and the fields with materials."""
        fields = {name.split(".")[0] for name in (self.context or {}).values() if name not in (None, POOL)}
        return {"prompt", "prompt_id", "images", "tools", "meta", *fields}

    def writes(self, grain: Grain) -> set[str]:
        """What a response has beside its prompt's columns, and the errors."""
        columns = {column.name for column in tables.RESPONSE_COLUMNS} - ({"logprob_sum"} if not self.logprobs else set())
        return columns | {"meta", "flags", f"scores.{self.name}.{ASPECT}"}

    @property
    def samples_per_prompt(self) -> int:
        """Responses to each prompt."""
        return (self.models_per_prompt or len(self.pool)) * self.n * len(self.context or [None])

    def calls(self, rows: int) -> int:
        """Every response, and what the user says between two."""
        return rows * self.samples_per_prompt * (2 * self.turns - 1)

    @property
    def _system(self) -> System | None:
        if isinstance(self.system, System):
            return self.system
        return System(principles=SHARES) if self.system == "principles" else None

    def sampling(self) -> Sampling:
        """How tokens are drawn."""
        more = {name: getattr(self, name) for name in PENALTIES}
        return Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            max_tokens=self.max_tokens,
            stop=self.stop,
            logprobs=0 if self.logprobs else None,
            **more,
        )

    def __call__(self, table: pa.Table, /) -> Made:
        """The responses in order of prompt, model and sample, and a flag on each prompt that got none."""
        answered, asked = np.zeros(table.num_rows, dtype=bool), np.zeros(table.num_rows, dtype=bool)
        made = []
        for talks in self._converse(table):
            rows, origin = self._rows(table, talks), np.array([talk.ask.row for talk in talks])
            asked[origin] = True
            answered[origin[tables.is_kept(rows)]] = True
            made.append(rows)
        rows = pa.concat_tables(made).combine_chunks() if made else self._rows(table, [])
        reasons = pa.array(np.where(asked, "no_response", "no_context"), pa.string())
        return Made(rows, tables.add_flags(table, ~answered, self.name, reasons))

    # -- what is asked

    def asks(self, table: pa.Table) -> Iterator[Ask]:
        """Every sample wanted, in order of prompt, context, model and sample."""
        told = {key: self.told_apart(key) for key in self.pool}
        for start in range(0, table.num_rows, PORTION):
            part = table.slice(start, PORTION)
            columns = (part[name].to_pylist() for name in ("prompt_id", "images", "tools"))
            rows = part.select(["prompt_id", "meta", "reference", "domain"]).to_pylist() if self.context else [{}] * part.num_rows
            for place, (row, messages, *more) in enumerate(zip(rows, messages_of(part["prompt"]), *columns, strict=True), start):
                yield from self._asks_of(
                    place, row, with_images(messages, more[1]) if more[1] else messages, more[0], more[2], told
                )

    def _asks_of(
        self,
        place: int,
        row: Mapping[str, Any],
        messages: list[Message],
        prompt_id: str,
        tools: str | None,
        told: Mapping[str, str],
    ) -> Iterator[Ask]:
        """Those of one prompt. told: what tells the models apart."""
        offered = tuple(json.loads(tools)) if tools else ()
        shown = self._variants(row, messages) if self.context else ((messages, {}),)
        keys, samples = self.drawn_models(prompt_id), range(self.n)
        for variant, about in shown:
            for key in keys:
                whole, system = self._with_system(variant, prompt_id, key)
                asked, more = tuple(whole), {**about, **system}
                for sample in samples:
                    yield Ask(place, prompt_id, key, sample, self._seed(prompt_id, told[key], sample), asked, offered, more)

    def _variants(self, row: Mapping[str, Any], messages: list[Message]) -> list[tuple[list[Message], dict[str, Any]]]:
        """The messages with the material of each context variant, and what `meta` tells of it."""
        shown = []
        for variant in self.context or ():
            found = self._material(row, variant)
            if not found.missing:
                whole = messages if found.text is None else with_context(messages, found.text)
                shown.append((whole, {"context": variant, "context_text": found.text}))
        return shown

    def drawn_models(self, prompt_id: str) -> list[str]:
        """The models a prompt gets, in the pool's order: those of the lowest draws, so that a larger pool changes little."""
        if self.models_per_prompt is None or self.models_per_prompt == len(self.pool):
            return list(self.pool)
        draws = {key: number_of("pool", self.seed or 0, prompt_id, self.told_apart(key)) for key in self.pool}
        drawn = sorted(self.pool, key=draws.__getitem__)[: self.models_per_prompt]
        return [key for key in self.pool if key in drawn]

    def _with_system(self, messages: list[Message], prompt_id: str, key: str) -> tuple[list[Message], dict[str, Any]]:
        """The messages with a system message drawn for prompt and model; one that is there already is added to."""
        if self._system is None:
            return messages, {}
        text, about = self._system.drawn(self.seed or 0, prompt_id, self.told_apart(key))
        if messages and messages[0]["role"] == "system":
            whole = {**messages[0], "content": f"{messages[0]['content']}\n\n{text}"}
            return [whole, *messages[1:]], {"system": text, **about}
        return [{"role": "system", "content": text}, *messages], {"system": text, **about}

    def _material(self, row: Mapping[str, Any], variant: str | None) -> "Material":
        named = None if variant is None or self.context is None else self.context[variant]
        if named is None:
            return Material(None, False)
        if named == POOL:
            return self._from_pool(row)
        column, _, name = named.partition(".")
        value = row[column] if not name else json.loads(row["meta"] or "{}").get(name)
        return Material(as_material(value), not value)

    def _from_pool(self, row: Mapping[str, Any]) -> "Material":
        """A material that none of the row's own fields holds, drawn by the prompt's id."""
        assert self.context_pool is not None
        own = {self._material(row, name).text for name, where in (self.context or {}).items() if where not in (None, POOL)}
        pool = [text for text in read_pool(self.context_pool, stamp(self.context_pool)) if text not in own]
        share = share_of("context", self.seed or 0, row["prompt_id"])
        return Material(pick(pool, share), False) if pool else Material(None, True)

    # -- what is answered

    def _converse(self, table: pa.Table) -> Iterator[Sequence[Talk]]:
        """All conversations in order, in portions; those of a single turn as their replies come."""
        talks: list[Talk] = []
        asked = self.ask_ahead(self._opened(table, talks))
        if self.turns == 1:
            yield from self._ended(talks, asked)
        else:
            self._go_on(talks, list(chain.from_iterable(asked)))
            yield from (talks[start : start + ROWS_AT_ONCE] for start in range(0, len(talks), ROWS_AT_ONCE))

    def _go_on(self, talks: Sequence[Talk], replies: Sequence[Reply]) -> None:
        """One turn of all conversations after the other."""
        for turn in range(1, self.turns):
            for talk, reply in zip(talks, replies, strict=True):
                self._take(talk, reply)
            talks = [talk for talk in talks if not talk.over]
            self._user_speaks(talks, turn)
            talks = [talk for talk in talks if not talk.over]
            replies = self.ask(self._continued(talks))
        for talk, reply in zip(talks, replies, strict=True):
            self._take(talk, reply)

    def _opened(self, table: pa.Table, talks: list[Talk]) -> Iterator[tuple[str, Request]]:
        """The first question of each conversation, which is put among `talks`."""
        sampling = self.sampling()
        for ask in self.asks(table):
            talks.append(Talk(ask))
            yield ask.key, request_of(ask.messages, sampling, ask.seed, ask.sample, ask.tools)

    def _continued(self, talks: Sequence[Talk]) -> Iterator[tuple[str, Request]]:
        """The next question of conversations."""
        sampling = self.sampling()
        for talk in talks:
            ask = talk.ask
            yield ask.key, request_of((*ask.messages, *talk.turns), sampling, ask.seed, ask.sample, ask.tools)

    def _ended(self, talks: Sequence[Talk], asked: Iterator[list[Reply]]) -> Iterator[Sequence[Talk]]:
        """Conversations of a single turn, as their replies come."""
        start = end = 0
        for replies in asked:
            for talk, reply in zip(talks[end : end + len(replies)], replies, strict=True):
                self._take(talk, reply)
            end += len(replies)
            if end - start >= ROWS_AT_ONCE:
                yield talks[start:end]
                start = end
        if end > start:
            yield talks[start:end]

    def _user_speaks(self, talks: Sequence[Talk], turn: int) -> None:
        assert self.user_model is not None
        wanted = []
        for talk in talks:
            spoken = [f"{m['role']}: {plain(m)}" for m in (*talk.ask.messages, *talk.turns) if m["role"] in ("user", "assistant")]
            messages = (
                {"role": "system", "content": f"{instruction('simulate_user')}\n\n{instruction('text')}"},
                {"role": "user", "content": block("conversation", "\n\n".join(spoken))},
            )
            seed = self.seed_for(str(talk.ask.seed), self.user_model, talk.ask.sample, turn)
            wanted.append((self.user_model, Request(messages, Sampling(self.temperature), seed, talk.ask.sample)))
        for talk, reply in zip(talks, self.ask(wanted), strict=True):
            text = said(reply)
            if reply.error is not None:
                talk.error, talk.over = error_text(reply), True
            elif not text or END.fullmatch(text):
                talk.over = True
            else:
                talk.turns.append({"role": "user", "content": text})

    def _take(self, talk: Talk, reply: Reply) -> None:
        """Add a reply to its conversation; tool calls end it, for nobody is there to make them."""
        talk.replies.append(reply)
        if reply.error is not None:
            talk.error, talk.over = error_text(reply), True
            return
        talk.thought, talk.text = self._parted(reply)
        message: Message = {"role": "assistant", "content": talk.text}
        if reply.tool_calls:
            message["tool_calls"] = [dict(call) for call in reply.tool_calls]
        talk.turns.append(message)
        talk.over = bool(reply.tool_calls) or not talk.text.strip()

    def _parted(self, reply: Reply) -> tuple[str | None, str]:
        """Reasoning and response."""
        thought, text = reply.reasoning, reply.text or ""
        if self.reasoning == "split" and thought is None:
            thought, text = split_thought(text)
        return None if thought is None else storable(thought), storable(text)

    # -- rows

    def _rows(self, table: pa.Table, talks: Sequence[Talk]) -> pa.Table:
        """The responses table without `row`."""
        origin = np.array([talk.ask.row for talk in talks], dtype=np.int64)
        columns = picked(table.select([*CARRIED, "meta", "scores"]), origin)
        if any(talk.ask.about for talk in talks):
            told = [meta_with(meta, talk.ask.about) for meta, talk in zip(columns["meta"].to_pylist(), talks, strict=True)]
            columns["meta"] = pa.array(told, pa.string())
        errors = [(place, talk.error) for place, talk in enumerate(talks) if talk.error is not None]
        columns["scores"] = with_errors(columns["scores"], self.name, ASPECT, errors)
        own = self._own(talks)
        rows = tables.conform(pa.table(columns | own), "responses").drop_columns(["row"])
        failed = np.array([talk.error is not None for talk in talks], dtype=bool)
        empty = pc.and_(pc.equal(own["response"], ""), pc.is_null(own["turns"]))
        empty = pc.fill_null(empty, False).to_numpy(zero_copy_only=False)
        reasons = pa.array(np.where(failed, "error", "empty"), pa.string())
        flags = tables.add_flags(rows, failed | empty, self.name, reasons)
        return rows.set_column(rows.column_names.index("flags"), "flags", flags)

    def _own(self, talks: Sequence[Talk]) -> dict[str, Any]:
        """The columns that only responses have, each as a whole."""
        asks, turns = [talk.ask for talk in talks], [self._turns(talk) for talk in talks]
        last = [talk.replies[-1] if talk.error is None else Reply(finish_reason="error") for talk in talks]
        names = {key: self.model_name(key) for key in self.pool}
        policies = {key: self.policy if isinstance(self.policy, str) else self.policy.get(key, "unknown") for key in self.pool}
        responses = [self._response(talk) for talk in talks]
        values: dict[str, Any] = {
            "response_id": [
                response_id_of(ask.prompt_id, response, names[ask.key], ask.seed, ask.sample, *apart(spoken, ask.about))
                for ask, response, spoken in zip(asks, responses, turns, strict=True)
            ],
            "response": responses,
            "turns": turns,
            "reasoning": [talk.thought if talk.error is None else None for talk in talks],
            "model": [names[ask.key] for ask in asks],
            "policy": [policies[ask.key] for ask in asks],
            "sampling": [canonical_json(self._sampling_told())] * len(talks),
            "seed": [ask.seed for ask in asks],
            "sample": [ask.sample for ask in asks],
            "finish_reason": [reply.finish_reason for reply in last],
            "prompt_tokens": [talk.replies[0].prompt_tokens if talk.replies else None for talk in talks],
            "response_tokens": [
                added([reply.response_tokens for reply in talk.replies]) if talk.error is None else None for talk in talks
            ],
        }
        if self.logprobs:
            values["logprob_sum"] = [
                added([logprob_sum(reply) for reply in talk.replies]) if talk.error is None else None for talk in talks
            ]
        return {name: pa.array(column, tables.SCHEMAS["responses"].field(name).type) for name, column in values.items()}

    @staticmethod
    def _turns(talk: Talk) -> list[Message] | None:
        """The whole completion, where it is more than a text."""
        if talk.error is not None or not (len(talk.turns) > 1 or talk.replies[-1].tool_calls):
            return None
        return [stored(message) for message in ends_with_response(talk.turns)]

    @staticmethod
    def _response(talk: Talk) -> str | None:
        if talk.error is not None:
            return None
        return talk.text.strip() if not talk.turns or "tool_calls" not in talk.turns[-1] else talk.text

    def _sampling_told(self) -> dict[str, Any]:
        names = ("temperature", "top_p", "max_tokens", *PENALTIES)
        told = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return told | ({"stop": list(self.stop)} if self.stop else {})


def picked(table: pa.Table, rows: np.ndarray) -> dict[str, Any]:
    """Columns of some rows; no text is copied where they follow each other."""
    if len(rows) and (np.diff(rows) == 1).all():
        part = table.slice(int(rows[0]), len(rows))
        return {name: part[name] for name in table.column_names}
    at = pa.array(rows, pa.int64())
    return {name: table[name].take(at) for name in table.column_names}


def apart(turns: Sequence[Message] | None, about: Mapping[str, Any]) -> list[str]:
    """What else tells a response from others: its turns, and what was drawn for it."""
    return [canonical_json(value) for value in (turns, about) if value]


class Material(NamedTuple):
    """What a context variant shows."""

    text: str | None
    missing: bool
    """Whether the variant wants a material and the row has none."""


def as_material(value: Any) -> str | None:
    """A text as it is, a list as numbered entries, anything else as JSON."""
    if not value:
        return None
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n\n".join(
            f"[{place}] {item if isinstance(item, str) else canonical_json(item)}" for place, item in enumerate(value, 1)
        )
    return canonical_json(value)


def with_context(messages: Sequence[Message], text: str) -> list[Message]:
    """The messages with a material before the last thing the user says."""
    places = [place for place, message in enumerate(messages) if message["role"] == "user"]
    if not places:
        return [{"role": "user", "content": text}, *messages]
    at = places[-1]
    content = messages[at].get("content") or ""
    if isinstance(content, list):
        parts = [{**content[0], "text": filled(instruction("context"), context=text, prompt=content[0]["text"])}, *content[1:]]
        return [*messages[:at], {**messages[at], "content": parts}, *messages[at + 1 :]]
    whole = filled(instruction("context"), context=text, prompt=content)
    return [*messages[:at], {**messages[at], "content": whole}, *messages[at + 1 :]]


def with_images(messages: list[Message], images: Sequence[Mapping[str, str]] | None) -> list[Message]:
    """The messages with the prompt's images, by reference, after what the user says last."""
    places = [place for place, message in enumerate(messages) if message["role"] == "user"]
    if not images or not places:
        return messages
    parts: list[dict[str, Any]] = [{"type": "text", "text": messages[places[-1]].get("content") or ""}]
    parts += [{"type": "image_url", "image_url": {"url": image["path"]}, "inline": True} for image in images]
    return [{**m, "content": parts} if place == places[-1] else m for place, m in enumerate(messages)]


def ends_with_response(turns: Sequence[Message]) -> list[Message]:
    """The turns up to the model's last: what a user says after it belongs to no response."""
    end = max((place for place, message in enumerate(turns, 1) if message["role"] == "assistant"), default=0)
    return list(turns[:end])


def logprob_sum(reply: Reply) -> float | None:
    """Nats over all tokens of a reply; None if it came without."""
    return None if reply.logprobs is None else float(sum(token["logprob"] for token in reply.logprobs))


def added(values: Sequence[Any]) -> Any:
    """The sum, or None if one is unknown."""
    return None if any(value is None for value in values) else sum(values)


def stamp(path: Path) -> tuple[int, int]:
    """When a file was written and how large it is."""
    try:
        found = path.stat()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; generate needs this file for context_pool") from error
    return found.st_mtime_ns, found.st_size


@lru_cache(maxsize=4)
def read_pool(path: Path, stamp: tuple[int, int]) -> tuple[str, ...]:
    """The materials in a file, one a line; in a .jsonl file JSON strings, so that they may have lines of their own."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if path.suffix != ".jsonl":
        return tuple(lines)
    try:
        return tuple(text if isinstance(text := json.loads(line), str) else canonical_json(text) for line in lines)
    except ValueError as error:
        raise DataError(f"{path}: not JSON lines: {error}") from error
