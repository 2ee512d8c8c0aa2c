"""Rows of earlier versions, measured as a search for repeats measures its own rows."""

from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import UnknownName
from curate.filter.exact_duplicate import ExactDuplicate
from curate.filter.repeats import Repeats
from curate.ids import digest
from curate.operator import Operator
from curate.store.kept_rows import kept_parts
from curate.store.store import Store
from curate.store.versions import Version, Versions
from curate.tables import Grain


def versions_of(store: Store, operator: Operator) -> list[Version]:
    """The earlier versions that a step reads. UnknownName, with those there are, if one is not there."""
    try:
        return [Versions(store.root).find(reference) for reference in operator.versions()]
    except UnknownName as error:
        raise UnknownName(f"step {operator.name}, against: {error}") from error


def check_versions(store: Store, operators: Iterable[Operator]) -> None:
    """Raise UnknownName if a step reads a version that is not there."""
    for operator in operators:
        versions_of(store, operator)


def measured_versions(
    store: Store, operator: Repeats | ExactDuplicate, grain: Grain, identity: dict[str, Any]
) -> list[tuple[str, int]]:
    """Per file of kept rows the object that holds its features, and its rows; what was measured before is not again.

    A row's id is preceded by its version's name: name@v3 5f0c...
    """
    reader = operator.model_copy(update={"keep": "first", "by": None})  # whatever ranks, rows of a version stay
    asked = digest(identity | {"parameters": reader.feature_parameters()})
    columns = sorted(reader.reads(grain))
    found = []
    for version in versions_of(store, operator):
        for part in kept_parts(version, grain, columns):
            key = digest({"features": asked, "version": str(version), "grain": grain, "file": part.sha256})
            remembered = store.remembered(key)
            if remembered is None:
                features = _named(reader.features(part.table), version)
                remembered = {"objects": [store.put_table(features)], "rows": features.num_rows}
                store.remember(key, remembered)
            found.append((remembered["objects"][0], remembered["rows"]))
    return found


def _named(features: pa.Table, version: Version) -> pa.Table:
    ids = pc.binary_join_element_wise(str(version), features["id"], " ")
    return features.set_column(features.schema.get_field_index("id"), "id", ids)
