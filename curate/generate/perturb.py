"""Make worse versions of responses on purpose, so that pairs with a known fault can be built."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self, get_args

import numpy as np
import pyarrow as pa
from pydantic import Field, FiniteFloat, model_validator

from curate import ids, tables
from curate.generate.drafts import Beside, Draft
from curate.generate.faults import RULES
from curate.generate.messages import plain, stored, without_nulls
from curate.generate.sampled import Sampled, meta_with, with_column
from curate.generate.wording import block, filled, instruction, number_of, pick, principles, share_of, text_hashes, text_wanted
from curate.ids import canonical_json
from curate.models.asking import Reply, Request
from curate.tables import Grain

INTACT, ASPECT = "intact", "perturb"
Written = Literal["principle", "fact", "step", "shorten", "pad", "tone", "instruction"]
Ruled = Literal["drop_sentences", "shuffle_sentences", "reverse_sentences", "truncate", "repeat"]
Kind = Written | Ruled
WRITTEN: tuple[str, ...] = get_args(Written)
OWN = (*(column.name for column in tables.RESPONSE_COLUMNS), "parent_id", "meta")


@dataclass(kw_only=True)
class Worse(Draft):
    """One worse version in the making."""

    kind: str
    reply: Reply | None = None


class Perturb(Sampled):
    """Each response and, after it, worse versions of it that name it as their parent.

    A model writes them for principle, fact, step, shorten, pad, tone and instruction; rules make them, without a model,
    for the others. The score `<step>:intact` is 1 for what came in and 0 for what was made worse, so that `pair` can set
    one against the other. A version whose length is outside the guards, or that equals its original, is flagged.

    Sources: Wang et al., "Weaver: Foundation Models for Creative Writing", 2024, arXiv:2401.17268, for one broken principle;
    TEMPLE, which drops, shuffles and reverses the clips of a video, does here the same to sentences.
    """

    version: ClassVar[int] = 2

    takes: ClassVar[tuple[Grain, ...]] = ("responses",)
    makes: ClassVar[Grain | None] = "responses"

    how: Kind | tuple[Kind, ...] = Field(description="What is made worse: one kind, or several.")
    model: str | None = Field(default=None, description="The model that writes worse versions; rules need none.")
    per_response: int | None = Field(
        default=None, ge=1, description="Kinds drawn for each response, by its id; all of them if not given."
    )
    share: FiniteFloat = Field(
        default=0.3, gt=0, lt=1, description="Rules: share of sentences dropped or repeated, or of the text cut off."
    )
    principles: tuple[str, ...] = Field(
        default=(), description="principle: texts to draw from, or names of curate's principles; all of these if not given."
    )
    min_length_ratio: FiniteFloat = Field(default=0.4, ge=0, description="Fewest characters, by those of the original.")
    max_length_ratio: FiniteFloat = Field(default=2.5, gt=0, description="Most characters, by those of the original.")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if not self.kinds or len(set(self.kinds)) < len(self.kinds):
            raise ValueError("how names at least one kind, and none twice")
        if bool(set(self.kinds) & set(WRITTEN)) != (self.model is not None):
            raise ValueError(f"a model belongs to the kinds {', '.join(WRITTEN)}, and they need one")
        if self.principles and "principle" not in self.kinds:
            raise ValueError("principles belongs to how: principle")
        if (self.per_response or 1) > len(self.kinds):
            raise ValueError(f"per_response is {self.per_response}, but there are {len(self.kinds)} kinds")
        if self.min_length_ratio >= self.max_length_ratio:
            raise ValueError(f"length ratios must ascend, got {self.min_length_ratio} and {self.max_length_ratio}")
        wrong = [name for name in self.principles if name not in principles() and " " not in name.strip()]
        if wrong:
            raise ValueError(f"no principle is called {wrong[0]}; there are {', '.join(principles())}, or give a whole text")
        return self

    @property
    def kinds(self) -> tuple[str, ...]:
        """What is made worse."""
        return (self.how,) if isinstance(self.how, str) else self.how

    def models(self) -> set[str]:
        """The one that writes, if any."""
        return {self.model} if self.model else set()

    def calls(self, rows: int) -> int:
        """One for each version that a model writes; rules call nobody."""
        written = len(set(self.kinds) & set(WRITTEN))
        return rows * written if self.per_response is None else round(rows * self.per_response * written / len(self.kinds))

    def parameters(self) -> dict[str, Any]:
        """Instructions count by what they say."""
        written = [kind for kind in self.kinds if kind in WRITTEN]
        texts: dict[str, Any] = {kind: instruction(f"fault_{kind}") for kind in written}
        texts |= {"principles": self._principles()} if "principle" in written else {}
        texts |= {"damage": [instruction("damage"), instruction("text")]} if written else {}
        return super().parameters() | ({"texts": text_hashes(**texts)} if texts else {})

    def reads(self, grain: Grain) -> set[str]:
        """Prompt and response."""
        return {"prompt", "prompt_id", "response", "response_id", "turns", "meta"}

    def writes(self, grain: Grain) -> set[str]:
        """What a response has, whether it is intact, and the errors."""
        columns = {column.name for column in tables.RESPONSE_COLUMNS} - {"logprob_sum"}
        return columns | {"parent_id", "meta", "flags", f"scores.{self.name}.{INTACT}", f"scores.{self.name}.{ASPECT}"}

    def __call__(self, table: pa.Table, /) -> pa.Table:
        """The responses table without `row`: each response, then its worse versions in the order of `how`."""
        rows = table.to_pylist()
        drafts = [draft for place, row in enumerate(rows) for draft in self._drafts(place, row)]
        self._write(rows, drafts)
        return self._rows(table, rows, drafts)

    # -- what is wanted

    def _drafts(self, place: int, row: Mapping[str, Any]) -> list[Worse]:
        if not (row["response"] or "").strip():
            return []
        drafts = []
        for kind in self._drawn_kinds(row["response_id"]):
            draft = Worse(place, row["response"], kind=kind)
            if kind == "principle":
                draft.drawn["principle"] = pick(self._principles(), share_of("principle", self.seed or 0, row["response_id"]))
            drafts.append(draft)
        return drafts

    def _drawn_kinds(self, response_id: str) -> list[str]:
        if self.per_response is None:
            return list(self.kinds)
        drawn = sorted(self.kinds, key=lambda kind: number_of("kind", self.seed or 0, response_id, kind))[: self.per_response]
        return [kind for kind in self.kinds if kind in drawn]

    def _principles(self) -> tuple[str, ...]:
        """The texts a principle is drawn from."""
        named = self.principles or tuple(principles())
        return tuple(text for name in named for text in principles().get(name, (name,)))

    # -- making them

    def _write(self, rows: Sequence[Mapping[str, Any]], drafts: Sequence[Worse]) -> None:
        for draft in drafts:
            if draft.kind not in WRITTEN:
                about = (self.seed or 0, rows[draft.row]["response_id"], draft.kind)
                draft.done = RULES[draft.kind](draft.text, self.share, about).strip()
        asked = [draft for draft in drafts if draft.kind in WRITTEN]
        if not asked:
            return
        assert self.model is not None
        wanted = [(self.model, self._request(draft, rows[draft.row])) for draft in asked]
        for draft, draft.reply in zip(asked, self.ask(wanted), strict=True):
            draft.hear(draft.reply, "worse version")

    def _request(self, draft: Worse, row: Mapping[str, Any]) -> Request:
        assert self.model is not None
        fault = filled(instruction(f"fault_{draft.kind}"), **draft.drawn)
        request = "\n\n".join(f"{m['role']}: {plain(without_nulls(m))}" for m in row["prompt"] or [])
        task = filled(instruction("damage"), fault=fault)
        messages = text_wanted(task, f"{block('request', request)}\n\n{block('text', draft.text)}")
        return Request(messages, self.sampling(), self._seed_of(draft, row))

    def _seed_of(self, draft: Worse, row: Mapping[str, Any]) -> int | None:
        return self.seed_for(row["response_id"], self.model, 0, draft.kind) if self.model and draft.kind in WRITTEN else None

    # -- rows

    def _rows(self, table: pa.Table, rows: Sequence[Mapping[str, Any]], drafts: Sequence[Worse]) -> pa.Table:
        mine: dict[int, list[Worse]] = {}
        for draft in drafts:
            mine.setdefault(draft.row, []).append(draft)
        made, order = Beside(), list[Worse | None]()
        for place, row in enumerate(rows):
            of_it = mine.get(place, [])
            made.failed([draft.error for draft in of_it if draft.error is not None])
            made.add(place, {name: row[name] for name in OWN}, original=True)
            usable = [draft for draft in of_it if draft.error is None]
            for draft in usable:
                made.add(place, self._row(draft, row))
            order += [None, *usable]
        result = made.rows(table, "responses", OWN, self.name, ASPECT)
        intact = tables.add_scores(result, np.array(made.original, dtype=np.float32), self.name, INTACT)
        return with_column(with_column(result, "scores", intact), "flags", self._flags(result, order))

    def _flags(self, result: pa.Table, order: Sequence[Worse | None]) -> pa.Array:
        """A flag on each version that is no use, with its length by that of the original."""
        ratios = np.array([np.nan if draft is None else len(draft.done or "") / len(draft.text) for draft in order])
        same = np.array([draft is not None and draft.done == draft.text.strip() for draft in order], dtype=bool)
        outside = (ratios < self.min_length_ratio) | (ratios > self.max_length_ratio)  # never for an original: NaN
        reasons = pa.array(np.where(same, "unchanged", "length_guard"), pa.string())
        return tables.add_flags(result, same | outside, self.name, reasons, ratios.astype(np.float32))

    def _row(self, draft: Worse, row: Mapping[str, Any]) -> dict[str, Any]:
        reply = draft.reply or Reply(finish_reason="stop")
        seed = self._seed_of(draft, row)
        told = {name: getattr(self, name) for name in ("temperature", "top_p", "max_tokens") if getattr(self, name) is not None}
        model = self.model_name(self.model) if self.model and draft.kind in WRITTEN else f"rule:{draft.kind}"
        turns = row["turns"]
        if turns:
            turns = [*turns[:-1], stored({**without_nulls(turns[-1]), "content": draft.done})]
        return {
            "response_id": ids.response_id(row["prompt_id"], draft.done, model, seed, row["response_id"], draft.kind),
            "response": draft.done,
            "turns": turns,
            "model": model,
            "policy": "off",
            "sampling": canonical_json(told) if draft.reply else None,
            "seed": seed,
            "sample": row["sample"],
            "finish_reason": reply.finish_reason,
            "prompt_tokens": reply.prompt_tokens,
            "response_tokens": reply.response_tokens,
            "parent_id": row["response_id"],
            "meta": meta_with(row["meta"], {"perturb": {"kind": draft.kind, **draft.drawn}}),
        }
