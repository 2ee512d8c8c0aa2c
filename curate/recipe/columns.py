"""The columns of some rows and what each holds: text, numbers, messages, lists of these."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from curate.source.fields import roots

Row = Mapping[str, Any]

SCORE = re.compile(r"score|rating|reward|grade|quality|overall|helpful|correct|judge", re.IGNORECASE)
KEY = re.compile(r"\w*(?:id|idx|index|key)", re.IGNORECASE)
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)")


class Columns:
    """The columns of some rows and what they hold; fields of objects, and of objects in lists, by their paths."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows
        self.held: dict[str, list[Any]] = {}
        for row in rows:
            for name, value in row.items():
                if fields_of(name):
                    self._hold(name, value)
        self.kinds = {name: _common_kind(values) for name, values in self.held.items()}
        self.by_lower = {name.lower(): name for name in self.kinds}

    def _hold(self, name: str, value: Any, depth: int = 0) -> None:
        self.held.setdefault(name, []).append(value)
        if depth or not value:
            return
        entries = [value] if isinstance(value, Mapping) else value if isinstance(value, list) else []
        fields = {key for entry in entries if isinstance(entry, Mapping) for key in entry}
        for key in sorted(k for k in fields if re.fullmatch(r"[^.\[\](){}]+", k)):
            if isinstance(value, Mapping):
                self._hold(f"{name}.{key}", value[key], 1)
            else:
                self._hold(f"{name}[].{key}", [e.get(key) if isinstance(e, Mapping) else None for e in entries], 1)

    @property
    def own(self) -> list[str]:
        """The columns themselves, without the fields inside them."""
        return [name for name in self.kinds if any(name in row for row in self.rows)]

    def named(self, names: Iterable[str], kinds: Sequence[str] = ("text", "messages")) -> str | None:
        """The first column of one of the names that holds one of the kinds."""
        return next((self.by_lower[n] for n in names if n in self.by_lower and self.kinds[self.by_lower[n]] in kinds), None)

    def inside(self, names: Iterable[str], kinds: Sequence[str], lists: Iterable[str] | None = None) -> str | None:
        """The first field inside an object, or inside a list of one of the names, that has one of the names and kinds."""
        for name in names:
            for path, kind in self.kinds.items():
                outer, _, inner = path.rpartition("[]." if lists is not None else ".")
                if outer and inner.lower() == name and kind in kinds and (lists is None or outer.lower() in lists):
                    return path
        return None

    def values(self, name: str) -> set[str]:
        """The distinct values of a column, or of the entries of its lists, as text."""
        flat = (entry for value in self.held[name] for entry in (value if isinstance(value, list) else [value]))
        return {_said(entry) for entry in flat if entry is not None}

    def texts(self, name: str) -> list[str]:
        """The texts of a column, or in its lists."""
        flat = (entry for value in self.held[name] for entry in (value if isinstance(value, list) else [value]))
        return [entry for entry in flat if isinstance(entry, str)]

    def always(self, name: str) -> bool:
        """Whether every row has a value."""
        return all(value is not None for value in self.held[name]) and len(self.held[name]) == len(self.rows)

    def numbers(self) -> list[str]:
        """Columns of numbers, or truth values, whose name speaks of a score."""
        return [name for name in self.own if self.kinds[name] in ("number", "truth") and SCORE.search(name)]

    def lists(self) -> list[str]:
        """Columns of lists of numbers whose name speaks of a score."""
        return [name for name, kind in self.kinds.items() if kind in ("numbers", "truths") and SCORE.search(name)]

    def keys(self) -> list[str]:
        """Columns that look like the key of something."""
        return [name for name in self.own if KEY.fullmatch(name) and self.kinds[name] in ("number", "text")]


def _said(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _common_kind(values: Sequence[Any]) -> str:
    kinds = {_kind(value) for value in values if value is not None and value != "" and value != []}
    told = [entry for value in values for entry in (value if isinstance(value, list) else [value]) if entry is not None]
    if len(kinds) > 1 and all(isinstance(entry, str) for entry in told):  # texts of which some are bare numbers
        return "text" if kinds <= {"text", "number"} else "texts" if kinds <= {"texts", "numbers"} else "mixed"
    return kinds.pop() if len(kinds) == 1 else "mixed" if kinds else "empty"


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "truth"
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, str):
        return "number" if NUMBER.fullmatch(value) else "text"
    if isinstance(value, list) and value:
        return _list_kind(value)
    return "object" if isinstance(value, Mapping) else "other"


def _list_kind(value: list[Any]) -> str:
    kinds = {_kind(entry) for entry in value if entry is not None}
    if kinds == {"object"}:
        chat = all(isinstance(e, Mapping) and "role" in e and "content" in e for e in value)
        return "messages" if chat else "objects"
    if kinds and kinds <= {"text", "number"} and all(isinstance(entry, str) for entry in value if entry is not None):
        return "texts" if kinds != {"number"} else "numbers"
    plural = {"number": "numbers", "truth": "truths", "messages": "conversations"}
    return plural.get(kinds.pop(), "list") if len(kinds) == 1 else "list"


def fields_of(word: str) -> set[str]:
    """The columns that a path or template of a recipe names; none where it is a value."""
    try:
        return roots(word)
    except ValueError:
        return set()
