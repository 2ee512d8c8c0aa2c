"""Pairs with weighted spans of text, and with the weights of tokens if a tokenizer is given."""

from typing import Any, ClassVar

import pyarrow as pa

from curate.errors import ExportError
from curate.export import messages, schemas, token_weights, tokenizing
from curate.export.format import Run, TrlFormat

SIDES = ("chosen", "rejected")
SPAN = pa.struct([("start", pa.int64()), ("end", pa.int64()), ("weight", pa.float64())])


class MaskedDpo(TrlFormat):
    """Preference with `chosen_spans` and `rejected_spans`: characters [start, end) of a side's last message, and their weight.

    Weight 0 keeps a span out of the loss, 1 leaves it in. With --tokenizer also `chosen_token_ids` (what TRL's DPOTrainer makes
    of the row with that tokenizer: `chosen_ids`) and `chosen_token_weights`, one for each. The conversation is tokenised as a
    whole and spans are mapped by their offsets; a token that touches several spans has the lowest weight. (The released code
    tokenises sentence by sentence, which gives other tokens, and forgets the mask where their number differs.)

    Source: Gu et al., "Mask-DPO: Generalizable Fine-grained Factuality Alignment of LLMs", 2025, arXiv:2503.02846.
    """

    name: ClassVar[str] = "masked-dpo"
    proof: ClassVar[str | None] = "trl-dpo"
    description: ClassVar[str] = "prompt, chosen and rejected messages, spans of both sides; token weights with --tokenizer"
    trainer: ClassVar[str] = "a DPO loss with masked tokens"
    carries: ClassVar[frozenset[str]] = frozenset({"goal", "spans"})
    load: ClassVar[str] = (
        "from datasets import load_dataset\n"
        "rows = load_dataset({path!r}, split={split!r})\n"
        'print(rows[0]["chosen_spans"])  # with --tokenizer: multiply log-probabilities by chosen_token_weights'
    )

    def prepare(self, run: Run) -> None:
        """Refuse a version without spans."""
        if "spans" in run.options.drop or not run.has("spans"):
            raise ExportError(
                f"masked-dpo needs the column spans, and {run.version} has none: mark spans in the recipe, or export as trl-dpo"
            )
        if run.options.tokenizer is not None:
            run.reader = tokenizing.load(run.options.tokenizer)
            if not run.reader.is_fast:
                raise ExportError(f"the tokenizer in {run.options.tokenizer} tells no offsets: give a fast one (tokenizer.json)")

    def reads(self, run: Run) -> list[str]:
        """The spans besides."""
        return [*super().reads(run), "spans"]

    def rows(self, table: pa.Table, run: Run) -> pa.Table:
        """One row a pair that has spans."""
        marked = messages.lengths(table["spans"]) > 0
        run.leave_out("unmarked", ~marked, table["pair_id"])
        table = self.asked(self.without_identical(table.filter(pa.array(marked)), run), run)
        columns = {name: table[name] for name in schemas.DPO if name in table.column_names}
        spans = _by_side(table)
        _check(table, spans)
        columns |= {f"{side}_spans": pa.array(spans[side], pa.list_(SPAN)) for side in SIDES}
        if run.reader is not None:
            columns |= _tokens(table, spans, run.reader)
        return pa.table(columns)

    def schema(self) -> dict[str, Any]:
        """JSON schema of a row."""
        required = ["prompt", "chosen", "rejected", "chosen_spans", "rejected_spans", "pair_id"]
        return schemas.row_schema(self, schemas.MASKED, required)


Spans = dict[str, list[list[dict[str, Any]]]]
"""Of each side: the spans of every pair."""


def _by_side(table: pa.Table) -> Spans:
    """Each pair's spans by side, in order of their start. ExportError for a side that is none."""
    found: Spans = {side: [] for side in SIDES}
    for pair, spans in zip(table["pair_id"].to_pylist(), table["spans"].to_pylist(), strict=True):
        wrong = next((span for span in spans if span["side"] not in SIDES), None)
        if wrong is not None:
            raise ExportError(f"pair {pair} has a span of side {wrong['side']!r}; sides are chosen and rejected")
        for side in SIDES:
            of_side = [{name: span[name] for name in ("start", "end", "weight")} for span in spans if span["side"] == side]
            found[side].append(sorted(of_side, key=lambda span: (span["start"] or 0, span["end"] or 0)))
    return found


def _check(table: pa.Table, spans: Spans) -> None:
    """ExportError for a span that does not lie in its text."""
    for side in SIDES:
        for pair, said, of_side in zip(table["pair_id"].to_pylist(), messages.plain(table[side]), spans[side], strict=True):
            if not of_side:
                continue
            text = (said or [{}])[-1].get("content")
            try:
                token_weights.weigh_characters(len(text or ""), of_side)
            except ValueError as error:
                raise ExportError(f"pair {pair}, {side}: {error}; mark the text as it is now") from error


def _tokens(table: pa.Table, spans: Spans, reader: Any) -> dict[str, pa.Array]:
    """Token ids after the prompt's and their weights, of both sides."""
    columns: dict[str, list[Any]] = {f"{side}_token_{what}": [] for side in SIDES for what in ("ids", "weights")}
    prompts, tools = messages.plain(table["prompt"]), _tools(table)
    sides = {side: messages.plain(table[side]) for side in SIDES}
    for row, pair in enumerate(table["pair_id"].to_pylist()):
        asked = prompts[row] or []
        answers = [(sides[side][row] or [], spans[side][row]) for side in SIDES]
        try:
            start, found = token_weights.completions(reader, asked, answers, tools[row])
        except Exception as error:  # chat templates raise whatever they like
            raise ExportError(f"pair {pair}: {type(error).__name__}: {str(error):.300}") from error
        for side, made in zip(SIDES, found, strict=True):
            columns[f"{side}_token_ids"].append(made.ids[start:])
            columns[f"{side}_token_weights"].append(made.weights[start:])
    kinds = {"ids": pa.list_(pa.int64()), "weights": pa.list_(pa.float64())}
    return {name: pa.array(column, kinds[name.rpartition("_")[2]]) for name, column in columns.items()}


def _tools(table: pa.Table) -> list[Any]:
    """The tools of each pair as values; None for none."""
    if "tools" not in table.column_names:
        return [None] * table.num_rows
    return [None if text is None else messages.parsed(text) for text in table["tools"].to_pylist()]
