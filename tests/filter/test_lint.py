"""Rules speak against the rows they are about, measure all others, and drop those they are told to."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate import tables
from curate.errors import UsageError
from curate.filter.findings import Findings, Looking, findings
from curate.filter.lint import Lint
from curate.filter.lint_rules import RULES, Row, look, rules_of, speaks

ASKED = [{"role": "user", "content": "What is the capital of France?"}]


def pairs(*sides: tuple[str, str], **columns: Any) -> pa.Table:
    return tables.from_rows([{"prompt": ASKED, "chosen": a, "rejected": b} | columns for a, b in sides], "pairs")


def reasons(columns: pa.Table) -> list[str | None]:
    return [flags[-1]["reason"] if flags else None for flags in columns["flags"].to_pylist()]


def measures(columns: pa.Table, rule: str) -> list[float | None]:
    listed = [[entry["value"] for entry in row if entry["name"] == rule] for row in columns["evidence"].to_pylist()]
    assert all(len(found) == 1 for found in listed)
    return [found[0] for found in listed]


def test_errors_are_dropped_and_everything_else_is_only_counted() -> None:
    made = Lint(name="lint")(
        pairs(("Paris.", "Paris."), ("Paris.", " "), ("I can't help with that.", "Paris."), ("Paris.", "No."))
    )
    assert reasons(made) == ["identical", "empty", None, None]
    assert measures(made, "refusal") == [0, 0, 1, 0]
    assert measures(made, "identical") == [1, 0, 0, 0]


def test_drop_says_which_rules_drop_and_the_first_of_the_dictionary_is_the_reason() -> None:
    rows = pairs(("I can't help with that.<|im_end|>", "Paris."), ("Paris.", "Paris."))
    assert reasons(Lint(drop=("refusal", "template"))(rows)) == ["template", None]
    assert reasons(Lint(drop=())(rows)) == [None, None]


def test_only_and_except_choose_what_is_measured() -> None:
    assert Lint(only=("refusal", "identical")).rules("pairs") == ["identical", "refusal"]
    assert "refusal" not in Lint(except_=("refusal",)).rules("pairs")
    assert Lint(only=("refusal",)).writes("pairs") == {"evidence..refusal", "flags"}


def test_rules_that_need_something_run_only_where_named() -> None:
    assert not {"pii", "window"} & set(Lint().rules("pairs"))
    assert "pii" in Lint(drop=("pii",)).rules("pairs")
    assert "window" in rules_of("pairs", window=True)


def test_rules_of_pairs_are_not_run_on_prompts() -> None:
    assert Lint().rules("prompts") == ["empty", "turns", "template", "repetition"]


def test_a_threshold_of_ones_own() -> None:
    rows = pairs(("one two three four", "one two three five"))
    assert reasons(Lint(drop=("near_identical",))(rows)) == [None]
    assert reasons(Lint(drop=("near_identical",), thresholds={"near_identical": 0.5})(rows)) == ["near_identical"]


def test_the_mean_of_the_length_measure_is_cohens_d() -> None:
    made = Lint(only=("length_bias",))(pairs(("a" * 4, "a"), ("a" * 6, "a" * 3), ("a" * 8, "a" * 5)))
    # both sides have variance 4, their means are 6 and 3
    assert measures(made, "length_bias") == [1.5, 1.5, 1.5]


def test_lengths_without_spread_are_not_told() -> None:
    assert measures(Lint(only=("length_bias",))(pairs(("aa", "a"), ("bb", "b"))), "length_bias") == [None, None]


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ({"only": ["refusl"]}, "there is no rule refusl"),
        ({"only": ["refusal"], "drop": ["template"]}, "`drop` names template"),
        ({"except": ["refusal"], "drop": ["refusal"]}, "`drop` names refusal"),
        ({"drop": ["length_bias"]}, "drops none"),
        ({"window": 100}, "give both or neither"),
        ({"only": ["window"]}, "needs `tokenizer`"),
    ],
)
def test_requests_that_contradict_themselves(parameters: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Lint(**parameters)


def test_moving_drop_or_a_threshold_measures_nothing_anew() -> None:
    first = Lint(drop=("refusal",)).feature_parameters()
    assert first == Lint(drop=(), thresholds={"repetition": 0.1}, name="other").feature_parameters()
    assert first != Lint(except_=("refusal",)).feature_parameters()
    assert first != Lint(drop=("pii",)).feature_parameters()


def test_a_refused_answer_beside_a_refused_one_is_no_preference_for_refusing() -> None:
    row = Row(ASKED, {"chosen": "I can't help with that.", "rejected": "I won't help with this."})
    assert (look(row, "refusal").value, look(row, "both_refuse").value) == (0, 1)


def test_an_answer_that_calls_a_tool_is_not_empty() -> None:
    turns = [{"role": "assistant", "content": "", "tool_calls": "[{}]"}]
    assert look(Row(ASKED, {"response": ""}, {"response": turns}), "empty").value == 0
    assert look(Row(ASKED, {"response": ""}), "empty").value == 1


def test_why_generation_ended_decides_truncation() -> None:
    text = "The capital is Paris."
    assert look(Row(ASKED, {"response": text}, finish_reason="length"), "truncated").value == 1
    assert look(Row(ASKED, {"response": text}, finish_reason="stop"), "truncated").value == 0


def test_personal_data_is_not_quoted() -> None:
    pytest.importorskip("datafog")
    seen = look(Row(ASKED, {"response": "Ask maria@sunfield-dairy.co.uk."}), "pii")
    assert seen == (1.0, "response: email at character 5")


def test_without_the_library_personal_data_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datafog", None)  # as if it were not installed
    with pytest.raises(UsageError, match=r"pip install 'curate\[pii\]'"):
        look(Row(ASKED, {"response": "Ask maria@sunfield-dairy.co.uk."}), "pii")


def test_a_prompt_that_fills_the_window(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from curate.export import tokenizing

    tokenizing.bytewise().save_pretrained(tmp_path)
    made = Lint(only=("window",), drop=("window",), tokenizer=tmp_path, window=70)(pairs(("Paris.", "Lyon.")))
    # <|im_start|>, user, line break, 30 characters, <|im_end|>, line break; then <|im_start|>, assistant, line break
    assert measures(made, "window") == [38 + 11]
    assert reasons(made) == [None]
    assert reasons(Lint(only=("window",), drop=("window",), tokenizer=tmp_path, window=49)(pairs(("a", "b")))) == ["window"]


def test_every_rule_tells_what_it_is() -> None:
    assert all(rule.about and rule.example and rule.grains for rule in RULES.values())
    assert [name for name, rule in RULES.items() if rule.quality is None] == ["length_bias"]


def test_missing_measures_speak_against_nothing() -> None:
    assert speaks("repetition", np.array([np.nan, 0.39, 0.4, 1.0], np.float32)).tolist() == [False, False, True, True]


# -- findings


def numbered(*sides: tuple[str, str]) -> pa.Table:
    rows = [{"prompt": ASKED, "chosen": a, "rejected": b, "source": "f.jsonl", "row": n} for n, (a, b) in enumerate(sides, 1)]
    return tables.from_rows(rows, "pairs")


def test_findings_of_parts_are_those_of_the_whole() -> None:
    sides = [("Paris.", "Paris."), ("Paris is it.", "No."), ("", "x"), ("a b", "longer than that"), ("same", "same")]
    looking = Looking(tuple(rules_of("pairs")), 1)
    whole = findings(numbered(*sides), looking)
    table = numbered(*sides)
    parts = Findings()
    for start in range(0, 5, 2):
        parts.add(findings(table.slice(start, 2), looking), 1)
    assert parts.counts == whole.counts and whole.counts["identical"] == 2 and whole.counts["empty"] == 1
    assert parts.examples == whole.examples and whole.examples["empty"][0].place == ("f.jsonl", 3)
    assert parts.length() == pytest.approx(whole.length())


def test_length_is_told_with_its_effect_and_share() -> None:
    length = findings(numbered(("aaaa", "a"), ("aaaaa", "aa"), ("a", "aaa")), Looking(("length_bias",), 1)).length()
    assert length is not None
    assert length.longer_chosen == pytest.approx(2 / 3)
    assert (length.chosen_mean, length.rejected_mean) == pytest.approx((10 / 3, 2))
    assert findings(numbered(("a", "b")), Looking(("empty",), 1)).length() is None
