"""Responses of a pool of models: who is asked what, with which seed, and what becomes of failures."""

import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from curate import tables
from curate.errors import DataError
from curate.generate.generate import Generate
from curate.generate.system import SHARES
from curate.generate.wording import instruction, principles
from curate.models.asking import Reply, retryable_rows
from curate.models.session import Session
from curate.models.spec import ModelSpec
from tests.generate.conftest import fakes, prompts

TWO = prompts("What is rain?", "Why is the sky blue?")


def reasons(flags):
    return [entries[-1]["reason"] if entries else None for entries in flags.to_pylist()]


def call(step, models, table):
    return step.with_models(models)(table)


def test_each_prompt_gets_n_samples_of_each_model(made):
    rows = made(call(Generate(model=["a", "b"], n=2, name="g"), fakes(a={}, b={}), TWO))
    assert [(row["prompt"][0]["content"], row["model"], row["sample"]) for row in rows] == [
        (text, model, sample)
        for text in ("What is rain?", "Why is the sky blue?")
        for model in ("a-7b", "b-7b")
        for sample in (0, 1)
    ]
    assert len({row["response"] for row in rows}) == 8
    assert len({row["response_id"] for row in rows}) == 8
    assert all(row["finish_reason"] == "stop" and row["response_tokens"] > 20 and row["policy"] == "unknown" for row in rows)


def test_a_response_carries_its_prompt_and_what_was_said_of_it(made):
    score = {"rater": "query", "aspect": "quality", "value": 7.0}
    table = prompts("What is rain?", domain="weather", reference="water", parent_id="p", meta='{"level":1}', scores=[score])
    (row,) = made(call(Generate(model="a", name="g"), fakes(a={}), table))
    assert (row["domain"], row["reference"], row["parent_id"], row["meta"]) == ("weather", "water", "p", '{"level":1}')
    assert [entry["value"] for entry in row["scores"]] == [7.0]


def test_sampling_is_sent_and_kept(made):
    models = fakes(a={})
    step = Generate(model="a", temperature=0.8, top_p=0.9, max_tokens=500, top_k=20, stop=["###"], policy="on", name="g")
    (row,) = made(call(step, models, prompts("What is rain?")))
    sent = models.asked[0].sampling
    assert (sent.temperature, sent.top_p, sent.max_tokens, sent.top_k, sent.stop) == (0.8, 0.9, 500, 20, ("###",))
    told = {"temperature": 0.8, "top_p": 0.9, "max_tokens": 500, "top_k": 20, "stop": ["###"]}
    assert json.loads(row["sampling"]) == told
    assert row["policy"] == "on"


def test_policy_by_model(made):
    rows = made(call(Generate(model=["a", "b"], policy={"a": "on"}, name="g"), fakes(a={}, b={}), prompts("What is rain?")))
    assert [row["policy"] for row in rows] == ["on", "unknown"]


def test_log_probabilities_are_summed(made):
    (row,) = made(call(Generate(model="a", logprobs=True, name="g"), fakes(a={}), prompts("What is rain?")))
    assert -row["response_tokens"] * np.log(2) < row["logprob_sum"] < 0


# -- seeds


def seeds(**parameters):
    models = fakes(a={}, b={})
    call(Generate(model=["a", "b"], name="g", **parameters), models, TWO)
    return sorted((key, request.messages[-1]["content"], request.sample, request.seed) for key, request in models.log)


def test_every_prompt_model_and_sample_has_a_seed_of_its_own():
    drawn = [seed for *_, seed in seeds(n=4)]
    assert len(set(drawn)) == 16
    assert all(0 <= seed < 2**31 for seed in drawn)


def test_more_samples_leave_the_first_requests_as_they_were():
    def asked(n, **more):
        models = fakes(a={})
        call(Generate(model="a", n=n, system="principles", name="g", **more), models, TWO)
        return models.asked

    four, eight = asked(4), asked(8)
    assert [request for request in eight if request.sample < 4] == four
    assert len(eight) == 16


def test_a_longer_pool_leaves_the_first_models_seeds_as_they_were():
    models = fakes(a={})
    call(Generate(model="a", n=2, name="g"), models, TWO)
    alone = {(r.messages[-1]["content"], r.sample): r.seed for r in models.asked}
    assert {(text, sample): seed for key, text, sample, seed in seeds(n=2) if key == "a"} == alone


def test_another_seed_draws_other_seeds_and_none_sends_none():
    assert not {seed for *_, seed in seeds(seed=1)} & {seed for *_, seed in seeds(seed=2)}
    assert {seed for *_, seed in seeds(seed=None)} == {None}


def test_renaming_a_model_in_the_recipe_asks_nothing_new():
    first, second = fakes(a={}), fakes(a={})
    second.specs = {"b": second.specs["a"]}
    call(Generate(model="a", n=2, system="principles", name="g"), first, TWO)
    call(Generate(model="b", n=2, system="principles", name="g"), second, TWO)
    assert first.asked == second.asked


# -- the pool


def drawn(count, pool, per_prompt, seed=0):
    step = Generate(model=pool, models_per_prompt=per_prompt, seed=seed).with_models(fakes(**{key: {} for key in pool}))
    return [tuple(step.drawn_models(f"{place:032x}")) for place in range(count)]


def test_models_are_drawn_evenly():
    pool = ["a", "b", "c", "d", "e"]
    sets = Counter(drawn(4000, pool, 2))
    assert len(sets) == 10  # every pair of five
    expected = 400
    chi_square = sum((count - expected) ** 2 / expected for count in sets.values())
    assert chi_square < 27.9  # 9 degrees of freedom, p = 0.001


def test_a_prompts_models_do_not_depend_on_the_other_prompts():
    assert drawn(10, ["a", "b", "c"], 2) == drawn(20, ["a", "b", "c"], 2)[:10]
    assert drawn(50, ["a", "b", "c"], 1, seed=1) != drawn(50, ["a", "b", "c"], 1, seed=2)


def test_only_the_drawn_models_are_asked(made):
    models = fakes(a={}, b={}, c={})
    rows = made(call(Generate(model=["a", "b", "c"], models_per_prompt=2, n=3, name="g"), models, TWO))
    assert Counter(row["prompt_id"] for row in rows) == dict.fromkeys(TWO["prompt_id"].to_pylist(), 6)
    assert len(models.log) == 12


# -- failures


def test_a_failed_sample_stays_as_a_row_with_its_error():
    models = fakes(a={"fail_share": 1.0})
    result = call(Generate(model="a", n=2, name="g"), models, TWO)
    rows = result.rows.to_pylist()
    assert len(rows) == 4
    assert {(row["response"], row["finish_reason"]) for row in rows} == {(None, "error")}
    assert all(row["scores"][-1]["aspect"] == "generate" and row["scores"][-1]["value"] is None for row in rows)
    assert all(row["scores"][-1]["error"].startswith("server: ") for row in rows)
    assert reasons(result.rows["flags"]) == ["error"] * 4
    assert reasons(result.flags) == ["no_response", "no_response"]
    assert retryable_rows(result.rows) == {"server": 4}


def test_a_prompt_with_one_response_left_is_kept():
    table = prompts(*(f"question {number}" for number in range(40)))
    result = call(Generate(model="a", n=2, name="g"), fakes(a={"refuse_share": 0.5}), table)
    assert len(result.rows) == 80
    left = Counter(row["prompt_id"] for row in result.rows.to_pylist() if row["response"] is not None)
    expected = [None if left[prompt] else "no_response" for prompt in table["prompt_id"].to_pylist()]
    assert set(expected) == {None, "no_response"}
    assert reasons(result.flags) == expected
    assert not retryable_rows(result.rows)


def test_an_empty_response_is_flagged():
    result = call(Generate(model="a", name="g"), fakes(a={"template": " "}), prompts("What is rain?"))
    assert result.rows["response"].to_pylist() == [""]
    assert reasons(result.rows["flags"]) == ["empty"]
    assert reasons(result.flags) == ["no_response"]


def test_nothing_to_ask_makes_nothing():
    models = fakes(a={})
    result = call(Generate(model="a", name="g"), models, tables.empty("prompts"))
    assert (result.rows.num_rows, len(result.flags), models.log) == (0, 0, [])


def test_through_caller_and_ledger_nothing_is_asked_twice(tmp_path):
    # the first try of about half of the requests fails; the caller mends that
    models = {"a": ModelSpec(backend="fake", name="a", options={"fail_share": 0.3, "retries": 20, "max_concurrency": 8})}
    with Session(models, tmp_path) as session:
        first = Generate(model="a", n=2, name="g").with_models(session)(TWO)
    assert reasons(first.rows["flags"]) == [None] * 4
    dead = {"a": models["a"].model_copy(update={"options": {"fail_share": 0.3, "retries": 20, "max_concurrency": 4}})}
    with Session(dead, tmp_path, max_calls=0) as session:
        again = Generate(model="a", n=2, name="g").with_models(session)(TWO)
        more = Generate(model="a", n=3, name="g").with_models(session)(TWO)
    assert again.rows.equals(first.rows)
    errors = [row["scores"][-1]["error"].split(":")[0] if row["scores"] else None for row in more.rows.to_pylist()]
    assert errors == [None, None, "budget", None, None, "budget"]


# -- system messages


def system_of(request):
    return request.messages[0]["content"] if request.messages[0]["role"] == "system" else None


def test_principles_are_drawn_by_prompt_and_model_and_told(made):
    table = prompts(*(f"question {number}" for number in range(400)))
    models = fakes(a={"words": 8}, b={"words": 8})
    rows = made(call(Generate(model=["a", "b"], system="principles", name="g"), models, table))
    told = [json.loads(row["meta"]) for row in rows]
    assert {system_of(request) for request in models.asked} == {about["system"] for about in told}
    assert all(about["system"] in principles()[about["principle"]] for about in told)
    shares = Counter(about["principle"] for about in told)
    assert all(abs(shares[name] / 800 - share) < 0.06 for name, share in SHARES.items())
    assert any(told[place]["system"] != told[place + 1]["system"] for place in range(0, 800, 2))
    assert {about["system"] for about in told if about["principle"] == "helpfulness"} == set(principles()["helpfulness"])


def test_a_system_message_that_is_there_is_added_to():
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is rain?"}]
    table = tables.from_rows([{"prompt": messages, "prompt_id": "p"}], "prompts")
    models = fakes(a={})
    call(Generate(model="a", system={"texts": ["Be kind."]}, name="g"), models, table)
    assert [message["role"] for message in models.asked[0].messages] == ["system", "user"]
    assert system_of(models.asked[0]) == "Be brief.\n\nBe kind."


def test_a_direction_is_a_unit_vector_in_hundredths(made):
    table = prompts(*(f"question {number}" for number in range(100)))
    rows = made(call(Generate(model="a", system={"direction": {"angles": [-45, 45]}}, name="g"), fakes(a={"words": 8}), table))
    drawn = [json.loads(row["meta"])["direction"] for row in rows]
    assert all(abs(d["helpfulness"] ** 2 + d["verbosity"] ** 2 - 10_000) < 200 for d in drawn)
    assert all(d["helpfulness"] >= 70 for d in drawn)
    assert min(d["verbosity"] for d in drawn) < -50 and max(d["verbosity"] for d in drawn) > 50


def test_a_direction_is_told_in_whole_numbers():
    models = fakes(a={})
    direction = {"direction": {"attributes": ["helpfulness", "verbosity"], "weights": [0.6, -0.8]}}
    call(Generate(model="a", system=direction, name="g"), models, prompts("What is rain?"))
    assert "60 × helpfulness - 80 × verbosity" in system_of(models.asked[0])


def test_a_goal_is_fixed_or_drawn(made):
    table = prompts(*(f"question {number}" for number in range(60)))
    models = fakes(a={"words": 8})
    rows = made(call(Generate(model="a", system={"goal": {"helpfulness": [1, 3], "length": 2.5}}, name="g"), models, table))
    goals = [json.loads(row["meta"])["goal"] for row in rows]
    assert {goal["helpfulness"] for goal in goals} == {1, 2, 3}
    assert {goal["length"] for goal in goals} == {2.5}
    assert f"helpfulness: {goals[0]['helpfulness']}\nlength: 2.5" in json.loads(rows[0]["meta"])["system"]


# -- context


FACTS = prompts("What is rain?", meta='{"facts":["Rain is water.","It falls."]}')


def test_each_variant_shows_its_material(made):
    models = fakes(a={})
    step = Generate(model="a", context={"good": "meta.facts", "none": None}, name="g")
    rows = made(call(step, models, FACTS))
    shown = [request.messages[-1]["content"] for request in models.asked]
    assert "[1] Rain is water.\n\n[2] It falls." in shown[0] and shown[0].endswith("What is rain?")
    assert shown[1] == "What is rain?"
    assert [json.loads(row["meta"])["context"] for row in rows] == ["good", "none"]
    assert [row["prompt"][0]["content"] for row in rows] == ["What is rain?"] * 2
    assert models.asked[0].seed == models.asked[1].seed


def test_material_from_the_pool_is_somebody_elses(made, tmp_path):
    pool = tmp_path / "pool.jsonl"
    pool.write_text('"[1] Rain is water.\\n\\n[2] It falls."\n"Snow is cold."\n')
    step = Generate(model="a", context={"good": "meta.facts", "random": "pool"}, context_pool=pool, name="g")
    rows = made(call(step, fakes(a={}), FACTS))
    assert json.loads(rows[1]["meta"])["context_text"] == "Snow is cold."
    assert step.files() == {str(pool)}
    assert str(tmp_path) not in json.dumps(step.parameters())


def test_equal_responses_in_two_contexts_have_ids_of_their_own(made):
    step = Generate(model="a", context={"good": "meta.facts", "none": None}, name="g")
    rows = made(call(step, fakes(a={"template": "Same."}), FACTS))
    assert [row["response"] for row in rows] == ["Same.", "Same."]
    assert rows[0]["response_id"] != rows[1]["response_id"]


@pytest.mark.parametrize(
    ("name", "held", "words"),
    [
        ("pool.txt", b"rain\ncaf\xe9\n", "pool.txt: not UTF-8 at byte 9"),
        ("pool.txt", b"rain\na\0b\n", "pool.txt:2: NUL character at character 2"),
        ("pool.txt", b"\n \n", "pool.txt: holds no material"),
        ("pool.jsonl", b'"rain"\n"\\ud800"\n', "pool.jsonl:2: lone surrogate"),
        ("pool.jsonl", b'"rain"\n{\n', "pool.jsonl:2: not JSON lines"),
    ],
)
def test_a_pool_that_cannot_be_used_is_named_with_the_line(tmp_path, name, held, words):
    (tmp_path / name).write_bytes(held)
    step = Generate(model="a", context={"random": "pool"}, context_pool=tmp_path / name, name="g")
    with pytest.raises(DataError, match=words):
        call(step, fakes(a={}), prompts("Why?"))


def test_a_pools_lines_end_at_line_feeds_alone(made, tmp_path):
    (tmp_path / "pool.txt").write_bytes("Rain.\u2028Snow.\r\n\r\n".encode())
    step = Generate(model="a", context={"random": "pool"}, context_pool=tmp_path / "pool.txt", name="g")
    (row,) = made(call(step, fakes(a={}), prompts("Why?")))
    assert json.loads(row["meta"])["context_text"] == "Rain.\u2028Snow."


def test_no_prompt_gets_its_own_material_from_the_pool(made, tmp_path):
    pool = tmp_path / "pool.txt"
    pool.write_text("Rain is water.\nSnow is cold.\n")
    table = prompts(*(f"question {number}" for number in range(20)), reference="Rain is water.")
    step = Generate(model="a", context={"gold": "reference", "random": "pool"}, context_pool=pool, name="g")
    told = [json.loads(row["meta"]) for row in made(call(step, fakes(a={"words": 5}), table))]
    assert {about["context_text"] for about in told if about["context"] == "random"} == {"Snow is cold."}


def test_a_prompt_says_whether_it_was_asked_in_vain_or_not_at_all():
    table = pa.concat_tables([prompts("What is rain?", reference="Water."), prompts("Why?")])
    result = call(Generate(model="a", context={"gold": "reference"}, name="g"), fakes(a={"fail_share": 1.0}), table)
    assert reasons(result.flags) == ["no_response", "no_context"]


def test_a_prompt_without_material_for_any_variant_says_so():
    result = call(Generate(model="a", context={"good": "meta.facts"}, name="g"), fakes(a={}), prompts("Why?"))
    assert (result.rows.num_rows, reasons(result.flags)) == (0, ["no_context"])


def test_braces_in_a_material_are_just_braces():
    models = fakes(a={})
    table = prompts("What is {context}?", reference="{prompt} {0}")
    call(Generate(model="a", context={"gold": "reference"}, name="g"), models, table)
    assert models.asked[0].messages[-1]["content"].endswith("{prompt} {0}\n\nWhat is {context}?")


# -- conversations, reasoning, tools, images


def test_a_conversation_goes_on_for_so_many_turns(made):
    models = fakes(a={}, user={"words": 10})
    (row,) = made(call(Generate(model="a", turns=3, user_model="user", name="g"), models, prompts("What is rain?")))
    assert [turn["role"] for turn in row["turns"]] == ["assistant", "user", "assistant", "user", "assistant"]
    assert row["response"] == row["turns"][-1]["content"]
    assert [key for key, _ in models.log] == ["a", "user", "a", "user", "a"]
    assert models.log[1][1].messages[0]["content"].startswith(instruction("simulate_user"))
    assert row["turns"][0]["content"] in models.log[1][1].messages[1]["content"]
    assert [m["role"] for m in models.log[4][1].messages] == ["user", "assistant", "user", "assistant", "user"]
    assert row["response_tokens"] > 40


def test_the_user_may_end_it(made):
    models = fakes(a={}, user={"template": "END."})
    (row,) = made(call(Generate(model="a", turns=3, user_model="user", name="g"), models, prompts("What is rain?")))
    assert row["turns"] is None
    assert [key for key, _ in models.log] == ["a", "user"]


def test_a_call_of_a_tool_ends_it(made, monkeypatch):
    """Nobody is there to make it, whatever is said beside it."""
    call_made = {"id": "1", "function": {"name": "look", "arguments": "{}"}}
    models = fakes(a={}, user={})
    chat = models.chat("a")
    monkeypatch.setattr(chat, "reply", lambda requests: [Reply(text="I look.", tool_calls=(call_made,)) for _ in requests])
    chats = {"a": chat, "user": models.chat("user")}
    monkeypatch.setattr(models, "chat", chats.__getitem__)
    (row,) = made(call(Generate(model="a", turns=3, user_model="user", name="g"), models, prompts("What is rain?")))
    assert [turn["role"] for turn in row["turns"]] == ["assistant"] and "look" in row["turns"][0]["tool_calls"]
    assert models.log == []


def test_a_conversation_whose_user_fails_has_failed():
    models = fakes(a={}, user={"fail_share": 1.0})
    result = call(Generate(model="a", turns=2, user_model="user", name="g"), models, prompts("What is rain?"))
    assert result.rows["response"].to_pylist() == [None]
    assert result.rows["turns"].to_pylist() == [None]
    assert reasons(result.flags) == ["no_response"]


@pytest.mark.parametrize("told", [True, "tags"])
def test_reasoning_is_split_off(made, told):
    (row,) = made(call(Generate(model="a", name="g"), fakes(a={"reasoning": told}), prompts("What is rain?")))
    assert row["reasoning"] and "<think>" not in row["response"] + row["reasoning"]


def test_reasoning_may_stay(made):
    (row,) = made(call(Generate(model="a", reasoning="keep", name="g"), fakes(a={"reasoning": "tags"}), prompts("Why?")))
    assert row["response"].startswith("<think>") and row["reasoning"] is None


def test_tools_and_images_go_along():
    tool = {"type": "function", "function": {"name": "look", "parameters": {}}}
    image = {"sha256": "ab", "path": "media/ab.png"}
    models = fakes(a={})
    table = prompts("What is this?", tools=json.dumps([tool]), images=[image])
    call(Generate(model="a", name="g"), models, table)
    (request,) = models.asked
    assert request.tools == (tool,)
    text, picture = request.messages[-1]["content"]
    assert (text["text"], picture["image_url"]["url"]) == ("What is this?", "media/ab.png")


# -- parameters


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"model": []}, "at least one model"),
        ({"model": ["a", "a"]}, "none twice"),
        ({"model": ["a", "b"], "models_per_prompt": 3}, "there are 2 models"),
        ({"model": "a", "turns": 2}, "go together"),
        ({"model": "a", "user_model": "b"}, "go together"),
        ({"model": "a", "policy": {"b": "on"}}, "not among the models"),
        ({"model": "a", "context": {"good": "respones"}}, "meta.NAME"),
        ({"model": "a", "context": {"random": "pool"}}, "context_pool"),
        ({"model": "a", "system": {"principles": {"honour": 1}}}, "no principle is called honour"),
        ({"model": "a", "system": {"texts": ["x"], "goal": {"y": 1}}}, "one of principles"),
        ({"model": "a", "system": {"direction": {"attributes": ["x", "y", "z"]}}}, "give weights"),
        ({"model": "a", "system": {"direction": {"attributes": ["x", "x"]}}}, "differ from each other"),
        ({"model": "a", "system": {"principles": {}}}, "at least 1 item"),
        ({"model": "a", "system": {"texts": ["x", " "]}}, "not empty"),
        ({"model": "a", "system": {"goal": {"help": [5, 4]}}}, "must ascend"),
        ({"model": "a", "context": {}}, "at least 1 item"),
    ],
)
def test_what_does_not_fit_is_refused(told, words):
    with pytest.raises(ValidationError, match=words):
        Generate(**told)


def test_the_key_follows_the_texts_that_are_used():
    plain = Generate(model="a").parameters()
    told = Generate(model="a", system="principles").parameters()
    assert "texts" not in plain
    assert len(told["texts"]["principles"]) == 64
    assert set(Generate(model="a", user_model="b", turns=2).parameters()["texts"]) == {"simulate_user"}


def test_calls_are_told_beforehand():
    assert Generate(model=["a", "b", "c"], models_per_prompt=2, n=4).calls(10) == 80
    assert Generate(model="a", user_model="b", turns=3).calls(10) == 50
    assert Generate(model="a", context={"good": "meta.x", "none": None}).calls(10) == 20
