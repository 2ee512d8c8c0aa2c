"""What the variants of a context show with a prompt: its own fields, or something drawn from a pool."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from curate import tables
from curate.errors import DataError
from curate.generate.messages import Message
from curate.generate.wording import filled, instruction, pick, share_of
from curate.ids import canonical_json

FIELD = re.compile(r"reference|domain|meta\.[^.\s]+")
POOL = "pool"


class Material(NamedTuple):
    """What a context variant shows."""

    text: str | None
    missing: bool
    """Whether the variant wants a material and the row has none."""


@dataclass(frozen=True)
class Materials:
    """Where the materials of a step's context come from."""

    context: Mapping[str, str | None]
    """Variants by name: a field, `pool`, or None for none."""
    pool: Path | None
    seed: int

    def shown(self, row: Mapping[str, Any], messages: Sequence[Message]) -> list[tuple[tuple[Message, ...], dict[str, Any]]]:
        """The messages with the material of each variant, and what `meta` tells of it; none that wants what the row lacks."""
        found = [(variant, self._of(row, named)) for variant, named in self.context.items()]
        return [
            (tuple(with_context(messages, material.text)), {"context": variant, "context_text": material.text})
            for variant, material in found
            if not material.missing
        ]

    def _of(self, row: Mapping[str, Any], named: str | None) -> Material:
        if named is None:
            return Material(None, False)
        if named == POOL:
            return self._from_pool(row)
        column, _, name = named.partition(".")
        value = row[column] if not name else json.loads(row["meta"] or "{}").get(name)
        return Material(as_material(value), not value)

    def _from_pool(self, row: Mapping[str, Any]) -> Material:
        """A material that none of the row's own fields holds, drawn by the prompt's id."""
        own = {self._of(row, named).text for named in self.context.values() if named not in (None, POOL)}
        others = [text for text in self._pooled if text not in own]
        share = share_of("context", self.seed, row["prompt_id"])
        return Material(pick(others, share), False) if others else Material(None, True)

    @cached_property
    def _pooled(self) -> tuple[str, ...]:
        assert self.pool is not None
        return read_pool(self.pool, stamp(self.pool))


def as_material(value: Any) -> str | None:
    """A text as it is, a list as numbered entries, anything else as JSON."""
    if not value:
        return None
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n\n".join(
            f"[{place}] {item if isinstance(item, str) else canonical_json(item)}" for place, item in enumerate(value, 1)
        )
    return canonical_json(value)


def with_context(messages: Sequence[Message], text: str | None) -> Sequence[Message]:
    """The messages with a material before the last thing the user says."""
    if text is None:
        return messages
    places = [place for place, message in enumerate(messages) if message["role"] == "user"]
    if not places:
        return [{"role": "user", "content": text}, *messages]
    at = places[-1]
    content = messages[at].get("content") or ""
    if isinstance(content, list):
        parts = [{**content[0], "text": filled(instruction("context"), context=text, prompt=content[0]["text"])}, *content[1:]]
        return [*messages[:at], {**messages[at], "content": parts}, *messages[at + 1 :]]
    whole = filled(instruction("context"), context=text, prompt=content)
    return [*messages[:at], {**messages[at], "content": whole}, *messages[at + 1 :]]


def stamp(path: Path) -> tuple[int, int]:
    """When a file was written and how large it is."""
    try:
        found = path.stat()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; generate needs this file for context_pool") from error
    return found.st_mtime_ns, found.st_size


@lru_cache(maxsize=4)
def read_pool(path: Path, stamp: tuple[int, int]) -> tuple[str, ...]:
    """The materials in a file, one a line; in a .jsonl file JSON strings, so that they may have lines of their own.

    DataError, with the line, for what no table can hold, and for a file without any.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at byte {error.start + 1}") from error
    found = tuple(material_in(path, number, line) for number, line in enumerate(lines, 1) if line.strip())
    if not found:
        raise DataError(f"{path}: holds no material; context_pool wants one a line")
    return found


def material_in(path: Path, number: int, line: str) -> str:
    """The material in a line of a pool."""
    text = line.rstrip("\r")
    if path.suffix == ".jsonl":
        try:
            told = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}:{number}: not JSON lines: {error}") from error
        text = told if isinstance(told, str) else canonical_json(told)
    if (wrong := tables.text_fault(text)) is not None:
        raise DataError(f"{path}:{number}: {wrong}")
    return text
