"""Tell apart what the sides of a pair answer."""

import pyarrow as pa

from curate import ids


def conversations(table: pa.Table) -> list[str]:
    """What each pair's sides answer: pairs of one `prompt_id` may be under other system messages, or after other steps."""
    rows = zip(table["prompt_id"].to_pylist(), table["prompt"].to_pylist(), strict=True)
    return [f"{prompt_id} {ids.prompt_id(messages or [])}" for prompt_id, messages in rows]
