"""Make new prompts from prompts or responses: other words, other people, harder questions, the request behind a text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from curate import ids, tables
from curate.generate.drafts import Beside, Draft
from curate.generate.messages import plain, without_nulls
from curate.generate.sampled import Sampled, meta_with, with_column
from curate.generate.wording import block, filled, instruction, personas, pick, share_of, tastes, text_hashes, text_wanted
from curate.models.asking import Reply, Request
from curate.operator import Made
from curate.tables import Grain

ASPECT = "rewrite"
MUTATIONS = ("constraint", "deepen", "concrete", "reason", "breadth", "simplify")
Kind = Literal["rephrase", "persona", "system_from_preferences", "back_translate", "evolve"]
INSTRUCTIONS: dict[str, str] = {
    "rephrase": "rephrase",
    "persona": "persona",
    "system_from_preferences": "preferences",
    "back_translate": "back_translate",
}
OWN = ("prompt", "prompt_id", "parent_id", "reference", "meta")


@dataclass(kw_only=True)
class NewPrompt(Draft):
    """One new prompt in the making, from the request as it stands, or from the text whose request is wanted."""

    sample: int


class Rewrite(Sampled):
    """New prompts, each naming the prompt or response it was made from as its parent.

    What is rewritten is the last thing the user says. system_from_preferences leaves that as it is and writes a system
    message for it; back_translate takes each response, or the reference of each prompt, and writes the request that it
    answers. Given responses, the other kinds take each prompt once. A row none of whose rewrites came out is passed on
    with a flag; errors stand in its scores, or in those of the first rewrite that did come out.

    Sources: Lee et al., "Aligning to Thousands of Preferences via System Message Generalization" (Janus), 2024,
    arXiv:2405.17977; Wang et al., "Weaver: Foundation Models for Creative Writing", 2024, arXiv:2401.17268; Xu et al.,
    "WizardLM: Empowering Large Language Models to Follow Complex Instructions", 2023, arXiv:2304.12244. The wordings are
    ours.
    """

    version: ClassVar[int] = 2

    takes: ClassVar[tuple[Grain, ...]] = ("prompts", "responses")
    makes: ClassVar[Grain | None] = "prompts"

    model: str = Field(description="The model that rewrites, by its key under `models`.")
    kind: Kind = Field(description="What is made of a prompt.")
    n: int = Field(default=1, ge=1, le=127, description="New prompts for each one.")
    keep_original: bool = Field(default=False, description="Pass the original prompt on beside the new ones.")
    personas: tuple[str, ...] = Field(default=(), description="persona: descriptions to draw from; curate's own if not given.")
    mutations: tuple[str, ...] = Field(
        default=MUTATIONS, min_length=1, description="evolve: curate's mutations by name, or instructions of your own."
    )
    rounds: int = Field(
        default=1, ge=1, le=20, description="evolve: mutations one after the other; the last one's prompt is kept."
    )

    @model_validator(mode="after")
    def _fits_kind(self) -> Self:
        if self.personas and self.kind != "persona":
            raise ValueError(f"personas belongs to kind: persona, got kind: {self.kind}")
        if (self.rounds > 1 or self.mutations != MUTATIONS) and self.kind != "evolve":
            raise ValueError(f"rounds and mutations belong to kind: evolve, got kind: {self.kind}")
        wrong = [name for name in self.mutations if name not in MUTATIONS and " " not in name.strip()]
        if wrong:
            raise ValueError(f"no mutation is called {wrong[0]}; there are {', '.join(MUTATIONS)}, or give a whole instruction")
        return self

    def models(self) -> set[str]:
        """The one that rewrites."""
        return {self.model}

    def calls(self, rows: int) -> int:
        """One a new prompt and round."""
        return rows * self.n * self.rounds

    def parameters(self) -> dict[str, Any]:
        """Instructions and what is drawn from count by what they say."""
        texts: dict[str, Any] = {"text": instruction("text")}
        if self.kind == "evolve":
            texts["mutations"] = [mutation_text(name) for name in self.mutations]
        else:
            texts[self.kind] = instruction(INSTRUCTIONS[self.kind])
        if self.kind == "persona":
            texts["personas"] = self.personas or personas()
        if self.kind == "system_from_preferences":
            texts["preferences"] = tastes()
        return super().parameters() | {"texts": text_hashes(**texts)}

    def reads(self, grain: Grain) -> set[str]:
        """The prompt, or the text whose request is wanted."""
        source = {"response", "response_id"} if grain == "responses" else {"reference"}
        return {"prompt", "prompt_id", "meta"} | (source if self.kind == "back_translate" else set())

    def writes(self, grain: Grain) -> set[str]:
        """The new prompts and their origin, and the errors."""
        return {"prompt", "prompt_id", "parent_id", "meta", "flags", f"scores.{self.name}.{ASPECT}"}

    def __call__(self, table: pa.Table, /) -> pa.Table | Made:
        """The new prompts in the order of their originals; an original stands before its own."""
        rows = table.to_pylist()
        from_responses = "response" in table.column_names
        places = self._sources(rows, from_responses)
        drafts = [self._draft(place, rows[place], sample, from_responses) for place in places for sample in range(self.n)]
        self._write(drafts)
        made, reasons = self._rows(table, rows, places, drafts, from_responses)
        if not from_responses:
            return made
        shared = [reasons[at] for at in self._source_of(rows, from_responses)]
        dropped = np.array([reason is not None for reason in shared], dtype=bool)
        return Made(made, tables.add_flags(table, dropped, self.name, pa.array(shared, pa.string())))

    # -- what is rewritten

    def _source_of(self, rows: Sequence[Mapping[str, Any]], from_responses: bool) -> list[int]:
        """For each row the row that is rewritten for it: of a prompt's responses the first, unless each has its own request."""
        if not from_responses or self.kind == "back_translate":
            return list(range(len(rows)))
        first: dict[str, int] = {}
        return [first.setdefault(row["prompt_id"], place) for place, row in enumerate(rows)]

    def _sources(self, rows: Sequence[Mapping[str, Any]], from_responses: bool) -> list[int]:
        return list(dict.fromkeys(self._source_of(rows, from_responses)))

    def _draft(self, place: int, row: Mapping[str, Any], sample: int, from_responses: bool) -> NewPrompt:
        if self.kind == "back_translate":
            text = row["response"] if from_responses else row["reference"]
        else:
            text = last_said(row["prompt"] or [])
        about = (self.seed or 0, self._id(row), sample)
        draft = NewPrompt(place, text or "", sample=sample)
        if not draft.text.strip():
            draft.error = "no_text: nothing to rewrite"
        if self.kind == "persona":
            draft.drawn["persona"] = pick(self.personas or personas(), share_of("persona", *about))
        elif self.kind == "system_from_preferences":
            draft.drawn["preferences"] = {name: pick(of, share_of(name, *about)) for name, of in tastes().items()}
        elif self.kind == "evolve":
            draft.drawn["mutations"] = [pick(self.mutations, share_of("mutation", r, *about)) for r in range(self.rounds)]
        return draft

    def _id(self, row: Mapping[str, Any]) -> str:
        return str(row["response_id"] if self.kind == "back_translate" and "response_id" in row else row["prompt_id"])

    # -- asking

    def _write(self, drafts: Sequence[NewPrompt]) -> None:
        """Each round asks for all drafts at once."""
        for turn in range(self.rounds):
            going = [draft for draft in drafts if draft.error is None]
            wanted = [(self.model, self._request(draft, turn)) for draft in going]
            for draft, reply in zip(going, self.ask(wanted), strict=True):
                self._take(draft, reply)

    def _request(self, draft: NewPrompt, turn: int) -> Request:
        text = draft.text if draft.done is None else draft.done
        if self.kind == "evolve":
            task = mutation_text(draft.drawn["mutations"][turn])
        else:
            values = draft.drawn.get("preferences") or draft.drawn
            task = filled(instruction(INSTRUCTIONS[self.kind]), **values)
        messages = text_wanted(task, block("text", text))
        return Request(messages, self.sampling(), self.seed_for(draft.text, self.model, draft.sample, turn), draft.sample)

    def _take(self, draft: NewPrompt, reply: Reply) -> None:
        draft.hear(reply, "rewrite")
        if draft.error is None and not draft.done:
            draft.error = "empty: the rewrite is empty"
        elif draft.error is None and draft.done == draft.text.strip():
            draft.error = "unchanged: the rewrite is the original"

    # -- rows

    def _rows(
        self,
        table: pa.Table,
        rows: Sequence[Mapping[str, Any]],
        places: Sequence[int],
        drafts: Sequence[NewPrompt],
        from_responses: bool,
    ) -> tuple[pa.Table, dict[int, str | None]]:
        """The prompts table without `row`, and why a source made nothing; None where it made something."""
        made = Beside()
        flagged: dict[int, str] = {}
        reasons: dict[int, str | None] = {}
        for position, place in enumerate(places):
            mine = drafts[position * self.n : (position + 1) * self.n]
            failed = [draft.error for draft in mine if draft.error is not None]
            in_vain = len(failed) == self.n
            reasons[place] = reason_of(failed[0]) if in_vain else None
            made.failed(failed)
            if self.keep_original or in_vain:
                if not self.keep_original:
                    flagged[len(made.places)] = reason_of(failed[0])
                made.add(place, {name: rows[place][name] for name in OWN}, original=True)
            for draft in mine:
                if draft.error is None:
                    made.add(place, self._row(draft, rows[place], from_responses))
        result = made.rows(table, "prompts", OWN, self.name, ASPECT)
        dropped = np.array([place in flagged for place in range(len(result))], dtype=bool)
        why = pa.array([flagged.get(place) for place in range(len(result))], pa.string())
        return with_column(result, "flags", tables.add_flags(result, dropped, self.name, why)), reasons

    def _row(self, draft: NewPrompt, row: Mapping[str, Any], from_responses: bool) -> dict[str, Any]:
        messages = self._messages(draft, row["prompt"] or [])
        told = {"kind": self.kind, "model": self.model_name(self.model), "sample": draft.sample, **draft.drawn}
        reference = row["reference"]
        if self.kind == "back_translate":
            reference = draft.text
        elif self.kind == "evolve":  # another question has another answer
            reference = None
        return {
            "prompt": messages,
            "prompt_id": ids.prompt_id(messages),
            "parent_id": self._id(row),
            "reference": reference,
            "meta": meta_with(row["meta"], {"rewrite": told}),
        }

    def _messages(self, draft: NewPrompt, before: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        assert draft.done is not None
        if self.kind == "back_translate":
            return [{"role": "user", "content": draft.done}]
        if self.kind == "system_from_preferences":
            return [{"role": "system", "content": draft.done}, *(m for m in before if m["role"] != "system")]
        last = max(place for place, message in enumerate(before) if message["role"] == "user")
        return [{**m, "content": draft.done} if place == last else m for place, m in enumerate(before)]


def last_said(messages: Sequence[Mapping[str, Any]]) -> str | None:
    """The last thing the user says."""
    return next((plain(without_nulls(message)) for message in reversed(messages) if message["role"] == "user"), None)


def reason_of(error: str) -> str:
    """Why a row is dropped for an error: a call that failed is `error`, anything else what it says."""
    kind = error.partition(":")[0]
    return kind if kind in ("no_text", "truncated", "empty", "unchanged") else "error"


def mutation_text(name: str) -> str:
    """The instruction of a mutation, or the instruction itself."""
    return instruction(f"evolve_{name}") if name in MUTATIONS else name
