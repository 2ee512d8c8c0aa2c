"""New prompts from prompts and responses, and where they say they came from."""

import json
from collections import Counter

import pytest
from pydantic import ValidationError

from curate import ids, tables
from curate.generate.rewrite import Rewrite
from curate.generate.wording import block, instruction, personas
from curate.models.asking import Reply
from tests.generate.conftest import fakes, prompts, responses

ONE = prompts("What is rain?", reference="Water.", domain="weather", meta='{"level":1}')


def call(step, models, table):
    return step.with_models(models)(table)


def reasons(flags):
    return [entries[-1]["reason"] if entries else None for entries in flags.to_pylist()]


class Says:
    """A model that always says the same."""

    def __init__(self, text):
        self.text = text

    def reply(self, requests):
        return [Reply(text=self.text, finish_reason="stop") for _ in requests]

    def disown(self, requests):
        """Nothing is kept here."""


def test_a_rephrased_prompt_names_its_parent(made):
    (row,) = made(call(Rewrite(model="a", kind="rephrase", name="r"), fakes(a={}), ONE))
    assert row["prompt"][0]["content"] != "What is rain?"
    assert row["prompt_id"] == ids.prompt_id(row["prompt"])
    assert (row["parent_id"], row["reference"], row["domain"]) == (ONE["prompt_id"][0].as_py(), "Water.", "weather")
    assert json.loads(row["meta"]) == {"level": 1, "rewrite": {"kind": "rephrase", "model": "a-7b", "sample": 0}}


def test_what_was_said_of_the_original_stays_with_it(made):
    table = prompts("What is rain?", scores=[{"rater": "query", "aspect": "quality", "value": 7.0}])
    original, new = made(call(Rewrite(model="a", kind="rephrase", keep_original=True, name="r"), fakes(a={}), table))
    assert (original["scores"][0]["value"], original["parent_id"]) == (7.0, None)
    assert not new["scores"]


@pytest.mark.parametrize(("text", "reason"), [(" ", "empty"), ("What is rain? ", "unchanged"), (None, "empty")])
def test_a_rewrite_that_says_nothing_new_is_none(made, text, reason):
    models = fakes(a={})
    models.chat = lambda key: Says(text)
    (row,) = made(call(Rewrite(model="a", kind="rephrase", name="r"), models, ONE))
    assert row["prompt"][0]["content"] == "What is rain?"
    assert row["flags"][-1]["reason"] == reason
    assert row["scores"][-1]["error"].startswith(f"{reason}: ")


def test_the_request_is_shown_as_material():
    models = fakes(a={})
    call(Rewrite(model="a", kind="rephrase", n=2, name="r"), models, ONE)
    system, user = models.asked[0].messages
    assert system["content"] == f"{instruction('rephrase')}\n\n{instruction('text')}"
    assert user["content"] == block("text", "What is rain?")
    assert [request.sample for request in models.asked] == [0, 1]
    assert models.asked[0].seed != models.asked[1].seed


def test_only_the_last_thing_the_user_says_is_rewritten(made):
    talk = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "What is rain?"},
    ]
    table = tables.from_rows([{"prompt": talk, "prompt_id": "p"}], "prompts")
    (row,) = made(call(Rewrite(model="a", kind="rephrase", name="r"), fakes(a={}), table))
    assert [message["content"] for message in row["prompt"]][:3] == ["Be brief.", "Hello", "Hi"]
    assert row["prompt"][3]["content"].endswith("What is rain?")


def test_personas_are_drawn_and_told(made):
    table = prompts(*(f"question {number}" for number in range(60)))
    models = fakes(a={})
    rows = made(call(Rewrite(model="a", kind="persona", name="r"), models, table))
    drawn = [json.loads(row["meta"])["rewrite"]["persona"] for row in rows]
    assert set(drawn) <= set(personas()) and len(set(drawn)) > 15
    assert drawn[0] in models.asked[0].messages[0]["content"]


def test_a_system_message_is_written_for_drawn_preferences(made):
    rows = made(call(Rewrite(model="a", kind="system_from_preferences", n=3, name="r"), fakes(a={}), ONE))
    assert [[message["role"] for message in row["prompt"]] for row in rows] == [["system", "user"]] * 3
    assert {row["prompt"][1]["content"] for row in rows} == {"What is rain?"}
    drawn = [json.loads(row["meta"])["rewrite"]["preferences"] for row in rows]
    assert set(drawn[0]) == {"style", "knowledge", "detail", "care"}
    assert len({json.dumps(one) for one in drawn}) > 1
    assert {row["parent_id"] for row in rows} == set(ONE["prompt_id"].to_pylist())


def test_a_system_message_that_was_there_gives_way_to_the_one_for_preferences(made):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is rain?"}]
    table = tables.from_rows([{"prompt": messages, "prompt_id": "p"}], "prompts")
    (row,) = made(call(Rewrite(model="a", kind="system_from_preferences", name="r"), fakes(a={}), table))
    system, user = row["prompt"]
    assert (system["role"], user["content"]) == ("system", "What is rain?") and "Be brief." not in system["content"]


def test_evolving_goes_on_from_the_last_round(made):
    models = fakes(a={})
    (row,) = made(call(Rewrite(model="a", kind="evolve", rounds=2, mutations=["deepen"], name="r"), models, ONE))
    first, second = models.asked
    assert first.messages[1]["content"] == block("text", "What is rain?")
    assert "What is rain?" in second.messages[1]["content"] != first.messages[1]["content"]
    assert first.seed != second.seed
    assert json.loads(row["meta"])["rewrite"]["mutations"] == ["deepen", "deepen"]
    assert row["reference"] is None  # another question has another answer


def test_an_instruction_of_ones_own_may_mutate():
    models = fakes(a={})
    call(Rewrite(model="a", kind="evolve", mutations=["Ask it in verse."], name="r"), models, ONE)
    assert models.asked[0].messages[0]["content"].startswith("Ask it in verse.")


def test_the_request_behind_each_response(made):
    table = responses("Rain is water.", "It is wet.")
    result = call(Rewrite(model="a", kind="back_translate", name="r"), fakes(a={}), table)
    rows = made(result)
    assert [row["parent_id"] for row in rows] == table["response_id"].to_pylist()
    assert [row["reference"] for row in rows] == ["Rain is water.", "It is wet."]
    assert [[message["role"] for message in row["prompt"]] for row in rows] == [["user"]] * 2
    assert reasons(result.flags) == [None, None]


def test_of_a_prompts_responses_the_prompt_is_rewritten_once(made):
    result = call(Rewrite(model="a", kind="rephrase", name="r"), fakes(a={}), responses("one", "two", "three"))
    assert len(made(result)) == 1
    assert reasons(result.flags) == [None, None, None]


def test_a_rewrite_that_failed_passes_the_original_on_with_its_error(made):
    (row,) = made(call(Rewrite(model="a", kind="rephrase", name="r"), fakes(a={"fail_share": 1.0}), ONE))
    assert row["prompt_id"] == ONE["prompt_id"][0].as_py()
    assert [flag["reason"] for flag in row["flags"]] == ["error"]
    assert row["scores"][-1]["error"].startswith("server: ")


def test_where_some_rewrites_came_out_nothing_is_dropped_and_the_first_carries_the_errors(made):
    rows = made(call(Rewrite(model="a", kind="rephrase", n=6, name="r"), fakes(a={"refuse_share": 0.5}), ONE))
    errors = [score["error"] for score in rows[0]["scores"]]
    assert errors and len(rows) + len(errors) == 6 and all(error.startswith("refused: ") for error in errors)
    assert all(row["parent_id"] and not row["flags"] for row in rows)
    assert not any(row["scores"] for row in rows[1:])


def test_an_original_that_is_kept_keeps_the_error_without_a_flag(made):
    (row,) = made(call(Rewrite(model="a", kind="rephrase", keep_original=True, name="r"), fakes(a={"fail_share": 1.0}), ONE))
    assert not row["flags"]
    assert row["scores"][-1]["error"].startswith("server: ")


def test_a_response_without_a_request_says_so(made):
    result = call(Rewrite(model="a", kind="back_translate", name="r"), fakes(a={"refuse_share": 1.0}), responses("x", ""))
    assert reasons(result.flags) == ["error", "no_text"]
    assert Counter(flag["reason"] for row in made(result) for flag in row["flags"]) == {"error": 1, "no_text": 1}


def test_a_rewrite_cut_off_is_none(made):
    (row,) = made(call(Rewrite(model="a", kind="rephrase", max_tokens=3, name="r"), fakes(a={}), ONE))
    assert [flag["reason"] for flag in row["flags"]] == ["truncated"]


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"kind": "rephrase", "personas": ["x"]}, "kind: persona"),
        ({"kind": "rephrase", "rounds": 2}, "kind: evolve"),
        ({"kind": "evolve", "mutations": ["depen"]}, "no mutation is called depen"),
    ],
)
def test_what_does_not_fit_is_refused(told, words):
    with pytest.raises(ValidationError, match=words):
        Rewrite(model="a", **told)


def test_the_key_follows_the_texts():
    first = Rewrite(model="a", kind="evolve", mutations=["deepen"]).parameters()["texts"]
    second = Rewrite(model="a", kind="evolve", mutations=["Ask it in verse."]).parameters()["texts"]
    assert first["text"] == second["text"] and first["mutations"] != second["mutations"]
