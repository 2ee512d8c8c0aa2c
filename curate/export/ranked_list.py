"""Ranked lists of responses, as PRO reads them."""

from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from curate.export import listing, messages, schemas
from curate.export.format import Run
from curate.export.list_format import ListFormat, Message, is_text, plain_texts

USER, ASSISTANT = "<|prompter|>", "<|assistant|>"
MARKS = {"user": USER, "assistant": ASSISTANT}
"""Before a turn's text; the trainer's loader makes `Human:` and `Assistant:` of them and knows no other roles."""


class RankedList(ListFormat):
    """One row a prompt: `prefix` (the prompt, once a response), `suffix` (responses), `reward` and `sft_index`.

    The loss contrasts each response with those after it; the difference of two rewards is the temperature of their comparison.
    Equal rewards stay in the list side by side: their temperature is 0, so their comparison is a constant of the loss and adds
    nothing to its gradient. The released trainer takes the first `training_stage_num` responses of each list and fails on
    shorter ones; its rewards were squeezed into (0, 1) by a sigmoid, ours are the scores as they are.

    The loader replaces role marks wherever they stand, so a prompt with a mark in its text is refused. A system message stands
    before the first turn as bare text.

    Source: Song et al., "Preference Ranking Optimization for Human Alignment", 2024, arXiv:2306.17492, and its released code.
    """

    name: ClassVar[str] = "ranked-list"
    description: ClassVar[str] = "prefix, suffix and reward of a prompt's responses, the best first, and sft_index"
    trainer: ClassVar[str] = "PRO"
    tested: ClassVar[str] = "the released code, read not run"

    def listed(self, found: listing.Ranked, run: Run) -> pa.Table:
        """One row a prompt that is plain turns."""
        prefixes = [prefix(asked or []) for asked in messages.plain(found.prompts()["prompt"])]
        plain = plain_texts(found, run, np.array([bool(each) for each in prefixes], dtype=bool))
        found = found.only(plain)
        kept = [each for each, is_plain in zip(prefixes, plain.tolist(), strict=True) if is_plain]
        repeated = pa.array(kept, pa.list_(pa.string())).take(pa.array(np.repeat(np.arange(len(kept)), found.counts)))
        return pa.table(
            {
                "prefix": found.lists(repeated),
                "suffix": found.lists(found.table["response"]),
                "reward": found.rewards(),
                "sft_index": pa.array(np.zeros(len(kept), dtype=np.int64)),
                "prompt_id": found.prompts()["prompt_id"],
            }
        )

    def schema(self) -> dict[str, Any]:
        """JSON schema of a row."""
        return schemas.row_schema(self, schemas.RANKED, list(schemas.RANKED))


def prefix(asked: list[Message]) -> list[str]:
    """A conversation as marked turns that end where the assistant is to speak; empty if it cannot be said so."""
    system = [message["content"] for message in asked[:1] if message["role"] in messages.INSTRUCTING and is_text(message)]
    turns = asked[len(system) :]
    if not turns or turns[-1]["role"] != "user":
        return []
    if not all(is_text(message) and message["role"] in MARKS for message in turns):
        return []
    if any(mark in message["content"] for message in asked for mark in MARKS.values()):
        return []
    return [*system, *(MARKS[message["role"]] + message["content"] for message in turns), ASSISTANT]
