"""Plant wrong labels in somebody's own pairs and hold every filter against them: `curate bench noise`."""

import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import tables
from curate.errors import DataError
from curate.filter.wrong_labels import WrongLabels
from curate.maths import chance, noise_bench, noise_choice
from curate.maths.noise_baselines import METHODS
from curate.maths.noise_choice import Choice, Gap
from curate.maths.noise_frame import Comparisons, some_groups
from curate.maths.peer_review import Settings
from curate.maths.planted import Kind
from curate.models.session import Session
from curate.models.spec import ModelSpec
from curate.publish import noise_page
from curate.publish.figures import contents, files_of, texts_of
from curate.publish.wording import number, plural

FORMAT = 1
RESULT, PAGE = "noise.json", "noise.html"
HELD = 0.3
"""Share of pairs held out, by whole prompts."""
Run = dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """The pairs that filters are held against."""

    title: str
    given: Comparisons
    length_gap: np.ndarray
    """Log characters of chosen minus rejected, (N,)."""
    margin: np.ndarray | None
    """How far the sides are apart, (N,); None where not every pair has a margin."""
    prompts: int
    left_out: int
    """Pairs of the file that were not drawn."""
    model: str

    @property
    def digest(self) -> str:
        """Of everything that a run reads: equal digests make equal runs."""
        told = sha256()
        for part in (self.given.differences_ND, self.given.groups_N, self.given.sides_N2, self.length_gap, self.margin):
            told.update(b"none" if part is None else np.ascontiguousarray(part).tobytes())
        return told.hexdigest()[:32]

    def measure(self, kind: Kind) -> np.ndarray | None:
        """What flips of a kind go by."""
        close = self.length_gap if self.margin is None else self.margin
        return {"length": self.length_gap, "gap": np.abs(close)}.get(kind)


# -- pairs


def version_pairs(folder: Path) -> pa.Table:
    """The pairs of a version's folder, with texts instead of messages."""
    files = files_of(folder, "pairs")
    if not files.paths:
        raise DataError(f"{folder}: no pairs/*.arrow in it; name a version's folder, or a file of pairs")
    kept = ("prompt_id", "chosen_id", "rejected_id", "margin")
    parts = [tables.empty("pairs")]
    for batch in files.batches((*kept, "chosen", "rejected")):
        sides = {side: texts_of(batch, side) for side in ("chosen", "rejected")}
        parts.append(
            tables.conform(pa.table({name: batch[name] for name in kept if name in batch.column_names} | sides), "pairs")
        )
    return pa.concat_tables(parts)


def named(table: pa.Table) -> pa.Table:
    """The pairs, told apart by what they say: equal prompts have one name, and equal responses to a prompt."""
    prompts = contents(table["prompt"])
    for side in ("chosen", "rejected"):
        text = pc.fill_null(tables.flat(table[side]), "")
        told = pc.binary_join_element_wise(prompts, text, "\n", null_handling="replace")
        table = table.set_column(table.column_names.index(f"{side}_id"), f"{side}_id", told)
    return table.set_column(table.column_names.index("prompt_id"), "prompt_id", pc.fill_null(prompts, ""))


def some(table: pa.Table, most: int, seed: int = 0) -> pa.Table:
    """Whole prompts drawn at random until about so many pairs are in; all where there are no more, or most is 0."""
    if not most or table.num_rows <= most:
        return table
    return table.take(pa.array(some_groups(chance.hash_texts(table["prompt_id"], 0), most, seed)))


def compared(title: str, table: pa.Table, spec: ModelSpec, left_out: int = 0) -> Subject:
    """The pairs as filters see them."""
    with tempfile.TemporaryDirectory() as folder, Session({"embed": spec}, Path(folder)) as session:
        operator = FeaturesAlone(name="bench", model="embed").with_models(session.for_step("bench"))
        features = operator.features(table)
    usable, given = operator.comparable(features)
    if given is None:
        raise DataError(f"{title}: no pairs to plant flips in")
    lengths = [np.log1p(pc.fill_null(pc.utf8_length(table[side]), 0).to_numpy().astype(float)) for side in ("chosen", "rejected")]
    margin = table["margin"].to_numpy().astype(np.float64)[usable]
    prompts = len(pc.unique(table["prompt_id"]))
    gap = (lengths[0] - lengths[1])[usable]
    name = f"{spec.name} ({spec.backend})"
    return Subject(title, given, gap, margin if np.isfinite(margin).all() else None, prompts, left_out, name)


class FeaturesAlone(WrongLabels):
    """The features of the filters, without a decision."""

    def writes(self, grain: tables.Grain) -> set[str]:
        """Nothing."""
        return set()

    def decide(self, features: pa.Table, /) -> pa.Table:
        """Nothing."""
        return features

    def apply(self, table: pa.Table, state: pa.Table, /) -> pa.Table:
        """Nothing."""
        return table


# -- runs


@dataclass(frozen=True)
class Plan:
    """What is planted, and what looks for it."""

    kinds: tuple[Kind, ...]
    rates: tuple[float, ...]
    methods: tuple[str, ...] = METHODS
    seeds: int = 3
    left_out: tuple[str, ...] = ()
    """Why other methods are not among them, a sentence each."""

    def plants(self) -> Iterator[tuple[Kind, float, int]]:
        """Kind, rate and seed of each plant: all of one seed before the next, so that whoever stops early has all kinds."""
        for seed in range(self.seeds):
            for place, kind in enumerate(self.kinds):
                # without flips the kinds are one
                yield from ((kind, rate, seed) for rate in self.rates if rate > 0 or place == 0)

    @property
    def total(self) -> int:
        """Number of runs."""
        return len(list(self.plants())) * len(self.methods)


def bench(subject: Subject, plan: Plan, known: Iterable[Run] = (), settings: Settings = Settings()) -> Iterator[Run]:  # noqa: B008
    """Every run: one dictionary for each plant and method. known: runs made before on the same subject, not made again."""
    made = {_key(run): run for run in known}
    for kind, rate, seed in plan.plants():
        planted: noise_bench.Planted | None = None
        for method in plan.methods:
            run: Run = {"kind": kind, "rate": rate, "seed": seed, "method": method}
            if (before := made.get(_key(run))) is not None:
                yield before
                continue
            planted = planted or _planted(subject, kind, rate, noise_bench.with_seed(settings, seed))
            yield run | planted.judged(method) | {"shares": list(noise_bench.SHARES)}


def _planted(subject: Subject, kind: Kind, rate: float, settings: Settings) -> noise_bench.Planted:
    held = noise_bench.held_out(subject.given.groups_N, HELD, settings.seed)
    wrong = noise_bench.plant(subject.given, held, kind, rate, subject.measure(kind), settings.seed)
    return noise_bench.Planted(subject.given, wrong, held, settings)


def _key(run: Mapping[str, Any]) -> tuple[str, float, int, str]:
    return run["kind"], run["rate"], run["seed"], run["method"]


def known_runs(folder: Path, subject: Subject) -> list[Run]:
    """Runs that an earlier, stopped bench of the same pairs left in a folder; none where it was of others."""
    try:
        told = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    same = isinstance(told, dict) and (told.get("format"), told.get("pairs_digest")) == (FORMAT, subject.digest)
    return [run for run in told["runs"] if isinstance(run, dict)] if same and isinstance(told.get("runs"), list) else []


# -- telling


def as_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """The summary as a table for a terminal of 100 columns."""
    titles = ("accuracy", "AUC", "right", "found", "right", "found", "noise found %", "ECE", "CPU s")
    widths = (13, 7, 7, 6, 7, 6, 16, 7, 7)
    lines: list[str] = []
    before: tuple[str, float] | None = None
    for row in rows:
        if (row["kind"], row["rate"]) != before:
            before = row["kind"], row["rate"]
            asked = f"{row['rate']:.0%} {row['kind']} flips"
            what = noise_page.rate_told(row, asked) if row["rate"] else "no flips"
            lines += ["", f"{what:<40}{'drops %':>13}{'flips %':>13}"]
            lines.append(f"  {'method':<18}" + "".join(f"{title:>{width}}" for title, width in zip(titles, widths, strict=True)))
        cells = "".join(f"{cell:>{width}}" for cell, width in zip(noise_page.row_cells(row), widths, strict=True))
        lines.append(f"  {row['method']:<18}{cells}")
    return "\n".join(lines[1:])


def advice(subject: Subject, runs: Sequence[Run], choice: Choice | None) -> list[str]:
    """What to do, in plain sentences: the filter to use and why, what it costs, and how to write it in a recipe."""
    if choice is None:
        return ["No filter can be named: no flips were planted, or no filter that a recipe has was among the methods."]
    said = [_use(choice)]
    if choice.below_oracle is not None:
        said.append(
            f"With the planted flips known, and none of the wrong labels in training, it would be {_above(choice.below_oracle)}."
        )
    said += _finds(runs, choice.method)
    if choice.better is not None:
        said.append(
            f"{choice.better[0]}, a plain method that no step of a recipe is, does better still: {_above(choice.better[1])}."
        )
    if choice.at_zero is not None and choice.flagged is not None:
        said.append(
            f"Where nothing was planted it drops {100 * choice.flagged:.1f} % of the pairs, and the accuracy changes by "
            f"{100 * choice.at_zero.mean:+.1f} points."
        )
    return [
        *said,
        *_own_noise(runs, choice.method),
        *_short_of(runs),
        f"In a recipe: `{recipe_step(choice.method)}` (embed: {subject.model}).",
    ]


def _use(choice: Choice) -> str:
    found = (
        f"a model trained on what it keeps orders {100 * choice.accuracy:.1f} % of held-out pairs as their labels do "
        f"(flip AUC {choice.auc:.3f})"
    )
    gap = choice.over_untreated
    tied = f" {' and '.join(choice.alike)} {'is' if len(choice.alike) == 1 else 'are'} not surely worse." if choice.alike else ""
    if gap is None:
        return f"Use {choice.method}: {found}.{tied}"
    if np.isnan(gap.half):
        return f"Try {choice.method}: {found}, {_above(gap)} than without a filter. One seed does not tell how sure that is."
    if not gap.sure or gap.mean <= 0:
        return (
            f"No filter is surely better than none in these runs; more seeds would tell more. Best so far is {choice.method}: "
            f"{found}, {_above(gap)} than without a filter.{tied}"
        )
    return f"Use {choice.method}: over all planted flips {found}, {_above(gap)} than without a filter.{tied}"


def _above(gap: Gap) -> str:
    more = "" if np.isnan(gap.half) else f" ± {100 * gap.half:.1f}"
    return f"{100 * abs(gap.mean):.1f}{more} points {'more' if gap.mean >= 0 else 'fewer'}"


def _finds(runs: Sequence[Run], method: str) -> list[str]:
    """How many of the planted flips the method drops, by kind: what it cannot see is as telling as what it can."""
    told = []
    for kind in dict.fromkeys(run["kind"] for run in runs):
        mine = [run for run in runs if run["kind"] == kind and run["method"] == method and run["planted"] > 0]
        found = [run["drop_recall"] for run in mine if run["drop_recall"] is not None and np.isfinite(run["drop_recall"])]
        right = [
            run["drop_precision"] for run in mine if run["drop_precision"] is not None and np.isfinite(run["drop_precision"])
        ]
        if found:
            sure = f" ({100 * np.mean(right):.0f} % of what it drops is wrong)" if right else ""
            told.append(f"{100 * np.mean(found):.0f} % of the {kind} flips{sure}")
    return [f"It finds {', and '.join(told)}."] if told else []


def _own_noise(runs: Sequence[Run], method: str) -> list[str]:
    """How many of the labels as they came are wrong, as the method sees it."""
    clean = [run for run in runs if run["rate"] == 0 and run["method"] == method]
    if not clean:
        return []
    rate, low, high = (float(np.mean([run[name] for run in clean])) for name in ("noise", "noise_low", "noise_high"))
    return [
        f"Of the labels as they came it estimates {100 * rate:.0f} % to be wrong ({100 * low:.0f} to {100 * high:.0f} %): "
        "they count as right here, so that all numbers are relative to them."
    ]


def _short_of(runs: Sequence[Run]) -> list[str]:
    """Of each kind of which not as many could be flipped as asked."""
    said = []
    for kind in dict.fromkeys(run["kind"] for run in runs):
        most = max((run for run in runs if run["kind"] == kind), key=lambda run: (run["rate"], run["planted"]))
        if most["planted"] < 0.8 * most["rate"]:
            said.append(
                f"Of {kind} flips at most {100 * most['planted']:.0f} % of the labels could be planted, at whatever rate."
            )
    return said


def recipe_step(method: str) -> str:
    """The step of a recipe that a method is; `embed` stands for the embedding model."""
    ((name, more),) = noise_choice.STEPS[method].items()
    return f"- {name}: {{{', '.join(f'{key}: {value}' for key, value in {'model': 'embed', **more}.items())}}}"


def write(subject: Subject, plan: Plan, runs: Sequence[Run], out: Path) -> list[str]:
    """Write noise.json and noise.html into a folder, and return the advice that they hold."""
    rows = summary(runs)
    choice = noise_choice.choose(runs)
    said = advice(subject, runs, choice)
    body = {
        "format": FORMAT,
        "data": subject.title,
        "pairs": len(subject.given.groups_N),
        "pairs_left_out": subject.left_out,
        "prompts": subject.prompts,
        "model": subject.model,
        "pairs_digest": subject.digest,
        "asked": {"kinds": plan.kinds, "rates": plan.rates, "methods": plan.methods, "seeds": plan.seeds},
        "methods_left_out": plan.left_out,
        "complete": len(runs) == plan.total,
        "use": choice.method if choice else None,
        "advice": said,
        "summary": rows,
        "runs": runs,
    }
    out.mkdir(parents=True, exist_ok=True)
    _replace(out / RESULT, json.dumps(_plain(body), indent=1, ensure_ascii=False) + "\n")
    tiles = {
        "pairs": number(len(subject.given.groups_N)),
        "prompts": number(subject.prompts),
        "groups that share prompts or answers": number(len(np.unique(subject.given.groups_N))),
        "methods": number(len(plan.methods)),
        "seeds": number(len({run["seed"] for run in runs})),
    }
    more = [f"{plural(subject.left_out, 'pair')} of the file were not drawn."] if subject.left_out else []
    more += plan.left_out
    more += [] if len(runs) == plan.total else [f"Stopped early: {len(runs):,} of {plan.total:,} runs."]
    how = (
        f"Flips were planted in {100 * (1 - HELD):.0f} % of the pairs; accuracy is on the rest, which share no prompt and no "
        f"answer with them. Vectors: {subject.model}."
    )
    page = noise_page.page(subject.title, tiles, [*said, *more, how], rows, choice.method if choice else "")
    _replace(out / PAGE, page)
    return said


def summary(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """The runs by kind, rate and method."""
    rows = noise_bench.summary([{name: value for name, value in run.items() if name != "shares"} for run in runs])
    return [row | {"shares": list(noise_bench.SHARES)} for row in rows]


def _replace(path: Path, text: str) -> None:
    """The file as a whole or as it was: whoever stops the bench finds no half of it."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(text, encoding="utf-8")
    os.replace(fresh, path)


def _plain(value: Any) -> Any:
    """Numbers that are none as null."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
