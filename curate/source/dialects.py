"""The layouts that a source can be read as."""

from collections.abc import Callable
from typing import NamedTuple

from curate.source import binarized, generic, trl
from curate.source.spec import PROMPT_NAMES, Mapper, OneOrMore, Source, grain_of, listed
from curate.tables import SCHEMAS


class Dialect(NamedTuple):
    """How a layout is read."""

    mapper: Callable[[Source], Mapper]
    """The function from one source row to its table rows; it raises BadRow."""
    provides: Callable[[Source], set[str]]
    """Columns, scores and votes the rows can have."""
    used: Callable[[Source], set[str] | None]
    """Top-level fields that are read; None for all."""
    needs: Callable[[Source], list[str]]
    """Paths that a columnar file must have."""


DIALECTS: dict[str, Dialect] = {
    "generic": Dialect(generic.mapper, generic.provides, generic.used_fields, generic.needs),
    "trl": Dialect(trl.mapper, trl.provides, trl.used_fields, trl.needs),
    "binarized": Dialect(binarized.mapper, binarized.provides, binarized.used_fields, binarized.needs),
}

ALWAYS: dict[str, set[str]] = {
    "prompts": {"row", "prompt_id", "prompt", "source"},
    "responses": {"row", "prompt_id", "prompt", "source", "response_id", "response", "turns"},
    "pairs": {"row", "prompt_id", "prompt", "source", "pair_id", "chosen", "rejected", "chosen_turns", "rejected_turns"}
    | {"chosen_id", "rejected_id", "origin"},
}
STORED_EVIDENCE = ("scores", "chosen_scores", "rejected_scores", "votes")


def provides(source: OneOrMore) -> set[str]:
    """What the rows of a source can have: columns, and evidence as "scores.rater.aspect" with * for any."""
    return set().union(*(_provides(one) for one in listed(source)))


def _provides(source: Source) -> set[str]:
    grain = grain_of(source)
    if source.version is not None:
        names = set(SCHEMAS[grain].names)
        return names | ({f"{name}.*.*" for name in STORED_EVIDENCE if name in names} if source.as_ is None else set())
    found = DIALECTS[source.dialect].provides(source) | ALWAYS[grain]
    for join in source.join:
        if join.scores:
            rater = "*" if isinstance(join.scores.rater, str) else join.scores.rater.value
            found |= {"scores", f"scores.{rater}.{join.scores.aspect}"}
    if source.as_ == "prompts":
        return {name for name in found if name in PROMPT_NAMES and name not in ("scores", "evidence", "flags")}
    return {name for name in found if "." in name or name in SCHEMAS[grain].names}
