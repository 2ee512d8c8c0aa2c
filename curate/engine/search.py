"""Decide for all rows, searching only for what no earlier run searched for.

What a search found is remembered under the features it saw, shard by shard. Where shards were added to known ones, the pairs
among those are read, and only the new rows are searched for.
"""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from curate.engine.earlier import measured_versions
from curate.engine.shard import read_objects
from curate.filter.exact_duplicate import ExactDuplicate
from curate.filter.repeats import Repeats, Search
from curate.ids import digest
from curate.maths.jaccard import Edges
from curate.operator import DatasetOperator
from curate.store import arrow
from curate.store.store import Store
from curate.tables import Grain


def decided(
    store: Store, operator: DatasetOperator, grain: Grain, identity: dict[str, Any], measured: Sequence[tuple[str, int]]
) -> tuple[pa.Table, dict[str, Any]]:
    """The operator's decision, and what belongs to the snapshot besides: the features, the search's file and how it was made.

    identity: what tells the operator from others, models included. measured: per shard the object that holds its features, and
    its rows.
    """
    if not isinstance(operator, Repeats | ExactDuplicate):
        return operator.decide(read_objects(store, [name for name, _ in measured])), {}
    earlier = measured_versions(store, operator, grain, identity)
    everything = [*earlier, *measured]
    features = read_objects(store, [name for name, _ in everything])
    if isinstance(operator, ExactDuplicate):
        theirs = sorted({name for name, _ in earlier})
        return operator.choose(features, _rows(earlier)), {"objects": theirs} if theirs else {}
    asked = digest(identity | {"parameters": operator.search_parameters()})
    objects, search = _searched(store, operator, asked, features, everything, len(earlier))
    kept = sorted({*objects, *(name for name, _ in everything)})
    return operator.choose(features, search, _rows(earlier)), {"objects": kept, "search": search.about}


def searched_how(name: str, about: dict[str, Any]) -> str:
    """What a log says of a search."""
    recall = f", recall {about['recall']:.3f} estimated on {about['checked']} pairs" if about.get("checked") else ""
    likeness = f" ({about['likeness']})" if "likeness" in about else ""
    return f"{name}{likeness}: searched by {about['how']}{recall}"


def _searched(
    store: Store, operator: Repeats, asked: str, features: pa.Table, measured: Sequence[tuple[str, int]], earlier: int
) -> tuple[list[str], Search]:
    """The pairs: all remembered, or those of the longest known beginning and what is found for the rows after it.

    Pairs within the first `earlier` objects, those of earlier versions, are of no interest.
    """
    known, rows = (Search(Edges.none(), {}), _rows(measured[:earlier])) if earlier else (None, 0)
    for end in range(len(measured), earlier, -1):
        remembered = store.remembered(_key(asked, measured[:end], earlier))
        if remembered is not None:
            known = Search.of([arrow.read(store.object_path(name)) for name in remembered["objects"]])
            rows = _rows(measured[:end])
            if end == len(measured):
                return remembered["objects"], known
            break
    search = operator.search(features, known, rows)
    objects = [store.put_table(table) for table in search.to_tables()]
    store.remember(_key(asked, measured, earlier), {"objects": objects})
    return objects, search


def _rows(measured: Sequence[tuple[str, int]]) -> int:
    return sum(count for _, count in measured)


def _key(asked: str, measured: Sequence[tuple[str, int]], earlier: int) -> str:
    return digest({"search": asked, "features": [name for name, _ in measured]} | ({"earlier": earlier} if earlier else {}))
