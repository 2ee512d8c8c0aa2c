"""Which responses of a prompt belong together: those under one system message, or those after the same steps.

Sources: Lee et al., "Aligning to Thousands of Preferences via System Message Generalization" (Janus), 2024,
arXiv:2405.17977; Yuan et al., "Advancing LLM Reasoning Generalists with Preference Trees" (Eurus), 2024, arXiv:2404.02078.
"""

import json
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from curate import tables
from curate.ids import canonical_json
from curate.maths import pairing
from curate.maths.metas import field_names, field_values

Message = dict[str, Any]
NONE = -1  # no group, or no way up to the root


def systems(metas: pa.ChunkedArray, field: str) -> np.ndarray:
    """A number for each value of a field of `meta`, (N,); NONE for rows without it."""
    numbers: dict[str, int] = {}
    found = field_values(metas, field)
    return np.array([NONE if value is None else numbers.setdefault(canonical_json(value), len(numbers)) for value in found], int)


def across(ranking: pairing.Ranking, group_M: np.ndarray) -> pairing.Comparisons:
    """Every candidate against every one of another group of its prompt, either of them as the better side."""
    one, other = pairing.every_two(ranking)
    apart = group_M[one] != group_M[other]
    one, other = one[apart], other[apart]
    return np.concatenate([one, other]), np.concatenate([other, one])


def under_system(prompt: list[Message], meta: str | None) -> list[Message]:
    """The conversation as the writer of a response was shown it: with the system message that `meta` tells of."""
    text = json.loads(meta).get("system") if meta else None
    if not isinstance(text, str) or not text:
        return prompt
    if prompt and prompt[0]["role"] == "system":
        own = prompt[0]["content"] or ""
        return (
            prompt if f"\n\n{own}".endswith(f"\n\n{text}") else [prompt[0] | {"content": f"{own}\n\n{text}".strip()}, *prompt[1:]]
        )
    return [{"role": "system", "content": text}, *prompt]


class Tree(NamedTuple):
    """Responses as steps of trees: a step's parent is the response it goes on from."""

    families_N: np.ndarray
    """A number for each (prompt, parent): siblings have the same."""
    parents_N: np.ndarray
    """Row number of the parent; NONE at a root."""
    grounded_N: np.ndarray
    """Whether the way up ends at a root: no step on it is missing or its own ancestor."""


def tree(table: pa.Table, prompts_N: np.ndarray, step: str | None = None) -> Tree:
    """The trees of a table's responses, by `parent_id` and `response_id` within each prompt.

    step: field of `meta` that holds what `parent_id` names, instead of the response's id.
    """
    ids = table["response_id"].to_pylist() if step is None else field_names(table["meta"], step)
    keys = list(zip(prompts_N.tolist(), ids, strict=True))
    row_of = {key: row for row, key in reversed(list(enumerate(keys)))}  # of equal ids the first row
    parent_ids = table["parent_id"].to_pylist()
    parents = np.full(len(keys), NONE)
    grounded = np.ones(len(keys), dtype=bool)
    for row, ((prompt, _), parent) in enumerate(zip(keys, parent_ids, strict=True)):
        if parent is not None:
            parents[row] = row_of.get((prompt, parent), NONE)
            grounded[row] = parents[row] != NONE
    above = np.where(parents == NONE, np.arange(len(keys)), parents)
    reached, ends = grounded.copy(), above
    for _ in range(max(1, len(keys).bit_length())):  # each round looks twice as far up
        reached, ends = reached & reached[ends], ends[ends]
    reached &= parents[ends] == NONE  # a circle has no end
    families: dict[tuple[int, str | None], int] = {}
    named = [families.setdefault((prompt, parent), len(families)) for (prompt, _), parent in zip(keys, parent_ids, strict=True)]
    return Tree(np.array(named, dtype=np.int64), parents, reached)


def told_so_far(row: int, parents_N: np.ndarray, prompt: list[Message], steps: list[list[Message]]) -> list[Message]:
    """The conversation up to a step: the prompt and every step above it, from the root on."""
    above: list[list[Message]] = []
    while (row := int(parents_N[row])) != NONE:
        above.append(steps[row])
    return [*prompt, *(message for step in reversed(above) for message in step)]


def messages_of(table: pa.Table) -> list[list[Message]]:
    """Each response as messages: its turns where there are several, else one by the assistant."""
    both = zip(table["response"].to_pylist(), table["turns"].to_pylist(), strict=True)
    return [turns if turns is not None else [{"role": "assistant", "content": text}] for text, turns in both]


def prompts_of(lists: list[list[Message]]) -> pa.Array:
    """Conversations as a column."""
    return pa.array(lists, tables.SCHEMAS["pairs"].field("prompt").type)
