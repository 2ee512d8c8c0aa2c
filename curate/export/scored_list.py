"""Lists of responses with their scores, as KnowPAT reads them."""

from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from curate.export import listing, messages, schemas
from curate.export.format import Run
from curate.export.list_format import ListFormat, Message, is_text, plain_texts


class ScoredList(ListFormat):
    """One row a prompt: `query` (text), `responses` by falling score, `scores`.

    The loss takes the order of the list, and the scores only to find the best response. Lists of one batch must be equally
    long; a query is one message of the user, without template.

    Source: Zhang et al., "Knowledgeable Preference Alignment for LLMs in Domain-specific Question Answering", 2024,
    arXiv:2311.06503, and its released code.
    """

    name: ClassVar[str] = "scored-list"
    description: ClassVar[str] = "query, responses and scores of a prompt, the best first, as text"
    trainer: ClassVar[str] = "KnowPAT"
    tested: ClassVar[str] = "the released code, read not run"

    def listed(self, found: listing.Ranked, run: Run) -> pa.Table:
        """One row a prompt of one message."""
        queries = [query(asked or []) for asked in messages.plain(found.prompts()["prompt"])]
        plain = plain_texts(found, run, np.array([each is not None for each in queries], dtype=bool))
        found = found.only(plain)
        return pa.table(
            {
                "query": pa.array(queries, pa.string()).filter(pa.array(plain)),
                "responses": found.lists(found.table["response"]),
                "scores": found.rewards(),
                "prompt_id": found.prompts()["prompt_id"],
            }
        )

    def schema(self) -> dict[str, Any]:
        """JSON schema of a row."""
        return schemas.row_schema(self, schemas.SCORED, list(schemas.SCORED))


def query(asked: list[Message]) -> str | None:
    """The text of a prompt of one message by the user; None for any other."""
    return str(asked[0]["content"]) if len(asked) == 1 and asked[0]["role"] == "user" and is_text(asked[0]) else None
