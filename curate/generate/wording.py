"""The texts that come with `generate`, `rewrite` and `perturb`: instructions, principles, personas and tastes."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from curate.ids import digest, short_id
from curate.packaged import PACKAGE

FOLDER = PACKAGE / "generate"
PLACE = re.compile(r"\{([a-z_]+)\}")
CODE_DIGITS = 8


@lru_cache
def instruction(name: str) -> str:
    """An instruction, with places such as {persona} to be filled."""
    return (FOLDER / "instructions" / f"{name}.txt").read_text(encoding="utf-8").strip()


def filled(text: str, **values: str) -> str:
    """The text with its places filled, all at once: a brace in what is filled in means nothing."""
    return PLACE.sub(lambda place: values.get(place[1], place[0]), text)


def lines(path: Path) -> tuple[str, ...]:
    """The lines of a file that comes with curate."""
    return tuple(path.read_text(encoding="utf-8").strip().splitlines())


@lru_cache
def principles() -> Mapping[str, tuple[str, ...]]:
    """Wordings of each principle, by its name."""
    return {path.stem: lines(path) for path in sorted((FOLDER / "principles").glob("*.txt"))}


@lru_cache
def personas() -> tuple[str, ...]:
    """Descriptions of people who might ask."""
    return lines(FOLDER / "personas.txt")


@lru_cache
def tastes() -> Mapping[str, tuple[str, ...]]:
    """What people may prefer in an answer, by respect."""
    return {path.stem: lines(path) for path in sorted((FOLDER / "tastes").glob("*.txt"))}


def text_hashes(**texts: Any) -> dict[str, str]:
    """The digest of each text or collection of texts: whoever changes a wording changes the rows."""
    return {name: digest(text) for name, text in sorted(texts.items())}


def block(name: str, text: str) -> str:
    """The text as a block that it cannot end by itself: its code follows from the text."""
    code = short_id(f"{name} {text}")[:CODE_DIGITS]
    return f"<<<{name} {code}>>>\n{text}\n<<<end {code}>>>"


def text_wanted(task: str, material: str) -> tuple[dict[str, str], dict[str, str]]:
    """Messages that ask for a text and nothing around it."""
    return {"role": "system", "content": f"{task}\n\n{instruction('text')}"}, {"role": "user", "content": material}


def number_of(*about: Any) -> int:
    """A number of 64 bits that follows from values: the same on every machine."""
    return number_named("\0".join(map(str, about)))


def number_named(name: str) -> int:
    """The same for values that were put together."""
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:8], "big")


def share_of(*about: Any) -> float:
    """A number in [0, 1) that follows from values."""
    return number_of(*about) / 2**64


def pick(among: Sequence[str], share: float) -> str:
    """One of several, for a draw in [0, 1)."""
    return among[int(share * len(among))]
