"""Read a recipe and check all of it before anything runs; every problem is reported at once."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from curate.errors import RecipeError, UsageError
from curate.export.recipes import export_problems
from curate.models.options import option_fault
from curate.models.spec import ModelSpec, key_fault
from curate.operator import Operator
from curate.operators import OPERATORS
from curate.publish.gates import Condition
from curate.recipe import document
from curate.recipe.check import Given, Planned, check_gates, check_steps
from curate.recipe.document import Path as Place
from curate.recipe.override import TOP_KEYS, override, step_names, step_operator
from curate.recipe.problems import Part, Places, Problems, did_you_mean, nearest, quoted, validate, value_at
from curate.refresh import Refresh
from curate.source.dialects import provides
from curate.source.files import missing_files
from curate.source.spec import Source, Sources, grain_of
from curate.store.versions import check_name
from curate.tables import Grain

STEP_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")
VARIABLE = re.compile(r"(\$?)\$\{([A-Za-z_][^{}]*)\}")
VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
UNNAMED = "recipe"
MAX_ERRORS = 0.02  # a few rows without an answer are normal; more is an endpoint in trouble
SOURCE_PLACES = ("path", "hf")
"""Keys of a source whose text may hold variables; in its column templates braces mean fields."""
ASIDE = ("max_rejects", "meta", "format")
"""Keys of a source that steps do not depend on: with one of them wrong, the steps are still checked."""


@dataclass(frozen=True)
class Step:
    """One step of a recipe."""

    key: str
    """Name of its operator."""
    operator: Operator
    """With its name set."""
    grain_in: Grain
    grain_out: Grain
    line: int
    """Where it begins in the recipe's resolved text."""

    @property
    def name(self) -> str:
        """The step's name in flags, evidence and reports."""
        return self.operator.name


@dataclass(frozen=True)
class Recipe:
    """A recipe that was read without a problem."""

    name: str
    source: tuple[Source, ...]
    source_line: int
    grain: Grain
    """Of the source's rows."""
    models: Mapping[str, ModelSpec]
    steps: tuple[Step, ...]
    max_errors: float
    """Share of a step's rows that may stay without an answer; above it the run stops before it publishes."""
    gates: Mapping[str, str]
    """Metric: condition, such as ">= 0.3"."""
    exports: tuple[Mapping[str, Any], ...]
    """Each with the format under `to`."""
    text: str = field(repr=False)
    """With overrides applied; variables of the environment stay unexpanded."""
    path: Path | None
    """The file; None for a recipe given as text."""
    base: Path
    """The folder that paths in the recipe are relative to."""
    refresh: Refresh | None = None
    """What is taken of a source that changed; None if the recipe does not say: a run replaces, a schedule appends."""
    """What a run takes of a source that changed since the last version."""

    @property
    def grain_out(self) -> Grain:
        """Of the rows that are published."""
        return self.steps[-1].grain_out if self.steps else self.grain


def read_recipe(
    path_or_text: Path | str,
    base: Path | str | None = None,
    overrides: Sequence[str] = (),
    environment: Mapping[str, str] = os.environ,
    operators: Mapping[str, type[Operator]] = OPERATORS,
) -> Recipe:
    """Read a recipe file, or a recipe given as text (any str with a line break).

    base: what its paths are relative to; the file's folder, or the current one for a text. overrides: `path=value`, as
    with --set. Raises RecipeError with every problem there is.
    """
    path, text = _text(path_or_text)
    folder = Path(base) if base is not None else path.parent if path is not None else Path()
    return _Reading(path, folder, text, overrides, environment, operators).recipe()


def _text(path_or_text: Path | str) -> tuple[Path | None, str]:
    if isinstance(path_or_text, str) and ("\n" in path_or_text or not path_or_text):
        return None, path_or_text
    path = Path(path_or_text)
    return path, _decoded(path)


def _decoded(path: Path) -> str:
    """The text of a recipe file; clear about what is no recipe."""
    try:
        with path.open("rb") as file:
            data = file.read(document.MAX_BYTES + 1)
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist; `curate init` writes a recipe, `curate recipes` lists those at hand") from None
    except IsADirectoryError:
        raise UsageError(f"{path} is a folder; name a recipe file in it") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    if b"\0" in data[:8192]:
        raise RecipeError([f"{path}: not a text file; a recipe is YAML, data goes under `source`"])
    if len(data) > document.MAX_BYTES:
        raise RecipeError(
            [f"{path}: larger than {document.MAX_BYTES // 1024} KB; a recipe is a page of YAML, data goes under `source`"]
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise RecipeError([f"{path}:{line}: not UTF-8 text (byte 0x{data[error.start]:02X}); save it as UTF-8"]) from None


class _Reading:
    """One reading of a recipe: what it says, and everything found wrong so far."""

    def __init__(
        self,
        path: Path | None,
        base: Path,
        text: str,
        overrides: Sequence[str],
        environment: Mapping[str, str],
        operators: Mapping[str, type[Operator]],
    ) -> None:
        self.path, self.base = path, base
        self.environment, self.operators = environment, operators
        file = str(path) if path is not None else UNNAMED
        read = document.read(text)
        if not isinstance(read.value, dict):
            raise RecipeError(
                [*(f"{file}:{fault.line}: {fault.text}" for fault in read.faults)] or [_no_mapping(file, read.value)]
            )
        done = override(text, read, overrides)
        self.problems = Problems(Places(file, read.lines, done.settings))
        for fault in read.faults:
            self.problems.add_at(fault.line, f"{file}:{fault.line}: {fault.text}")
        for sentence in done.faults:
            self.problems.add_at(0, sentence)
        self.unset: set[Place] = set()
        """Places that name an environment variable which is not set."""
        self.text, self.lines = done.text, done.document.lines
        self.given: dict[str, Any] = done.document.value
        self.expanded: dict[str, Any] = self.expand(self.given)

    def recipe(self) -> Recipe:
        """The recipe; RecipeError if anything is wrong with it."""
        self.check_keys()
        name = self.read_name()
        models = self.read_models()
        source = self.read_source()
        planned = self.read_steps()
        self.check_references(planned, models)
        followed = check_steps(planned, _given(source), self.problems)
        grains = followed.grains
        refresh = self.read_refresh()
        max_errors, gates, exports = self.read_max_errors(), self.read_gates(), self.read_exports()
        check_gates(self.mapping("gates", quiet=True), planned, followed, self.problems)
        if self.problems.found or source is None:
            raise RecipeError(self.problems.texts())
        steps = tuple(self.step(step, grains[i], grains[i + 1]) for i, step in enumerate(planned))
        line = self.lines.get(("source",), 1)
        grain = grains[0] or "prompts"
        return Recipe(
            name, source, line, grain, models, steps, max_errors, gates, exports, self.text, self.path, self.base, refresh
        )

    def step(self, planned: Planned, grain_in: Grain | None, grain_out: Grain | None) -> Step:
        assert planned.operator is not None and grain_in is not None and grain_out is not None
        return Step(planned.key, planned.operator, grain_in, grain_out, self.lines.get(("steps", planned.number - 1), 1))

    # -- environment

    def expand(self, value: Any, place: Place = ()) -> Any:
        """A copy with ${NAME} taken from the environment; $${NAME} stands for the text ${NAME}."""
        if isinstance(value, dict):
            return {key: self.expand(inner, (*place, key)) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.expand(inner, (*place, i)) for i, inner in enumerate(value)]
        if isinstance(value, str) and "${" in value and (place[0] != "source" or place[-1] in SOURCE_PLACES):
            return VARIABLE.sub(lambda match: self.variable(match, place), value)
        return value

    def variable(self, match: re.Match[str], place: Place) -> str:
        escaped, name = match.groups()
        if escaped:
            return match[0][1:]
        if not VARIABLE_NAME.fullmatch(name):
            self.problems.add(
                place, f"{self.shown(place)}: ${{{name}}} names no environment variable; write $${{{name}}} for the text itself"
            )
        elif name not in self.environment:
            self.unset.add(place)
            self.problems.add(place, f"{self.shown(place)}: environment variable {name} is not set")
        elif place[0] != "source":  # a source expands its paths itself when it reads them: what is recorded of it holds anywhere
            return self.environment[name]
        return match[0]

    # -- the parts of a recipe

    def check_keys(self) -> None:
        for key in self.given:
            if key not in TOP_KEYS:
                self.problems.add((key,), f"{key}: unknown; {did_you_mean(key, TOP_KEYS, 'a recipe has')}")

    def read_name(self) -> str:
        name = self.given.get("name")
        if name is None:
            self.problems.add((), "name: missing; it names the dataset, such as `name: my-pairs`")
        elif not isinstance(name, str):
            self.problems.add(("name",), f"name: should be text, got {quoted(name)}")
        else:
            try:
                return check_name(name)
            except UsageError as error:
                self.problems.add(("name",), f"name: {error}")
        return ""

    def read_models(self) -> dict[str, ModelSpec]:
        specs = {}
        for key, given in self.mapping("models").items():
            place: Place = ("models", key)
            spec = self.validated(ModelSpec, place)
            if isinstance(given, dict) and (fault := key_fault(given.get("api_key"))) is not None:
                self.problems.add((*place, "api_key"), f"{self.shown((*place, 'api_key'))}: {fault}")
            if spec is not None:
                specs[key] = spec
                if (fault := option_fault(spec, key)) is not None:
                    self.problems.add((*place, "options"), f"{self.shown(place)}: {fault}")
        return specs

    def read_source(self) -> tuple[Source, ...] | None:
        """The source or sources; None, and problems, if they cannot be used."""
        given = self.given.get("source")
        if given is None or given == []:
            self.problems.add(
                ("source",), "source: missing; say where the rows come from, such as `source: {path: answers.jsonl}`"
            )
            return None
        places: list[Place] = [("source", i) for i in range(len(given))] if isinstance(given, list) else [("source",)]
        before = len(self.problems.found)
        read = [self.validated(Source, place) for place in places]
        for place, source in zip(places, read, strict=True):
            if source is not None and not any(unset[: len(place)] == place for unset in self.unset):
                for missing in missing_files(source, self.base):
                    self.problems.add(self.file_place(place, missing), f"{self.shown(place)}: {missing}")
        try:
            usable = TypeAdapter(Sources).validate_python([source for source in read if source is not None])
        except ValidationError as error:
            if len(self.problems.found) == before:
                self.problems.add(("source",), f"source: {error.errors()[0]['ctx']['error']}")
            return None
        return usable if None not in read else None

    def file_place(self, place: Place, missing: str) -> Place:
        """Where a source, or one of its joins, names the file that a sentence about it begins with."""
        joins = value_at(self.given, (*place, "join"))
        places = [(*place, "join", i) for i in range(len(joins))] if isinstance(joins, list) else [(*place, "join")]
        named = ((*one, key) for one in [place, *places] for key in SOURCE_PLACES)
        return next((one for one in named if missing.startswith(f"{value_at(self.given, one)}:")), place)

    def read_steps(self) -> list[Planned]:
        steps = self.given.get("steps")
        if steps is not None and not isinstance(steps, list):
            self.problems.add(("steps",), f"steps: should be a list (each step begins with `- `), got {quoted(steps)}")
            return []
        names = step_names(steps)
        self.check_names(names)
        return [self.read_step(i, step, names[i]) for i, step in enumerate(steps or [])]

    def check_names(self, names: Sequence[str]) -> None:
        for i, name in enumerate(names):
            if name in names[:i]:
                first = names.index(name) + 1
                self.problems.add(("steps", i), f"step {i + 1} ({name}), name: taken by step {first}; names tell steps apart")

    def read_step(self, i: int, step: Any, name: str) -> Planned:
        key = step_operator(step)
        if key is None:
            self.problems.add(("steps", i), f"step {i + 1}: should be one operator, `- name: {{…}}`, got {_several(step)}")
            return Planned(i + 1, "", name, None, None, ("steps", i), {})
        place: Place = ("steps", i, key) if isinstance(step, dict) else ("steps", i)
        about = f"step {i + 1} ({name})"
        given = step[key] if isinstance(step, dict) else None
        if given is not None and not isinstance(given, dict):
            self.problems.add(place, f"{about}: parameters should be a mapping, got {quoted(given)}")
            return Planned(i + 1, key, name, None, self.operators.get(key), place, {})
        kind = self.operators.get(key)
        if kind is None:
            near = did_you_mean(key, self.operators, "there are")
            self.problems.add(place, f"{about}: no operator is called {key}; {near}")
            return self.guessed(i, key, name, given or {}, near, place)
        self.check_step_name(name, given or {}, about, place)
        operator = self.operator(kind, name, given or {}, about, place)
        return Planned(i + 1, key, name, operator, kind, place, given or {}, self.replaces(operator, given or {}, about, place))

    def guessed(self, i: int, key: str, name: str, given: dict[str, Any], near: str, place: Place) -> Planned:
        """A step of an unknown operator, taken as the one most like it so that later steps are still checked."""
        kind = next((kind for known, kind in self.operators.items() if near == f"did you mean {known}?"), None)
        return Planned(i + 1, key, name, None, kind, place, given)

    def check_step_name(self, name: str, given: dict[str, Any], about: str, place: Place) -> None:
        if "name" not in given:
            return
        if not isinstance(given["name"], str) or not STEP_NAME.fullmatch(given["name"]):
            self.problems.add(
                (*place, "name"), f"{about}, name: should be letters, digits, '-' and '_', got {quoted(given['name'])}"
            )
        elif name == "source":
            self.problems.add((*place, "name"), f"{about}, name: `source` means the source; take another name")

    def operator(self, kind: type[Operator], name: str, given: dict[str, Any], about: str, place: Place) -> Operator | None:
        """The operator; where parameters are wrong, as good a stand-in as the right ones give."""
        extra = () if "replace" in kind.model_fields else ("replace",)
        expanded = _at(self.expanded, place) if len(place) > 2 else None
        usable = {key: value for key, value in (expanded or {}).items() if key not in ("name", *extra)}
        operator, faults = validate(kind, usable | {"name": name}, given)
        for inside, sentence in faults:
            where = _dotted(inside)
            self.problems.add((*place, *inside), f"{about}{', ' if where else ''}{where}: {sentence}")
        if faults:
            wrong = {inside[0] for inside, _ in faults if inside}
            rest = {key: value for key, value in usable.items() if key not in wrong}
            operator, _ = validate(kind, rest | {"name": name}, given)
        return None if operator is None else self.settled(operator)

    def settled(self, operator: Operator) -> Operator:
        """The operator with its paths taken from the recipe's folder."""
        paths = {key: self._from_base(value) for key, value in operator}
        changed = {key: value for key, value in paths.items() if value is not getattr(operator, key)}
        return operator.model_copy(update=changed) if changed else operator

    def _from_base(self, value: Any) -> Any:
        """The value with every path in it taken from the recipe's folder; the very value where there is none."""
        if isinstance(value, Path):
            return self.base / value
        if isinstance(value, tuple) and any(isinstance(item, Path) for item in value):
            return tuple(self._from_base(item) for item in value)
        if isinstance(value, dict) and any(isinstance(item, Path | tuple) for item in value.values()):
            return {key: self._from_base(item) for key, item in value.items()}
        return value

    def replaces(self, operator: Operator | None, given: dict[str, Any], about: str, place: Place) -> bool:
        """Whether the step may write a value that another one has written."""
        replace = given.get("replace", False)
        if not isinstance(replace, bool) and (operator is None or "replace" not in type(operator).model_fields):
            self.problems.add((*place, "replace"), f"{about}, replace: should be true or false, got {quoted(replace)}")
        return replace is True

    def check_references(self, planned: Sequence[Planned], models: Mapping[str, ModelSpec]) -> None:
        """Models and files that steps name must exist."""
        known = set(self.mapping("models", quiet=True)) | set(models)
        for step in planned:
            if step.operator is None:
                continue
            for model in sorted(step.operator.models() - known):
                place, where = self.parameter(step, model)
                self.problems.add(place, f"{step}{where}: no model is called {model}; {did_you_mean(model, known, 'models has')}")
            for file in sorted(step.operator.files()):
                if not (self.base / file).exists():
                    place, where = self.parameter(step, file)
                    self.problems.add(place, f"{step}{where}: file {self.base / file} does not exist")

    def parameter(self, step: Planned, value: str) -> tuple[Place, str]:
        """Where a step's parameters hold a name or file: its place and ", field"; the step itself if it is not found."""
        for key, given in step.given.items():
            for i, item in enumerate(given if isinstance(given, list) else [given]):
                if isinstance(item, str) and value in (item, str(self.base / item)):
                    return (*step.path, key, *([i] if isinstance(given, list) else [])), f", {key}"
        return step.path, ""

    def read_refresh(self) -> Refresh | None:
        if "refresh" not in self.given:
            return None
        try:
            return Refresh.parse(self.given["refresh"])
        except UsageError as error:
            self.problems.add(("refresh",), str(error))
            return None

    def read_max_errors(self) -> float:
        share = self.given.get("max_errors", MAX_ERRORS)
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            self.problems.add(("max_errors",), f"max_errors: should be a share from 0 to 1, got {quoted(share)}")
            return MAX_ERRORS
        return float(share)

    def read_gates(self) -> dict[str, str]:
        gates = {}
        for metric, condition in self.mapping("gates").items():
            try:
                Condition.parse(condition if isinstance(condition, str) else "")
                gates[metric] = condition.strip()
            except ValueError as error:
                self.problems.add(("gates", metric), f"gates, {metric}: {error}, got {quoted(condition)}")
        return gates

    def read_exports(self) -> tuple[dict[str, Any], ...]:
        given = self.given.get("exports")
        if given is not None and not isinstance(given, list):
            self.problems.add(("exports",), f"exports: should be a list, such as [{{to: trl-dpo}}], got {quoted(given)}")
            return ()
        exports = []
        for i, item in enumerate(given or []):
            export = {"to": item} if isinstance(item, str) else item
            if isinstance(export, dict) and isinstance(export.get("to"), str):
                for problem in export_problems(export):
                    self.problems.add(("exports", i), f"exports, {i + 1}: {problem}")
                exports.append(export if isinstance(item, str) else self.expanded["exports"][i])
            else:
                self.problems.add(
                    ("exports", i), f"exports, {i + 1}: should be a mapping with the format under `to`, got {quoted(item)}"
                )
        return tuple(exports)

    # -- small helpers

    def mapping(self, key: str, quiet: bool = False) -> dict[str, Any]:
        given = self.given.get(key)
        if given is None or isinstance(given, dict):
            return given or {}
        if not quiet:
            self.problems.add((key,), f"{key}: should be a mapping, got {quoted(given)}")
        return {}

    def validated(self, model: type[Part], place: Place) -> Part | None:
        """The model at a place; None, and problems, if it is wrong in anything that matters to steps."""
        given, expanded = _at(self.given, place), _at(self.expanded, place)
        read, faults = validate(model, expanded, given)
        for inside, sentence in faults:
            self.problems.add((*place, *inside), f"{self.shown((*place, *inside))}: {sentence}")
        wrong = {str(inside[0]) if inside else "" for inside, _ in faults}
        if wrong and all(nearest(key, model.model_fields) in ASIDE for key in wrong):
            read, _ = validate(model, {key: value for key, value in expanded.items() if key not in wrong}, given)
        return read

    def shown(self, place: Place) -> str:
        """A place for people: "source, files", "models.judge, backend", "step 3 (pair), min_gap"."""
        if place[:1] == ("steps",) and len(place) > 1 and isinstance(place[1], int):
            names = step_names(self.given["steps"])
            rest = _dotted(place[3:])
            return f"step {place[1] + 1} ({names[place[1]]}){', ' if rest else ''}{rest}"
        depth = 2 if place[:1] == ("models",) or (len(place) > 1 and isinstance(place[1], int)) else 1
        rest = _dotted(place[depth:])
        return f"{_dotted(place[:depth])}{', ' if rest else ''}{rest}"


def _given(source: tuple[Source, ...] | None) -> Given:
    """What the source's rows hold, as far as the recipe tells."""
    if source is None:
        return Given(None)
    mapped = {name for one in source for name in (*one.columns, *one.constants)}
    return Given(grain_of(source), frozenset(provides(source)), frozenset(mapped))


def _no_mapping(file: str, value: Any) -> str:
    if value is None:
        return f"{file}:1: the recipe is empty; `curate init` writes one to start from"
    shown = "a list" if isinstance(value, list) else quoted(value)
    return f"{file}:1: a recipe is a mapping with name, source and steps, got {shown}"


def _several(step: Any) -> str:
    if isinstance(step, dict) and len(step) > 1:
        keys = ", ".join(list(step)[:4])
        return f"{len(step)} keys ({keys}); indent parameters below the operator, or give each step its own `- `"
    return quoted(step)


def _at(value: Any, place: Place) -> Any:
    for part in place:
        value = value[part]
    return value


def _dotted(place: Place) -> str:
    """A place inside a part, lists counted from 1: "map.columns.2"."""
    return ".".join(str(part + 1) if isinstance(part, int) else part for part in place)
