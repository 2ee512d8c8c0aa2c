"""Exact duplicates: what counts as the same, which row stays, what is written."""

from typing import Any

import pyarrow as pa
import pytest

from curate import tables
from curate.errors import StepError
from curate.filter.exact_duplicate import ExactDuplicate, plain_words
from curate.ids import pair_id, prompt_id, response_id

QUESTION = [{"role": "user", "content": "What is 2 + 2?"}]
OTHER_QUESTION = [{"role": "user", "content": "ما هو ٢ + ٢؟"}]


def responses(*texts: str | None, prompt: list[dict[str, str]] = QUESTION, **columns: list[Any]) -> pa.Table:
    """Candidates for one prompt."""
    asked = prompt_id(prompt)
    rows = [
        {"prompt_id": asked, "prompt": prompt, "response": text, "response_id": response_id(asked, text, place)}
        | {name: values[place] for name, values in columns.items()}
        for place, text in enumerate(texts)
    ]
    return tables.from_rows(rows, "responses")


def pairs(*sides: tuple[str, str], prompts: list[Any] | None = None) -> pa.Table:
    """Comparisons of chosen and rejected."""
    asked = prompts or [QUESTION] * len(sides)
    rows = [
        {
            "prompt_id": prompt_id(prompt),
            "prompt": prompt,
            "chosen": chosen,
            "rejected": rejected,
            "pair_id": pair_id(chosen, rejected),
        }
        for (chosen, rejected), prompt in zip(sides, asked, strict=True)
    ]
    return tables.from_rows(rows, "pairs")


def prompts(*contents: str, **columns: list[Any]) -> pa.Table:
    """One user message a row."""
    rows = []
    for place, content in enumerate(contents):
        messages = [{"role": "user", "content": content}]
        rows.append({"prompt_id": prompt_id(messages), "prompt": messages} | {k: v[place] for k, v in columns.items()})
    return tables.from_rows(rows, "prompts")


def kept(table: pa.Table, **parameters: Any) -> list[bool]:
    """Which rows stay."""
    return [not flags for flags in ExactDuplicate(name="dup", **parameters)(table)["flags"].to_pylist()]


def scored(*values: float | None, rater: str = "rm") -> list[list[dict[str, Any]]]:
    return [[] if value is None else [{"rater": rater, "aspect": "score", "value": value}] for value in values]


def test_the_first_of_equal_responses_stays_and_the_flag_names_it() -> None:
    table = responses("four", "4", "four", "four")
    out = ExactDuplicate(name="dup")(table)
    ids = table["response_id"].to_pylist()
    flag = {"by": "dup", "reason": "exact_duplicate", "value": 3.0, "other": ids[0]}
    assert out["flags"].to_pylist() == [[], [], [flag], [flag]]
    copies = [entry[0] for entry in out["evidence"].to_pylist()]
    assert copies == [{"by": "dup", "name": "copies", "value": count} for count in (3.0, 1.0, 3.0, 3.0)]


def test_the_same_answer_to_another_prompt_is_no_copy_unless_all_rows_are_compared() -> None:
    table = pa.concat_tables([responses("4"), responses("4", prompt=OTHER_QUESTION)])
    assert kept(table) == [True, True]
    assert kept(table, within="all") == [True, False]


def test_a_response_without_text_is_never_a_copy_and_has_no_measure() -> None:
    out = ExactDuplicate(name="dup")(responses(None, None, "", ""))
    assert [bool(flags) for flags in out["flags"].to_pylist()] == [False, False, False, True]
    assert [entry[0]["value"] for entry in out["evidence"].to_pylist()] == [None, None, 2.0, 2.0]


def test_white_space_and_case_tell_texts_apart_until_they_are_normalised() -> None:
    table = responses("The answer\n is 4.", "The answer is 4.", " the answer is 4")
    assert kept(table) == [True, True, True]
    assert kept(table, normalise="whitespace") == [True, False, True]
    assert kept(table, normalise="text") == [True, False, False]
    assert kept(table, normalise=True) == [True, False, False]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Straße!", "STRASSE"),
        ("ﬁne…", "fine"),
        ("مرحبا، كيف الحال؟", "مرحبا كيف الحال"),
        ("e\u0301tude", "étude"),
        ("１２", "12"),
        ("well — yes", "well yes"),
        ("(see GPT-4)", "see GPT4"),
        ("sea-level", "sea level"),
        ("3.5kg", "3.5 kg"),
        ("64*2", "64 * 2"),
        ('{"a":1,"b":2}', '{"a": 1, "b": 2}'),
        ("6 → `x`", "6, x"),
    ],
)
def test_texts_that_differ_in_form_alone_are_the_same(one: str, other: str) -> None:
    assert plain_words(one) == plain_words(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1.5", "15"),
        ("-5", "5"),
        ("5%", "5"),
        ("2+2", "22"),
        ("3-4", "34"),
        ("1/2", "12"),
        ("1, 2", "12"),
        ("6 * 2", "6 / 2"),
        ("6 - 2", "6 2"),
        ("10² = 100", "102 = 100"),
        ("10½", "101⁄2"),
        ("की", "का"),
        ("👍", "👎"),
        ("👍", ""),
        ("?", "!"),
        ("سَلِمَ", "سلم"),
    ],
)
def test_texts_that_mean_different_things_stay_apart(one: str, other: str) -> None:
    assert plain_words(one) != plain_words(other)


def test_the_longest_stays_and_the_earliest_of_the_longest() -> None:
    table = responses("four", "Four!!", "FOUR..")
    assert kept(table, normalise="text", keep="longest") == [False, True, False]


def test_the_best_scored_stays_and_a_row_without_a_score_loses() -> None:
    table = responses("4", "4", "4", "4", scores=scored(None, 0.5, 0.9, 0.9))
    assert kept(table, keep="best", by="rm") == [False, False, True, False]
    assert kept(table, keep="best", by="rm:score") == [False, False, True, False]


def test_without_any_score_the_first_stays() -> None:
    assert kept(responses("4", "4", scores=scored(None, None)), keep="best", by="rm") == [True, False]


def test_keeping_the_best_needs_a_rater() -> None:
    with pytest.raises(ValueError, match="names the rater"):
        ExactDuplicate(keep="best")
    with pytest.raises(ValueError, match="names the rater"):
        ExactDuplicate(by="rm")


def test_a_pair_repeats_when_both_sides_do() -> None:
    table = pairs(("4", "5"), ("4", "6"), ("4", "5"), ("5", "4"))
    assert kept(table) == [True, True, False, True]
    assert kept(table, column="chosen") == [True, False, False, True]
    assert kept(table, column="rejected") == [True, True, False, True]
    assert kept(table, column="prompt") == [True, False, False, False]


def test_the_same_sides_after_other_steps_or_another_system_message_are_no_copy() -> None:
    terse, chatty = ([{"role": "system", "content": how}, *QUESTION] for how in ("Be brief.", "Be nice!!"))
    table = pairs(*[("4", "5")] * 4, prompts=[QUESTION, terse, chatty, terse])
    asked = pa.array([prompt_id(QUESTION)] * 4)  # what pairing adds to a prompt leaves its id
    table = table.set_column(table.schema.get_field_index("prompt_id"), "prompt_id", asked)
    assert kept(table) == [True, True, True, False]


def test_the_sides_of_a_pair_do_not_run_into_each_other() -> None:
    assert kept(pairs(("ab", "c"), ("a", "bc"))) == [True, True]


def test_a_pair_of_another_prompt_repeats_only_among_all_rows() -> None:
    table = pairs(("4", "5"), ("4", "5"), prompts=[QUESTION, OTHER_QUESTION])
    assert kept(table) == [True, True]
    assert kept(table, within="all") == [True, False]


def test_the_best_pair_is_the_one_with_the_widest_gap() -> None:
    table = pairs(("4", "5"), ("4", "5"))
    table = table.set_column(
        table.column_names.index("chosen_scores"), "chosen_scores", pa.array(scored(0.9, 0.8), table["chosen_scores"].type)
    )
    table = table.set_column(
        table.column_names.index("rejected_scores"), "rejected_scores", pa.array(scored(0.7, 0.1), table["rejected_scores"].type)
    )
    assert kept(table, keep="best", by="rm") == [False, True]


def test_prompts_repeat_by_their_messages() -> None:
    table = prompts("Hi", "Hello", "Hi")
    out = ExactDuplicate(name="dup")(table)
    assert [bool(flags) for flags in out["flags"].to_pylist()] == [False, False, True]
    assert out["flags"].to_pylist()[2][0]["other"] == table["prompt_id"][0].as_py()


def test_prompts_are_normalised_by_the_content_of_their_messages() -> None:
    table = prompts("Hi there", "hi  there!", "Hi")
    assert kept(table, normalise="text") == [True, False, True]
    system = [{"role": "system", "content": "Hi there"}]
    other = tables.from_rows([{"prompt_id": prompt_id(system), "prompt": system}], "prompts")
    assert kept(pa.concat_tables([table, other]), normalise="text") == [True, False, True, True]
    assert kept(table, normalise="text", within="prompt") == [True, True, True]


def test_the_longest_prompt_stays() -> None:
    assert kept(prompts("hi", "Hi!"), normalise="text", keep="longest") == [False, True]


def test_the_same_question_about_another_picture_or_with_other_tools_is_another_prompt() -> None:
    pictures = [[{"sha256": "aa", "path": "media/a"}], [{"sha256": "bb", "path": "media/b"}], None]
    assert kept(prompts("What is this?", "What is this?", "What is this?", images=pictures)) == [True, True, True]
    assert kept(prompts("Go", "Go", "Go", tools=["[1]", "[2]", "[1]"])) == [True, True, False]


def test_answers_that_end_alike_after_other_turns_are_no_copies() -> None:
    def called(tool: str) -> list[dict[str, Any]]:
        return [{"role": "assistant", "content": None, "tool_calls": tool}, {"role": "assistant", "content": "4"}]

    table = responses("4", "4", "4", "4", turns=[called("add"), called("sum"), None, called("add")])
    assert kept(table) == [True, True, True, False]
    assert kept(table, normalise="text") == [True, True, True, False]


def test_a_text_column_of_another_grain_is_refused() -> None:
    with pytest.raises(StepError, match="chosen.*responses"):
        ExactDuplicate(name="dup", column="chosen")(responses("4"))


def test_right_to_left_text_and_emoji_are_compared_exactly() -> None:
    arabic, hebrew, family = "\u202bمرحبا\u202c", "שלום", "👨\u200d👩\u200d👧"
    assert kept(responses(arabic, hebrew, family, "👨👩👧", "مرحبا", arabic, family)) == [True] * 5 + [False] * 2


@pytest.mark.parametrize("grain", ["prompts", "responses", "pairs"])
@pytest.mark.parametrize("parameters", [{}, {"normalise": "text", "keep": "longest"}, {"keep": "best", "by": "rm"}])
def test_an_empty_table_stays_empty(grain: tables.Grain, parameters: dict[str, Any]) -> None:
    step = ExactDuplicate(name="dup", **parameters)
    table = tables.empty(grain).select(step.columns(grain))
    assert step(table).num_rows == 0


@pytest.mark.parametrize("grain", ["prompts", "responses", "pairs"])
@pytest.mark.parametrize("column", [None, "prompt"])
@pytest.mark.parametrize("normalise", ["none", "text"])
def test_it_needs_no_column_beyond_those_it_declares(grain: tables.Grain, column: Any, normalise: Any) -> None:
    table = {"prompts": prompts("Hi", "Hi"), "responses": responses("4", "4"), "pairs": pairs(("4", "5"), ("4", "5"))}[grain]
    step = ExactDuplicate(name="dup", column=column, normalise=normalise, keep="longest")
    assert [bool(flags) for flags in step(table.select(step.columns(grain)))["flags"].to_pylist()] == [False, True]


def test_shards_decide_as_the_whole_and_the_input_stays() -> None:
    table = responses("4", "5", "4", None, "5", "4")
    before = table.to_pylist()
    step = ExactDuplicate(name="dup")
    whole = step(table)
    parts = [table.slice(0, 1), table.slice(1, 3), table.slice(4, 0), table.slice(4, 2)]
    state = step.decide(pa.concat_tables([step.features(part) for part in parts]))
    starts = [0, 1, 4, 4]
    applied = [step.apply(part, state.slice(start, len(part))) for part, start in zip(parts, starts, strict=True)]
    assert pa.concat_tables(applied).to_pylist() == whole.to_pylist() == step(table).to_pylist()
    assert table.to_pylist() == before


def test_digests_are_the_same_on_every_machine() -> None:
    table = tables.from_rows([{"prompt_id": "p", "response": "سلام", "response_id": "r"}], "responses")
    digest = ExactDuplicate(name="dup", within="all").features(table)["digest"][0].as_py()
    assert digest.hex() == "4df472c80cfb59329497be1a6ec58fe3"


def test_the_name_of_the_step_measures_nothing_anew() -> None:
    assert ExactDuplicate(name="a").feature_parameters() == ExactDuplicate(name="b").feature_parameters()
    assert ExactDuplicate(normalise=True).feature_parameters() != ExactDuplicate().feature_parameters()
