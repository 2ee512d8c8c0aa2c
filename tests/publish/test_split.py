"""Splits by cluster of prompts."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from curate import ids, tables
from curate.filter.near_duplicate import NearDuplicate
from curate.publish.split import Split, text_ids


def pairs(*texts, **columns):
    """A pair for each prompt text; columns: a list of values for each further column."""
    rows = []
    for number, text in enumerate(texts):
        prompt = [{"role": "user", "content": text}]
        row = {
            "row": number,
            "prompt": prompt,
            "prompt_id": ids.prompt_id(prompt),
            "pair_id": f"pair{number}",
            "chosen": str(number),
        }
        rows.append(row | {name: values[number] for name, values in columns.items()})
    return tables.from_rows(rows, "pairs")


def splits(step, table):
    return step(table)["split"].to_pylist()


WORDS = [f"question {number}" for number in range(4000)]


def test_shares_are_met_within_chance():
    given = splits(Split(test=0.2, validation=0.1), pairs(*WORDS))
    assert 720 < given.count("test") < 880  # 800 expected, standard deviation 25
    assert 330 < given.count("validation") < 470  # 400 expected, standard deviation 19


def test_everything_trains_unless_told():
    assert set(splits(Split(), pairs(*WORDS[:50]))) == {"train"}


@pytest.mark.parametrize(
    "other", ["what  is\nthe capital of france", "What is the capital of France?", "What is the capital of Ｆrance."]
)
def test_wordings_that_differ_in_form_stay_together(other):
    assert len(set(text_ids(pairs("What is the capital of France?", other)).to_pylist())) == 1


@pytest.mark.parametrize(("one", "other"), [("2+2", "22"), ("?!", "..."), ("की", "का"), ("a b", "ab")])
def test_wordings_that_differ_in_content_do_not(one, other):
    assert len(set(text_ids(pairs(one, other)).to_pylist())) == 2


def straddles(step, table, keys):
    """Whether rows with one key are in several splits."""
    return len(set(zip(keys, splits(step, table), strict=True))) > len(set(keys))


def test_no_prompt_straddles():
    texts = [text for number in range(300) for text in (f"Question {number}!", f"question  {number}", f"Question {number}!")]
    assert not straddles(Split(test=0.5), pairs(*texts), [number for number in range(300) for _ in range(3)])


def test_rows_made_from_one_another_do_not_straddle():
    parents = [None if number % 3 == 0 else f"pair{number - 1}" for number in range(600)]
    table = pairs(*WORDS[:600], parent_id=parents)
    keys = [number // 3 for number in range(600)]
    assert not straddles(Split(test=0.5), table, keys)
    assert straddles(Split(test=0.5), pairs(*WORDS[:600]), keys)


def test_other_wordings_join_what_was_made_from_them():
    texts = [text for number in range(300) for text in (f"Question {number}!", f"question {number}", f"reworded {number}")]
    parents = [f"pair{row - 1}" if row % 3 == 2 else None for row in range(900)]
    assert not straddles(Split(test=0.5), pairs(*texts, parent_id=parents), [row // 3 for row in range(900)])


def test_rows_of_one_absent_parent_do_not_straddle():
    table = pairs(*WORDS[:600], parent_id=[f"gone{number // 2}" for number in range(600)])
    assert not straddles(Split(test=0.5), table, [number // 2 for number in range(600)])


def near_prompts():
    """300 prompts, and each with a word more and with yet another: 10 of 11 and 9 of 11 runs in common."""
    said = "please write about topic{} and about idea{} in a few short and simple sentences"
    return [said.format(n, 7 * n) + more for n in range(300) for more in ("", " today", " today please")]


def test_near_prompts_do_not_straddle():
    keys = [row // 3 for row in range(900)]
    assert not straddles(Split(test=0.5), pairs(*near_prompts()), keys)
    assert straddles(Split(test=0.5, near=None), pairs(*near_prompts()), keys)
    assert set(splits(Split(test=0.5), pairs(*near_prompts()))) == {"train", "test"}


BASE = ["tell_me", "about", "the", "-5", "old", "houses", "and_the", "40%", "of", "gardens", "by", "a", "sea"]
edits = st.lists(st.tuples(st.integers(0, 12), st.sampled_from(["", "x", "_", "-5", "a_b", "5"])), max_size=3)


@settings(max_examples=100, deadline=None)
@given(st.lists(edits, min_size=2, max_size=12))
def test_what_near_duplicate_calls_repeats_does_not_straddle(changes):
    """BASE, with some words replaced: pairs of prompts lie on either side of the similarity that counts."""
    texts = []
    for change in changes:
        words = list(BASE)
        for place, word in change:
            words[place] = word
        texts.append(" ".join(words))
    table = pairs(*texts)
    operator = NearDuplicate(name="near", column="prompt")
    found = operator.search(operator.features(table), None, 0).edges.above(operator.threshold)
    for seed in range(4):
        split = splits(Split(test=0.5, seed=seed), table)
        assert all(split[i] == split[j] for i, j in zip(found.left.tolist(), found.right.tolist(), strict=True))


def test_a_prompt_is_compared_whatever_form_of_it_comes_first():
    texts = ["a_b c_d e_f g h", "a b c d e f g h", "a b c d e f g h i"]  # the same words, and near the second alone
    assert all(len(set(splits(Split(test=0.5, seed=seed), pairs(*texts)))) == 1 for seed in range(10))


def test_a_crowd_of_near_prompts_does_not_straddle():
    texts = [f"write about one two three four five six seven eight nine ten eleven {number}" for number in range(500)]
    assert len(set(splits(Split(test=0.5), pairs(*texts)))) == 1


def test_a_long_chain_is_one_cluster():
    parents = [f"pair{number + 1}" for number in range(499)] + [None]
    assert len(set(splits(Split(test=0.5), pairs(*WORDS[:500], parent_id=parents)))) == 1


def test_a_group_does_not_straddle():
    sources = [f"s{number % 40}" for number in range(800)]
    table = pairs(*WORDS[:800], source=sources)
    assert not straddles(Split(test=0.5, group=["source"]), table, sources)
    assert set(splits(Split(test=0.5, group=["source"]), table)) == {"train", "test"}


def test_a_null_group_joins_nothing():
    table = pairs(*WORDS[:200], source=[None] * 200)
    assert splits(Split(test=0.5, group=["source"]), table) == splits(Split(test=0.5), table)


def test_added_rows_move_no_cluster():
    step = Split(test=0.3, validation=0.2)
    assert splits(step, pairs(*WORDS))[:1000] == splits(step, pairs(*WORDS[:1000]))
    grouped = Split(test=0.3, group=["source"])
    sources = [f"s{number % 40}" for number in range(4000)]
    before = splits(grouped, pairs(*WORDS[:1000], source=sources))
    assert splits(grouped, pairs(*WORDS, source=sources))[:1000] == before


def test_more_rows_of_a_prompt_stay_with_it():
    step, table = Split(test=0.5), pairs(*WORDS[:300])
    more = pairs(*WORDS[:300], pair_id=[f"earlier{number}" for number in range(300)])
    assert splits(step, pa.concat_tables([table, more])) == splits(step, table) * 2


def test_the_order_of_rows_changes_nothing():
    table = pairs(*WORDS[:300])
    assert splits(Split(test=0.3), table.take(pa.array(range(299, -1, -1))))[::-1] == splits(Split(test=0.3), table)


def test_another_seed_splits_otherwise():
    table = pairs(*WORDS[:300])
    assert splits(Split(test=0.5), table) != splits(Split(test=0.5, seed=1), table)


def test_a_share_above_zero_is_never_empty_where_there_are_clusters_enough():
    for seed in range(20):
        assert sorted(splits(Split(test=0.001, validation=0.001, seed=seed), pairs("a", "b", "c"))) == [
            "test",
            "train",
            "validation",
        ]
        assert sorted(splits(Split(test=0.999, seed=seed), pairs("a", "b"))) == ["test", "train"]


def test_a_single_cluster_is_not_torn_nor_taken_from_training():
    assert splits(Split(test=1e-6), pairs("a", "a")) == ["train", "train"]


def test_shards_make_the_same_features():
    step, table = Split(test=0.4, group=["source"]), pairs(*WORDS[:100], source=["x"] * 100)
    before = table.to_pylist()
    features = pa.concat_tables([step.features(table.slice(0, 33)), step.features(table.slice(33))])
    assert features.to_pylist() == step.features(table).to_pylist() and table.to_pylist() == before
    assert step.apply(table, step.decide(features)).to_pylist() == step(table).to_pylist()


def test_features_depend_on_the_group_alone():
    assert (
        Split(test=0.1, seed=3).feature_parameters()
        == Split(near=0.9).feature_parameters()
        != Split(group=["source"]).feature_parameters()
    )


@pytest.mark.parametrize(
    "wrong", [{"test": 0.6, "validation": 0.6}, {"test": -0.1}, {"near": 0}, {"group": ["prompt"]}, {"group": ["nothing"]}]
)
def test_wrong_parameters_are_refused(wrong):
    with pytest.raises(ValidationError):
        Split(**wrong)


def test_empty_in_empty_out():
    assert Split(test=0.5, validation=0.1)(tables.empty("pairs")).num_rows == 0
