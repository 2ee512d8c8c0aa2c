"""The figures of a version, each column read once: counts, scores, lengths, models, licences, and the funnel of its steps."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import tables
from curate.maths import effect
from curate.publish.layout import Layout
from curate.publish.noise_figures import Noise, noise_figures
from curate.store import arrow
from curate.tables import Grain

GRAINS: tuple[Grain, ...] = ("prompts", "responses", "pairs")
ROW_ID: dict[str, str] = {"prompts": "prompt_id", "responses": "response_id", "pairs": "pair_id"}
SIDES: dict[str, tuple[str, ...]] = {"prompts": (), "responses": ("response",), "pairs": ("chosen", "rejected")}
SIDE_OF = {"chosen_scores": "chosen", "rejected_scores": "rejected", "scores": ""}
KINDS = ("source", "domain", "license", "origin", "goal", "finish_reason", "stage")
"""Columns of few values, which are counted."""
BINS = 32
MANY = 5_000  # distinct values that are counted one by one; a column with more is no category


@dataclass(frozen=True)
class Distribution:
    """Some numbers: how many, around what, and how they spread. NaN where there are none."""

    n: int
    mean: float
    sd: float
    quartiles: tuple[float, float, float, float, float]
    """Minimum, lower quartile, median, upper quartile, maximum."""
    bins: tuple[int, ...]
    """Numbers in each of the equal steps between the edges."""


@dataclass(frozen=True)
class Compared:
    """Distributions of the same measure on one or both sides of the pairs, over the same edges."""

    name: str
    edges: tuple[float, ...]
    sides: dict[str, Distribution]
    """By side: chosen and rejected; "" for a measure of the row itself."""
    logarithmic: bool = False

    @property
    def effect(self) -> float | None:
        """Cohen's d, chosen minus rejected in pooled standard deviations; None unless both sides vary."""
        chosen, rejected = self.sides.get("chosen"), self.sides.get("rejected")
        return cohens_d(chosen, rejected) if chosen and rejected else None


@dataclass(frozen=True)
class Step:
    """What one step did to the rows."""

    name: str
    operator: str
    grain: Grain
    makes: Grain | None
    rows_in: int
    kept: int
    dropped: dict[str, int]
    made: int | None
    cut: Mapping[str, Any] | None
    line: int | None

    @property
    def lost(self) -> int:
        """Rows it dropped, for whatever reason."""
        return sum(self.dropped.values())


@dataclass(frozen=True)
class Figures:
    """What there is to say in numbers about a version."""

    grain: Grain
    rows: int
    splits: dict[str, int]
    prompts: int | None
    """Distinct prompts among the kept rows."""
    other_rows: dict[str, int]
    """Rows of the other folders: responses, dropped/pairs, ..."""
    funnel: tuple[Step, ...]
    scores: tuple[Compared, ...]
    measures: tuple[Compared, ...]
    """Margin, label_prob, weight and difficulty, those that are there."""
    lengths: Compared | None
    """Characters of each side."""
    longer_chosen: float | None
    """Share of pairs whose chosen side has more characters; ties count half."""
    models: dict[str, Counter[str | None]]
    """By side, "" for responses: rows by the model that wrote them."""
    kinds: dict[str, Counter[str | None]]
    """By column of KINDS: rows by value; None counts rows that have none."""
    noise: tuple[Noise, ...] = ()
    """What steps tell about wrong labels, in their order."""
    rejects: dict[str, Any] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    """Columns of the product's files."""
    characters: dict[str, np.ndarray] = field(default_factory=dict, repr=False)
    """By side: characters of each row's text, float32; NaN where it has none."""
    prompt_ids: pa.Array = field(default_factory=lambda: pa.array([], pa.string()), repr=False)
    """The distinct prompts among the kept rows."""

    @property
    def dropped(self) -> int:
        """Rows of the product's grain that were dropped."""
        return self.other_rows.get(f"dropped/{self.grain}", 0)


def cohens_d(first: Distribution, second: Distribution) -> float | None:
    """Cohen's d for two groups, first minus second in pooled standard deviations. None without spread."""
    return effect.cohens_d(_spread(first), _spread(second))


def _spread(numbers: Distribution) -> effect.Spread:
    return effect.Spread(numbers.n, numbers.mean, numbers.sd**2 * (numbers.n - 1))


def compare(name: str, values: Mapping[str, np.ndarray], logarithmic: bool = False) -> Compared:
    """The distributions of some groups of numbers over common edges; NaN is no number."""
    present = {side: v[np.isfinite(v)].astype(np.float64) for side, v in values.items()}
    filled = [v for v in present.values() if len(v)]
    edges = _edges(min(v.min() for v in filled), max(v.max() for v in filled), logarithmic) if filled else np.empty(0)
    sides = {side: _distribution(v, edges) for side, v in present.items()}
    return Compared(name, tuple(float(edge) for edge in edges), sides, logarithmic)


def _edges(low: float, high: float, logarithmic: bool) -> np.ndarray:
    if logarithmic:
        low, high = max(low, 1.0), max(high, 2.0)
        return np.geomspace(low, high if high > low else 2 * low, BINS + 1)
    if high <= low:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, BINS + 1)


def _distribution(values: np.ndarray, edges: np.ndarray) -> Distribution:
    if not len(values):
        return Distribution(0, np.nan, np.nan, (np.nan,) * 5, ())
    quartiles = np.quantile(values, [0, 0.25, 0.5, 0.75, 1])
    sd = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    bins = np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0]
    a, b, c, d, e = (float(q) for q in quartiles)
    return Distribution(len(values), float(values.mean()), sd, (a, b, c, d, e), tuple(int(count) for count in bins))


# -- reading a version


@dataclass(frozen=True)
class Files:
    """The Arrow files of one table of a version, read by column and batch."""

    paths: tuple[Path, ...]

    @cached_property
    def schema(self) -> pa.Schema:
        """Its columns; none where it has no file."""
        if not self.paths:
            return pa.schema([])
        with pa.memory_map(str(self.paths[0])) as source:
            return pa.ipc.open_file(source).schema

    @cached_property
    def rows(self) -> int:
        """Its rows, from the files' metadata."""
        total = 0
        for path in self.paths:
            with pa.memory_map(str(path)) as source:
                total += pa.ipc.open_file(source).count_rows()
        return total

    def batches(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Batches of at most 4,096 rows with those of the columns that are there."""
        wanted = [name for name in columns if name in self.schema.names]
        for path in self.paths:
            yield from arrow.batches(path, wanted)

    def numbers(self, column: str) -> np.ndarray:
        """A numeric column as float32, NaN for null."""
        parts = [_floats(batch[column]) for batch in self.batches([column])]
        return np.concatenate(parts) if parts else np.empty(0, np.float32)


def _floats(column: pa.ChunkedArray) -> np.ndarray:
    values: np.ndarray = column.cast(pa.float32()).to_numpy()
    return values


def files_of(folder: Path, table: str, split: str | None = None) -> Files:
    """The files of a table (`pairs`, `responses`, `dropped/pairs`) of a version's folder; split: of that split only."""
    parent, _, name = table.partition("/")
    stem = name or split
    found = sorted((folder / parent).glob("*.arrow"))
    return Files(tuple(path for path in found if path.is_file() and (stem is None or path.stem.rpartition("-")[0] == stem)))


def table_names(folder: Path, grain: str) -> list[str]:
    """The tables a version has, the product first."""
    others = [g for g in GRAINS if g != grain]
    names = [grain, *others, *(f"dropped/{g}" for g in (grain, *others))]
    return [name for name in names if name == grain or files_of(folder, name).paths]


def contents(messages: pa.Array | pa.ChunkedArray) -> pa.Array:
    """The contents of each row's messages as one text, blank lines between; null where the row has none."""
    lists = tables.flat(messages)
    texts = pc.fill_null(pc.struct_field(lists.flatten(), "content"), "")
    counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
    joined = pc.binary_join(pa.ListArray.from_arrays(offsets, texts), "\n\n")
    return pc.if_else(lists.is_valid(), joined, pa.scalar(None, pa.string()))


def texts_of(batch: pa.Table, column: str) -> pa.Array:
    """A text or message column as text."""
    return contents(batch[column]) if pa.types.is_list(batch[column].type) else tables.flat(batch[column])


def flat_scores(folder: Path, manifest: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """(score column, flat column, rater, aspect) of the product's flat score columns."""
    grain = manifest["grain"]
    present = files_of(folder, grain).schema.names
    own = tuple(name for name in present if name in tables.SCHEMAS[grain].names)
    raters = {column: [(rater, aspect) for rater, aspect in pairs] for column, pairs in manifest.get("raters", {}).items()}
    found = Layout(grain, own, tables.MESSAGE, raters).flat_scores()
    return [entry for entry in found if entry[1] in present]


def steps_of(manifest: Mapping[str, Any]) -> tuple[Step, ...]:
    """The funnel: the source step first, rejected rows counted among its dropped ones."""
    names = ("name", "operator", "grain", "makes", "rows_in", "kept", "dropped", "made", "cut", "line")
    return tuple(Step(**{name: entry.get(name) for name in names}) for entry in manifest["steps"])


def figures(folder: Path, manifest: Mapping[str, Any]) -> Figures:
    """All figures of a version, in memory of a few columns of numbers."""
    grain: Grain = manifest["grain"]
    files = files_of(folder, grain)
    scan = _scan(files, grain)
    return Figures(
        grain=grain,
        rows=files.rows,
        splits=dict(manifest["splits"]),
        prompts=len(scan.prompt_ids),
        other_rows={name: files_of(folder, name).rows for name in table_names(folder, grain)[1:]},
        funnel=steps_of(manifest),
        scores=_scores(folder, manifest),
        measures=_measures(files),
        lengths=compare("characters", scan.lengths, logarithmic=True) if scan.lengths else None,
        longer_chosen=_longer(scan.lengths),
        models=scan.models,
        kinds=scan.kinds,
        noise=_noise(folder, manifest),
        rejects=manifest.get("rejects", {}),
        columns=tuple(files.schema.names),
        characters=scan.lengths,
        prompt_ids=scan.prompt_ids,
    )


def _noise(folder: Path, manifest: Mapping[str, Any]) -> tuple[Noise, ...]:
    if manifest["grain"] != "pairs":
        return ()
    kept, dropped = (files_of(folder, name).batches for name in ("pairs", "dropped/pairs"))
    return noise_figures(kept, dropped, manifest["steps"])


def _scores(folder: Path, manifest: Mapping[str, Any]) -> tuple[Compared, ...]:
    files = files_of(folder, manifest["grain"])
    by_rater: dict[tuple[str, str], dict[str, str]] = {}
    for column, flat, rater, aspect in flat_scores(folder, manifest):
        by_rater.setdefault((rater, aspect), {})[SIDE_OF[column]] = flat
    named = {f"{rater} · {aspect}" if aspect else rater: sides for (rater, aspect), sides in by_rater.items()}
    return tuple(compare(name, {side: files.numbers(flat) for side, flat in sides.items()}) for name, sides in named.items())


def _measures(files: Files) -> tuple[Compared, ...]:
    present = [name for name in ("margin", "label_prob", "weight", "difficulty") if name in files.schema.names]
    found = [compare(name, {"": files.numbers(name)}) for name in present]
    return tuple(measure for measure in found if measure.sides[""].n)


def _longer(lengths: Mapping[str, np.ndarray]) -> float | None:
    if "chosen" not in lengths or not len(lengths["chosen"]):
        return None
    gap = lengths["chosen"] - lengths["rejected"]
    gap = gap[np.isfinite(gap)]
    return float(((gap > 0) + 0.5 * (gap == 0)).mean()) if len(gap) else None


@dataclass
class _Scan:
    """What one pass over the texts and names finds."""

    lengths: dict[str, np.ndarray]
    models: dict[str, Counter[str | None]]
    kinds: dict[str, Counter[str | None]]
    prompt_ids: pa.Array


def _scan(files: Files, grain: Grain) -> _Scan:
    lengths: dict[str, list[np.ndarray]] = {side: [] for side in SIDES[grain] if side in files.schema.names}
    models = {side: Counter[str | None]() for side in _model_columns(files)}
    kinds = {name: Counter[str | None]() for name in KINDS if name in files.schema.names}
    prompts: list[pa.Array] = []
    for batch in files.batches([*lengths, *_model_columns(files).values(), *kinds, "prompt_id"]):
        for side, parts in lengths.items():
            parts.append(_floats(pa.chunked_array([pc.utf8_length(texts_of(batch, side))])))
        for side, counter in models.items():
            _count(counter, batch[_model_columns(files)[side]])
        for name, counter in kinds.items():
            _count(counter, batch[name])
        prompts.append(pc.unique(batch["prompt_id"]))
    found = {side: np.concatenate(parts) if parts else np.empty(0, np.float32) for side, parts in lengths.items()}
    few = {name: counter for name, counter in kinds.items() if len(counter) <= MANY}
    distinct = pc.unique(pa.chunked_array(prompts, pa.string()))
    return _Scan(found, models, few, distinct)


def _model_columns(files: Files) -> dict[str, str]:
    columns = {"chosen": "chosen_model", "rejected": "rejected_model", "": "model"}
    return {side: column for side, column in columns.items() if column in files.schema.names}


def _count(counter: Counter[str | None], column: pa.ChunkedArray) -> None:
    if len(counter) > MANY:
        return
    for entry in pc.value_counts(tables.flat(column)).to_pylist():
        value = entry["values"]
        counter[value if value is None else str(value)] += entry["counts"]


def ranked(counter: Mapping[str | None, int], most: int | None = None) -> list[tuple[str | None, int]]:
    """Values by falling count, equal counts by name."""
    return sorted(counter.items(), key=lambda item: (-item[1], item[0] or ""))[:most]
