"""Texts and numbers as people read them. Texts come from data and are not trusted: none may break the page it is shown on."""

import html
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

DIRECTION = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""Characters that turn the reading direction of what follows: shown by number, since they can make a line lie."""
ID_SHOWN = 10  # digits of a row's id that are shown: enough to be unique among 10^5 rows, and `why` takes a prefix


def shorten(text: str | None, limit: int) -> str:
    """The first `limit` characters, and how many more there are; null as an empty text."""
    if text is None or len(text) <= limit:
        return text or ""
    return f"{text[:limit].rstrip()}… (+{len(text) - limit:,} characters)"


def visible(text: str | None) -> str:
    """The text without control characters but newline and tab; those, and turns of direction, are shown as ⟨U+001B⟩."""
    return "" if text is None else "".join(f"⟨U+{ord(c):04X}⟩" if _hidden(c) else c for c in text)


def _hidden(character: str) -> bool:
    if character in DIRECTION:
        return True
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") and character not in "\n\t"


def one_line(text: str | None, limit: int = 120) -> str:
    """The text on one line, visible and shortened."""
    head = (text or "")[: 4 * limit]
    flat = " ".join(visible(head).split())
    more = len(text or "") - len(head)
    if len(flat) <= limit and not more:
        return flat
    return f"{flat[:limit].rstrip()}…"


def short_id(row_id: str | None) -> str:
    """A row's id as it is shown; a dash for none."""
    return row_id[:ID_SHOWN] if row_id else "–"


def number(value: float | None, digits: int = 3) -> str:
    """A number to `digits` significant digits, whole thousands with commas; a dash for none."""
    if value is None or np.isnan(value):
        return "–"
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def share(part: float, whole: float) -> str:
    """A part in percent: 12.5 %; a dash where there is no whole."""
    return f"{100 * part / whole:.1f} %" if whole else "–"


def plural(count: int, noun: str) -> str:
    """1 pair, 2,000 pairs."""
    return f"{count:,} {noun if count == 1 else noun + 's'}"


def messages_text(messages: Sequence[Mapping[str, Any]] | None) -> str:
    """Messages as one text; a single message by its content alone."""
    listed = [message for message in messages or () if message]
    if len(listed) == 1 and not listed[0].get("tool_calls"):
        return listed[0]["content"] or ""
    return "\n\n".join(f"[{message['role']}] {_said(message)}" for message in listed)


def _said(message: Mapping[str, Any]) -> str:
    return " ".join(part for part in (message.get("content"), message.get("tool_calls")) if part)


# -- Markdown


def code(text: Any, limit: int = 80) -> str:
    """A name as a code span in a table cell: nothing in it is Markdown or HTML."""
    flat = one_line(str(text), limit).replace("|", "\\|")
    if not flat:
        return "–"
    ticks = "`" * (_longest_run(flat) + 1)
    pad = " " if flat[0] == "`" or flat[-1] == "`" else ""
    return f"{ticks}{pad}{flat}{pad}{ticks}"


def fence(text: str, language: str = "text") -> str:
    """A text as a fenced block that no line of it can close."""
    ticks = "`" * max(3, _longest_run(text) + 1)
    return f"{ticks}{language}\n{text}\n{ticks}"


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """A Markdown table; columns in `numbers` are right-aligned. Cells are given as Markdown."""
    rule = ["---:" if i in numbers else "---" for i in range(len(header))]
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, rule, *rows])


# -- HTML


def escape(text: Any) -> str:
    """A value as HTML text, also fit for an attribute in quotes."""
    return html.escape(visible(str(text)), quote=True)
