"""Follow a recipe's rows from step to step without running it: grains, columns, raters, writers."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import NamedTuple

from curate import tables
from curate.operator import Operator
from curate.publish.metric_names import Names, StepNames
from curate.recipe.document import Path
from curate.recipe.problems import Problems, did_you_mean, nearest
from curate.tables import Grain

LISTS = ("scores", "chosen_scores", "rejected_scores", "votes", "evidence", "flags")
"""Columns of entries: read as a whole they may be empty; what one rater wrote into them must have been written."""
SCORES = LISTS[:3]
"""Those from which a step takes a single score of a row by a rater."""
NEVER_NULL: dict[Grain, tuple[str, ...]] = {
    "prompts": ("row", "prompt_id", "prompt"),
    "responses": ("row", "prompt_id", "prompt", "response_id"),
    "pairs": ("row", "prompt_id", "prompt", "pair_id", "chosen", "rejected", "chosen_id", "rejected_id", "origin"),
}
NEEDS_WRITER = ("reference", "domain", "margin", "label_prob", "difficulty", "stage", "goal", "logprob_sum")
"""Columns that leave their reader nothing to do where nobody filled them; in the others null says something."""
MAKERS: dict[Grain, str] = {
    "prompts": "`as: prompts` in the source makes prompts",
    "responses": "the source makes responses if it maps a column `response`",
    "pairs": "put a `pair` step before it",
}


@dataclass(frozen=True)
class Given:
    """What the source gives."""

    grain: Grain | None
    """None if the source cannot be used: nothing is said about grains and columns then."""
    provides: frozenset[str] = frozenset()
    """Columns and entries that its rows can have."""
    mapped: frozenset[str] = frozenset()
    """Columns that the recipe says it fills."""


@dataclass(frozen=True)
class Planned:
    """A step as far as it could be read."""

    number: int
    """From 1."""
    key: str
    """Name of its operator."""
    name: str
    operator: Operator | None
    """None if its parameters cannot be used."""
    kind: type[Operator] | None
    """Its operator's class, or the nearest right one; None if there is none near."""
    path: Path
    """Where its parameters stand in the recipe."""
    given: Mapping[str, object]
    replace: bool = False

    def __str__(self) -> str:
        return f"step {self.number} ({self.name})"


@dataclass
class _Flow:
    """What the rows hold at one point of a recipe."""

    grain: Grain | None
    """None where an earlier problem hides it: nothing is said about grains and columns then."""
    made_by: str
    fields: dict[str, str] = field(default_factory=dict)
    """Columns and entries there are, and who wrote each; empty for what a step that could not be read may have written."""
    writers: dict[str, str] = field(default_factory=dict)
    """Columns of one value that were filled on purpose, and who did."""
    unsure: bool = False
    """Whether something not understood may have written more."""
    seen: list[Grain | None] = field(default_factory=list)
    """Grains before each step so far."""


class Followed(NamedTuple):
    """What is known of the rows once they went through all steps."""

    grains: list[Grain | None]
    """Before each step and after the last; None where unknown."""
    fields: tuple[str, ...]
    """Columns and entries that the product can have, with * for any rater or aspect."""
    unsure: bool
    """Whether something not understood may have written more."""


def check_steps(steps: Sequence[Planned], given: Given, problems: Problems) -> Followed:
    """Note what does not fit between steps."""
    fields = dict.fromkeys(given.provides, "the source")
    writers = {name: "the source" for name in given.mapped if name in tables.ONE_WRITER}
    flow = _Flow(given.grain, "the source", fields, writers, unsure=given.grain is None)
    for step in steps:
        flow.seen.append(flow.grain)
        if step.operator is None:
            _pass_unreadable(step, flow)
        elif _fits(step, step.operator, steps, flow, problems):
            before = flow.grain or step.operator.takes[0]
            if flow.grain is not None and (refusal := step.operator.refuses(before)) is not None:
                problems.add(step.path, f"{step}: {refusal}")
            _check_reads(step, step.operator, before, flow, problems)
            _write(step, step.operator, before, flow, problems)
        else:
            _write(step, step.operator, step.operator.takes[0], flow, None)
    return Followed([*flow.seen, flow.grain], tuple(flow.fields), flow.unsure)


def check_gates(gates: Iterable[str], steps: Sequence[Planned], followed: Followed, problems: Problems) -> None:
    """Note metrics that no version of the recipe can have, or tell."""
    names = Names(followed.grains[-1], _step_names(steps), followed.fields, followed.unsure)
    for metric in gates:
        if not names.known(metric):
            near = nearest(metric, names.listed())
            hint = f"did you mean {near}?" if near else "`curate show NAME --metrics` lists those of a version"
            problems.add(("gates", metric), f"gates, {metric}: there is no such metric; {hint}")
        elif (lack := names.lack(metric)) is not None:
            problems.add(("gates", metric), f"gates, {metric}: cannot be told, since {lack}")


def _step_names(steps: Sequence[Planned]) -> tuple[StepNames, ...]:
    """Of the source and every step; one that could not be read may do anything."""
    names = [StepNames("source", "source", makes=False, asks=False)]
    for step in steps:
        makes = step.kind is None or step.kind.makes is not None
        names.append(StepNames(step.name, step.key, makes, step.operator is None or bool(step.operator.models())))
    return tuple(names)


def _pass_unreadable(step: Planned, flow: _Flow) -> None:
    """A step whose parameters are wrong may write anything under its name."""
    makes = step.kind.makes if step.kind is not None else None
    if step.kind is None:
        flow.grain, flow.unsure = None, True
    elif makes is not None:
        _change_grain(makes, str(step), flow)
        flow.unsure = True
    flow.fields |= {f"{column}.{step.name}.*": "" for column in LISTS}


def _fits(step: Planned, operator: Operator, steps: Sequence[Planned], flow: _Flow, problems: Problems) -> bool:
    """Whether the operator takes the rows there are; a problem if not."""
    if flow.grain is None or flow.grain in operator.takes:
        return True
    wanted = " or ".join(operator.takes)
    earlier = [i for i, grain in enumerate(flow.seen[:-1]) if grain in operator.takes]
    if earlier:
        way_out = f"move it before {steps[earlier[-1]]}"
    else:
        makers = [later for later in steps[step.number :] if later.kind is not None and later.kind.makes in operator.takes]
        way_out = f"move it after {makers[0]}" if makers else "; ".join(MAKERS[grain] for grain in operator.takes)
    problems.add(step.path, f"{step} takes {wanted}, but is given {flow.grain} (from {flow.made_by}); {way_out}")
    return False


def _check_reads(step: Planned, operator: Operator, grain: Grain, flow: _Flow, problems: Problems) -> None:
    if flow.unsure:
        return
    told = set()
    for wanted in sorted(operator.reads(grain)):
        hint = _several(wanted, flow) if _is_there(wanted, grain, flow) else _hint(wanted, grain, flow)
        if hint is None:
            continue
        path, at_field = _field_of(step, wanted)
        if (at_field, hint) not in told:
            told.add((at_field, hint))
            problems.add(path, f"{step}{at_field} reads {_plain(wanted)}: {hint}")


def _is_there(wanted: str, grain: Grain, flow: _Flow) -> bool:
    column, dot, _ = wanted.partition(".")
    if column not in tables.SCHEMAS[grain].names:
        return False
    if not dot:
        return column not in NEEDS_WRITER or column in flow.fields
    parts = _parts(wanted)
    return any(_matches(parts, _parts(name)) for name in flow.fields)


def _several(wanted: str, flow: _Flow) -> str | None:
    """Why a rater named without an aspect does not tell which score is meant; None if it does."""
    column, rater, aspect = _parts(wanted)
    if aspect != "*" or not rater or column not in SCORES:
        return None
    parts = [_parts(name) for name in flow.fields]
    aspects = sorted(other for found, by, other in parts if (found, by) == (column, rater) and other != "*")
    if len(aspects) < 2:
        return None
    return f"{rater} has several aspects ({', '.join(aspects)}): aggregate first, or say {rater}:{aspects[0]}"


def _parts(name: str) -> tuple[str, str, str]:
    """(column, rater, aspect): the rater may hold dots, the aspect may not. A plain column has no rater."""
    column, dot, rest = name.partition(".")
    if not dot:
        return column, "", "*"
    rater, dot, aspect = rest.rpartition(".")
    return (column, rater, aspect) if dot else (column, rest, "*")


def _matches(one: tuple[str, str, str], other: tuple[str, str, str]) -> bool:
    return one[0] == other[0] and all(_alike(a, b) or _alike(b, a) for a, b in zip(one[1:], other[1:], strict=True))


def _alike(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern.replace("[", "[[]"))  # * stands for anything, brackets for themselves


def _field_of(step: Planned, wanted: str) -> tuple[Path, str]:
    """The parameter that names what is read: its place and ", field"; the step itself if none does."""
    _, rater, _ = _parts(wanted)
    names = {rater, wanted} - {"", "*"}
    for key, value in step.given.items():
        values = value if isinstance(value, list) else list(value) if isinstance(value, Mapping) else [value]
        for i, item in enumerate(values):
            if isinstance(item, str) and {item, tables.split_rater(item)[0]} & names:
                return (*step.path, key, *([i] if isinstance(value, list) else [])), f", {key}"
    return step.path, ""


def _plain(wanted: str) -> str:
    return wanted.removesuffix(".*").removesuffix(".*")


def _hint(wanted: str, grain: Grain, flow: _Flow) -> str:
    """Why something is not there, and what was perhaps meant."""
    column, rater, aspect = _parts(wanted)
    if column not in tables.SCHEMAS[grain].names:
        return f"a {grain} table has no such column; {did_you_mean(column, tables.SCHEMAS[grain].names)}"
    if not rater:
        return "no step before it writes that, nor does the source map it"
    raters = {_parts(name)[1]: by for name, by in flow.fields.items() if _parts(name)[0] == column and "." in name and by}
    raters.pop("*", None)
    if rater in raters:
        aspects = sorted({_parts(name)[2] for name in flow.fields if _parts(name)[:2] == (column, rater)})
        return f"no step before it writes that aspect; {did_you_mean(aspect, aspects, f'{rater} has')}"
    near = nearest(rater, raters)
    if near is not None:
        return f"no step before it writes that; did you mean {near} (written by {raters[near]})?"
    listed = ", ".join(f"{name} (from {by})" for name, by in sorted(raters.items()))
    known = "steps" if column in ("evidence", "flags") else "raters"
    return f"no step before it writes that; {known} there are: {listed}" if listed else f"no step before it writes any {column}"


def _write(step: Planned, operator: Operator, grain: Grain, flow: _Flow, problems: Problems | None) -> None:
    """Add what a step writes; two writers of one value are a problem."""
    written = operator.writes(grain)
    if operator.makes is not None:
        _change_grain(operator.makes, str(step), flow)
    for name in sorted(written):
        if name in tables.ONE_WRITER:
            if name in flow.writers and not step.replace and problems is not None:
                way_out = "a value has one writer: leave one out, or say `replace: true` here"
                problems.add(step.path, f"{step} writes {name}, which {flow.writers[name]} has written; {way_out}")
            flow.writers[name] = str(step)
        flow.fields[name] = str(step)


def _change_grain(makes: Grain, by: str, flow: _Flow) -> None:
    """Carry over what rows of the new grain inherit: their prompt's columns, and each side's scores."""
    if makes != flow.grain:
        prompt_columns = {column.name for column in tables.PROMPT_COLUMNS} - set(LISTS)
        carried = {name: who for name, who in flow.fields.items() if name in prompt_columns}
        if flow.grain == "prompts" and makes == "responses":
            carried |= {name: who for name, who in flow.fields.items() if name.startswith("scores.") or name == "scores"}
        if flow.grain == "responses" and makes == "pairs":
            scores = {name: who for name, who in flow.fields.items() if name.startswith("scores.") or name == "scores"}
            carried |= {f"{side}_{name}": who for side in ("chosen", "rejected") for name, who in scores.items()}
        flow.fields = carried
    flow.grain, flow.made_by = makes, by
