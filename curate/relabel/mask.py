"""Say which sentences of a pair training should not look at: false ones of the chosen side, true ones of the rejected."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from curate import tables
from curate.maths.sentence_labels import (
    WORTH,
    Label,
    Labelled,
    Span,
    check_equations,
    find_sentences,
    read_labels,
    spans_of,
)
from curate.maths.series import series_field
from curate.operator import RunsOn, ShardOperator
from curate.tables import Grain

SIDES = ("chosen", "rejected")
MASKED: dict[str, Label] = {"chosen": "incorrect", "rejected": "correct"}
"""What of each side carries no loss."""
PUBLISHED: dict[str, Label] = {
    "no_hallucination": "correct",
    "hallucination": "incorrect",
    "no-fact": "neutral",
    "no_fact": "neutral",
}
"""Names that the paper's annotator uses."""


class Found(NamedTuple):
    """Spans of one side, or why there are none."""

    spans: list[Span] | None
    masked: float
    """Share of characters that carry no loss; NaN where the side has no labels that fit its text."""


class Mask(ShardOperator):
    """The column `spans`: weight 0 for incorrect sentences of the chosen side and correct ones of the rejected side, 1 for all
    others. Spans of a side follow each other without a gap from its first character to its last.

    Labels come from a judge, by a score of `judge_sentences`; from the source; or from a check: `equations` calls a sentence
    incorrect that states a sum which does not hold, correct where all that it states hold, neutral without any. A side whose
    labels are missing or do not fit its text stays unmasked (one span of weight 1), and a pair where this holds for both has
    no spans. Evidence `chosen_masked` and `rejected_masked`: share of characters that carry no loss; null where a side has no
    labels. A pair one of whose sides would be masked altogether has nothing to teach and is flagged. Put this step after those
    that exchange sides (`flip`, `goal`): spans go with their side, but what is to be masked depends on which side is chosen.

    Source: Gu et al., "Mask-DPO: Generalizable Fine-grained Factuality Alignment of LLMs", 2025, arXiv:2503.02846. Their code
    finds sentences again by their tokens, read one sentence at a time; here they are found by characters.
    """

    takes: ClassVar[tuple[Grain, ...]] = ("pairs",)

    by: str | None = Field(
        default=None, description="Score of `judge_sentences` on both sides: rater:aspect, such as judge:truthfulness_sentences."
    )
    meta: tuple[str, str] | None = Field(
        default=None,
        description="Instead of by: the fields of `meta` with the labelled sentences of the chosen and the rejected side, each "
        "{sents: [text, ...], type: [label, ...]} or a list of {text, label}.",
    )
    check: Literal["equations"] | None = Field(default=None, description="Instead of both: what is checked without a model.")
    labels: dict[str, Label] = Field(
        default=PUBLISHED, description="meta: what the source's labels mean; correct, incorrect and neutral mean themselves."
    )
    neutral: Literal["keep", "mask"] = Field(
        default="keep", description="Sentences that are neither: kept on both sides, as published, or masked on both."
    )
    empty: Literal["drop", "unmask"] = Field(default="drop", description="A side that would be masked altogether.")

    @property
    def runs_on(self) -> RunsOn:
        """Python reads the labels of every row."""
        return "process"

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if sum(place is not None for place in (self.by, self.meta, self.check)) != 1:
            raise ValueError("mask needs the labels from one place: say by (a score of judge_sentences), meta or check")
        if self.by is not None and tables.split_rater(self.by)[1] is None:
            raise ValueError(f"by names rater and aspect, such as {self.by}:truthfulness_sentences, got {self.by}")
        return self

    def reads(self, grain: Grain) -> set[str]:
        """Both texts and the labels."""
        told = {"meta"} if self.meta is not None else set()
        told |= {series_field(self.by, f"{side}_scores") for side in SIDES} if self.by is not None else set()
        return {"chosen", "rejected", "spans"} | told

    def writes(self, grain: Grain) -> set[str]:
        """The spans, the shares masked, and flags."""
        return {"spans", "flags"} | {f"evidence.{self.name}.{side}_masked" for side in SIDES}

    def __call__(self, table: pa.Table, /) -> pa.Table:
        """Spans, evidence and flags of every pair."""
        found = {side: [self._found(side, *each) for each in self._labelled(table, side)] for side in SIDES}
        masked = {side: np.array([one.masked for one in found[side]], dtype=np.float32) for side in SIDES}
        bare = np.logical_or(*(masked[side] >= 1 for side in SIDES)) if self.empty == "drop" else np.zeros(table.num_rows, bool)
        evidence = table["evidence"]
        for side in SIDES:
            entries = tables.structs(tables.EVIDENCE, table.num_rows, by=self.name, name=f"{side}_masked", value=masked[side])
            evidence = tables.append(evidence, entries)
        return pa.table(
            {
                "spans": self._spans(table, found),
                "evidence": evidence,
                "flags": tables.add_flags(table, bare, self.name, "all_masked"),
            }
        )

    def _labelled(self, table: pa.Table, side: str) -> Iterator[tuple[str | None, Labelled | None]]:
        """Text and labels of one side, row by row."""
        texts = table[side].to_pylist()
        if self.check is not None:
            yield from ((text, check_equations(text) if text else None) for text in texts)
            return
        if self.by is not None:
            kept = last_rationales(table[f"{side}_scores"], self.by)
            for text, rationale in zip(texts, kept, strict=True):
                yield text, None if text is None or rationale is None else read_labels(rationale, len(text))
            return
        field = (self.meta or ("", ""))[SIDES.index(side)]
        names = {name: name for name in WORTH} | self.labels
        for text, meta in zip(texts, table["meta"].to_pylist(), strict=True):
            fields = json.loads(meta) if meta else None
            told = sentences_in(fields.get(field), names) if isinstance(fields, dict) else None
            yield text, None if text is None or told is None else find_sentences(text, told)

    def _found(self, side: str, text: str | None, labelled: Labelled | None) -> Found:
        if text is None or labelled is None:
            return Found(None, float("nan"))
        spans = spans_of(text, labelled, {MASKED[side], *(("neutral",) if self.neutral == "mask" else ())})
        lost = sum(span.end - span.start for span in spans if not span.weight)
        if lost == len(text) and self.empty == "unmask":
            return Found([Span(0, len(text), 1.0)], 0.0)
        return Found(spans, lost / len(text))

    def _spans(self, table: pa.Table, found: Mapping[str, list[Found]]) -> pa.Array:
        """Both sides' spans where one of them has labels; what there was before elsewhere."""
        lengths = [pc.fill_null(pc.utf8_length(table[side]), 0).to_pylist() for side in SIDES]
        marked = [any(found[side][row].spans is not None for side in SIDES) for row in range(table.num_rows)]
        listed: list[tuple[str, Span]] = []
        offsets = [0]
        for row, has in enumerate(marked):
            for side, length in zip(SIDES, lengths, strict=True):
                whole = [Span(0, length[row], 1.0)]
                listed += [(side, span) for span in (found[side][row].spans or whole)] if has else []
            offsets.append(len(listed))
        fields: dict[str, Any] = {name: [getattr(span, name) for _, span in listed] for name in Span._fields}
        entries = tables.structs(tables.SPAN, len(listed), side=[side for side, _ in listed], **fields)
        made = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), entries, type=pa.list_(tables.SPAN))
        return pc.if_else(pa.array(marked, pa.bool_()), made, tables.flat(table["spans"]))


def last_rationales(scores: pa.ChunkedArray, by: str) -> list[str | None]:
    """The rationale of each row's last score of a series that carries no error; None where there is none."""
    rater, aspect = tables.split_rater(by)
    lists = tables.flat(scores)
    entries = lists.flatten()
    fits = pc.and_(pc.equal(pc.struct_field(entries, "rater"), rater), pc.equal(pc.struct_field(entries, "aspect"), aspect))
    fits = pc.and_(fits, pc.is_null(pc.struct_field(entries, "error")))
    at = np.flatnonzero(pc.fill_null(fits, False).to_numpy(zero_copy_only=False))
    parents = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)[at]
    told: list[str | None] = [None] * len(lists)
    for row, rationale in zip(parents, pc.struct_field(entries, "rationale").take(pa.array(at)).to_pylist(), strict=True):
        told[row] = rationale
    return told


def sentences_in(told: Any, names: Mapping[str, str]) -> list[tuple[str, str]] | None:
    """(sentence, label) as a source keeps them; None where it is not in one of the two forms, or a label is unknown."""
    if isinstance(told, Mapping):
        texts, labels = told.get("sents"), told.get("type")
    elif isinstance(told, list) and all(isinstance(each, Mapping) for each in told):
        texts, labels = [each.get("text") for each in told], [each.get("label") for each in told]
    else:
        return None
    if not isinstance(texts, list) or not isinstance(labels, list) or len(texts) != len(labels):
        return None
    if not all(isinstance(text, str) for text in texts) or not all(isinstance(name, str) and name in names for name in labels):
        return None
    return [(text, names[name]) for text, name in zip(texts, labels, strict=True)]
