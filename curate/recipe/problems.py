"""Say what is wrong with a recipe: where, which field, what was given, and the nearest right name."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from curate.recipe.document import Path

Part = TypeVar("Part", bound=BaseModel)
SHOWN = 60  # characters of a wrong value that a message quotes

# what pydantic calls the fault, and what a person should have written
SHOULD_BE = {
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_parsing_size": "a smaller number",
    "float_parsing": "a number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "none_required": "null",
}
BOUNDS = {
    "greater_than": ("greater than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The most similar of the names, or None if none is similar."""
    by_lower = {known.lower(): known for known in names}
    found = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6 if len(name) > 3 else 0.5)
    if found:
        return by_lower[found[0]]
    inside = [
        known
        for lower, known in by_lower.items()
        if len(name) > 2 and (name.lower() in lower or lower.startswith(name[:3].lower()))
    ]
    return min(inside, key=len) if inside else None


def did_you_mean(name: str, names: Iterable[str], otherwise: str = "known are") -> str:
    """ "did you mean x?", or the names there are when none is near."""
    listed = sorted(names)
    if (near := nearest(name, listed)) is not None:
        return f"did you mean {near}?"
    return f"{otherwise} {', '.join(listed)}" if listed else "there are none"


def quoted(value: Any) -> str:
    """A wrong value as a message shows it, shortened."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


@dataclass(frozen=True)
class Places:
    """Where each value of a recipe was written: a line of the file, or an override."""

    file: str
    lines: Mapping[Path, int]
    overrides: Mapping[Path, str] = field(default_factory=dict)

    def line(self, path: Path) -> int:
        """The line of the value, or of the nearest value around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def name(self, path: Path) -> str:
        """ "file:line", or the override that set the value."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.overrides:
                return f"--set {self.overrides[path[:end]]}"
        return f"{self.file}:{self.line(path)}"


@dataclass
class Problems:
    """Everything found wrong so far."""

    places: Places
    found: list[tuple[int, str]] = field(default_factory=list)

    def add(self, path: Path, text: str) -> None:
        """Note a problem with the value at a place."""
        self.add_at(self.places.line(path), f"{self.places.name(path)}: {text}")

    def add_at(self, line: int, text: str) -> None:
        """Note a problem whose text names its place; problems are listed by line."""
        if (line, text) not in self.found:
            self.found.append((line, text))

    def texts(self) -> list[str]:
        """All problems in the order of the file."""
        return [text for _, text in sorted(self.found, key=lambda problem: problem[0])]


def value_at(value: Any, path: Path) -> Any:
    """The value at a place, or None where there is none."""
    for part in path:
        keyed = isinstance(value, Mapping) and part in value
        placed = isinstance(value, (list, tuple)) and isinstance(part, int) and part < len(value)
        if not (keyed or placed):
            return None
        value = value[part]
    return value


def validate(model: type[Part], values: Any, given: Any) -> tuple[Part | None, list[tuple[Path, str]]]:
    """The model, or None and what is wrong: (place, sentence) for each wrong field. given: the values as written."""
    try:
        return model.model_validate(values), []
    except ValidationError as error:
        return None, explain(error, model, given)
    except (TypeError, AttributeError) as error:  # a validator met a list or mapping where it expected neither
        return None, [((), f"a value has a shape that does not fit ({error})")]


def explain(error: ValidationError, model: type[BaseModel], given: Any) -> list[tuple[Path, str]]:
    """One (place, sentence) for each wrong field, in the words of the recipe.

    given: what the recipe says, as written: messages quote it, so no expanded secret can show.
    """
    by_place: dict[Path, list[tuple[str, Any]]] = {}
    for fault in error.errors(include_url=False):
        place = _place(fault["loc"], given, fault["type"])
        if fault["type"] == "extra_forbidden" and str(place[-1]) in _siblings(model, place):
            continue  # known to another member of a union
        by_place.setdefault(place, []).append((_sentence(fault, model, place), fault))
    inner = set(by_place)
    told = []
    for place, faults in by_place.items():
        deeper = any(other != place and other[: len(place)] == place for other in inner)
        texts = [text for text, fault in faults if not (deeper and fault["type"] in SHOULD_BE)]
        if texts:
            told.append((place, _joined(texts, value_at(given, place))))
    return told


def _place(loc: Sequence[str | int], given: Any, kind: str) -> Path:
    """The part of a pydantic location that the recipe has written; for a missing field, where it should be.

    Pydantic mixes names of union members into locations; those are no place in the recipe.
    """
    place: list[str | int] = []
    for part in loc:
        inside = value_at(given, (*place, part))
        holder = value_at(given, tuple(place))
        if inside is not None or (isinstance(holder, Mapping) and part in holder):
            place.append(part)
    return (*place, loc[-1]) if kind == "missing" and loc else tuple(place)


def _sentence(fault: Any, model: type[BaseModel], place: Path) -> str:
    kind, context = fault["type"], fault.get("ctx", {})
    if kind == "extra_forbidden":
        return f"unknown; {did_you_mean(str(place[-1]), _siblings(model, place), 'it has')}"
    if kind == "missing":
        return f"missing{_meaning(model, place)}"
    if kind in ("literal_error", "enum"):
        return f"should be one of {context['expected']}"
    if kind in BOUNDS:
        word, bound = BOUNDS[kind]
        return f"should be {word} {context[bound]:g}"
    if kind in SHOULD_BE:
        return f"should be {SHOULD_BE[kind]}"
    if kind in ("too_short", "too_long", "string_too_short", "string_too_long"):
        limit = context.get("min_length", context.get("max_length"))
        bound = "at least" if "short" in kind else "at most"
        unit = "character" if kind.startswith("string") else "item"
        return f"should have {bound} {limit} {unit}{'' if limit == 1 else 's'}"
    if kind in ("value_error", "assertion_error"):
        return f"!{context['error']}"
    return f"!{fault['msg'][:1].lower()}{fault['msg'][1:]}"


def _joined(texts: Sequence[str], value: Any) -> str:
    """Alternatives of one field as one sentence that ends with the value given."""
    distinct = list(dict.fromkeys(texts))
    if distinct[0].startswith(("unknown", "missing")):
        return distinct[0]
    if any(text.startswith("!") for text in distinct):
        return "; ".join(text.removeprefix("!") for text in distinct)
    wanted = " or ".join(text.removeprefix("should be ") if i else text for i, text in enumerate(distinct))
    near = ""
    if isinstance(value, str) and "one of" in wanted:
        choices = [part.strip("' ") for part in wanted.partition("one of ")[2].replace(" or ", ", ").split(",")]
        near = f"; did you mean {found}?" if (found := nearest(value, choices)) else ""
    return f"{wanted}, got {quoted(value)}{near}"


def _siblings(model: type[BaseModel], place: Path) -> list[str]:
    """Names that may stand where the last one of a place does."""
    return [field.alias or name for holder in _holders(model, place) for name, field in holder.model_fields.items()]


def _holders(model: type[BaseModel], place: Path) -> list[type[BaseModel]]:
    """The models that may stand around a place."""
    holders = [model]
    for part in place[:-1]:
        # a position in a list, or a key of a mapping, leads to the same model
        holders = [inner for holder in holders for inner in _inner(holder, part)] or holders
    return holders


def _inner(model: type[BaseModel], part: str | int) -> list[type[BaseModel]]:
    """The models that a field may hold, alone, in a union, list or mapping."""
    found = next((field for name, field in model.model_fields.items() if part in (name, field.alias)), None)
    return [] if found is None else _models(found.annotation)


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in getattr(annotation, "__args__", ()) for model in _models(argument)]


def _meaning(model: type[BaseModel], place: Path) -> str:
    """ " (what it is)" for a required field, from its description."""
    fields = [
        field
        for holder in _holders(model, place)
        for name, field in holder.model_fields.items()
        if place[-1] in (name, field.alias)
    ]
    about = next((field.description for field in fields if field.description), None)
    return f" ({about.rstrip('.')})" if about else ""
