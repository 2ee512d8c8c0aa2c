"""Decide for all rows, searching only for what no earlier run searched for.

What a search found is remembered under the features it saw, shard by shard. Where shards were added to known ones, the pairs
among those are read, and only the new rows are searched for.
"""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from curate.engine.shard import read_objects
from curate.filter.repeats import Repeats, Search
from curate.ids import digest
from curate.operator import DatasetOperator
from curate.store import arrow
from curate.store.store import Store


def decided(
    store: Store, operator: DatasetOperator, identity: dict[str, Any], measured: Sequence[tuple[str, int]]
) -> tuple[pa.Table, dict[str, Any]]:
    """The operator's decision, and what belongs to the snapshot besides: the search's file and how it was made.

    identity: what tells the operator from others, models included. measured: per shard the object that holds its features, and
    its rows.
    """
    features = read_objects(store, [name for name, _ in measured])
    if not isinstance(operator, Repeats):
        return operator.decide(features), {}
    objects, search = _searched(
        store, operator, digest(identity | {"parameters": operator.search_parameters()}), features, measured
    )
    return operator.choose(features, search), {"objects": objects, "search": search.about}


def searched_how(name: str, about: dict[str, Any]) -> str:
    """What a log says of a search."""
    recall = f", recall {about['recall']:.3f} estimated on {about['checked']} pairs" if about.get("checked") else ""
    likeness = f" ({about['likeness']})" if "likeness" in about else ""
    return f"{name}{likeness}: searched by {about['how']}{recall}"


def _searched(
    store: Store, operator: Repeats, asked: str, features: pa.Table, measured: Sequence[tuple[str, int]]
) -> tuple[list[str], Search]:
    """The pairs: all remembered, or those of the longest known beginning and what is found for the rows after it."""
    known, rows = None, 0
    for end in range(len(measured), 0, -1):
        remembered = store.remembered(_key(asked, measured[:end]))
        if remembered is not None:
            known = Search.of(arrow.read(store.object_path(remembered["objects"][0])))
            rows = sum(count for _, count in measured[:end])
            if end == len(measured):
                return remembered["objects"], known
            break
    search = operator.search(features, known, rows)
    objects = [store.put_table(search.to_table())]
    store.remember(_key(asked, measured), {"objects": objects})
    return objects, search


def _key(asked: str, measured: Sequence[tuple[str, int]]) -> str:
    return digest({"search": asked, "features": [name for name, _ in measured]})
