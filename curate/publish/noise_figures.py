"""How many labels of a version are wrong, before and after its steps, in all and by source, model and annotator.

Three operators leave what tells: `peer_review` and `label_em` the probability that each label is wrong and an estimate of the
share for all rows, with an interval; `consistency` the share of opinions against the label, which holds the errors of those
who gave the opinions, too.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import tables
from curate.maths import chance
from curate.maths.noise_frame import some_groups
from curate.maths.noise_groups import at_rate, shares_wrong
from curate.maths.noise_rate import estimate, flip_probability

MEASURES = {"peer_review": "flip_prob", "label_em": "margin", "consistency": "agreement"}
"""By operator that tells wrong labels: its measure of each pair."""
ESTIMATES = ("peer_review", "label_em")
TURNED = "turned"
"""Measure of `flip`: 1 for the pairs whose sides it exchanged."""
PLANTED = "planted"
"""Measure of `inject_noise`: 1 for the pairs whose sides it exchanged."""
KINDS = ("source", "model", "annotator")
COLUMNS = ("pair_id", "parent_id", "prompt_id", "source", "chosen_model", "rejected_model", "votes", "evidence")
SAMPLE = 20_000  # pairs off whose margins a probability is read
Batches = Callable[[Sequence[str]], Iterator[pa.Table]]


@dataclass(frozen=True)
class Share:
    """A share of wrong labels with its 95 % interval; NaN where there is no pair to tell it of."""

    n: int
    value: float
    low: float
    high: float


NONE = Share(0, np.nan, np.nan, np.nan)


@dataclass(frozen=True)
class Group:
    """Pairs of one source, model or annotator."""

    name: str | None
    before: Share
    after: Share


@dataclass(frozen=True)
class Noise:
    """What one step tells about the labels."""

    step: str
    operator: str
    before: Share
    """Of the pairs that the step saw, as they were labelled then."""
    after: Share
    """Of the pairs that were kept, as they are labelled now."""
    flipped: int
    """Kept pairs whose sides a later step exchanged."""
    unmeasured: int
    """Kept pairs of which the step says nothing."""
    told: float | None = None
    """The share of wrong labels that the recipe tells the step, rather than have it estimated."""
    groups: dict[str, tuple[Group, ...]] = field(default_factory=dict)
    """By kind, of those that have two groups or more: the noisiest first, as far as that is sure."""

    @property
    def estimated(self) -> bool:
        """Whether it is an estimate of wrong labels; else it counts opinions against them."""
        return self.operator in ESTIMATES


def noise_figures(kept: Batches, dropped: Batches, steps: Sequence[Mapping[str, Any]]) -> tuple[Noise, ...]:
    """What each step that tells wrong labels tells, in the order of the steps (entries of the manifest).

    before, of an estimate: the step's own number and interval (bootstrap over groups of pairs that share prompts or
    responses), unless the recipe tells the step a share. Everything else: the mean probability of a wrong label, 1 minus that
    for labels that were turned since, with the interval of curate/maths/noise_groups.py. The probability is peer_review's
    flip_prob; for label_em it is read off its margins in the same way, since the posteriors by which it decides have confirmed
    each other round by round and are too sure. That of `after` is also as wide as the interval of the step's estimate makes
    it; those of groups are not, since what moves them all alike does not tell one from another.
    """
    return tuple(_noise(kept, dropped, steps, place) for place, step in enumerate(steps) if _tells(step))


def leading(found: Sequence[Noise]) -> Noise | None:
    """The one that a version goes by: an estimate rather than a count of opinions, of most pairs, before any was turned; the
    last of those.
    """
    rank = [(one.estimated, one.before.n, one.flipped > 0, place) for place, one in enumerate(found)]
    return found[max(rank)[-1]] if found else None


def estimates(steps: Sequence[Mapping[str, Any]]) -> bool:
    """Whether any step (entries of the manifest) estimates how many labels are wrong."""
    return any(step["operator"] in ESTIMATES and _tells(step) for step in steps)


def _tells(step: Mapping[str, Any]) -> bool:
    """Whether a step says of single labels that they may be wrong: not where pairs run in circles, nor where it trusts all."""
    trusts = step["parameters"].get("noise") == 0 or step["parameters"].get("how") == "cycles"
    return step["operator"] in MEASURES and step["grain"] == "pairs" and not trusts


def _given(step: Mapping[str, Any]) -> float | None:
    """The share of wrong labels that the recipe tells the step."""
    noise = step["parameters"].get("noise")
    return float(noise) if isinstance(noise, (int, float)) else None


class _Rows(NamedTuple):
    """Some pairs, by what is told of them; N of them, names as codes into a list."""

    wrong: np.ndarray
    """Probability that the label was wrong when the step saw it; NaN of pairs without. As read, of label_em: its margin."""
    turned: np.ndarray
    """Whether the sides were exchanged since."""
    seen: np.ndarray
    """Hash of the id under which the step saw it."""
    pair: np.ndarray
    """Hash of the id it has now."""
    prompt: np.ndarray
    names: dict[str, pa.ChunkedArray]
    """By source, chosen_model, rejected_model and annotator."""
    whole: dict[str, float]
    """noise, noise_low and noise_high, where the step estimates them."""


def _noise(kept: Batches, dropped: Batches, steps: Sequence[Mapping[str, Any]], place: int) -> Noise:
    step = steps[place]
    now, gone = _read(kept, steps, place), _read(dropped, steps, place)
    before = _once(_joined(now, gone))
    whole, given = now.whole or gone.whole, _given(step)
    if step["operator"] == "label_em":
        now, before = _off_margins(now, before, whole, given)
    after = now._replace(wrong=np.where(now.turned, 1 - now.wrong, now.wrong))
    return Noise(
        step["name"],
        step["operator"],
        (_estimate(whole, before) if given is None else None) or _share(before.wrong, before),
        _after(now, whole, given),
        int((now.turned & np.isfinite(now.wrong)).sum()),
        int(np.isnan(now.wrong).sum()),
        given,
        {kind: groups for kind in KINDS if len(groups := _groups(kind, before, after)) > 1},
    )


def _off_margins(now: _Rows, before: _Rows, whole: Mapping[str, float], given: float | None) -> tuple[_Rows, _Rows]:
    """The rows with probabilities for margins: how fast agreement rises with them is read off some of those before."""
    told = np.flatnonzero(np.isfinite(before.wrong))
    if not len(told) or not whole:
        return now, before
    some = told[some_groups(before.prompt[told], SAMPLE, 0)]
    found = estimate(before.wrong[some].astype(np.float64), before.prompt[some], resamples=0)
    found = found._replace(rate=whole["noise"] if given is None else given)
    return now._replace(wrong=flip_probability(now.wrong, found)), before._replace(wrong=flip_probability(before.wrong, found))


def _estimate(whole: Mapping[str, float], rows: _Rows) -> Share | None:
    n = int(np.isfinite(rows.wrong).sum())
    return Share(n, whole["noise"], whole["noise_low"], whole["noise_high"]) if whole and n else None


def _after(now: _Rows, whole: Mapping[str, float], given: float | None) -> Share:
    """The share among kept pairs; its interval spans those under both ends of the estimate's interval."""
    told = whole.get("noise", np.nan)

    def under(rate: float) -> Share:
        wrong = at_rate(now.wrong, told, rate)
        return _share(np.where(now.turned, 1 - wrong, wrong), now)

    found = under(told)
    if not whole or given is not None or not found.n:  # a share that was told has no interval
        return found
    ends = [under(whole["noise_low"]), under(whole["noise_high"]), found]
    highest = max(end.high for end in ends)
    unseen = 0.0 if told else whole["noise_high"]  # where no label seems wrong, none was dropped or turned for it either
    return Share(found.n, found.value, min(end.low for end in ends), max(highest, unseen))


def _share(wrong_N: np.ndarray, rows: _Rows) -> Share:
    told = np.isfinite(wrong_N)
    if not told.any():
        return NONE
    groups = np.zeros(int(told.sum()), dtype=np.int64)
    found = shares_wrong(wrong_N[told].astype(np.float64), groups, rows.prompt[told], 1)
    return Share(int(found.n[0]), float(found.value[0]), float(found.low[0]), float(found.high[0]))


# -- groups


def _groups(kind: str, before: _Rows, after: _Rows) -> tuple[Group, ...]:
    """The groups of a kind; a pair of two models is in the groups of both."""
    columns = ("chosen_model", "rejected_model") if kind == "model" else (kind,)
    first, second = (_by_name(rows, columns) for rows in (before, after))
    names = [name for name in first | second if name is not None]
    found = [Group(name, first.get(name, NONE), second.get(name, NONE)) for name in names]
    return tuple(sorted(found, key=lambda group: (-_surely(group), -group.before.n, str(group.name))))


def _surely(group: Group) -> float:
    return group.before.low if group.before.n else group.after.low


def _by_name(rows: _Rows, columns: Sequence[str]) -> dict[str | None, Share]:
    """The share of each name in any of the columns; a name that is in two columns of a row counts once there."""
    place = np.flatnonzero(np.isfinite(rows.wrong))
    names = pa.chunked_array([c for column in columns for c in rows.names[column].take(pa.array(place)).chunks], pa.string())
    coded = tables.flat(names).dictionary_encode()
    listed = coded.dictionary.to_pylist()
    code = pc.fill_null(coded.indices, len(listed)).to_numpy(zero_copy_only=False).astype(np.int64)
    both = np.unique(np.tile(np.arange(len(place)), len(columns)) * (len(listed) + 1) + code)
    row, group = place[both // (len(listed) + 1)], both % (len(listed) + 1)
    found = shares_wrong(rows.wrong[row].astype(np.float64), group, rows.prompt[row], len(listed) + 1)
    told = zip([*listed, None], found.n, found.value, found.low, found.high, strict=True)
    return {name: Share(int(n), float(value), float(low), float(high)) for name, n, value, low, high in told if n}


# -- reading


def _read(batches: Batches, steps: Sequence[Mapping[str, Any]], place: int) -> _Rows:
    """The pairs of one table, batch by batch: of their texts nothing, of their ids a hash."""
    parts = [_rows(batch, steps, place) for batch in batches(COLUMNS)]
    return _joined(*parts) if parts else _rows(tables.empty("pairs"), steps, place)


def _joined(*parts: _Rows) -> _Rows:
    wrong, turned, seen, pair, prompt = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("wrong", "turned", "seen", "pair", "prompt")
    )
    names = {key: pa.chunked_array([c for part in parts for c in part.names[key].chunks], pa.string()) for key in parts[0].names}
    return _Rows(wrong, turned, seen, pair, prompt, names, next((part.whole for part in parts if part.whole), {}))


def _rows(batch: pa.Table, steps: Sequence[Mapping[str, Any]], place: int) -> _Rows:
    step = steps[place]
    missing = pa.nulls(batch.num_rows, pa.string())
    texts = {name: batch[name] if name in batch.column_names else pa.chunked_array([missing]) for name in COLUMNS[:-2]}
    told = _told(batch, step["name"], MEASURES[step["operator"]])
    seen = pc.coalesce(texts["parent_id"], texts["pair_id"])
    names = {name: texts[name] for name in ("source", "chosen_model", "rejected_model")}
    names["annotator"] = pa.chunked_array([_annotators(batch, [one["name"] for one in steps])])
    return _Rows(
        1 - told if step["operator"] == "consistency" else told,
        _turned(batch, [later["name"] for later in steps[place + 1 :] if later["operator"] == "flip"]),
        chance.hash_texts(seen, 0),
        chance.hash_texts(texts["pair_id"], 0),
        chance.hash_texts(texts["prompt_id"], 0),
        names,
        _whole(batch, step),
    )


def _told(batch: pa.Table, by: str, name: str) -> np.ndarray:
    if "evidence" not in batch.column_names:
        return np.full(batch.num_rows, np.nan, dtype=np.float32)
    return tables.value_of(batch["evidence"], by=by, name=name)


def _whole(batch: pa.Table, step: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of the whole set, which every pair carries."""
    if step["operator"] not in ESTIMATES:
        return {}
    columns = {name: _told(batch, step["name"], name) for name in ("noise", "noise_low", "noise_high")}
    present = {name: values[np.isfinite(values)] for name, values in columns.items()}
    return {name: float(values[0]) for name, values in present.items()} if all(map(len, present.values())) else {}


def _annotators(batch: pa.Table, steps: Sequence[str]) -> pa.Array:
    """Who gave each pair's first vote that is no step's (that of `source` has no name); null where there is none."""
    names = np.full(batch.num_rows, None, dtype=object)
    if "votes" in batch.column_names:
        votes = tables.flat(batch["votes"])
        raters = pc.struct_field(votes.flatten(), "rater")
        own = pc.is_in(raters, value_set=pa.array(steps, pa.string())).to_numpy(zero_copy_only=False).astype(bool)
        rows, first = np.unique(pc.list_parent_indices(votes).to_numpy(zero_copy_only=False)[~own], return_index=True)
        names[rows] = raters.to_numpy(zero_copy_only=False)[~own][first]
    return pa.array(names, pa.string())


def _turned(batch: pa.Table, flips: Sequence[str]) -> np.ndarray:
    """Which pairs these steps turned, twice being not at all, (N,) bool. Evidence tells it: a goal hides the origin."""
    turned = np.zeros(batch.num_rows, dtype=bool)
    for flip in flips:
        turned ^= _told(batch, flip, TURNED) == 1
    return turned


def _once(rows: _Rows) -> _Rows:
    """Of pairs made from one pair the first alone; copies of a pair, which share its id, stay copies."""
    _, first, which = np.unique(rows.seen, return_index=True, return_inverse=True)
    kept = np.flatnonzero(rows.pair == rows.pair[first][which])
    names = {key: column.take(pa.array(kept)) for key, column in rows.names.items()}
    return _Rows(rows.wrong[kept], rows.turned[kept], rows.seen[kept], rows.pair[kept], rows.prompt[kept], names, rows.whole)
