"""Make worse versions of responses on purpose, so that pairs with a known fault can be built."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self, get_args

import numpy as np
import pyarrow as pa
from pydantic import Field, FiniteFloat, model_validator

from curate import ids, tables
from curate.generate.sampled import Sampled, error_text, meta_with, plain, said, stored, with_errors, without_nulls
from curate.generate.wording import block, filled, instruction, number_of, pick, principles, share_of, text_hashes
from curate.ids import canonical_json
from curate.models.asking import Reply, Request
from curate.tables import Grain

INTACT, ASPECT = "intact", "perturb"
Written = Literal["principle", "fact", "step", "shorten", "pad", "tone", "instruction"]
Ruled = Literal["drop_sentences", "shuffle_sentences", "reverse_sentences", "truncate", "repeat"]
Kind = Written | Ruled
WRITTEN: tuple[str, ...] = get_args(Written)
SENTENCE = re.compile(r".+?(?:[.!?]+[\"')\]]*(?=\s|\Z)|[。！？।]|\n|\Z)\s*", re.DOTALL)
KEPT = [c.name for c in tables.PROMPT_COLUMNS if c.name not in ("row", "meta", "parent_id", "scores", "evidence", "flags")]


@dataclass
class Draft:
    """One worse version in the making."""

    row: int
    kind: str
    text: str
    drawn: dict[str, Any] = field(default_factory=dict)
    """What was drawn for it: the principle that is broken."""
    done: str | None = None
    reply: Reply | None = None
    error: str | None = None


class Perturb(Sampled):
    """Each response and, after it, worse versions of it that name it as their parent.

    A model writes them for principle, fact, step, shorten, pad, tone and instruction; rules make them, without a model,
    for the others. The score `<step>:intact` is 1 for what came in and 0 for what was made worse, so that `pair` can set
    one against the other. A version whose length is outside the guards, or that equals its original, is flagged.

    Sources: Wang et al., "Weaver: Foundation Models for Creative Writing", 2024, arXiv:2401.17268, for one broken principle;
    TEMPLE, which drops, shuffles and reverses the clips of a video, does here the same to sentences.
    """

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

    def _drafts(self, place: int, row: Mapping[str, Any]) -> list[Draft]:
        if not (row["response"] or "").strip():
            return []
        drafts = []
        for kind in self._drawn_kinds(row["response_id"]):
            draft = Draft(place, kind, row["response"])
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

    def _write(self, rows: Sequence[Mapping[str, Any]], drafts: Sequence[Draft]) -> None:
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
            draft.done, draft.error = said(draft.reply), error_text(draft.reply)
            if draft.error is None and draft.reply.finish_reason == "length":
                draft.error = "truncated: the worse version was cut off at max_tokens"

    def _request(self, draft: Draft, row: Mapping[str, Any]) -> Request:
        assert self.model is not None
        fault = filled(instruction(f"fault_{draft.kind}"), **draft.drawn)
        request = "\n\n".join(f"{m['role']}: {plain(without_nulls(m))}" for m in row["prompt"] or [])
        messages = (
            {"role": "system", "content": f"{filled(instruction('damage'), fault=fault)}\n\n{instruction('text')}"},
            {"role": "user", "content": f"{block('request', request)}\n\n{block('text', draft.text)}"},
        )
        return Request(messages, self.sampling(), self._seed_of(draft, row))

    def _seed_of(self, draft: Draft, row: Mapping[str, Any]) -> int | None:
        return self.seed_for(row["response_id"], self.model, 0, draft.kind) if self.model and draft.kind in WRITTEN else None

    # -- rows

    def _rows(self, table: pa.Table, rows: Sequence[Mapping[str, Any]], drafts: Sequence[Draft]) -> pa.Table:
        mine: dict[int, list[Draft]] = {}
        for draft in drafts:
            mine.setdefault(draft.row, []).append(draft)
        order: list[tuple[int, Draft | None]] = []
        errors: list[tuple[int, str]] = []
        for place in range(len(rows)):
            errors += [(len(order), draft.error) for draft in mine.get(place, []) if draft.error is not None]
            order.append((place, None))
            order += [(place, draft) for draft in mine.get(place, []) if draft.error is None]
        at = pa.array([place for place, _ in order], pa.int64())
        whose = pa.array([place if draft is None else None for place, draft in order], pa.int64())
        names = [column.name for column in tables.RESPONSE_COLUMNS]
        own = [*names, "parent_id", "meta"]
        listed = [
            {name: rows[place][name] for name in own} if draft is None else self._row(draft, rows[place])
            for place, draft in order
        ]
        made = tables.from_rows(listed, "responses")
        columns: dict[str, Any] = {name: table[name].take(at) for name in KEPT} | {name: made[name] for name in own}
        # what was said of the original was not said of its worse version
        columns["evidence"] = table["evidence"].take(whose)
        scores = with_errors(table["scores"].take(whose), self.name, ASPECT, errors)
        intact = np.array([draft is None for _, draft in order], dtype=np.float32)
        entries = tables.structs(tables.SCORE, len(order), rater=self.name, aspect=INTACT, value=intact)
        columns["scores"] = tables.append(scores, entries)
        result = tables.conform(pa.table(columns), "responses").drop_columns(["row"])
        return result.set_column(result.column_names.index("flags"), "flags", self._flags(result, order))

    def _flags(self, result: pa.Table, order: Sequence[tuple[int, Draft | None]]) -> pa.Array:
        """A flag on each version that is no use, with its length by that of the original."""
        ratios = np.array([np.nan if draft is None else len(draft.done or "") / len(draft.text) for _, draft in order])
        same = np.array([draft is not None and draft.done == draft.text.strip() for _, draft in order], dtype=bool)
        outside = (ratios < self.min_length_ratio) | (ratios > self.max_length_ratio)  # never for an original: NaN
        reasons = pa.array(np.where(same, "unchanged", "length_guard"), pa.string())
        return tables.add_flags(result, same | outside, self.name, reasons, ratios.astype(np.float32))

    def _row(self, draft: Draft, row: Mapping[str, Any]) -> dict[str, Any]:
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


# -- rules


def sentences(text: str) -> list[str]:
    """The text in sentences or lines, each with the space after it; joined they are the text."""
    return [match[0] for match in SENTENCE.finditer(text)]


def some(count: int, share: float, about: Sequence[Any]) -> set[int]:
    """At least one of so many places, but not all of several."""
    wanted = min(max(1, round(share * count)), max(1, count - 1))
    return set(sorted(range(count), key=lambda place: number_of(*about, place))[:wanted])


def drop_sentences(text: str, share: float, about: Sequence[Any]) -> str:
    """Without a share of its sentences; a text of one sentence stays as it is."""
    parts = sentences(text)
    gone = some(len(parts), share, about) if len(parts) > 1 else set()
    return "".join(part for place, part in enumerate(parts) if place not in gone)


def shuffle_sentences(text: str, share: float, about: Sequence[Any]) -> str:
    """Its sentences in another order; the spaces between stay where they were."""
    parts = sentences(text)
    order = sorted(range(len(parts)), key=lambda place: number_of(*about, place))
    if order == list(range(len(parts))):
        order = order[1:] + order[:1]
    return rearranged(parts, order)


def reverse_sentences(text: str, share: float, about: Sequence[Any]) -> str:
    """Its sentences from the last to the first."""
    parts = sentences(text)
    return rearranged(parts, list(range(len(parts)))[::-1])


def rearranged(parts: Sequence[str], order: Sequence[int]) -> str:
    """Sentences in an order, the space after each place kept."""
    return "".join(parts[at].rstrip() + parts[place][len(parts[place].rstrip()) :] for place, at in enumerate(order))


def truncate(text: str, share: float, about: Sequence[Any]) -> str:
    """Without its end, cut off wherever that happens to be."""
    return text[: max(1, round(len(text) * (1 - share)))]


def repeat(text: str, share: float, about: Sequence[Any]) -> str:
    """With a share of its sentences said twice."""
    parts = sentences(text)
    twice = some(len(parts), share, about)
    doubled = [f"{part.rstrip()} {part}" if place in twice else part for place, part in enumerate(parts)]
    return "".join(doubled)


RULES: Mapping[str, Callable[[str, float, Sequence[Any]], str]] = {
    "drop_sentences": drop_sentences,
    "shuffle_sentences": shuffle_sentences,
    "reverse_sentences": reverse_sentences,
    "truncate": truncate,
    "repeat": repeat,
}
