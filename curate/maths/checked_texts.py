"""Hold a text against a pattern or a JSON schema from data, neither of which can make it run for ever."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

PATTERN_SECONDS = 1.0
"""Longest a pattern may search one text: a pattern from data may backtrack for ever."""

PATTERN_STEPS = 100_000
"""Most atoms a pattern may compile to: `a{99999999}` alone would take more memory than most machines have."""

_FENCED = re.compile(r"```(?:json|JSON)?[ \t]*\n(.*?)\n?[ \t]*```", re.DOTALL)


def matches_pattern(text: str, pattern: str) -> bool:
    r"""Whether a pattern is found anywhere in a text; anchor it (`\A…\Z`) to ask for the whole.

    Syntax: the `regex` package, a superset of `re`. A pattern that is malformed, that compiles to more than
    `PATTERN_STEPS`, or that takes longer than `PATTERN_SECONDS` is a ValueError: it has not answered, which is not the
    same as "does not match".
    """
    import regex

    if len(pattern) > PATTERN_STEPS // 10 or _compiled_steps(pattern) > PATTERN_STEPS:
        raise ValueError(f"the pattern is too long, or its repeats are: {pattern[:100]!r}")
    try:
        return regex.search(pattern, text, timeout=PATTERN_SECONDS) is not None
    except TimeoutError:
        raise ValueError(f"the pattern took more than {PATTERN_SECONDS:g} s on {len(text)} characters: {pattern!r}") from None
    except (regex.error, RecursionError) as problem:
        raise ValueError(f"not a regular expression ({problem}): {pattern!r}") from None


def _compiled_steps(pattern: str) -> int:
    """Atoms of a pattern once every `{n}` is written out, which is how it is compiled."""
    sizes, last = [0], 1
    for token in re.finditer(r"\\.|\[(?:\\.|[^\]\\])*\]|\{(\d+)[^{}]*\}|.", pattern, re.DOTALL):
        if token[1]:
            sizes[-1] += last * (int(token[1][:9]) - 1)
        elif token.group() == "(":
            sizes.append(0)
        elif token.group() == ")" and len(sizes) > 1:
            last = sizes.pop()
            sizes[-1] += last
        else:
            last = 1
            sizes[-1] += 1
    return sum(sizes)


def fits_schema(text: str, schema: Mapping[str, Any]) -> tuple[bool, str | None]:
    """Whether a text is JSON that a JSON schema accepts, and if not, why not.

    The JSON may stand alone or in the only fenced block of the text. The schema's `$ref` are followed within the schema
    only and its patterns are timed (see `matches_pattern`); a schema that is itself wrong is a ValueError.
    """
    try:
        value = json.loads(_json_of(text), parse_constant=_no_constant)
    except (ValueError, RecursionError) as problem:
        return False, f"not JSON: {problem}"
    return _violation(value, schema)


def _json_of(text: str) -> str:
    fenced = _FENCED.findall(text)
    return str(fenced[0]) if len(fenced) == 1 else text


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


def _violation(value: object, schema: Mapping[str, Any]) -> tuple[bool, str | None]:
    from jsonschema.exceptions import SchemaError, best_match
    from jsonschema.validators import Draft202012Validator, extend, validator_for
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    dialect = validator_for(schema, default=Draft202012Validator)
    try:
        dialect.check_schema(dict(schema))
        timed = extend(dialect, _TIMED)  # type: ignore[no-untyped-call]
        worst = best_match(timed(schema, registry=Registry()).iter_errors(value))
    except SchemaError as problem:
        raise ValueError(f"not a JSON schema: {problem.message}, at {problem.json_path}") from None
    except RecursionError:
        raise ValueError("the schema refers to itself without end") from None
    except Unresolvable as problem:
        raise ValueError(f"the schema refers to something outside itself: {problem.ref!r}") from None
    return (True, None) if worst is None else (False, f"{worst.json_path}: {worst.message}")


def _timed_pattern(validator: Any, pattern: str, value: Any, schema: object) -> Iterator[Any]:
    from jsonschema.exceptions import ValidationError

    if isinstance(value, str) and not matches_pattern(value, pattern):
        yield ValidationError(f"{value!r} does not match {pattern!r}")


def _timed_properties(validator: Any, patterns: Mapping[str, Any], value: Any, schema: object) -> Iterator[Any]:
    for pattern, subschema in patterns.items():
        for name in value if isinstance(value, dict) else ():
            if matches_pattern(name, pattern):
                yield from validator.descend(value[name], subschema, path=name, schema_path=pattern)


_TIMED = {"pattern": _timed_pattern, "patternProperties": _timed_properties}
