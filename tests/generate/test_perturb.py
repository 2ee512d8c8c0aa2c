"""Worse versions of responses: by a model or a rule, within their length, beside what they were made from."""

import json

import pytest
from pydantic import ValidationError

from curate import tables
from curate.generate.perturb import Perturb
from curate.generate.wording import block, principles
from curate.maths.sentences import sentences
from curate.models.asking import Reply
from curate.models.fake_writing import read_quality
from tests.generate.conftest import fakes, prompts, responses
from tests.generate.test_rewrite import reasons

TEXT = "One is first. Two comes then. Three is last. Four is over."


def by_rule(how, text=TEXT, **more):
    """The texts a rule makes of one response, and their flags."""
    made = Perturb(how=how, name="p", **more)(responses(text))
    return made["response"].to_pylist()[1:], reasons(made["flags"])[1:]


def test_the_original_stands_before_its_versions(made):
    table = responses("One. Two.", "Three. Four.", model="m")
    rows = made(Perturb(how=["reverse_sentences", "truncate"], name="p")(table))
    assert [row["response"] for row in rows] == ["One. Two.", "Two. One.", "One. T", "Three. Four.", "Four. Three.", "Three. F"]
    assert [row["parent_id"] for row in rows[1:3]] == [rows[0]["response_id"]] * 2
    assert [row["model"] for row in rows[:3]] == ["m", "rule:reverse_sentences", "rule:truncate"]
    assert len({row["response_id"] for row in rows}) == 6
    assert json.loads(rows[1]["meta"]) == {"perturb": {"kind": "reverse_sentences"}}


def test_what_came_in_is_told_from_what_was_made_worse():
    made = Perturb(how="truncate", name="p")(responses("One. Two.", scores=[{"rater": "rm", "aspect": "s", "value": 3.0}]))
    assert tables.score_of(made, "p", "intact").tolist() == [1, 0]
    assert tables.score_of(made, "rm").tolist()[0] == 3
    assert len(made["scores"].to_pylist()[1]) == 1


def test_sentences_are_dropped():
    (text,), _ = by_rule("drop_sentences", share=0.5)
    assert sum(sentence in text for sentence in ("One is first.", "Two comes then.", "Three is last.", "Four is over.")) == 2


def test_sentences_are_shuffled_and_none_is_lost():
    (text,), _ = by_rule("shuffle_sentences")
    assert text != TEXT and sorted(text.split(". ")) != []
    assert sorted(part.strip() for part in sentences(text)) == sorted(part.strip() for part in sentences(TEXT))


def test_sentences_are_said_twice():
    (text,), _ = by_rule("repeat", share=0.25)
    assert len(sentences(text)) == 5 and len({part.strip() for part in sentences(text)}) == 4


def test_the_end_is_cut_off():
    assert by_rule("truncate", "0123456789", share=0.4)[0] == ["012345"]


def test_a_text_that_cannot_be_made_worse_that_way_is_flagged():
    assert by_rule(["drop_sentences", "shuffle_sentences"], "One.") == (["One.", "One."], ["unchanged", "unchanged"])


def test_a_length_outside_the_guards_is_flagged_with_its_ratio():
    made = Perturb(how="truncate", share=0.8, name="p")(responses("0123456789"))
    assert made["flags"].to_pylist()[1] == [{"by": "p", "reason": "length_guard", "value": pytest.approx(0.2), "other": None}]
    assert by_rule("truncate", "0123456789", share=0.8, min_length_ratio=0.2)[1] == [None]


def test_rules_depend_on_the_seed_and_the_response_alone():
    first = [by_rule("shuffle_sentences", seed=seed)[0][0] for seed in range(8)]
    assert first == [by_rule("shuffle_sentences", seed=seed)[0][0] for seed in range(8)]
    assert len(set(first)) > 3


@pytest.mark.parametrize(
    ("text", "reversed_"),
    [
        ("Dr. Lee paid 3.50 here. She left.", "She left. Dr. Lee paid 3.50 here."),
        ("答えは四。理由は五。", "理由は五。答えは四。"),
        ("ما هذا؟ هذا قط.", "هذا قط. ما هذا؟"),
        ("It costs 3.50 here.\nNext line", "Next line\nIt costs 3.50 here."),
    ],
)
def test_a_sentence_ends_where_a_reader_ends_it(text, reversed_):
    assert by_rule("reverse_sentences", text) == ([reversed_], [None])


def test_principles_are_drawn_for_each_response():
    table = responses(*(f"It precisely rains {number}." for number in range(40)))
    made = Perturb(how="principle", model="a", principles=["honesty"], name="p").with_models(fakes(a={}))(table).to_pylist()
    drawn = {json.loads(row["meta"])["perturb"]["principle"] for row in made if row["parent_id"]}
    assert drawn == set(principles()["honesty"])


def text_of_a_model(quality=0.9):
    return fakes(a={"quality": quality, "spread": 0.0, "sprinkle": 0.0})


def test_a_model_breaks_one_principle():
    models = text_of_a_model()
    table = responses("It precisely rains. It exactly falls. It carefully stops.")
    made = Perturb(how="principle", model="a", principles=["honesty"], name="p").with_models(models)(table)
    original, worse = made.to_pylist()
    principle = json.loads(worse["meta"])["perturb"]["principle"]
    (request,) = models.asked
    assert principle in principles()["honesty"] and principle in request.messages[0]["content"]
    assert request.messages[1]["content"].endswith(block("text", original["response"]))
    assert (worse["model"], worse["policy"], worse["seed"]) == ("a-7b", "off", request.seed)
    assert read_quality(worse["response"]) < read_quality(original["response"])


def test_kinds_are_drawn_for_each_response():
    table = prompts()
    table = responses(*(f"It precisely rains {number}. It falls." for number in range(60)))
    step = Perturb(how=["fact", "step", "tone"], model="a", per_response=1, name="p").with_models(text_of_a_model())
    kinds = [json.loads(row["meta"])["perturb"]["kind"] for row in step(table).to_pylist() if row["parent_id"]]
    assert len(kinds) == 60 and set(kinds) == {"fact", "step", "tone"}
    assert step.calls(60) == 60


def test_a_call_that_failed_is_an_error_on_the_original():
    step = Perturb(how=["fact", "truncate"], model="a", name="p").with_models(fakes(a={"fail_share": 1.0}))
    made = step(responses(TEXT)).to_pylist()
    assert [row["response"] for row in made] == [TEXT, TEXT[:41]]
    assert [(score["aspect"], score["value"]) for score in made[0]["scores"]] == [("perturb", None), ("intact", 1)]
    assert made[0]["scores"][0]["error"].startswith("server: ")
    assert not made[0]["flags"]


def test_a_row_without_a_text_passes():
    made = Perturb(how="truncate", name="p")(responses("", None))
    assert made["response"].to_pylist() == ["", None]
    assert reasons(made["flags"]) == [None, None]


def test_the_last_message_of_several_is_the_one_made_worse():
    turns = [
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "And?"},
        {"role": "assistant", "content": "1. 2."},
    ]
    made = Perturb(how="reverse_sentences", name="p")(responses("One. Two.", turns=turns)).to_pylist()
    assert [turn["content"] for turn in made[1]["turns"]] == ["Hi", "And?", "Two. One."]


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"how": []}, "at least one kind"),
        ({"how": "fact"}, "a model belongs to"),
        ({"how": "truncate", "model": "a"}, "a model belongs to"),
        ({"how": "truncate", "principles": ["honesty"]}, "how: principle"),
        ({"how": "principle", "model": "a", "principles": ["honour"]}, "no principle is called honour"),
        ({"how": "truncate", "per_response": 2}, "there are 1 kinds"),
        ({"how": "truncate", "min_length_ratio": 3}, "must ascend"),
    ],
)
def test_what_does_not_fit_is_refused(told, words):
    with pytest.raises(ValidationError, match=words):
        Perturb(**told)


def test_a_reply_is_the_rows_of_its_own():
    made = Perturb(how="truncate", name="p")(responses(TEXT, finish_reason="length", response_tokens=9)).to_pylist()
    assert (made[1]["finish_reason"], made[1]["response_tokens"]) == ("stop", Reply().response_tokens)
