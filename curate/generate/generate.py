"""Ask models for candidate responses: a pool of models, m of them a prompt, n samples each."""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
import pyarrow as pa
from pydantic import Field, FiniteFloat, field_validator, model_validator

from curate import tables
from curate.generate.candidates import ASPECT, Candidates
from curate.generate.conversation import Ask, Conversations
from curate.generate.material import FIELD, POOL, Materials
from curate.generate.messages import Message, messages_of, with_images
from curate.generate.sampled import PORTION, Sampled
from curate.generate.system import SHARES, System, with_system
from curate.generate.wording import instruction, number_of, principles, text_hashes
from curate.ids import canonical_json
from curate.models.asking import Sampling
from curate.models.replies import request_of
from curate.operator import Made
from curate.tables import Grain

PENALTIES = ("top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty")


class Prompt(NamedTuple):
    """A prompt as models get it, but for a system message."""

    row: int
    prompt_id: str
    variants: Sequence[tuple[tuple[Message, ...], Mapping[str, Any]]]
    """Its messages in each context, and what `meta` tells of that."""
    tools: tuple[Mapping[str, Any], ...]


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
        min_length=1,
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
        talks = Conversations(self, self.sampling(), self.turns, self.user_model, self.reasoning == "split")
        candidates = self._candidates()
        parts = [candidates.answered(table["meta"], *answered) for answered in talks.answered(self.asks(table))]
        if not parts:
            flags = tables.add_flags(table, np.ones(table.num_rows, dtype=bool), self.name, "no_context")
            return Made(tables.empty("responses").drop_columns(["row"]), flags)
        answered = pa.concat_tables(parts).combine_chunks()
        rows = candidates.rows(table, answered)
        return Made(rows, self._flags(table, answered["place"].to_numpy(), tables.is_kept(rows)))

    def _flags(self, table: pa.Table, places: np.ndarray, usable: np.ndarray) -> pa.Array:
        """A flag on each prompt without a response. places, usable: of each response, its prompt's row and whether it is one."""
        asked = np.isin(np.arange(table.num_rows), places)
        answered = np.isin(np.arange(table.num_rows), places[usable])
        reasons = pa.array(np.where(asked, "no_response", "no_context"), pa.string())
        return tables.add_flags(table, ~answered, self.name, reasons)

    def _candidates(self) -> Candidates:
        """What all responses have in common."""
        policies = {key: self.policy if isinstance(self.policy, str) else self.policy.get(key, "unknown") for key in self.pool}
        names = {key: self.model_name(key) for key in self.pool}
        return Candidates(self.name, names, policies, canonical_json(self._sampling_told()), self.logprobs)

    def _sampling_told(self) -> dict[str, Any]:
        names = ("temperature", "top_p", "max_tokens", *PENALTIES)
        told = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return told | ({"stop": list(self.stop)} if self.stop else {})

    # -- what is asked

    def asks(self, table: pa.Table) -> Iterator[Ask]:
        """Every sample wanted, in order of prompt, context, model and sample."""
        drawn_from = self._system
        sampling, samples = self.sampling(), range(self.n)
        told = {key: self.told_apart(key) for key in self.pool}
        for prompt in self._prompts(table):
            for (messages, about), key in product(prompt.variants, self.drawn_models(prompt.prompt_id)):
                if drawn_from is not None:
                    text, drawn = drawn_from.drawn(self.seed or 0, prompt.prompt_id, told[key])
                    messages, about = with_system(messages, text), {**about, "system": text, **drawn}
                for sample in samples:
                    seed = self._seed(prompt.prompt_id, told[key], sample)
                    request = request_of(messages, sampling, seed, sample, prompt.tools)
                    yield Ask(prompt.row, prompt.prompt_id, key, about, request)

    def _prompts(self, table: pa.Table) -> Iterator[Prompt]:
        """The prompts as models get them."""
        materials = Materials(self.context, self.context_pool, self.seed or 0) if self.context else None
        fields = ["prompt_id", "meta", "reference", "domain"] if materials else []
        for start in range(0, table.num_rows, PORTION):
            part = table.slice(start, PORTION)
            rows = part.select(fields).to_pylist() if materials else [{}] * part.num_rows
            columns = (part[name].to_pylist() for name in ("prompt_id", "images", "tools"))
            for place, (messages, row, prompt_id, images, tools) in enumerate(
                zip(messages_of(part["prompt"]), rows, *columns, strict=True), start
            ):
                whole = with_images(messages, images) if images else messages
                variants = materials.shown(row, whole) if materials else ((tuple(whole), {}),)
                yield Prompt(place, prompt_id, variants, tuple(json.loads(tools)) if tools else ())

    def drawn_models(self, prompt_id: str) -> Sequence[str]:
        """The models a prompt gets, in the pool's order: those of the lowest draws, so that a larger pool changes little."""
        if self.models_per_prompt is None or self.models_per_prompt == len(self.pool):
            return self.pool
        draws = {key: number_of("pool", self.seed or 0, prompt_id, self.told_apart(key)) for key in self.pool}
        drawn = sorted(self.pool, key=draws.__getitem__)[: self.models_per_prompt]
        return [key for key in self.pool if key in drawn]
