"""Find rows that hold items of held-out sets: what a model is tested on must not be what it is trained on."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, NamedTuple, Self

import numpy as np
import pyarrow as pa
from pydantic import Field, PrivateAttr

from curate import tables
from curate.filter import held_out
from curate.filter.held_out import Place, Where
from curate.filter.texts import DEFAULT_TEXT, ROW_ID, Text, columns_of, grain_of, texts_of
from curate.maths.nearest import nearest
from curate.maths.shingles import Sets, plain, ranges, shingle_sets
from curate.models.asking import Models
from curate.models.operator import ModelOperator
from curate.operator import RunsOn
from curate.store.versions import Version
from curate.tables import Grain

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

    value: float
    """Of the item's runs of words, the share that the row holds; or the cosine of row and item."""
    held: str
    item: int
    """From 1."""
    quote: str
    """Words that both have, as the item has them; or the item's own."""


class Contamination(ModelOperator):
    """Flag rows that hold items of held-out sets, whole or in good part, and with a model those that say the same otherwise.

    Evidence `overlap`: the greatest share of an item's runs of `words` words that the row holds, over all items of all sets; 0
    if it holds none, null where there is no text. An item of fewer words is found only where it is the row's whole text. Case,
    spacing and punctuation never count. With a model, evidence `similarity`: the greatest cosine of the row's text and an item,
    each as a whole, so an item within a longer text is found by its words alone. A `hashing` model is lexical: it finds words
    and spelling, no meaning.

    A flag's reason names the set: `in` it by its words, else `like` one of its items; its `other` the item (from 1), with a
    quotation.
    """

    version: ClassVar[int] = 2
    takes: ClassVar[tuple[Grain, ...]] = ("prompts", "responses", "pairs")

    against: dict[str, Where] = Field(
        min_length=1,
        description="Held-out sets: a name for each, and its file (JSON lines, packed by gzip or not, or Parquet), its dataset "
        "folder, {hf: owner/name, revision: commit, split: test} on the hub, or an earlier version such as name@v3, whose "
        "prompts are taken.",
    )
    field: str | None = Field(
        default=None, description="The field of files and datasets that holds an item's text; found if not given."
    )
    column: Text | None = Field(default=None, description="Text searched. Default by grain: prompt, response, pair.")
    words: int = Field(default=8, ge=2, le=64, description="Words of a run that counts as shared.")
    threshold: float = Field(default=0.5, gt=0, le=1, description="Share of an item's runs from which on a row is flagged.")
    model: str | None = Field(
        default=None, min_length=1, description="An embedding model, by its key under `models`, to find reworded items, too."
    )
    similarity: float = Field(default=0.8, gt=0, le=1, description="With a model: cosine from which on a row is flagged.")

    _versions: Mapping[str, Version] = PrivateAttr(default_factory=dict)

    def with_versions(self, versions: Sequence[Version]) -> Self:
        """A copy that can read the versions it names, in the order of `versions`."""
        ready = self.model_copy()
        ready._versions = dict(zip(self.versions(), versions, strict=True))
        return ready

    def with_models(self, models: Models) -> Self:
        """A copy that can call its model; itself if it has none, so that it may be handed to another process."""
        return super().with_models(models) if self.model else self

    @property
    def runs_on(self) -> RunsOn:
        """Columns of numbers, unless a model is waited for."""
        return "wait" if self.model else "thread"

    def models(self) -> set[str]:
        """The embedding model."""
        return {self.model} if self.model else set()

    def calls(self, rows: int) -> int:
        """A text a row, with a model."""
        return rows if self.model else 0

    def reads(self, grain: Grain) -> set[str]:
        """The searched text."""
        return columns_of(self.column or DEFAULT_TEXT[grain]) | {ROW_ID[grain]}

    def writes(self, grain: Grain) -> set[str]:
        """The measures and the flags."""
        return {f"evidence.{self.name}.{measure}" for measure in ("overlap", *(["similarity"] if self.model else []))} | {"flags"}

    def files(self) -> set[str]:
        """The files of the held-out sets."""
        return {str(file) for where in self.against.values() if isinstance(where, Path) for file in held_out.files_of(where)}

    def versions(self) -> list[str]:
        """The versions among the held-out sets."""
        return list(dict.fromkeys(where for where in self.against.values() if isinstance(where, str)))

    def __call__(self, table: pa.Table, /) -> pa.Table:
        """The measures as evidence, and a flag with a quotation."""
        texts = texts_of(table, self.column or DEFAULT_TEXT[grain_of(table)])
        sets = {name: self._held(where) for name, where in self.against.items()}
        shared = _shared(texts, sets, self.words)
        measures = {"overlap": _values(shared, texts)}
        told = [("in", hit) if hit and np.float32(hit.value) >= np.float32(self.threshold) else None for hit in shared]
        if self.model:
            alike = self._alike(texts, sets)
            measures["similarity"] = _values(alike, texts)
            limit = np.float32(self.similarity)
            told = [one or (("like", hit) if hit and hit.value >= limit else None) for one, hit in zip(told, alike, strict=True)]
        return pa.table({"evidence": self._evidence(table, measures), "flags": self._flags(table, told)})

    def _held(self, where: Where) -> Held:
        place = self._versions[where] if isinstance(where, str) else where
        return held_set(place, self.field, self.words, held_out.changed(place))

    def _alike(self, texts: Sequence[str | None], sets: Mapping[str, Held]) -> list[Hit | None]:
        """Per row the item that is nearest to it; the first set of equals."""
        best: list[Hit | None] = [None] * len(texts)
        rows = [row for row, text in enumerate(texts) if text is not None]
        embed = self.called.embed(str(self.model))
        vectors = embed.encode([str(texts[row]) for row in rows])
        for name, held in sets.items():
            if not held.texts or not rows:
                continue
            found, cosines = nearest(vectors, embed.encode(held.texts))
            for row, item, cosine in zip(rows, found.tolist(), cosines.tolist(), strict=True):
                before = best[row]
                if before is None or cosine > before.value:
                    best[row] = Hit(cosine, name, item + 1, held.texts[item].strip()[:QUOTED])
        return best

    def _evidence(self, table: pa.Table, measures: Mapping[str, np.ndarray]) -> pa.Array:
        evidence = tables.flat(table["evidence"])
        for measure, values in measures.items():
            evidence = tables.add_evidence(pa.table({"evidence": evidence}), values, self.name, measure)
        return evidence

    def _flags(self, table: pa.Table, told: Sequence[tuple[str, Hit] | None]) -> pa.Array:
        """A flag on each row of which a way and a hit is told."""
        flagged = np.array([one is not None for one in told], bool)
        values = np.array([one[1].value if one else np.nan for one in told], np.float32)
        reasons = pa.array([f"{one[0]} {one[1].held}" if one else None for one in told], pa.string())
        quotes = pa.array([f"item {one[1].item}: {one[1].quote}" if one else None for one in told], pa.string())
        return tables.add_flags(table, flagged, self.name, reasons, values, quotes)


def _values(hits: Sequence[Hit | None], texts: Sequence[str | None]) -> np.ndarray:
    """What was found of each row, (N,) float32: 0 for nothing, NaN where there is no text."""
    found = [np.nan if text is None else hit.value if hit else 0.0 for hit, text in zip(hits, texts, strict=True)]
    return np.array(found, np.float32)


def _shared(texts: Sequence[str | None], held_by: Mapping[str, Held], words: int) -> list[Hit | None]:
    """Per row the item it holds the greatest share of; the first set of equals."""
    best: list[Hit | None] = [None] * len(texts)
    sets = shingle_sets(texts, "word", words, ALL)
    for name, held in held_by.items():
        for row, item, share in zip(*_most_shared(sets, held), strict=True):
            before = best[row]
            if (before is None or share > before.value) and (quote := shared_words(str(texts[row]), held.texts[item], words)):
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
def held_set(place: Place, field: str | None, words: int, changed: int) -> Held:
    """A held-out set. changed: when its content was (nanoseconds), so that another one is read anew."""
    texts = held_out.texts_of(place, field)
    sets = shingle_sets(texts, "word", words, ALL)
    item_of = np.repeat(np.arange(len(texts)), sets.sizes())
    order = np.argsort(sets.hashes, kind="stable")
    return Held(texts, sets.hashes[order], item_of[order], sets.sizes())


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
