"""Files that come with curate: the gallery of recipes and the sample data, in a wheel and in a checkout alike."""

import difflib
from pathlib import Path
from typing import NamedTuple

from curate.errors import UsageError

PACKAGE = Path(__file__).resolve().parent
SAMPLES = "samples:"


def _folder(in_wheel: str, in_checkout: str) -> Path:
    packaged = PACKAGE / in_wheel
    return packaged if packaged.is_dir() else PACKAGE.parent / in_checkout


def samples_folder() -> Path:
    """The sample data; a recipe reaches it by paths that begin with `samples:`."""
    return _folder("samples", "data/samples")


def sample(path: str) -> Path:
    """The file behind a path such as samples:prompts.jsonl."""
    name = path.removeprefix(SAMPLES)
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise UsageError(f"{path!r} leaves the sample data; name one of its files, such as samples:prompts.jsonl")
    return samples_folder() / name


class Entry(NamedTuple):
    """A recipe of the gallery."""

    name: str
    about: str
    """The first line of its comment."""
    path: Path


def gallery() -> list[Entry]:
    """The recipes that come with curate, by name."""
    entries = []
    for path in sorted(_folder("gallery", "flows/recipes").glob("*.yaml")):
        first = path.read_text(encoding="utf-8").split("\n", 1)[0]
        entries.append(Entry(path.stem, first.lstrip("# ").strip(), path))
    return entries


def find_recipe(named: str) -> Path:
    """The file a user means: a path, or the name of a recipe of the gallery."""
    path = Path(named)
    if path.suffix in (".yaml", ".yml") or path.exists():
        return path
    known = {entry.name: entry.path for entry in gallery()}
    if named in known:
        return known[named]
    close = difflib.get_close_matches(named, known, 1)
    hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
    raise UsageError(f"{named!r} is neither a file nor a recipe of the gallery: {hint}")
