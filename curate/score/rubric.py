"""Rubrics that judges mark by: text files, told apart by what they say."""

import difflib
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator

from curate.errors import UsageError
from curate.ids import digest
from curate.packaged import PACKAGE

FOLDER = PACKAGE / "rubrics"
SUFFIXES = (".md", ".txt")
LONGEST = 64 * 1024  # bytes; a rubric goes into every request
TOP = 100  # of a scale
NAME = re.compile(r"[\w-]+")
HEADER = re.compile(
    r"\ufeff?\s*# (?P<title>[^\n]+)\n\s*Scale: (?P<low>[0-9]{1,3})-(?P<high>[0-9]{1,3})[ \t]*\n(?P<body>.*)", re.DOTALL
)
MARKS = re.compile(r"^## Marks[ \t]*$", re.MULTILINE)


@dataclass(frozen=True)
class Rubric:
    """What to look at and what each mark means."""

    name: str
    """The aspect of the scores and votes it leads to: the file's name without its ending."""
    title: str
    low: int
    high: int
    criteria: str
    marks: str
    """What the marks stand for, a Markdown list; empty if the file does not say."""

    @property
    def identity(self) -> dict[str, str]:
        """What can change an answer: the name as the aspect, and the text's digest, wherever the file lies."""
        return {"aspect": self.name, "sha256": digest([self.title, self.low, self.high, self.criteria, self.marks])}


def rubrics() -> list[str]:
    """Names of the rubrics that come with curate."""
    return sorted(path.stem for path in FOLDER.glob("*.md"))


def _named(value: object) -> object:
    """A rubric as a recipe writes it: a file if it looks like one, else one of curate's."""
    if isinstance(value, str):
        if "/" in value or value.endswith(SUFFIXES):
            value = Path(value)
        elif value not in (known := rubrics()):
            near = difflib.get_close_matches(value, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}; a path ends in {' or '.join(SUFFIXES)}"
            raise ValueError(f"no rubric is called {value}; {hint}")
    if isinstance(value, Path):
        if value.suffix not in SUFFIXES:
            raise ValueError(f"a rubric is a {' or '.join(SUFFIXES)} file, got {value.name}")
        if not NAME.fullmatch(value.stem):
            raise ValueError(
                f"a rubric's file is named with letters, digits, '-' and '_' (it names the aspect), got {value.name}"
            )
    return value


def _each_named(value: object) -> object:
    return tuple(map(_named, value)) if isinstance(value, list | tuple) else _named(value)


RubricName = Annotated[str | Path, BeforeValidator(_named)]
"""A rubric of curate's by name, or a file by its path."""
RubricNames = Annotated[str | Path | tuple[str | Path, ...], BeforeValidator(_each_named)]
"""One rubric or several."""


def load(named: str | Path) -> Rubric:
    """The rubric of that name or in that file."""
    path = named if isinstance(named, Path) else FOLDER / f"{named}.md"
    return read(path.stem, text_of(path), str(path))


def text_of(path: Path) -> str:
    """The text of a rubric's or instruction's file."""
    try:
        size = path.stat().st_size
        if size > LONGEST:
            raise UsageError(f"rubric {path}: {size} bytes are too long, {LONGEST} are allowed")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"rubric {path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"rubric {path}: not UTF-8 at byte {error.start + 1}") from error


def read(name: str, text: str, place: str = "rubric") -> Rubric:
    """A rubric's text: a title, the scale, the criteria and, under `## Marks`, what the marks mean."""
    match = HEADER.match(text.replace("\r\n", "\n"))
    if not match:
        raise UsageError(f"rubric {place}: begins with a line `# Title` and a line `Scale: 1-5`, got {text[:60]!r}")
    low, high = int(match["low"]), int(match["high"])
    if not low < high <= TOP:
        raise UsageError(f"rubric {place}: a scale runs from a smaller to a larger number, at most {TOP}, got {low}-{high}")
    criteria, *marks = MARKS.split(match["body"], maxsplit=1)
    if not criteria.strip():
        raise UsageError(f"rubric {place}: says nothing to mark by")
    return Rubric(name, match["title"].strip(), low, high, criteria.strip(), "".join(marks).strip())


@lru_cache
def instruction(name: str) -> str:
    """An instruction to judges that comes with curate."""
    return text_of(FOLDER / "instructions" / f"{name}.md").strip()
