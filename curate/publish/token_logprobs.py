"""Read what `likelihood` with `tokens: true` left of every token: column files of the store, which no version carries."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import Damaged, UnknownName, UsageError
from curate.publish.figures import ROW_ID
from curate.publish.wording import number
from curate.store import arrow
from curate.store.store import Snapshot, Store
from curate.store.versions import Version

if TYPE_CHECKING:
    from curate.publish.version import Stage

OPERATOR = "likelihood"
TEXTS = {"": "response", "chosen_": "chosen", "rejected_": "rejected"}
LEAST = 3
"""Tokens that are told of, the least likely first."""


def token_logprobs(store: Store, version: Version, step: str) -> Iterator[pa.Table]:
    """What a step's models think of every token, a table a shard; flagged rows are there, too.

    Columns: the row's id, its text (`response`, or `chosen` and `rejected`), and for each model `logprobs.<model>`
    (`chosen_logprobs.<model>`, `rejected_logprobs.<model>`): a list of {end, logprob}, null where the answer could not be
    measured. end: character of the text at which the token ends, see `spans`; null if the tokenizer does not tell. logprob:
    natural logarithm; an answer's sum is its score `logprob`.

    Raises UnknownName for a step that the version does not have, UsageError for one that kept no tokens, and Damaged where
    the store has let go of them: running the recipe again measures them anew.
    """
    yield from tokens_of(store, _kept(store, version, step))


def tokens_of(store: Store, snapshot: Snapshot) -> Iterator[pa.Table]:
    """The same of a snapshot, such as that of a stage of a run which published nothing because no row of it changed."""
    names = _columns(snapshot)
    for shard in snapshot.shards:
        texts = [text for text in TEXTS.values() if text in shard.columns]
        parts = {
            name: arrow.read(store.object_path(shard.columns[name]), [name])[name]
            for name in (ROW_ID[snapshot.grain], *texts, *names)
        }
        yield pa.table(parts)


def token_columns(stages: "Sequence[Stage]") -> list[list[str]]:
    """What of a run's tokens was kept: name of the step and of the column."""
    return [[stage.name, column] for stage in stages if stage.kind == OPERATOR for column in _columns(stage.snapshot)]


def spans(text: str, ends: Sequence[int]) -> list[str]:
    """The part of an answer that each token is; put together they are the answer. "" for what is no text or a part of a
    character whose rest is another token's.
    """
    return [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def least_likely(store: Store, version: Version, step: str, row_id: str) -> list[str]:
    """One sentence for each model and side of a row: its tokens, and which of them surprised it most. Empty if none are kept."""
    try:
        tables = token_logprobs(store, version, step)
        found = next((part for table in tables if (part := _row_of(table, row_id)) is not None), None)
    except (Damaged, UnknownName, UsageError):
        return []
    if found is None:
        return []
    told = []
    for name, tokens in found.items():
        side, _, model = name.partition("logprobs.")
        if side in TEXTS and model and tokens:
            told.append(f"{side.replace('_', ': ')}{model}: {_in_words(found[TEXTS[side]] or '', tokens)}")
    return told


def _columns(snapshot: Snapshot) -> list[str]:
    there = snapshot.shards[0].columns if snapshot.shards else {}
    return sorted(name for name in there if name.partition("logprobs.")[0] in TEXTS and "logprobs." in name)


def _kept(store: Store, version: Version, step: str) -> Snapshot:
    """The state of a step's rows behind it."""
    entry = next((one for one in version.manifest["steps"] if one["name"] == step), None)
    if entry is None:
        raise UnknownName(f"{version} has no step {step!r}; it has {', '.join(one['name'] for one in version.manifest['steps'])}")
    if entry["operator"] != OPERATOR or not entry["parameters"].get("tokens"):
        raise UsageError(f"step {step} of {version} kept no tokens: a `likelihood` step with `tokens: true` does")
    try:
        return store.snapshot(entry["snapshot"])
    except UnknownName:
        raise Damaged(f"the tokens of step {step} of {version} are no longer in {store.root}; run the recipe again") from None


def _row_of(table: pa.Table, row_id: str) -> dict[str, Any] | None:
    here = np.flatnonzero(pc.equal(table[0], row_id).to_numpy())
    rows: list[dict[str, Any]] = table.slice(int(here[0]), 1).to_pylist() if len(here) else []
    return rows[0] if rows else None


def _in_words(text: str, tokens: Sequence[dict[str, Any]]) -> str:
    values = [token["logprob"] for token in tokens]
    ends = [token["end"] for token in tokens]
    order = np.argsort(values, kind="stable")[:LEAST]
    parts = spans(text, ends) if None not in ends else None
    named = [f"{_token(parts, place)} {number(values[place])}" for place in order.tolist()]
    return f"{len(tokens):,} tokens, the least likely {', '.join(named)}"


def _token(parts: Sequence[str] | None, place: int) -> str:
    """A token by its text, or by its place from 1 where it has none."""
    return f"“{parts[place]}”" if parts and parts[place].strip() else f"token {place + 1}"
