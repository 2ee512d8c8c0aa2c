"""Drop rows whose text another row already has, keeping one of each."""

import re
import unicodedata
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, field_validator, model_validator

from curate import tables
from curate.errors import StepError
from curate.filter.repeats import EarlierVersion
from curate.filter.texts import DEFAULT_TEXT, ROW_ID, SIDES, TURNS, Text, grain_of
from curate.operator import DatasetOperator, RunsOn
from curate.tables import Grain

Normal = Literal["none", "whitespace", "text"]

DIGEST_BYTES = 16  # XXH3, 128 bits: no collision to be expected below 10^18 rows, a third of the time of sha256
DIGEST = pa.binary(DIGEST_BYTES)
SEPARATOR = "\0"  # no stored text holds one, so joined texts cannot run into each other

SETTING_OUT = "`→⇒"  # symbols to Unicode, punctuation in what models write
PUNCTUATED = 0x10000  # the basic plane: marks beyond it are rare, and a set with them is searched 20 times slower
MESSAGE_FIELDS = ("role", "content", "name", "tool_calls", "tool_call_id")


class ExactDuplicate(DatasetOperator):
    """Drop all but one of the rows with the same text, and every row whose text one of an earlier version has.

    Writes `copies` (rows that share the text, itself and those of earlier versions included) as evidence for every row; null
    where the row has no text. A dropped row's flag names the kept row. Equal ranks go to the earliest row.
    """

    version: ClassVar[int] = 3

    takes: ClassVar[tuple[Grain, ...]] = ("prompts", "responses", "pairs")

    column: Text | None = Field(
        default=None, description="Text compared; pair: chosen and rejected together. Default by grain: prompt, response, pair."
    )
    within: Literal["prompt", "all"] | None = Field(
        default=None, description="Compare rows of one prompt, or all rows. Default: prompt; all where the text is the prompt."
    )
    normalise: bool | Normal = Field(
        default="none",
        description="none: the very same characters; whitespace: runs of whitespace count as one space; text (or true): "
        "also case, compatibility forms (NFKC), punctuation and all spaces are ignored, but not what changes a number (1.5, 3-4, "
        "-2, 5%, 1 2); not for code, which has its meaning in such marks.",
    )
    keep: Literal["first", "longest", "best"] = Field(
        default="first", description="Which row stays: the earliest, the one of most characters, or the one scored highest."
    )
    by: str | None = Field(
        default=None, description="keep: best: the rater (or rater:aspect) that ranks; for pairs its gap, chosen minus rejected."
    )

    against: EarlierVersion | list[EarlierVersion] = Field(
        default=[], description="Earlier versions, such as name@v3: their kept rows are compared with, too, and always stay."
    )

    @field_validator("normalise")
    @classmethod
    def _name_normal(cls, value: bool | Normal) -> Normal:
        if isinstance(value, bool):
            return "text" if value else "none"
        return value

    @model_validator(mode="after")
    def _check_by(self) -> Self:
        if (self.keep == "best") != (self.by is not None):
            raise ValueError("`by` names the rater for `keep: best`; give both or neither")
        return self

    @property
    def runs_on(self) -> RunsOn:
        """Python looks at every text that is normalised."""
        return "thread" if self.normalise == "none" else "process"

    def reads(self, grain: Grain) -> set[str]:
        """The compared text, what tells prompts apart, and the rater that ranks."""
        text = self._text(grain)
        fields = {ROW_ID[grain], *SIDES[text], *(TURNS[side] for side in SIDES[text])}
        if text == "prompt" or self._within(text) == "prompt":
            fields |= {"prompt_id", "images", "tools"} | ({"prompt"} if grain == "pairs" else set())
        if text == "prompt" and (self.normalise != "none" or self.keep == "longest"):
            fields.add("prompt")
        if self.by is not None:
            rater, aspect = tables.split_rater(self.by)
            fields |= {f"{column}.{rater}.{aspect or '*'}" for column in _score_columns(grain)}
        return fields

    def writes(self, grain: Grain) -> set[str]:
        """The measure and the flags."""
        return {f"evidence.{self.name}.copies", "flags"}

    def versions(self) -> list[str]:
        """The earlier versions compared with."""
        return [self.against] if isinstance(self.against, str) else list(self.against)

    def feature_parameters(self) -> dict[str, Any]:
        """All but the name and other rows."""
        return {field: value for field, value in self.parameters().items() if field not in ("name", "against")}

    def features(self, table: pa.Table, /) -> pa.Table:
        """digest: 128 bits that rows with the same text share, null where there is none; rank: the highest stays; id."""
        grain = grain_of(table)
        text = self._text(grain)
        digests = _digests(self._keys(table, text))
        rank = pa.array(self._rank(table, grain, text), pa.float32())
        return pa.table({"digest": pa.array(digests, DIGEST), "rank": rank, "id": table[ROW_ID[grain]]})

    def decide(self, features: pa.Table, /) -> pa.Table:
        """See `choose`; no row is of an earlier version."""
        return self.choose(features)

    def choose(self, features: pa.Table, earlier: int = 0) -> pa.Table:
        """Per row: id of the row it loses to (null for a row that stays), and the copies of its text.

        earlier: so many first rows are those of earlier versions. They stay before any other, and nothing is told of them.
        """
        digest = features["digest"].combine_chunks()
        present = pc.is_valid(digest).to_numpy(zero_copy_only=False)
        rows = np.flatnonzero(present)
        rank = features["rank"].to_numpy().copy()
        rank[:earlier] = np.inf  # the first of equals stays, so that own rows win against none of them
        winner, copies = _winners(_words(digest)[rows], rank[rows])
        lost = np.full(len(present), -1, dtype=np.int64)
        lost[rows] = np.where(winner == np.arange(len(rows)), -1, rows[winner])
        counts = np.zeros(len(present), dtype=np.int32)
        counts[rows] = copies
        index = pa.array(lost, mask=lost < 0)
        state = pa.table({"kept": features["id"].take(index), "copies": pa.array(counts, mask=~present)})
        return state.slice(earlier)

    def apply(self, table: pa.Table, state: pa.Table, /) -> pa.Table:
        """`copies` as evidence, and a flag with the id of the kept row on the others."""
        copies = state["copies"].cast(pa.float32()).to_numpy()
        dropped = pc.is_valid(state["kept"]).to_numpy()
        flags = tables.add_flags(table, dropped, self.name, "exact_duplicate", copies, state["kept"])
        return pa.table({"evidence": tables.add_evidence(table, copies, self.name, "copies"), "flags": flags})

    def _text(self, grain: Grain) -> Text:
        return self.column or DEFAULT_TEXT[grain]

    def _within(self, text: Text) -> str:
        return self.within or ("all" if text == "prompt" else "prompt")

    def _keys(self, table: pa.Table, text: Text) -> Iterable[str | None]:
        """Per row, what rows must have in common to be copies; None for a row without the text."""
        missing = [name for name in SIDES[text] if name not in table.column_names]
        if missing:
            raise StepError(f"column: {text} needs `{missing[0]}`, which {grain_of(table)} do not have")
        normal = _normal_form(self.normalise)
        sides = [_side_keys(table, side, normal) for side in SIDES[text]]
        if text == "prompt" and normal is not None:
            sides = [_with_material(table, _message_keys(table["prompt"], normal))]
        if self._within(text) == "prompt" or (text == "prompt" and normal is None):
            asked = _with_context(table) if "pair_id" in table.column_names else table["prompt_id"].to_pylist()
            sides = [_with_material(table, asked), *sides]
        return _joined(sides)

    def _rank(self, table: pa.Table, grain: Grain, text: Text) -> np.ndarray:
        """The highest rank stays, (N,) float32."""
        if self.keep == "first":
            return np.zeros(table.num_rows, dtype=np.float32)
        if self.keep == "longest":
            return _characters(table, text)
        rater, aspect = tables.split_rater(str(self.by))
        first, *second = (tables.score_of(table, rater, aspect, column) for column in _score_columns(grain))
        return first - second[0] if second else first  # NaN sorts last: a row without a score loses to any with one


def _score_columns(grain: Grain) -> tuple[str, ...]:
    return ("chosen_scores", "rejected_scores") if grain == "pairs" else ("scores",)


def _joined(parts: list[list[str | None]]) -> Iterable[str | None]:
    """The texts of each row as one; None where any is None."""
    if len(parts) == 1:
        return parts[0]
    return (None if None in row else SEPARATOR.join(row) for row in zip(*parts, strict=True))


def _side_keys(table: pa.Table, side: str, normal: Callable[[str], str] | None) -> list[str | None]:
    """A completion's text; all its messages where it is more than one."""
    texts: list[str | None] = table[side].to_pylist()
    if normal is not None:
        texts = [None if text is None else normal(text) for text in texts]
    turns = table[TURNS[side]]
    if turns.null_count == len(turns):
        return texts
    whole = _message_keys(turns, normal)
    return [text if key is None else key for text, key in zip(texts, whole, strict=True)]


def _message_keys(lists: pa.ChunkedArray, normal: Callable[[str], str] | None) -> list[str | None]:
    """Messages as one text, null lists as None; `normal` is applied to their contents alone."""
    array = lists.combine_chunks()
    messages = array.flatten()
    fields = {name: pc.struct_field(messages, name).to_pylist() for name in MESSAGE_FIELDS}
    if normal is not None:
        fields["content"] = [None if text is None else normal(text) for text in fields["content"]]
    lines = [SEPARATOR.join("" if part is None else part for part in row) for row in zip(*fields.values(), strict=True)]
    counts = pc.list_value_length(array).to_pylist()
    keys: list[str | None] = []
    start = 0
    for count in counts:
        # the count in front tells messages from a text that looks like them
        keys.append(None if count is None else SEPARATOR.join([str(count), *lines[start : start + count]]))
        start += count or 0
    return keys


def _with_context(table: pa.Table) -> list[str | None]:
    """What each pair answers: its prompt, and where pairing added steps or a system message to it, all that was said."""
    asked: list[str | None] = table["prompt_id"].to_pylist()
    prompts = tables.flat(table["prompt"])
    longer = np.flatnonzero(pc.fill_null(pc.greater(pc.list_value_length(prompts), 1), False).to_numpy(zero_copy_only=False))
    said = _message_keys(pa.chunked_array([prompts.take(pa.array(longer))]), None)
    for row, messages in zip(longer.tolist(), said, strict=True):
        if asked[row] is not None and messages is not None:
            asked[row] = SEPARATOR.join([str(asked[row]), messages])
    return asked


def _with_material(table: pa.Table, texts: list[str | None]) -> list[str | None]:
    """The texts, followed by what else belongs to each row's prompt: tools, and images by content."""
    tools, images = table["tools"], table["images"]
    if tools.null_count == len(tools) and images.null_count == len(images):
        return texts
    marked: list[str | None] = []
    for text, tool, pictures in zip(texts, tools.to_pylist(), images.to_pylist(), strict=True):
        seen = [f"image {picture['sha256'] or picture['path']}" for picture in pictures or ()]
        material = [*seen, *([] if tool is None else [f"tools {tool}"])]
        marked.append(None if text is None else SEPARATOR.join([text, *material]))
    return marked


def _characters(table: pa.Table, text: Text) -> np.ndarray:
    """Characters of the compared text before it is normalised, (N,) float32."""
    if text == "prompt":
        prompts = table["prompt"].combine_chunks()
        lengths = pc.fill_null(pc.utf8_length(pc.struct_field(prompts.flatten(), "content")), 0).to_numpy(zero_copy_only=False)
        parents = pc.list_parent_indices(prompts).to_numpy(zero_copy_only=False)
        return np.bincount(parents, weights=lengths, minlength=table.num_rows).astype(np.float32)
    total = np.zeros(table.num_rows, dtype=np.float32)
    for side in SIDES[text]:
        total += pc.fill_null(pc.utf8_length(table[side]), 0).to_numpy()
    return total


def _digests(keys: Iterable[str | None]) -> list[bytes | None]:
    import xxhash

    xxh3 = xxhash.xxh3_128_digest
    return [None if key is None else xxh3(key.encode()) for key in keys]


def _words(digest: pa.FixedSizeBinaryArray) -> np.ndarray:
    """The digests as (N, 2) uint64; whatever stands there for a null."""
    words = np.frombuffer(digest.buffers()[1] or b"", dtype="<u8")
    start = digest.offset * 2
    return words[start : start + 2 * len(digest)].reshape(-1, 2)


def _winners(words_N2: np.ndarray, rank: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each row the one of its group that stays, and the size of its group, both (N,).

    words_N2: equal rows form a group. rank: the highest stays, the first of equals.
    """
    import polars as pl

    frame = pl.DataFrame({"high": words_N2[:, 0], "low": words_N2[:, 1]})
    copies = frame.select(pl.len().over("high", "low")).to_series().to_numpy().astype(np.int32)
    winner = np.arange(len(rank))
    repeated = np.flatnonzero(copies > 1)
    high, low = words_N2[repeated, 0], words_N2[repeated, 1]
    order = np.lexsort((-rank[repeated], low, high))  # stable: of equal ranks the first row stays first
    high, low, rows = high[order], low[order], repeated[order]
    begins = np.ones(len(rows), dtype=bool)
    begins[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
    winner[rows] = rows[begins][np.cumsum(begins) - 1]
    return winner, copies


# -- normal forms


def _normal_form(normalise: bool | Normal) -> Callable[[str], str] | None:
    return {"none": None, "whitespace": one_space, "text": plain_words}[str(normalise)]


def one_space(text: str) -> str:
    """The text with every run of whitespace as one space, none at the ends."""
    return " ".join(text.split())


OPERATOR = re.compile(r"(\d) +([*/\u2010-\u2015-]) +(?=\d)")
GAP = re.compile(r"(\d)\s+(?=\d)")


def plain_words(text: str) -> str:
    """The text without case, compatibility forms, punctuation and spaces; a text of punctuation alone keeps it.

    What changes a number stays: a mark between digits (1.5, 3/4, 2 * 3), a minus before a digit, a percent sign after one,
    a space between digits (1 2). Symbols such as +, $ and emoji are no punctuation (Unicode category P), but arrows and
    code quotes, which merely set text out, are.
    """
    folded = text.casefold() if text.isascii() else _folded(text)
    words = _punctuation().sub("", OPERATOR.sub(r"\1\2", folded))
    return "".join(GAP.sub(r"\1_", words).split()) or one_space(folded)


def _folded(text: str) -> str:
    """NFKC and case-folded; raised, lowered and fraction digits stay, since 10² is not 102."""
    pieces = _small_digits().split(text)  # every second piece is such a run
    pieces[::2] = [unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", piece).casefold()) for piece in pieces[::2]]
    return "".join(pieces)


@lru_cache(maxsize=1)
def _small_digits() -> re.Pattern[str]:
    numbers = [c for c in map(chr, range(PUNCTUATED)) if unicodedata.category(c) == "No"]
    small = [c for c in numbers if unicodedata.decomposition(c).startswith(("<super>", "<sub>", "<fraction>"))]
    return re.compile(f"([{''.join(small)}]+)")


@lru_cache(maxsize=1)
def _punctuation() -> re.Pattern[str]:
    """Punctuation that may be dropped without changing a number."""
    marks = [c for c in map(chr, range(PUNCTUATED)) if unicodedata.category(c)[0] == "P" or c in SETTING_OUT]
    minus = "".join(mark for mark in marks if unicodedata.category(mark) == "Pd")
    percent = "%‰٪"
    other = "".join(mark for mark in marks if mark not in minus and mark not in percent)
    # one set of characters first, which is what lets the search skip along the text; then which of them, and where
    return re.compile(
        rf"[{re.escape(''.join(marks))}](?:(?<=[{re.escape(other)}])(?:(?!\d)|(?<!\d.))"
        rf"|(?<=[{re.escape(minus)}])(?:(?!\d)|(?<=[^\W\d].))"
        rf"|(?<=[{percent}])(?<!\d.))",
        re.DOTALL,
    )
