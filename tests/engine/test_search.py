"""Searches for repeats are kept and reused: when a threshold moves, and when rows are added."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from curate.engine.search import decided, searched_how
from curate.filter.near_duplicate import NearDuplicate
from curate.filter.repeats import Search
from curate.models.shelf import VectorShelf
from curate.recipe import read_recipe
from curate.run import Done, run_recipe
from curate.store import arrow, gc
from curate.store.store import Snapshot, Store
from tests.filter.test_near_duplicate import LONG, responses

STEPS = """
models:
  words: {backend: hashing, name: words}
steps:
  - near_duplicate: {threshold: 0.7}
  - semantic_duplicate: {model: words, threshold: 0.9, exact_below: 10}
"""


class Counting(NearDuplicate):
    """Tells what it was asked to search for."""

    def search(self, features: pa.Table, known: Search | None, rows: int) -> Search:
        found = super().search(features, known, rows)
        return Search(found.edges, found.about | {"known": rows, "of": features.num_rows})


def measured(store: Store, *shards: list[str]) -> list[tuple[str, int]]:
    operator = NearDuplicate(name="near", within="all")
    return [(store.put_table(operator.features(responses(*texts))), len(texts)) for texts in shards]


OLD, NEW = [LONG, "nothing like it at all", LONG + " a"], [LONG + " b", "something new", "nothing like it at all"]


def test_added_rows_alone_are_searched_for_and_the_outcome_is_that_of_a_whole_search(tmp_path: Path) -> None:
    store = Store(tmp_path)
    operator = Counting(name="near", within="all")
    _, extra = decided(store, operator, "responses", {"operator": "near"}, measured(store, OLD))
    assert (extra["search"]["known"], extra["search"]["of"]) == (0, 3)
    state, extra = decided(store, operator, "responses", {"operator": "near"}, measured(store, OLD, NEW))
    assert (extra["search"]["known"], extra["search"]["of"]) == (3, 6)
    anew, _ = decided(
        Store(tmp_path / "anew"), operator, "responses", {"operator": "near"}, measured(Store(tmp_path / "anew"), OLD, NEW)
    )
    assert state.to_pylist() == anew.to_pylist()
    assert [kept is not None for kept in state["kept"].to_pylist()] == [False, False, True, True, False, True]


def test_a_log_tells_how_it_was_searched_and_that_hashing_is_lexical(tmp_path: Path) -> None:
    _, (near, semantic) = run(recipe(tmp_path, rows(0, 60)))
    assert searched_how("dup", semantic.extra["search"]) == "dup (lexical): searched by exact"
    assert searched_how("near", near.extra["search"] | {"checked": 80, "recall": 0.9951}).endswith(
        "recall 0.995 estimated on 80 pairs"
    )


def test_a_moved_threshold_searches_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    decided(store, Counting(name="near", within="all", threshold=0.7), "responses", {}, measured(store, OLD, NEW))
    before = sorted(store.root.rglob("*.arrow"))
    state, extra = decided(store, Counting(name="near", within="all", threshold=0.99), "responses", {}, measured(store, OLD, NEW))
    assert sorted(store.root.rglob("*.arrow")) == before and extra["search"]["known"] == 0
    assert [kept is not None for kept in state["kept"].to_pylist()] == [False] * 5 + [True]


def test_another_floor_or_model_searches_anew(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first, _ = decided(store, Counting(name="near", within="all"), "responses", {}, measured(store, OLD))
    for other, identity in (
        (Counting(name="near", within="all", threshold=0.3), {}),
        (Counting(name="n", within="all"), {"m": 1}),
    ):
        before = set(store.root.rglob("shards/*/*.json"))
        decided(store, other, "responses", identity, measured(store, OLD))
        assert len(set(store.root.rglob("shards/*/*.json")) - before) == 1


def recipe(folder: Path, rows: list[dict[str, Any]]) -> Path:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = folder / "recipe.yaml"
    path.write_text(f"name: d\nsource: {{path: rows.jsonl, rows: prompts, columns: {{prompt: prompt}}}}\n{STEPS}")
    return path


def run(path: Path, *overrides: str, refresh: Any = None) -> tuple[Done, list[Snapshot]]:
    done = run_recipe(read_recipe(path, overrides=overrides), path.parent / "store", refresh=refresh)
    return done, [stage.snapshot for stage in done.stages[1:]]


def rows(first: int, last: int) -> list[dict[str, Any]]:
    said = "tell me in some detail about number {} and of its {} history in the old world"
    return [{"prompt": said.format(n // 2, "" if n % 2 else "long")} for n in range(first, last)]


def test_a_run_keeps_the_search_with_the_snapshot_and_a_refresh_searches_for_new_rows_only(tmp_path: Path) -> None:
    from curate.refresh import Refresh

    path = recipe(tmp_path, rows(0, 60))
    _, (near, semantic) = run(path)
    store = Store(tmp_path / "store")
    for snapshot in (near, semantic):
        assert all(store.object_path(name).exists() for name in snapshot.extra["objects"]) and snapshot.extra["objects"]
    assert semantic.extra["search"]["searched"] == near.kept
    recipe(tmp_path, rows(0, 80))
    _, (near_after, after) = run(path, refresh=Refresh.parse("append"))
    added = near_after.kept - near.kept
    assert 0 < added <= 20 and after.extra["search"]["searched"] == added
    assert after.extra["search"]["among"] == near_after.kept


def test_a_refresh_embeds_and_searches_for_the_added_rows_alone_and_places_no_other_anew(tmp_path: Path) -> None:
    from curate.refresh import Refresh

    path, store = recipe(tmp_path, rows(0, 2000)), Store(tmp_path / "store")
    _, (near, before) = run(path)
    assert near.kept == on_shelves(store) == 1000  # of two near prompts one
    recipe(tmp_path, rows(0, 2160))
    _, (_, after) = run(path, refresh=Refresh.parse("append"))
    assert on_shelves(store) == 1080
    assert (after.extra["search"]["searched"], after.extra["search"]["among"]) == (80, 1080)
    cells, more = homes_of(store, before), homes_of(store, after)
    assert more[:1000] == cells and -1 not in more and set(more[1000:]) <= set(cells)
    assert after.extra["search"]["how"] == before.extra["search"]["how"] == f"cells: {len(set(cells))}"
    recipe(tmp_path, rows(0, 2320))
    _, (_, last) = run(path, refresh=Refresh.parse("append"))
    assert last.extra["search"]["searched"] == 80 and homes_of(store, last)[:1080] == more


def on_shelves(store: Store) -> int:
    """Embeddings computed so far; a text embedded twice counts twice. What is told of each lies on a shelf of its own."""
    folders = {path.parent for path in store.root.rglob("*.vec")}
    return max(len(VectorShelf(folder.parent, folder.name)) for folder in folders)


def homes_of(store: Store, snapshot: Snapshot) -> list[int]:
    """The pivot of each row, as the snapshot keeps it."""
    tables = [arrow.read(store.object_path(name)) for name in snapshot.extra["objects"]]
    (homes,) = [table["home"].to_pylist() for table in tables if "home" in table.column_names]
    return [int(home) for home in homes]


def test_what_a_search_needs_again_is_no_garbage(tmp_path: Path) -> None:
    path, store = recipe(tmp_path, rows(0, 60)), Store(tmp_path / "store")
    run(path)
    gc.free(store, gc.find(store, older_than=0.0))
    before = set(store.root.rglob("objects/*/*.arrow"))
    run(path, "semantic_duplicate.threshold=0.88", "near_duplicate.linkage=single")
    written = [set(arrow.read(path).column_names) for path in set(store.root.rglob("objects/*/*.arrow")) - before]
    assert written and not any({"vector", "shingles", "left", "home"} & columns for columns in written)


@pytest.mark.parametrize("value", ["0.65", "0.8"])
def test_a_run_with_another_threshold_writes_no_search(tmp_path: Path, value: str) -> None:
    path = recipe(tmp_path, rows(0, 60))
    _, (before, _) = run(path)
    _, (after, _) = run(path, f"near_duplicate.threshold={value}")
    assert after.extra["objects"] == before.extra["objects"]
