"""Near duplicates: who is compared, which row stays, what is written."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from curate import tables
from curate.filter.exact_duplicate import ExactDuplicate, Normal
from curate.filter.near_duplicate import NearDuplicate
from curate.filter.repeats import Search
from curate.ids import prompt_id
from curate.maths.jaccard import Edges

LONG = "the quick brown fox jumps over the lazy dog and runs into the garden behind the old house"


def responses(*texts: str | None, asked: list[str] | None = None, **columns: list[Any]) -> pa.Table:
    rows = []
    for place, text in enumerate(texts):
        messages = [{"role": "user", "content": (asked or ["q"] * len(texts))[place]}]
        row = {"prompt": messages, "prompt_id": prompt_id(messages), "response": text, "response_id": f"r{place}"}
        rows.append(row | {name: values[place] for name, values in columns.items()})
    return tables.from_rows(rows, "responses")


def lost_to(table: pa.Table, **parameters: Any) -> list[str | None]:
    """Per row: the row it lost to."""
    flags = NearDuplicate(name="near", **parameters)(table)["flags"].to_pylist()
    return [row[0]["other"] if row else None for row in flags]


def test_the_first_of_nearly_equal_texts_stays_and_the_others_say_how_alike_they_are() -> None:
    table = responses(LONG, "something else entirely, of no interest to anyone", LONG.upper() + "!", LONG + " today")
    out = NearDuplicate(name="near")(table)
    flags = out["flags"].to_pylist()
    assert [bool(one) for one in flags] == [False, False, True, True]
    assert flags[2] == [{"by": "near", "reason": "near_duplicate", "value": 1.0, "other": "r0"}]
    assert flags[3][0]["other"] == "r0" and flags[3][0]["value"] == pytest.approx(16 / 17)
    measures = [{entry["name"]: entry["value"] for entry in row} for row in out["evidence"].to_pylist()]
    assert measures[0] == {"similarity": None, "cluster": 3.0} and measures[1] == {"similarity": None, "cluster": 1.0}
    assert measures[3] == {"similarity": pytest.approx(16 / 17), "cluster": 3.0}


def test_rows_of_other_prompts_are_compared_only_when_all_are() -> None:
    table = responses(LONG, LONG, asked=["a", "b"])
    assert lost_to(table) == [None, None]
    assert lost_to(table, within="all") == [None, "r0"]


def test_rows_of_one_source_are_compared() -> None:
    table = responses(LONG, LONG, LONG, asked=["a", "b", "c"], source=["x", "y", "x"])
    assert lost_to(table, within="source") == [None, None, "r0"]


def test_a_row_without_text_is_never_a_repeat_and_has_no_measure() -> None:
    out = NearDuplicate(name="near")(responses(None, None, LONG))
    assert not any(out["flags"].to_pylist())
    assert [entry["value"] for row in out["evidence"].to_pylist()[:2] for entry in row] == [None] * 4


def scored(*values: float | None) -> list[list[dict[str, Any]]]:
    return [[] if value is None else [{"rater": "rm", "aspect": "a", "value": value}] for value in values]


def test_the_longest_or_the_best_row_stays() -> None:
    table = responses(LONG, LONG + " today", LONG + " now", scores=scored(0.1, None, 0.7))
    assert lost_to(table, keep="longest") == ["r1", None, "r1"]
    assert lost_to(table, keep="best", by="rm:a") == ["r2", "r2", None]


def test_the_best_of_equal_texts_stands_for_them() -> None:
    table = responses(LONG, LONG, LONG + " now", scores=scored(0.1, 0.9, 0.5))
    assert lost_to(table, keep="best", by="rm:a") == ["r1", None, "r1"]


def test_the_pair_of_most_votes_stays() -> None:
    votes = [
        [{"rater": f"w{n}", "p_chosen": 1.0} for n in range(count)] + [{"rater": "x", "p_chosen": None}] for count in (1, 3, 2)
    ]
    rows = [
        {"prompt": [], "prompt_id": "p", "chosen": LONG, "rejected": f"no {n}", "pair_id": f"p{n}", "votes": votes[n]}
        for n in range(3)
    ]
    assert lost_to(tables.from_rows(rows, "pairs"), keep="votes", column="chosen") == ["p1", None, "p1"]


CHAIN = ["a b c d e f g h", "c d e f g h i j", "e f g h i j k l"]  # of words: 6/10 between neighbours, 4/12 between the ends


def test_linkage_decides_what_becomes_of_a_chain() -> None:
    table = responses(*CHAIN)
    assert lost_to(table, size=1, threshold=0.6) == [None, "r0", None]
    assert lost_to(table, size=1, threshold=0.6, linkage="single") == [None, "r0", "r0"]
    out = NearDuplicate(name="near", size=1, threshold=0.6, linkage="single")(table)["flags"].to_pylist()
    assert out[2][1] == {"by": "near", "reason": "path", "value": pytest.approx(0.6), "other": "r2 > r1 > r0"}


def test_code_is_compared_by_characters() -> None:
    table = responses("for i in x:\n    if x[i] < y:\n        return i", "for i in x:\n    if x[i] > y:\n        return i+1")
    assert lost_to(table, shingle="character", threshold=0.9) == [None, None]
    assert lost_to(table, shingle="character", threshold=0.5) == [None, "r0"]


def test_prompts_that_differ_in_what_they_show_are_no_repeats() -> None:
    rows = [
        {"prompt": [{"role": "user", "content": LONG}], "prompt_id": f"p{n}", "images": [{"sha256": image, "path": None}]}
        for n, image in enumerate("aab")
    ]
    assert lost_to(tables.from_rows(rows, "prompts")) == [None, "p0", None]


words = st.lists(st.sampled_from("abcdefgh"), max_size=9).map(" ".join)


@settings(max_examples=150, deadline=None)
@given(st.lists(words, min_size=1, max_size=25), st.sampled_from([0.2, 0.5, 0.75, 1.0]), st.sampled_from(["first", "longest"]))
def test_each_cluster_keeps_one_row_and_no_two_kept_rows_are_alike(texts: list[str], threshold: float, keep: str) -> None:
    operator = NearDuplicate(name="near", threshold=threshold, size=1, keep=keep)  # type: ignore[arg-type]
    told = [row[0] if row else None for row in operator(responses(*texts))["flags"].to_pylist()]
    flags = [None if flag is None else flag["other"] for flag in told]
    sets = [frozenset(text.split()) or frozenset([""]) for text in texts]

    def alike(i: int, j: int) -> bool:
        return bool(np.float32(len(sets[i] & sets[j]) / len(sets[i] | sets[j])) >= np.float32(threshold))

    kept = [row for row, other in enumerate(flags) if other is None]
    assert all(alike(row, int(other[1:])) and int(other[1:]) in kept for row, other in enumerate(flags) if other is not None)
    assert all(flag is None or flag["value"] >= np.float32(threshold) for flag in told)
    assert not any(alike(i, j) for i in kept for j in kept if i < j)


def test_of_a_crowd_of_texts_all_alike_the_best_alone_stays() -> None:
    """450 texts share all words but one: too many to be compared each with each at first."""
    scores = scored(*[float(n * 7919 % 450) for n in range(450)])
    flags = lost_to(
        responses(*[f"a b c d x{n}" for n in range(450)], scores=scores), threshold=0.65, size=1, keep="best", by="rm:a"
    )
    assert [row for row, other in enumerate(flags) if other is None] == [next(n for n in range(450) if n * 7919 % 450 == 449)]


def against(earlier: list[str], own: list[str], **parameters: Any) -> list[tuple[str, float] | None]:
    """Per own row: the row it lost to and their similarity; rows of an earlier version are named e0, e1, ..."""
    operator = NearDuplicate(name="near", **parameters)
    theirs = operator.features(responses(*earlier))
    names = pa.array([f"e{place}" for place in range(len(earlier))], pa.string())
    theirs = theirs.set_column(theirs.schema.get_field_index("id"), "id", names)
    features = pa.concat_tables([theirs, operator.features(responses(*own))])
    found = operator.search(features, Search(Edges.none(), {}), len(earlier))
    state = operator.choose(features, found, len(earlier))
    rows = zip(state["kept"].to_pylist(), state["likeness"].to_pylist(), strict=True)
    return [None if kept is None else (kept, likeness) for kept, likeness in rows]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(words, max_size=12),
    st.lists(words, min_size=1, max_size=12),
    st.sampled_from([0.2, 0.5, 0.75, 1.0]),
    st.sampled_from(["first", "longest"]),
)
def test_rows_of_earlier_versions_stay_and_no_kept_row_is_alike_to_one(
    earlier: list[str], own: list[str], threshold: float, keep: str
) -> None:
    flags = against(earlier, own, threshold=threshold, size=1, keep=keep)
    texts = {f"e{n}": text for n, text in enumerate(earlier)} | {f"r{n}": text for n, text in enumerate(own)}
    sets = {name: frozenset(text.split()) or frozenset([""]) for name, text in texts.items()}
    stays = [name for name in texts if name[0] == "e" or flags[int(name[1:])] is None]

    def share(one: str, other: str) -> np.float32:
        return np.float32(len(sets[one] & sets[other]) / len(sets[one] | sets[other]))

    for row, told in enumerate(flags):
        assert told is None or (told[0] in stays and share(f"r{row}", told[0]) == told[1] >= np.float32(threshold))
    kept = [name for name in stays if name[0] == "r"]
    assert not any(share(one, other) >= np.float32(threshold) for one in kept for other in stays if one != other)


def test_a_row_joins_the_most_alike_of_earlier_rows_and_kept_ones() -> None:
    flags = against([LONG + " x y z"], [LONG + " and so on", LONG + " x y"], threshold=0.7)
    assert [told and told[0] for told in flags] == ["e0", "e0"]
    assert [told and told[1] for told in flags] == [pytest.approx(16 / 22), pytest.approx(18 / 19)]


def test_a_crowd_of_earlier_rows_and_own_ones_leaves_no_two_alike_ones() -> None:
    random = np.random.default_rng(1)
    texts = [" ".join([*"abcdefghij", *map(str, random.integers(0, 40, 4))]) for _ in range(1000)]
    flags = against(texts[:500], texts[500:], threshold=0.7, size=1)
    sets = [frozenset(text.split()) for text in texts]
    kept = [500 + row for row, told in enumerate(flags) if told is None]
    share = [len(sets[i] & sets[j]) / len(sets[i] | sets[j]) for j in kept for i in [*range(500), *kept] if i < j]
    assert max(share, default=0) < 0.7 and len(kept) < 500


def test_a_crowd_of_alike_texts_leaves_no_two_alike_ones() -> None:
    random = np.random.default_rng(0)
    texts = [" ".join([*"abcdefghij", *map(str, random.integers(0, 40, 4))]) for _ in range(1000)]
    flags = lost_to(responses(*texts), threshold=0.7, size=1)
    sets = [frozenset(text.split()) for text in texts]
    kept = [row for row, other in enumerate(flags) if other is None]
    share = [len(sets[i] & sets[j]) / len(sets[i] | sets[j]) for i in kept for j in kept if i < j]
    assert max(share) < 0.7 and all(other is None or int(other[1:]) in kept for other in flags)


def test_a_crowd_is_one_cluster_under_single_linkage_only_through_alike_texts() -> None:
    """450 texts share a rare word; those of different tens are alike to 0.6, above the floor and below the threshold."""
    texts = [" ".join([*"abcdef", f"x{n // 10}", f"y{n // 10}"]) for n in range(450)]
    flags = lost_to(responses(*texts), threshold=0.7, floor=0.5, size=1, linkage="single")
    assert [row for row, other in enumerate(flags) if other is None] == list(range(0, 450, 10))


def test_the_similarity_of_a_kept_row_is_told_down_to_the_floor() -> None:
    out = NearDuplicate(name="near", threshold=0.9, floor=0.5, size=1)(responses("a b c d", "a b c e", "x y"))
    assert not any(out["flags"].to_pylist())
    told = [{entry["name"]: entry["value"] for entry in row}["similarity"] for row in out["evidence"].to_pylist()]
    assert told == [None, pytest.approx(0.6), None]


def test_moving_the_threshold_keeps_features_and_search() -> None:
    one, other = NearDuplicate(name="a", threshold=0.7), NearDuplicate(name="b", threshold=0.65, linkage="single")
    assert one.feature_parameters() == other.feature_parameters() and one.search_parameters() == other.search_parameters()
    among = NearDuplicate(against="d@v1")  # which rows are compared is told by their features
    assert one.feature_parameters() == among.feature_parameters() and one.search_parameters() == among.search_parameters()
    below = NearDuplicate(threshold=0.5)
    assert one.search_parameters() != below.search_parameters() and one.feature_parameters() == below.feature_parameters()


@pytest.mark.parametrize(
    "wrong", [{"threshold": 0}, {"floor": 0.9}, {"by": "rm"}, {"keep": "best"}, {"shingle": "token"}, {"against": "d"}]
)
def test_wrong_parameters_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        NearDuplicate(**wrong)


def test_copies_among_programs_are_counted_exactly(real_data: Path) -> None:
    import gzip
    import json

    packed = (real_data / "humaneval_samples" / "codegen16B_samples.jsonl.gz").read_bytes()
    problems = [json.loads(line) for line in gzip.decompress(packed).splitlines()]
    table = responses(
        *[program for one in problems for program in one["samples"]],
        asked=[one["prompt"] for one in problems for _ in one["samples"]],
    )
    assert table.num_rows == 16_400
    expected: list[tuple[Normal, int]] = [("none", 12_410), ("whitespace", 11_958)]
    for normalise, distinct in expected:
        assert int(tables.is_kept(ExactDuplicate(name="x", normalise=normalise)(table)).sum()) == distinct
    near = int(tables.is_kept(NearDuplicate(name="near", shingle="character", threshold=0.9)(table)).sum())
    assert near < 11_958
