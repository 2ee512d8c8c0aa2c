"""Every metric of a version under one flat name: what gates are held against, and what the manifest keeps.

Metrics speak of the kept rows, but for two kinds. Those of votes count every pair that was voted on, the dropped ones too: a
judge that flips does not get better because what it flipped on was dropped. Those of steps count what the step saw. A
metric that cannot be told of a version is None. Numbers are rounded to six significant digits, so that what is shown is
what is judged.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import tables
from curate.maths import detectors
from curate.publish.figures import Figures, Files, compare, figures, files_of, flat_scores
from curate.publish.metric_names import COST, FAULTS, MEASURES, SIDE_OF, STATIC, TEXTS
from curate.publish.noise_figures import leading
from curate.store.versions import Version
from curate.tables import Grain

Metrics = dict[str, float | None]
DIGITS = 6
CLASSES = 10  # tenths: a drift of numbers compares shares of so many classes


class Asked(NamedTuple):
    """What the models of a step were asked."""

    errors: int
    """Rows that have no answer."""
    rows: int


def metrics(
    folder: Path, manifest: Mapping[str, Any], found: Figures, asked: Mapping[str, Asked], before: Version | None
) -> Metrics:
    """All metrics of the version in a folder, by name.

    asked: by step that asks models. before: the last numbered version; None for the first, of which every drift is None.
    """
    grain: Grain = manifest["grain"]
    series = dict(_series(folder, manifest))
    evidence = _evidence_means(folder, grain)
    exchanged = _exchanged(folder) if grain == "pairs" else np.zeros(found.rows, dtype=bool)
    told = dict.fromkeys((name for name, about in STATIC.items() if grain in about.grains and name != COST))
    told |= _rows(found) | _steps(found, asked) | _lengths(found, exchanged) | _measures(found) | _faults(manifest, series)
    told |= _of_series(series, exchanged) | _score_errors(folder, manifest)
    told |= {f"evidence_mean.{name}": value for name, value in evidence.items()}
    told |= {"top_model_share": _top_share(found)} if grain in TEXTS else {}
    if grain == "pairs":
        told |= _votes(folder) | {"noise": _noise(found, evidence)} | _noise_around(found)
    if before is not None:
        told |= _drift(folder, manifest, found, series, before)
    return {name: rounded(told[name]) for name in sorted(told)}


def rounded(value: float | None) -> float | None:
    """The number as it is kept: whole ones as they are, others to six significant digits; None for what is none."""
    if value is None or isinstance(value, int):
        return value
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


def share(part: float, whole: float) -> float | None:
    """A part of a whole; None where there is no whole."""
    return part / whole if whole else None


# -- rows and steps


def _rows(found: Figures) -> Metrics:
    kept: float | None = 1.0
    for step in found.funnel:
        of_step = share(step.kept, step.rows_in)
        kept = None if kept is None or of_step is None else kept * of_step
    splits: Metrics = {f"rows_{split}": found.splits.get(split, 0) for split in {"train", "validation", "test", *found.splits}}
    rejected = share(found.rejects.get("rejected", 0), found.rejects.get("read", 0))
    duplicates = [step for step in found.funnel if step.operator.endswith("duplicate")]
    dropped = share(sum(step.lost for step in duplicates), sum(step.rows_in for step in duplicates))
    about: Metrics = {"rows": found.rows, "prompts": found.prompts, "kept_share": kept, "rejected_share": rejected}
    return about | splits | {"duplicate_share": dropped}


def _steps(found: Figures, asked: Mapping[str, Asked]) -> Metrics:
    told: Metrics = {}
    for step in found.funnel:
        told[f"kept_share.{step.name}"] = share(step.kept, step.rows_in)
        told[f"dropped_share.{step.name}"] = share(step.lost, step.rows_in)
        told[f"dropped.{step.name}"] = step.lost
        told |= {f"dropped.{step.name}.{reason}": count for reason, count in step.dropped.items()}
        if step.made is not None:
            told[f"made.{step.name}"] = step.made
    told |= {f"error_share.{name}": share(errors, rows) or 0.0 for name, (errors, rows) in asked.items()}
    errors, rows = (sum(column) for column in zip((0, 0), *asked.values(), strict=True))
    return told | {"error_share": share(errors, rows) or 0.0}


def _exchanged(folder: Path) -> np.ndarray:
    """Which pairs have their sides exchanged for a lower goal: the worse one is chosen, as it should be."""
    parts = [pc.equal(batch["origin"], "goal_rejected") for batch in files_of(folder, "pairs").batches(["origin"])]
    found = [pc.fill_null(part, False).to_numpy() for part in parts]
    return np.concatenate(found) if found else np.zeros(0, dtype=bool)


def _lengths(found: Figures, exchanged: np.ndarray) -> Metrics:
    told: Metrics = {}
    for side, spread in (found.lengths.sides if found.lengths else {}).items():
        told[f"{side}_characters_mean" if side != "response" else "characters_mean"] = spread.mean
    if found.grain == "pairs" and found.lengths:
        told |= {"length_bias_d": found.lengths.effect, "longer_chosen_share": found.longer_chosen}
        observed = {side: values[~exchanged] for side, values in found.characters.items()}
        told["observed_length_bias_d"] = compare("characters", observed).effect
    return told


def _measures(found: Figures) -> Metrics:
    told: Metrics = {}
    for measure in found.measures:
        spread = measure.sides[""]
        told |= {f"{measure.name}_mean": spread.mean, f"{measure.name}_median": spread.quartiles[2]}
    return told


def _noise(found: Figures, evidence: Mapping[str, float | None]) -> float | None:
    probability = next((measure.sides[""].mean for measure in found.measures if measure.name == "label_prob"), None)
    estimated = next((value for name, value in evidence.items() if name.endswith(".noise")), None)
    return estimated if probability is None else 1 - probability


def _noise_around(found: Figures) -> Metrics:
    """Of the step that looks for wrong labels: before it, and of the kept pairs, with intervals."""
    noise = leading(found.noise)
    shares = {"before": noise.before, "after": noise.after} if noise else {}
    ends = {"": "value", "_low": "low", "_high": "high"}
    return {f"noise_{when}{end}": getattr(share, name) for when, share in shares.items() for end, name in ends.items()}


def _top_share(found: Figures) -> float | None:
    """Of the rows that tell their model."""
    counts = found.models.get("chosen" if found.grain == "pairs" else "", Counter())
    named = [count for model, count in counts.items() if model is not None]
    return share(max(named, default=0), sum(named))


# -- scores


Series = dict[tuple[str, str], dict[str, np.ndarray]]
"""By (rater, aspect) and side, "" for the row itself: float32, NaN where there is no score."""


def _series(folder: Path, manifest: Mapping[str, Any]) -> Series:
    files = files_of(folder, manifest["grain"])
    found: Series = {}
    for column, flat, rater, aspect in flat_scores(folder, manifest):
        found.setdefault((rater, aspect), {})[SIDE_OF[column]] = files.numbers(flat)
    return found


def _series_name(rater: str, aspect: str) -> str:
    return f"{rater}:{aspect}" if aspect else rater


def _mean(values: np.ndarray) -> float | None:
    present = values[np.isfinite(values)]
    return float(present.mean(dtype=np.float64)) if len(present) else None


def _of_series(series: Series, exchanged: np.ndarray) -> Metrics:
    told: Metrics = {}
    for (rater, aspect), sides in series.items():
        name = _series_name(rater, aspect)
        told |= {f"{side or 'score'}_mean.{name}": _mean(values) for side, values in sides.items()}
        if "chosen" in sides and "rejected" in sides:
            gap = sides["chosen"].astype(np.float64) - sides["rejected"]
            gap = gap[np.isfinite(gap) & ~exchanged]
            told[f"score_gap.{name}"] = _mean(gap)
            told[f"agreement.{name}"] = _mean((gap > 0) + 0.5 * (gap == 0))
    return told


def _faults(manifest: Mapping[str, Any], series: Series) -> Metrics:
    """Shares of texts with a fault that a features step measured; where several did, as the last one did."""
    steps = [step["name"] for step in manifest["steps"] if step["operator"] == "features"]
    told: Metrics = {}
    for step in steps:
        for measure, fault in FAULTS.items():
            sides = {side: _faulty(measure, values) for side, values in series.get((step, measure), {}).items()}
            told |= {f"{side}_{fault}_share": _mean(values) for side, values in sides.items() if side}
            if sides:
                told[f"{fault}_share"] = _mean(np.concatenate(list(sides.values())))
    return told


def _faulty(measure: str, values: np.ndarray) -> np.ndarray:
    """1 where the text has the fault, NaN where it could not be told."""
    wrong = values == 0 if measure == "language" else values >= (detectors.REPETITIVE if measure == "repetition" else 1)
    return np.where(np.isfinite(values), wrong, np.nan)


def _score_errors(folder: Path, manifest: Mapping[str, Any]) -> Metrics:
    errors = entries = 0
    for column in SIDE_OF:
        for scores in _entries(folder, (manifest["grain"],), column):
            error = pc.struct_field(scores, "error")
            errors, entries = errors + len(error) - error.null_count, entries + len(error)
    return {"score_error_share": share(errors, entries)}


def _evidence_means(folder: Path, grain: Grain) -> Metrics:
    """By "step.measure": the mean over the rows that have it."""
    sums: dict[str, tuple[float, int]] = {}
    for entries in _entries(folder, (grain,), "evidence"):
        listed = pa.table({name: pc.struct_field(entries, name) for name in ("by", "name", "value")})
        grouped = listed.group_by(["by", "name"], use_threads=False).aggregate([("value", "sum"), ("value", "count")])
        for row in grouped.to_pylist():
            name = f"{row['by']}.{row['name']}"
            total, count = sums.get(name, (0.0, 0))
            sums[name] = (total + (row["value_sum"] or 0.0), count + row["value_count"])
    return {name: share(total, count) for name, (total, count) in sorted(sums.items())}


# -- votes


@dataclass
class _Tally:
    """Votes of a rater, counted."""

    votes: int = 0
    errors: int = 0
    verdicts: int = 0
    ties: int = 0
    both: int = 0
    flips: int = 0

    def add(self, shown: np.ndarray, swapped: np.ndarray, errors: int) -> None:
        """Count votes: p_chosen and p_swapped both speak of the chosen side, NaN without a verdict."""
        leanings = [np.sign(side[np.isfinite(side)] - np.float32(0.5)) for side in (shown, swapped)]
        both = np.isfinite(shown) & np.isfinite(swapped)
        self.votes, self.errors = self.votes + len(shown), self.errors + errors
        self.verdicts += sum(map(len, leanings))
        self.ties += sum(int((leaning == 0).sum()) for leaning in leanings)
        self.both += int(both.sum())
        self.flips += int((np.sign(shown[both] - np.float32(0.5)) != np.sign(swapped[both] - np.float32(0.5))).sum())

    def told(self, of: str = "") -> Metrics:
        """The rates; of: "." and the rater, empty for all raters."""
        flips, ties, errors = share(self.flips, self.both), share(self.ties, self.verdicts), share(self.errors, self.votes)
        return {f"order_flip_rate{of}": flips, f"tie_rate{of}": ties, f"vote_error_share{of}": errors}


def _votes(folder: Path) -> Metrics:
    """Rates over the votes on kept and dropped pairs, of all raters and of each."""
    every, by_rater = _Tally(), dict[str, _Tally]()
    for votes in _entries(folder, ("pairs", "dropped/pairs"), "votes"):
        raters = pc.struct_field(votes, "rater")
        for rater in pc.unique(raters.drop_null()).to_pylist():
            mine = votes.filter(pc.equal(raters, rater))
            shown, swapped = (pc.struct_field(mine, name).to_numpy(zero_copy_only=False) for name in ("p_chosen", "p_swapped"))
            error = pc.struct_field(mine, "error")
            for tally in (every, by_rater.setdefault(rater, _Tally())):
                tally.add(shown, swapped, len(error) - error.null_count)
    told = every.told()
    for rater, tally in by_rater.items():
        told |= tally.told(f".{rater}")
    return told


def _entries(folder: Path, names: Iterable[str], column: str) -> Iterator[pa.StructArray]:
    """The entries of a list column in some tables, batch by batch."""
    for files in (files_of(folder, name) for name in names):
        if column in files.schema.names:
            for batch in files.batches([column]):
                yield tables.flat(batch[column]).flatten()


# -- drift


def _drift(folder: Path, manifest: Mapping[str, Any], found: Figures, series: Series, before: Version) -> Metrics:
    """How far the version is from the last one; nothing where that holds another kind of row."""
    grain = found.grain
    if before.manifest["grain"] != grain:
        return {}
    old = figures(before.path, before.manifest)
    still = pc.sum(pc.is_in(old.prompt_ids, found.prompt_ids)).as_py() or 0
    told: Metrics = {"drift.rows": share(found.rows - old.rows, old.rows)}
    told["drift.prompts_kept"] = share(still, len(old.prompt_ids))
    told |= {f"drift.{kind}": total_variation(_kinds(old, kind), _kinds(found, kind)) for kind in ("source", "domain")}
    if grain in TEXTS:
        told["drift.model"] = total_variation(_writers(old), _writers(found))
        told["drift.length"] = jensen_shannon(_pooled(old.characters), _pooled(found.characters))
    if grain == "pairs":
        told |= {
            f"drift.{name}": _measure_drift(files_of(before.path, grain), files_of(folder, grain), name) for name in MEASURES
        }
    earlier = _series(before.path, before.manifest)
    for key in sorted(earlier.keys() & series.keys()):
        told[f"drift.score.{_series_name(*key)}"] = jensen_shannon(_pooled(earlier[key]), _pooled(series[key]))
    return told


def _measure_drift(old: Files, new: Files, name: str) -> float | None:
    there = name in old.schema.names and name in new.schema.names
    return jensen_shannon(old.numbers(name), new.numbers(name)) if there else None


def _kinds(found: Figures, kind: str) -> Counter[str | None] | None:
    """Rows by value, a column that is not there as null throughout; None where the values are too many to count."""
    return found.kinds.get(kind) if kind in found.columns else Counter({None: found.rows})


def _writers(found: Figures) -> Counter[str | None] | None:
    total = Counter[str | None]()
    for counts in found.models.values():
        total.update(counts)
    return total or Counter({None: found.rows})


def _pooled(sides: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([sides[side] for side in sorted(sides)]) if sides else np.empty(0, np.float32)


def total_variation(first: Mapping[Any, int] | None, second: Mapping[Any, int] | None) -> float | None:
    """Half the sum of the absolute differences of the shares: 0 for the same shares, 1 for none in common.

    first and second: counts by value. None where there is nothing to compare. Source: Levin and Peres, Markov Chains and
    Mixing Times, 2nd edition, 2017, proposition 4.2.
    """
    if not first or not second or not sum(first.values()) or not sum(second.values()):
        return None
    totals = sum(first.values()), sum(second.values())
    values = sorted(first.keys() | second.keys(), key=lambda value: (value is not None, value))
    return 0.5 * math.fsum(abs(first.get(value, 0) / totals[0] - second.get(value, 0) / totals[1]) for value in values)


def jensen_shannon(first: np.ndarray, second: np.ndarray) -> float | None:
    """Jensen-Shannon divergence of two samples of numbers in bits: 0 for the same shares, 1 for none in common.

    The shares are of the classes between the tenths of either sample; numbers that are missing are a class of their own.
    None where either sample is empty or nothing but missing. Unlike the population stability index it needs no smoothing
    of empty classes. Source: Lin, Divergence measures based on the Shannon entropy, IEEE Transactions on Information Theory
    37(1), 1991, equation 4.1 with equal weights, doi:10.1109/18.61115.
    """
    if not np.isfinite(first).any() or not np.isfinite(second).any():
        return None
    cuts = np.arange(CLASSES) / CLASSES  # from the smallest on, so that samples without overlap share no class
    edges = np.unique([np.quantile(sample[np.isfinite(sample)].astype(np.float64), cuts) for sample in (first, second)])
    p, q = (_shares(sample, edges) for sample in (first, second))
    return max(0.0, _entropy((p + q) / 2) - (_entropy(p) + _entropy(q)) / 2)


def _shares(sample: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Of each class between the edges, and of the missing ones."""
    place = np.where(np.isfinite(sample), np.searchsorted(edges, sample.astype(np.float64), side="right"), len(edges) + 1)
    shares: np.ndarray = np.bincount(place, minlength=len(edges) + 2) / len(sample)
    return shares


def _entropy(shares: np.ndarray) -> float:
    present = shares[shares > 0]
    return -math.fsum(float(part) * math.log2(part) for part in present)
