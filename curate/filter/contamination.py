"""Find rows that hold items of held-out sets: what a model is tested on must not be what it is trained on."""

import gzip
import json
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pyarrow as pa
from pydantic import Field

from curate import tables
from curate.errors import DataError
from curate.filter.texts import DEFAULT_TEXT, ROW_ID, Text, columns_of, grain_of, texts_of
from curate.maths.shingles import Sets, plain, ranges, shingle_sets
from curate.operator import RunsOn, ShardOperator
from curate.tables import Grain

FIELDS = ("question", "prompt", "instruction", "problem", "text", "content", "input")
"""Fields looked for in a held-out file, the first it has, unless `field` names one."""
ALL = 1 << 31
QUOTED = 240  # characters of a quotation
WORDS = re.compile(r"\w+")


class Held(NamedTuple):
    """A held-out set, ready to be looked up."""

    texts: tuple[str, ...]
    hashes: np.ndarray
    """(M,) uint32, ascending: runs of words of all items."""
    item_of: np.ndarray
    """(M,) int64: the item of each."""
    sizes: np.ndarray
    """Runs of each item."""


class Hit(NamedTuple):
    """A held-out item that a row holds."""

    share: float
    """Of the item's runs of words, how many the row holds."""
    held: str
    item: int
    quote: str
    """Words that both have, as the item has them."""


class Contamination(ShardOperator):
    """Flag rows that hold items of held-out sets, whole or in good part.

    Evidence `overlap`: the greatest share of an item's runs of `words` words that the row holds, over all items of all sets; 0
    if it holds none, null where there is no text. A flag's reason names the set, its `other` the item (from 1) and quotes what
    they share. An item of fewer words is found only where it is the row's whole text. Case, spacing and punctuation never count.
    """

    takes: ClassVar[tuple[Grain, ...]] = ("prompts", "responses", "pairs")

    against: dict[str, Path] = Field(
        min_length=1, description="Held-out sets: a name for each, and its file (JSON lines, packed by gzip or not, or Parquet)."
    )
    field: str | None = Field(default=None, description="The field of the files that holds an item's text; found if not given.")
    column: Text | None = Field(default=None, description="Text searched. Default by grain: prompt, response, pair.")
    words: int = Field(default=8, ge=2, le=64, description="Words of a run that counts as shared.")
    threshold: float = Field(default=0.5, gt=0, le=1, description="Share of an item's runs from which on a row is flagged.")

    @property
    def runs_on(self) -> RunsOn:
        """Columns of numbers."""
        return "thread"

    def reads(self, grain: Grain) -> set[str]:
        """The searched text."""
        return columns_of(self.column or DEFAULT_TEXT[grain]) | {ROW_ID[grain]}

    def writes(self, grain: Grain) -> set[str]:
        """The measure and the flags."""
        return {f"evidence.{self.name}.overlap", "flags"}

    def files(self) -> set[str]:
        """The held-out sets."""
        return {str(path) for path in self.against.values()}

    def __call__(self, table: pa.Table, /) -> pa.Table:
        """`overlap` as evidence, and a flag with a quotation."""
        texts = texts_of(table, self.column or DEFAULT_TEXT[grain_of(table)])
        found = self._hits(texts)
        overlap = np.array([hit.share if hit else np.nan if text is None else 0 for text, hit in zip(texts, found, strict=True)])
        overlap = overlap.astype(np.float32)
        flagged = np.nan_to_num(overlap) >= np.float32(self.threshold)
        reasons = pa.array([f"in {hit.held}" if hit else None for hit in found], pa.string())
        quotes = pa.array([f"item {hit.item}: {hit.quote}" if hit else None for hit in found], pa.string())
        flags = tables.add_flags(table, flagged, self.name, reasons, overlap, quotes)
        return pa.table({"evidence": tables.add_evidence(table, overlap, self.name, "overlap"), "flags": flags})

    def _hits(self, texts: list[str | None]) -> list[Hit | None]:
        """Per row the item it holds the greatest share of; the first set of equals."""
        best: list[Hit | None] = [None] * len(texts)
        sets = shingle_sets(texts, "word", self.words, ALL)
        for name, path in self.against.items():
            held = held_out(str(path), self.field, self.words, path.stat().st_mtime_ns)
            for row, item, share in zip(*_most_shared(sets, held), strict=True):
                before = best[row]
                if (before is None or share > before.share) and (
                    quote := shared_words(str(texts[row]), held.texts[item], self.words)
                ):
                    best[row] = Hit(share, name, item + 1, quote)
        return best


def _most_shared(sets: Sets, held: Held) -> tuple[list[int], list[int], list[float]]:
    """Rows that share a run with an item, the item of which each shares the greatest part, and that part."""
    low, high = (np.searchsorted(held.hashes, sets.hashes, side) for side in ("left", "right"))
    rows = np.repeat(np.repeat(np.arange(len(sets.starts) - 1), sets.sizes()), high - low)
    items = held.item_of[ranges(low, high - low)]
    pairs, counts = np.unique(rows * max(len(held.texts), 1) + items, return_counts=True)
    rows, items = np.divmod(pairs, max(len(held.texts), 1))
    share = counts / held.sizes[items]
    order = np.lexsort((items, -share, rows))
    rows, items, share = rows[order], items[order], share[order]
    first = np.r_[True, rows[1:] != rows[:-1]] if len(rows) else np.zeros(0, bool)
    return rows[first].tolist(), items[first].tolist(), share[first].tolist()


@lru_cache(maxsize=16)
def held_out(path: str, field: str | None, words: int, changed: int) -> Held:
    """A held-out file. changed: when the file was (nanoseconds), so that another content is read anew."""
    texts = tuple(_texts(Path(path), field))
    sets = shingle_sets(texts, "word", words, ALL)
    item_of = np.repeat(np.arange(len(texts)), sets.sizes())
    order = np.argsort(sets.hashes, kind="stable")
    return Held(texts, sets.hashes[order], item_of[order], sets.sizes())


def _texts(path: Path, field: str | None) -> Iterator[str]:
    for place, row in enumerate(_rows(path), 1):
        names = [field] if field else [name for name in FIELDS if isinstance(row.get(name), str)]
        value = row.get(names[0]) if names else None
        if not isinstance(value, str):
            told = f"no field {field}" if field else f"none of the fields {', '.join(FIELDS)}"
            raise DataError(f"{path}, row {place}: {told} holds a text; `field` names the one that does. It has {', '.join(row)}")
        yield value


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        yield from (row for batch in pq.ParquetFile(path).iter_batches() for row in batch.to_pylist())
        return
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise DataError(f"{path}, line {number}: not JSON ({error})") from error
            if not isinstance(row, dict):
                raise DataError(f"{path}, line {number}: should be a JSON object")
            yield row


def shared_words(text: str, item: str, words: int) -> str:
    """The longest run of words of the item that the text has too, as the item has it, cut at QUOTED characters; "" if none.

    A run of fewer than `words` words counts only where it is all of the item.
    """
    spots = list(WORDS.finditer(item))
    theirs, ours = [plain(spot[0]) for spot in spots], [plain(word) for word in WORDS.findall(text)]
    size = min(words, len(theirs))
    if not size:
        return item.strip()[:QUOTED] if plain(item).split() == plain(text).split() else ""
    places: dict[tuple[str, ...], list[int]] = {}
    for at in range(len(ours) - size + 1):
        places.setdefault(tuple(ours[at : at + size]), []).append(at)
    begin, longest = 0, 0
    for at in range(len(theirs) - size + 1):
        for place in places.get(tuple(theirs[at : at + size]), ()):
            length = size
            while at + length < len(theirs) and place + length < len(ours) and theirs[at + length] == ours[place + length]:
                length += 1
            if length > longest:
                begin, longest = at, length
    return item[spots[begin].start() : spots[begin + longest - 1].end()][:QUOTED] if longest else ""
