"""The recipe of repeats, held against those planted in the sample data."""

import json
from collections.abc import Callable

import pytest

from curate.packaged import samples_folder
from curate.store.versions import Version
from tests.recipes.conftest import check_sound, table_of

Hits = dict[str, list[tuple[str, str]]]


@pytest.fixture(scope="module")
def version(run: Callable[..., Version]) -> Version:
    return run("repeats")


@pytest.fixture(scope="module")
def truth() -> dict[str, dict[str, object]]:
    lines = (samples_folder() / "truth.jsonl").read_text(encoding="utf-8").splitlines()
    return {row["id"]: row for row in map(json.loads, lines)}


@pytest.fixture(scope="module")
def hits(version: Version) -> Hits:
    """By step: dropped answers and those that stay, by the names that the sample data has for them."""
    kept, dropped = (table_of(version, table) for table in ("responses", "dropped/responses"))
    rows = [*zip(kept["response_id"], kept["meta"], strict=True), *zip(dropped["response_id"], dropped["meta"], strict=True)]
    names = {row: json.loads(meta)["id"] for row, meta in rows}
    found: Hits = {"near_duplicate": [], "semantic_duplicate": []}
    for row, by, other in dropped.select("response_id", "dropped_by", "other").rows():
        if by in found:
            found[by].append((names[row], names[other]))
    return found


def test_planted_repeats_are_found_and_nearly_nothing_else(hits: Hits, truth: dict[str, dict[str, object]]) -> None:
    planted = {frozenset((name, str(row["repeat_of"]))) for name, row in truth.items() if row["repeat_of"]}
    right = {step: sum(frozenset(pair) in planted for pair in pairs) for step, pairs in hits.items()}
    wrong = {step: len(pairs) - right[step] for step, pairs in hits.items()}
    assert len(planted) == 40
    assert right == {"near_duplicate": 30, "semantic_duplicate": 4}
    assert wrong == {"near_duplicate": 0, "semantic_duplicate": 1}


def test_the_better_rated_of_two_stays(hits: Hits, version: Version) -> None:
    rated: dict[str, float] = {}
    for table in ("responses", "dropped/responses"):
        rows = table_of(version, table).select("meta", "score_given_rating").rows()
        rated |= {json.loads(meta)["id"]: rating for meta, rating in rows}
    assert all(rated[kept] >= rated[lost] for pairs in hits.values() for lost, kept in pairs)


def test_its_version_is_sound_and_its_card_says_lexical(version: Version) -> None:
    check_sound(version)
    assert "lexical: it compares words and spelling, not meaning" in (version.path / "README.md").read_text(encoding="utf-8")
