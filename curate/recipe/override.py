"""Change values of a recipe from the command line: `--set pair.min_gap=0.5`, keeping its text and comments where possible."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from curate.recipe import document
from curate.recipe.document import Document, Path
from curate.recipe.problems import did_you_mean

TOP_KEYS = ("name", "models", "source", "steps", "refresh", "max_errors", "gates", "exports")


@dataclass(frozen=True)
class Overridden:
    """A recipe with its overrides applied."""

    text: str
    """The original text where nothing was overridden; else with values replaced in place, or written anew."""
    document: Document
    """The resolved text, read."""
    settings: Mapping[Path, str]
    """What each override set, by place."""
    faults: Sequence[str]
    """Overrides that cannot be applied, one sentence each."""


def override(text: str, read: Document, settings: Sequence[str]) -> Overridden:
    """Apply `path=value` settings in order. Values are YAML; the path must lead into something the recipe has."""
    places: dict[Path, str] = {}
    faults = []
    for setting in settings:
        dotted, equals, written = setting.partition("=")
        try:
            if not equals:
                raise _Unusable("should be path=value, such as pair.min_gap=0.5")
            path = find(read.value, dotted.strip())
            text, read = _set(text, read, path, _value(written))
            places[path] = setting
        except _Unusable as error:
            faults.append(f"--set {setting}: {error}")
    return Overridden(text, read, places, faults)


class _Unusable(Exception):
    """An override that cannot be applied."""


def step_operator(step: Any) -> str | None:
    """The operator a step of a recipe names, `- pair` or `- pair: {...}`; None if it is neither."""
    if isinstance(step, str):
        return step
    return next(iter(step)) if isinstance(step, Mapping) and len(step) == 1 else None


def step_names(steps: Any) -> list[str]:
    """The name of each step: as given, else the operator's name, with -2, -3 where taken."""
    listed = steps if isinstance(steps, list) else []
    given = [_given_name(step) for step in listed]
    taken = {name for name in given if name}
    names = []
    for step, name in zip(listed, given, strict=True):
        if not name:
            operator = step_operator(step) or "step"
            candidates = [operator, *(f"{operator}-{n}" for n in range(2, len(listed) + len(taken) + 2))]
            name = next(candidate for candidate in candidates if candidate not in taken)
            taken.add(name)
        names.append(name)
    return names


def _given_name(step: Any) -> str | None:
    operator = step_operator(step)
    fields = step.get(operator) if isinstance(step, Mapping) and operator is not None else None
    name = fields.get("name") if isinstance(fields, Mapping) else None
    return name if isinstance(name, str) else None


def find(recipe: Any, dotted: str) -> Path:
    """The place a dotted path leads to; its last part may be new. Lists are counted from 1, steps also go by name."""
    parts = dotted.split(".")
    if not all(parts):
        raise _Unusable("should be path=value, such as pair.min_gap=0.5")
    names = step_names(recipe.get("steps"))
    if parts[0] not in recipe and parts[0] not in TOP_KEYS:
        if parts[0] not in names:
            raise _Unusable(f"no {parts[0]} in the recipe; {did_you_mean(parts[0], {*TOP_KEYS, *names})}")
        parts = ["steps", *parts]
    path: Path = ()
    here: Any = recipe
    while parts:
        if path == ("steps",):
            path = (*path, *_step(here, names, parts[0]))
            parts = parts[1:]
        elif isinstance(here, list):
            path = (*path, _item(here, parts[0], path))
            parts = parts[1:]
        else:
            key, parts = _key(here, parts, path)
            path = (*path, key)
        here = _at(recipe, path)
    return path


def _at(recipe: Any, path: Path) -> Any:
    """The value at a place; steps written as a bare name, and nulls, count as empty mappings."""
    for part in path:
        if recipe is None or isinstance(recipe, str):
            return {}
        recipe = recipe[part] if isinstance(part, int) else recipe.get(part)
    return {} if recipe is None else recipe


def _step(steps: Any, names: Sequence[str], part: str) -> Path:
    number = names.index(part) if part in names else _item(steps, part, ("steps",), names)
    operator = step_operator(steps[number])
    if operator is None:
        raise _Unusable(f"step {number + 1} is not one operator")
    return (number, operator)


def _item(items: Sequence[Any], part: str, path: Path, names: Sequence[str] = ()) -> int:
    if part.isdecimal() and 1 <= int(part) <= len(items):
        return int(part) - 1
    count = f"it has 1 to {len(items)}" if items else "it is empty"
    known = did_you_mean(part, names) if names and not part.isdecimal() else count
    raise _Unusable(f"no {part} in {_shown(path)}; {known}")


def _key(here: Any, parts: list[str], path: Path) -> tuple[str, list[str]]:
    """The longest key the parts begin with (keys may hold dots), or a new last one."""
    if not isinstance(here, Mapping):
        raise _Unusable(f"{_shown(path)} is {here!r}, it has no {'.'.join(parts)}")
    for end in range(len(parts), 0, -1):
        if ".".join(parts[:end]) in here:
            return ".".join(parts[:end]), parts[end:]
    if len(parts) == 1 and path != ("models",):
        return parts[0], []
    raise _Unusable(f"no {parts[0]} in {_shown(path)}; {did_you_mean(parts[0], here, 'it has')}")


def _shown(path: Path) -> str:
    return ".".join(str(part + 1) if isinstance(part, int) else part for part in path) or "the recipe"


def _value(text: str) -> Any:
    read = document.read(text)
    if read.faults:
        raise _Unusable(f"the value is {read.faults[0].text}" if "YAML" in read.faults[0].text else read.faults[0].text)
    return read.value


def _set(text: str, read: Document, path: Path, value: Any) -> tuple[str, Document]:
    """Text and document with the value in place: a small change of the text if that gives it, else written anew."""
    wanted = _with(read.value, path, value)
    patched = _patch(text, read, path, value)
    if patched is not None:
        again = document.read(patched)
        if not again.faults and again.value == wanted:
            return patched, again
    text = document.dump(wanted)
    return text, document.read(text)


def _with(whole: Any, path: Path, value: Any) -> Any:
    """A copy of nested mappings and lists with one value set."""
    if not path:
        return value
    part, rest = path[0], path[1:]
    if isinstance(part, int):
        return [_with(item, rest, value) if i == part else item for i, item in enumerate(whole)]
    held: Mapping[str, Any] = whole if isinstance(whole, Mapping) else {}
    return {**held, part: _with(held.get(part), rest, value)}


def _patch(text: str, read: Document, path: Path, value: Any) -> str | None:
    """The text with the value written where it belongs; None where that takes more than one change."""
    written = document.dump([value], flow=True)[1:-1]
    node = read.nodes.get(path)
    if node is not None and _on_the_spot(node):
        return _replaced(text, node, written)
    key, holder = path[-1], read.nodes.get(path[:-1])
    if node is not None or not isinstance(key, str):
        return None
    item = f"{document.dump([key], flow=True)[1:-1]}: {written}"
    if isinstance(holder, yaml.MappingNode) and holder.flow_style:
        end = holder.end_mark.index - 1
        return f"{text[:end].rstrip()}{', ' if holder.value else ''}{item}{text[end:]}"
    if isinstance(holder, yaml.MappingNode):
        start = holder.start_mark
        return f"{text[: start.index]}{item}\n{' ' * start.column}{text[start.index :]}"
    if isinstance(holder, yaml.ScalarNode) and _on_the_spot(holder):  # `- pair:`
        return _replaced(text, holder, f"{{{item}}}")
    bare = read.nodes.get(path[:-2])
    if isinstance(bare, yaml.ScalarNode) and _on_the_spot(bare):  # `- pair`
        return _replaced(text, bare, f"{path[-2]}: {{{item}}}")
    return None


def _on_the_spot(node: yaml.Node) -> bool:
    if isinstance(node, yaml.ScalarNode):
        return node.style not in ("|", ">")
    return isinstance(node, yaml.CollectionNode) and bool(node.flow_style)


def _replaced(text: str, node: yaml.Node, written: str) -> str:
    start, end = node.start_mark.index, node.end_mark.index
    space = " " if start == end and text[start - 1 : start] == ":" else ""
    return f"{text[:start]}{space}{written}{text[end:]}"
