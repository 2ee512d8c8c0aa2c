"""Why rows cannot be exported: each reason is told with the way out, and `--skip REASON` leaves such rows out instead."""

from collections.abc import Collection, Mapping
from typing import Literal, NamedTuple

from curate.errors import ExportError

Reason = Literal["identical", "unlabelled", "unscored", "unstaged", "unmarked", "short", "tied", "not_plain"]


class Refusal(NamedTuple):
    """What is said of the rows of one reason."""

    one: str
    """What one row is called, and what is wrong with it; {s} and {have} follow the number."""
    way: str
    """The way out, other than --skip."""


REFUSALS: dict[Reason, Refusal] = {
    "identical": Refusal(
        "pair{s} {have} the same messages as chosen and rejected",
        "no preference to learn; find the cause with `curate why`",
    ),
    "unlabelled": Refusal(
        "pair{s} {have} no probability or target where others have one",
        "let the step that writes it reach every pair",
    ),
    "unscored": Refusal("response{s} {have} no score", "score them in the recipe (`curate run` asks again for failed ones)"),
    "unstaged": Refusal("pair{s} {have} no stage", "`order` gives one to every pair that has its measure"),
    "unmarked": Refusal("pair{s} {have} no spans on either side", "mark them in the recipe"),
    "short": Refusal("prompt{s} {have} too few different responses for a row", "generate more"),
    "tied": Refusal("prompt{s} {have} no second response better than the last", "no preference to learn; score more finely"),
    "not_plain": Refusal(
        "row{s} {have} more than this format's plain text can say (tools, tool calls, further turns or roles, role marks)",
        "choose a format that carries conversations (`curate export --help`)",
    ),
}


def refuse_left_out(left_out: Mapping[str, int], examples: Mapping[str, str], skipped: Collection[str]) -> None:
    """ExportError for the first reason that rows were left out for and nobody said to skip.

    left_out: rows by reason. examples: id of the first row of each.
    """
    for reason, refusal in REFUSALS.items():
        count = left_out.get(reason, 0)
        if count and reason not in skipped:
            what = refusal.one.format(s="s" if count > 1 else "", have="have" if count > 1 else "has")
            raise ExportError(f"{count} {what}, first {examples[reason]}: {refusal.way}, or say --skip {reason}")
