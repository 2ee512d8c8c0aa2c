"""The texts that come with `generate`, `rewrite` and `perturb`: instructions, principles, personas and tastes."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import yaml

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


@lru_cache
def principles() -> Mapping[str, tuple[str, ...]]:
    """Wordings of each principle, by its name."""
    paths = sorted((FOLDER / "principles").glob("*.txt"))
    return {path.stem: tuple(path.read_text(encoding="utf-8").strip().splitlines()) for path in paths}


@lru_cache
def personas() -> tuple[str, ...]:
    """Descriptions of people who might ask."""
    return tuple((FOLDER / "personas.txt").read_text(encoding="utf-8").strip().splitlines())


@lru_cache
def tastes() -> Mapping[str, tuple[str, ...]]:
    """What people may prefer in an answer, by dimension."""
    found = yaml.safe_load((FOLDER / "preferences.yaml").read_text(encoding="utf-8"))
    return {dimension: tuple(wordings) for dimension, wordings in found.items()}


def text_hashes(**texts: Any) -> dict[str, str]:
    """The digest of each text or collection of texts: whoever changes a wording changes the rows."""
    return {name: digest(text) for name, text in sorted(texts.items())}


def block(name: str, text: str) -> str:
    """The text as a block that it cannot end by itself: its code follows from the text."""
    code = short_id(f"{name} {text}")[:CODE_DIGITS]
    return f"<<<{name} {code}>>>\n{text}\n<<<end {code}>>>"


def number_of(*about: Any) -> int:
    """A number of 64 bits that follows from values: the same on every machine."""
    named = "\0".join(str(value) for value in about)
    return int.from_bytes(hashlib.sha256(named.encode("utf-8", "surrogatepass")).digest()[:8], "big")


def share_of(*about: Any) -> float:
    """A number in [0, 1) that follows from values."""
    return number_of(*about) / 2**64


def pick(among: Sequence[str], share: float) -> str:
    """One of several, for a draw in [0, 1)."""
    return among[int(share * len(among))]
