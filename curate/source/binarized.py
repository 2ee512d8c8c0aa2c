"""Read the H4 `binarized` layout (prompt, chosen[], rejected[], messages, score_chosen, score_rejected)."""

from curate.source import generic
from curate.source.spec import SCORE_ASPECT, Mapper, PairScore, Source

RATER = "source"


def as_generic(source: Source) -> Source:
    """The same source as the generic mapping writes it."""
    columns = {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}
    scores = {RATER: PairScore(chosen="score_chosen", rejected="score_rejected", aspect=SCORE_ASPECT)}
    return source.model_copy(update={"dialect": "generic", "rows": "pairs", "columns": columns, "scores": scores})


def mapper(source: Source) -> Mapper:
    """The function from one source row to its table rows."""
    return generic.mapper(as_generic(source))


def provides(source: Source) -> set[str]:
    """Columns, scores and votes that the rows can have."""
    return generic.provides(as_generic(source))


def used_fields(source: Source) -> set[str] | None:
    """Top-level fields that are read."""
    return generic.used_fields(as_generic(source))


def needs(source: Source) -> list[str]:
    """Paths that a columnar file must have."""
    return ["prompt", "chosen", "rejected"]
