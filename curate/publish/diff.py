"""Say what changed from one version to another: rows, scores, what each step drops, and which recipe line did it."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from curate.errors import UsageError
from curate.publish.figures import ROW_ID, SIDES, Files, Step, files_of, flat_scores, steps_of, texts_of
from curate.publish.show import rows_at
from curate.publish.wording import messages_text
from curate.store.versions import Version

if TYPE_CHECKING:
    import polars as pl

EXAMPLES = 5
COMPARED = ("margin", "label_prob", "weight", "difficulty", "stage", "split", "goal")
"""Columns besides the scores whose change makes a row changed; one that is left out is null throughout."""
RECIPE_LINES = 200  # lines of the recipes' difference that are kept


@dataclass(frozen=True)
class Example:
    """A row that changed."""

    id: str
    """Its id in the new version; in the old one if it was removed."""
    prompt: str
    texts: tuple[str, ...]
    """Chosen and rejected, or the response."""
    changes: tuple[tuple[str, Any, Any], ...] = ()
    """(column, before, after)."""


@dataclass(frozen=True)
class StepChange:
    """How the rows of a step changed. None where a version has no such step."""

    name: str
    before: Step | None
    after: Step | None

    def dropped(self) -> list[tuple[str, int, int]]:
        """(reason, rows before, rows after) of the reasons whose count changed."""
        first, second = (step.dropped if step else {} for step in (self.before, self.after))
        reasons = sorted({*first, *second})
        return [(r, first.get(r, 0), second.get(r, 0)) for r in reasons if first.get(r, 0) != second.get(r, 0)]


@dataclass(frozen=True)
class ParameterChange:
    """A parameter of a step that changed."""

    where: str
    """steps.margin.min."""
    before: Any
    after: Any
    line: int | None
    """Line of the new version's recipe; of the old one's where the step is gone."""

    def __str__(self) -> str:
        """As in: steps.margin.min: 0.5 -> 1.0 (line 14)."""
        at = f" (line {self.line})" if self.line else ""
        return f"{self.where}: {_plain(self.before)} -> {_plain(self.after)}{at}"


@dataclass(frozen=True)
class Diff:
    """What is different in version `after`, seen from version `before`."""

    before: str
    after: str
    grain: str
    rows: tuple[int, int]
    unchanged: int
    changed: int
    """The same row (by id, or by its texts where the id changed with its goal) with another score, weight, split or goal."""
    flipped: int
    """The same prompt and texts, chosen and rejected exchanged."""
    added: int
    removed: int
    changed_columns: dict[str, int]
    """By column: rows in which it changed."""
    new_scores: tuple[str, ...]
    """Score columns that only the new version has."""
    gone_scores: tuple[str, ...]
    examples: dict[str, tuple[Example, ...]]
    """Up to five rows each of added, removed, flipped and changed."""
    steps: tuple[StepChange, ...]
    """Steps whose counts changed."""
    parameters: tuple[ParameterChange, ...]
    recipe: tuple[str, ...]
    """Unified difference of the recipes; empty if they are the same."""
    source_changed: bool
    """Whether the source's rows changed."""
    same_content: bool
    """Whether all data files are the same, byte for byte."""


def diff(before: Version, after: Version) -> Diff:
    """What is different in `after`, seen from `before`. In memory of ids and numbers; texts are hashed where ids do not match."""
    grains = {version.manifest["grain"] for version in (before, after)}
    if len(grains) > 1:
        held = " and ".join(f"{version} holds {version.manifest['grain']}" for version in (before, after))
        raise UsageError(f"{held}: their rows cannot be compared")
    grain = grains.pop()
    matches = _match(before, after, grain)
    first, second = (list(steps_of(version.manifest)) for version in (before, after))
    scores = [{flat for _, flat, _, _ in flat_scores(v.path, v.manifest)} for v in (before, after)]
    changes = _changes(matches.same, _compared(before, after))
    texts = [recipe_text(version) for version in (before, after)]
    return Diff(
        before=str(before),
        after=str(after),
        grain=grain,
        rows=(files_of(before.path, grain).rows, files_of(after.path, grain).rows),
        unchanged=matches.same.height - changes.rows.height,
        changed=changes.rows.height,
        flipped=matches.flipped.height,
        added=matches.added.height,
        removed=matches.removed.height,
        changed_columns=changes.columns,
        new_scores=tuple(sorted(scores[1] - scores[0])),
        gone_scores=tuple(sorted(scores[0] - scores[1])),
        examples={
            "added": _examples(after, grain, matches.added, "at_after"),
            "removed": _examples(before, grain, matches.removed, "at_before"),
            "flipped": _examples(after, grain, matches.flipped, "at_after"),
            "changed": _examples(after, grain, changes.rows, "at_after", changes.pairs),
        },
        steps=tuple(_step_changes(first, second)),
        parameters=tuple(_parameter_changes(before, after, texts)),
        recipe=tuple(_unified(texts, str(before), str(after))),
        source_changed=before.manifest["steps"][0]["snapshot"] != after.manifest["steps"][0]["snapshot"],
        same_content=before.manifest["content"] == after.manifest["content"],
    )


def recipe_text(version: Version) -> str:
    """The recipe a version was made by; empty if it holds none."""
    path = version.path / "recipe.yaml"
    return path.read_text(encoding="utf-8") if path.exists() else ""


# -- rows


@dataclass(frozen=True)
class _Matches:
    """Rows of both versions: at_before and at_after are their numbers, compared columns have the suffixes _before and _after."""

    same: "pl.DataFrame"
    flipped: "pl.DataFrame"
    added: "pl.DataFrame"
    removed: "pl.DataFrame"


@dataclass(frozen=True)
class _Changes:
    rows: "pl.DataFrame"
    columns: dict[str, int]
    pairs: tuple[str, ...]
    """Columns that changed anywhere."""


def _compared(before: Version, after: Version) -> list[str]:
    """Columns to compare: scores that both have, and those that always mean the same."""
    scores = [{flat for _, flat, _, _ in flat_scores(v.path, v.manifest)} for v in (before, after)]
    present = [set(files_of(v.path, v.manifest["grain"]).schema.names) for v in (before, after)]
    return sorted(scores[0] & scores[1]) + [name for name in COMPARED if name in present[0] | present[1]]


def _match(before: Version, after: Version, grain: str) -> _Matches:
    columns = _compared(before, after)
    old, new = (_frame(version, grain, columns, end) for version, end in ((before, "before"), (after, "after")))
    same = old.join(new, on=["id", "copy"])
    removed, added = old.join(new, on=["id", "copy"], how="anti"), new.join(old, on=["id", "copy"], how="anti")
    flipped = same.clear()
    if grain == "pairs" and removed.height and added.height:
        removed = removed.with_columns(_hashes(before, removed["at_before"]))
        added = added.with_columns(_hashes(after, added["at_after"]))
        again, removed, added = _pair_off(removed, added, ["prompt_hash", "chosen_hash", "rejected_hash"])
        flipped, removed, added = _pair_off(removed, added, ["prompt_hash", "rejected_hash", "chosen_hash"])
        same = _below(same, again)
    return _Matches(same.sort("at_after"), flipped.sort("at_after"), added.sort("at_after"), removed.sort("at_before"))


def _frame(version: Version, grain: str, columns: Sequence[str], end: str) -> "pl.DataFrame":
    """id, copy (0 for the first row of that id), the row's number, and the compared columns with the version's suffix."""
    import polars as pl

    files = files_of(version.path, grain)
    wanted = [ROW_ID[grain], *(name for name in columns if name in files.schema.names)]
    parts = [batch.select(wanted) for batch in files.batches(wanted)]
    table = pa.concat_tables(parts) if parts else pa.table({name: pa.nulls(0, files.schema.field(name).type) for name in wanted})
    frame = pl.DataFrame(pl.from_arrow(table)).rename({name: f"{name}_{end}" for name in wanted[1:]}).rename({wanted[0]: "id"})
    absent = [pl.lit(None).alias(f"{name}_{end}") for name in columns if name not in wanted]
    numbered = frame.with_row_index(f"at_{end}").with_columns(absent)
    return numbered.with_columns(copy=pl.int_range(pl.len()).over("id"))


def _hashes(version: Version, at: "pl.Series") -> list["pl.Series"]:
    """prompt_hash, chosen_hash and rejected_hash of the rows of these numbers: equal for equal texts within this process."""
    import polars as pl

    files = files_of(version.path, "pairs")
    found: dict[str, list[pl.Series]] = {name: [] for name in ("prompt", "chosen", "rejected")}
    for batch in files.batches(["prompt_id", "chosen", "rejected"]):
        for name, parts in found.items():
            texts = batch["prompt_id"] if name == "prompt" else texts_of(batch, name)
            parts.append(pl.Series(pl.from_arrow(texts)).hash(seed=0))
    return [pl.concat(parts).gather(at).alias(f"{name}_hash") for name, parts in found.items()]


def _pair_off(
    removed: "pl.DataFrame", added: "pl.DataFrame", keys: Sequence[str]
) -> tuple["pl.DataFrame", "pl.DataFrame", "pl.DataFrame"]:
    """Rows of both that have equal texts, each used once; and what is left of both.

    keys: the hashes in `added` that must equal the prompt, chosen and rejected ones of `removed`.
    """
    import polars as pl

    names = ["prompt_hash", "chosen_hash", "rejected_hash"]
    old = removed.with_columns(nth=pl.int_range(pl.len()).over(names))
    new = added.with_columns(nth=pl.int_range(pl.len()).over(list(keys)))
    ids = new.select("at_after", new_id="id")
    both = old.join(new.drop("id", "copy"), left_on=[*names, "nth"], right_on=[*keys, "nth"]).join(ids, on="at_after")
    both = both.with_columns(id="new_id")
    left = removed.join(both, on="at_before", how="anti"), added.join(both, on="at_after", how="anti")
    return both.drop("nth", "new_id"), left[0], left[1]


def _below(first: "pl.DataFrame", second: "pl.DataFrame") -> "pl.DataFrame":
    import polars as pl

    return pl.concat([first, second.select(first.columns)], how="vertical_relaxed")


def _changes(same: "pl.DataFrame", columns: Sequence[str]) -> _Changes:
    """Rows of `same` in which a column differs. NaN equals NaN, null equals null."""
    import polars as pl

    differs = {name: pl.col(f"{name}_before").ne_missing(pl.col(f"{name}_after")) for name in columns}
    if not differs:
        return _Changes(same.clear(), {}, ())
    marked = same.with_columns(**{f"{name}_differs": test for name, test in differs.items()})
    counts = {name: int(marked[f"{name}_differs"].sum()) for name in columns}
    changed = {name: count for name, count in counts.items() if count}
    return _Changes(marked.filter(pl.any_horizontal([f"{name}_differs" for name in columns])), changed, tuple(changed))


def _examples(version: Version, grain: str, rows: "pl.DataFrame", at: str, columns: Sequence[str] = ()) -> tuple[Example, ...]:
    files: Files = files_of(version.path, grain)
    picked = rows.sort(at).head(EXAMPLES)
    names = [ROW_ID[grain], "prompt", *SIDES[grain]]
    texts = rows_at(files, picked[at].to_list(), names).to_pylist()
    return tuple(_example(text, row, grain, columns) for text, row in zip(texts, picked.to_dicts(), strict=True))


def _example(text: Mapping[str, Any], row: Mapping[str, Any], grain: str, columns: Sequence[str]) -> Example:
    sides = tuple(side if isinstance(side := text[name], str) else messages_text(side) for name in SIDES[grain])
    changes = tuple((name, row[f"{name}_before"], row[f"{name}_after"]) for name in columns if row.get(f"{name}_differs"))
    return Example(text[ROW_ID[grain]], messages_text(text["prompt"]), sides, changes)


# -- steps and recipe


def _step_changes(first: Sequence[Step], second: Sequence[Step]) -> list[StepChange]:
    """Steps whose counts changed, in the order of the new version, those that are gone last."""
    before, after = ({step.name: step for step in steps} for steps in (first, second))
    changes = [StepChange(name, before.get(name), after.get(name)) for name in [*after, *(n for n in before if n not in after)]]
    return [change for change in changes if _counts(change.before) != _counts(change.after)]


def _counts(step: Step | None) -> tuple[Any, ...] | None:
    return None if step is None else (step.rows_in, step.kept, step.made, step.dropped)


def _parameter_changes(before: Version, after: Version, texts: Sequence[str]) -> list[ParameterChange]:
    """Parameters that changed, steps that came and steps that went."""
    first, second = ({step["name"]: step for step in version.manifest["steps"]} for version in (before, after))
    changes = []
    for name, step in second.items():
        if name not in first:
            changes.append(ParameterChange(f"steps.{name}", None, step["operator"], step["line"]))
            continue
        old, new = first[name]["parameters"], step["parameters"]
        for field in sorted({*old, *new} - {"name"}):
            if old.get(field) != new.get(field):
                line = line_of(texts[1], step["line"], field)
                changes.append(ParameterChange(f"steps.{name}.{field}", old.get(field), new.get(field), line))
        if first[name]["operator"] != step["operator"]:
            changes.append(ParameterChange(f"steps.{name}", first[name]["operator"], step["operator"], step["line"]))
    gone = [step for name, step in first.items() if name not in second]
    return changes + [ParameterChange(f"steps.{step['name']}", step["operator"], None, step["line"]) for step in gone]


def line_of(recipe: str, step_line: int | None, parameter: str) -> int | None:
    """Line of a parameter in the recipe: the first that names it from its step's line on; the step's if none does."""
    if step_line is None:
        return None
    lines = recipe.splitlines()[step_line - 1 :]
    named = re.compile(rf"(?:^|[\s{{,\"'-]){re.escape(parameter)}[\"']?\s*:")
    for number, line in enumerate(lines):
        if number and line.strip() and _indent(line) <= _indent(lines[0]):
            break  # the next step begins
        if named.search(line.split(" #", 1)[0]):
            return step_line + number
    return step_line


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _unified(texts: Sequence[str], before: str, after: str) -> list[str]:
    first, second = (text.splitlines() for text in texts)
    lines = difflib.unified_diff(first, second, f"{before}/recipe.yaml", f"{after}/recipe.yaml", n=1, lineterm="")
    return list(lines)[:RECIPE_LINES]


def _plain(value: Any) -> str:
    """A parameter as a recipe would write it."""
    words = {None: "not there", True: "true", False: "false"}
    if value is None or isinstance(value, bool):
        return words[value]
    return str(value)
