"""Read a field of a source row by its path, or a text made of several fields.

Paths: `a`, `a.b.c`, `a[0]`, `a[].b` (b of every entry of the list a) and `chars(a)` (its number of characters).
A value with braces is a template of text: `"{question}\\n\\n{options:letters}"`; its formats are letters (`A) ...`),
numbers (`1) ...`), lines and json. Nothing is ever evaluated.
"""

import datetime
import json
import math
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from curate.ids import canonical_json
from curate.source.rejects import BadRow
from curate.tables import text_fault

Raw = Mapping[str, Any]
Getter = Callable[[Raw], Any]

STEP = re.compile(r"(?:^|\.)([^.\[\](){}]+)|\[(\d*)\]")
TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]+)\}|[^{}]+")
FORMATS = ("letters", "numbers", "lines", "json")


def getter(path: str) -> Getter:
    """The function that reads a path; absent fields are None. ValueError if the path cannot be read."""
    counted = re.fullmatch(r"chars\((.+)\)", path)
    if counted:
        inner = getter(counted[1])
        return lambda row: _chars(inner(row))
    steps = parse(path)
    first, rest = steps[0], steps[1:]
    if not rest:
        return lambda row: row.get(first)
    return lambda row: row[path] if path in row else walk(row.get(first), rest)


def parse(path: str) -> list[Any]:
    """A path's steps: names, list positions, and None for every entry of a list."""
    steps: list[Any] = []
    end = 0
    for found in STEP.finditer(path):
        if found.start() != end:
            break
        end = found.end()
        steps.append(found[1] if found[1] is not None else int(found[2]) if found[2] else None)
    if not path or end != len(path) or not isinstance(steps[0], str):
        raise ValueError(f"{path!r} is no field path; write a, a.b, a[0], a[].b or chars(a)")
    return steps


def walk(value: Any, steps: list[Any]) -> Any:
    """What lies at the end of the steps, or None."""
    for place, step in enumerate(steps):
        if step is None:
            return [walk(entry, steps[place + 1 :]) for entry in value] if isinstance(value, list) else None
        if isinstance(step, int):
            value = value[step] if isinstance(value, list) and step < len(value) else None
        else:
            value = value.get(step) if isinstance(value, Mapping) else None
    return value


def _chars(value: Any) -> int | None:
    return len(value) if isinstance(value, str) else None


def is_template(path: str) -> bool:
    """Whether a mapping value is a template and not a path."""
    return "{" in path or "}" in path


def template(text: str) -> Getter:
    """The function that fills a template. ValueError if it cannot be read, BadRow if a row lacks a field."""
    parts: list[str | tuple[str, Getter, str]] = []
    end = 0
    for found in TOKEN.finditer(text):
        if found.start() != end:
            break
        end = found.end()
        if found[1] is None:
            parts.append({"{{": "{", "}}": "}"}.get(found[0], found[0]))
        else:
            parts.append(_hole(found[1]))
    if end != len(text):
        raise ValueError(f"a brace at character {end + 1} of template {text!r} has no partner; write {{{{ for a brace")
    return lambda row: "".join(part if isinstance(part, str) else _filled(row, *part) for part in parts)


def _hole(inside: str) -> tuple[str, Getter, str]:
    path, colon, style = inside.partition(":")
    if colon and style not in FORMATS:
        raise ValueError(f"{{{inside}}}: no format {style!r}; there are {', '.join(FORMATS)}")
    return path, getter(path), style


def _filled(row: Raw, path: str, get: Getter, style: str) -> str:
    value = get(row)
    if value is None:
        raise BadRow(path, "missing field")
    if style == "json":
        return canonical_json(plain(value, path))
    if style:
        return _listed(value, path, style)
    if isinstance(value, (list, Mapping)):
        raise BadRow(path, "wrong type", f"a template needs text, got {kind_of(value)}; use {{{path}:lines}} or {{{path}:json}}")
    return scalar_text(value, path)


def _listed(value: Any, path: str, style: str) -> str:
    if not isinstance(value, list):
        raise BadRow(path, "wrong type", f"{style} needs a list, got {kind_of(value)}")
    if style == "letters" and len(value) > 26:
        raise BadRow(path, "wrong type", f"letters end at Z, got {len(value)} entries")
    marks = {"letters": [f"{chr(65 + i)}) " for i in range(26)], "numbers": [f"{i + 1}) " for i in range(len(value))]}
    told = [scalar_text(entry, path) for entry in value]
    return "\n".join(mark + entry for mark, entry in zip(marks.get(style, [""] * len(told)), told, strict=False))


def read_with(mapping: str) -> Getter:
    """The function behind a mapping value, a path or a template."""
    return template(mapping) if is_template(mapping) else getter(mapping)


def roots(mapping: str) -> set[str]:
    """Top-level fields that a mapping value may read: a path's first name, and a field named like the whole path."""
    out = set()
    for path in holes(mapping):
        counted = re.fullmatch(r"chars\((.+)\)", path)
        inner = counted[1] if counted else path
        out |= {str(parse(inner)[0]), inner}
    return out


def holes(mapping: str) -> list[str]:
    """The paths in a mapping value: itself, or those in a template's braces."""
    return [found[1].partition(":")[0] for found in TOKEN.finditer(mapping) if found[1]] if is_template(mapping) else [mapping]


def kind_of(value: Any) -> str:
    """A JSON value's type, for people."""
    if value is None:
        return "null"
    names = (
        (bool, "true or false"),
        (str, "text"),
        ((int, float, Decimal), "a number"),
        ((list, tuple), "a list"),
        (Mapping, "an object"),
    )
    return next((name for kind, name in names if isinstance(value, kind)), type(value).__name__)


def sound(text: str, column: str) -> str:
    """The text itself; BadRow if it cannot be stored."""
    fault = text_fault(text)
    if fault:
        reason = "NUL character" if fault.startswith("NUL") else "lone surrogate"
        raise BadRow(column, reason, fault)
    return text


def text(value: Any, column: str) -> str:
    """A text that must be there and not be empty."""
    if value is None:
        raise BadRow(column, "missing field")
    if not isinstance(value, str):
        raise BadRow(column, "wrong type", f"text expected, got {kind_of(value)}")
    if not value:
        raise BadRow(column, "empty field")
    return sound(value, column)


def answer(value: Any, column: str) -> str:
    """A text that must be there but may be empty: an empty answer was given and judged like any other."""
    return "" if value == "" else text(value, column)


def scalar_text(value: Any, column: str) -> str:
    """Text, or a number or truth value as text; NaN is no text."""
    if isinstance(value, str):
        return sound(value, column)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, Decimal)) or (isinstance(value, float) and math.isfinite(value)):
        return str(value)
    raise BadRow(column, "wrong type", f"text expected, got {'NaN' if isinstance(value, float) else kind_of(value)}")


def label_text(value: Any, column: str) -> str:
    """Text of a describing column (reference, model, ...): lists and objects become JSON."""
    return canonical_json(plain(value, column)) if isinstance(value, (list, Mapping)) else scalar_text(value, column)


def json_text(value: Any, column: str) -> str:
    """A value as canonical JSON; text is taken to be JSON already and checked."""
    if isinstance(value, str):
        sound(value, column)
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise BadRow(column, "wrong type", "JSON expected") from error
    return canonical_json(plain(value, column))


def plain(value: Any, column: str) -> Any:
    """The value as JSON can carry it: dates as ISO text, NaN as null; BadRow for text that cannot be stored and for bytes."""
    if isinstance(value, str):
        return sound(value, column)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, Mapping):
        return {sound(str(key), column): plain(entry, column) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry, column) for entry in value]
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (Decimal, datetime.timedelta)):
        return str(value)
    raise BadRow(column, "wrong type", f"{kind_of(value)} cannot be kept as JSON")


def whole(value: Any, column: str, bits: int = 64) -> int:
    """A whole number that fits the column, from a number or its text."""
    number = numeric(value)
    if number is None or number != int(number) or not -(2 ** (bits - 1)) <= int(number) < 2 ** (bits - 1):
        raise BadRow(column, "wrong type", f"a whole number expected, got {value!r:.40}")
    return int(value) if isinstance(value, int) else int(number)


def real(value: Any, column: str) -> float:
    """A finite number, from a number or its text."""
    number = numeric(value)
    if number is None:
        raise BadRow(column, "wrong type", f"a number expected, got {value!r:.40}")
    return number


NUMBER = re.compile(r"\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\s*")
FLOAT32_MAX = 3.4028234663852886e38


def numeric(value: Any) -> float | None:
    """A finite number that float32 can hold, or None. True is 1; text counts if all of it is a number."""
    if isinstance(value, str):
        if not NUMBER.fullmatch(value):
            return None
        value = float(value)
    if not isinstance(value, (bool, int, float, Decimal)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if abs(number) <= FLOAT32_MAX else None


def same_key(value: Any) -> str | None:
    """A value's form in comparisons: 7, 7.0 and "7" are one key, and so are true and "true"; None stays None."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value if isinstance(value, str) else str(value)
