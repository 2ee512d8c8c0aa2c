"""Recipes: what they may say, and what is said of a wrong one."""

import json
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from pydantic import Field

from curate.errors import CurateError, RecipeError, UsageError
from curate.operator import Made, Operator, ShardOperator
from curate.operators import OPERATORS
from curate.recipe import Recipe, describe, init_text, read_recipe
from curate.tables import Grain

LONG_AGO = "2024-05-01"


class Rate(ShardOperator):
    """Scores candidates, or both sides of pairs."""

    takes: ClassVar[tuple[Grain, ...]] = ("responses", "pairs")

    aspect: str = "score"
    model: str | None = None
    file: Path | None = None
    needs_reference: bool = False

    def reads(self, grain: Grain) -> set[str]:
        return {"response" if grain == "responses" else "chosen"} | ({"reference"} if self.needs_reference else set())

    def writes(self, grain: Grain) -> set[str]:
        columns = ("scores",) if grain == "responses" else ("chosen_scores", "rejected_scores")
        return {f"{column}.{self.name}.{self.aspect}" for column in columns}

    def models(self) -> set[str]:
        return {self.model} if self.model else set()

    def files(self) -> set[str]:
        return {str(self.file)} if self.file else set()

    def __call__(self, table: pa.Table, /) -> pa.Table:
        return table


class Match(ShardOperator):
    """Makes pairs by a score."""

    takes: ClassVar[tuple[Grain, ...]] = ("responses",)
    makes: ClassVar[Grain | None] = "pairs"

    by: str = Field(description="Rater that decides.")
    how: str = "best_worst"
    min_gap: float = Field(default=0.0, ge=0)
    seed: int = 0
    text: str = ""

    def reads(self, grain: Grain) -> set[str]:
        rater, _, aspect = self.by.partition(":")
        return {"response", f"scores.{rater}.{aspect or '*'}"}

    def writes(self, grain: Grain) -> set[str]:
        return {"chosen", "rejected", "margin"}

    def __call__(self, table: pa.Table, /) -> Made:
        raise NotImplementedError


class Weigh(ShardOperator):
    """Writes a weight from a score of the chosen side, or from a measure of an earlier step."""

    takes: ClassVar[tuple[Grain, ...]] = ("pairs",)

    by: str | None = None
    measure: str | None = None
    votes: str | None = None

    def reads(self, grain: Grain) -> set[str]:
        wanted = {"prompt"}
        wanted |= {f"chosen_scores.{self.by}.*"} if self.by else set()
        wanted |= {f"evidence.{self.measure}.*"} if self.measure else set()
        return wanted | ({f"votes.{self.votes}.*"} if self.votes else set())

    def writes(self, grain: Grain) -> set[str]:
        return {"weight"}

    def __call__(self, table: pa.Table, /) -> pa.Table:
        return table


TOYS: dict[str, type[Operator]] = {"rate": Rate, "match": Match, "weigh": Weigh}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a file of scored candidates."""
    row = {"q": "2 + 2?", "a": "4", "rm": 1.5}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    return tmp_path


SOURCE = "source: {path: rows.jsonl, columns: {prompt: q, response: a}, scores: {rm: rm}}\n"


def read(folder: Path, text: str, *overrides: str, **environment: str) -> Recipe:
    return read_recipe(text, base=folder, overrides=overrides, environment=environment, operators=TOYS)


def problems(folder: Path, text: str, *overrides: str, **environment: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        read(folder, text, *overrides, **environment)
    return caught.value.problems


def steps(*lines: str) -> str:
    return "name: demo\n" + SOURCE + "steps:\n" + "".join(f"  - {line}\n" for line in lines)


# -- what a recipe says


def test_a_recipe_becomes_operators_with_names_grains_and_lines(folder: Path) -> None:
    recipe = read(folder, steps("rate", "match: {by: rm, min_gap: 0.5}", "weigh:"))
    assert recipe.name == "demo"
    assert recipe.source_line == 2
    assert [(s.name, s.key, s.grain_in, s.grain_out, s.line) for s in recipe.steps] == [
        ("rate", "rate", "responses", "responses", 4),
        ("match", "match", "responses", "pairs", 5),
        ("weigh", "weigh", "pairs", "pairs", 6),
    ]
    assert recipe.steps[1].operator == Match(name="match", by="rm", min_gap=0.5)
    assert (recipe.grain, recipe.grain_out) == ("responses", "pairs")


def test_a_recipe_may_have_no_steps(folder: Path) -> None:
    recipe = read(folder, "name: demo\n" + SOURCE)
    assert (recipe.steps, recipe.grain_out) == ((), "responses")


def test_as_prompts_gives_prompts(folder: Path) -> None:
    recipe = read(folder, "name: demo\nsource: {path: rows.jsonl, columns: {prompt: q, response: a}, as: prompts}\nsteps: []\n")
    assert recipe.grain == "prompts"


def test_several_sources_are_read_together(folder: Path) -> None:
    one = "{path: rows.jsonl, columns: {prompt: q, response: a}}"
    recipe = read(folder, f"name: demo\nsource:\n  - {one}\n  - {one}\n")
    assert [source.path for source in recipe.source] == ["rows.jsonl", "rows.jsonl"]


def test_repeated_steps_are_numbered_around_given_names(folder: Path) -> None:
    recipe = read(folder, steps("rate", "rate", "rate: {name: rate-2}", "rate"))
    assert [step.name for step in recipe.steps] == ["rate", "rate-3", "rate-2", "rate-4"]


def test_a_file_is_read_relative_to_its_folder_and_kept_as_written(folder: Path) -> None:
    text = "# mine\n" + steps("rate: {file: rows.jsonl}  # why")
    (folder / "my.yaml").write_text(text, encoding="utf-8")
    recipe = read_recipe(folder / "my.yaml", operators=TOYS)
    assert (recipe.text, recipe.path, recipe.base) == (text, folder / "my.yaml", folder)
    assert recipe.steps[0].operator.files() == {str(folder / "rows.jsonl")}


def test_anchors_and_merges_are_values(folder: Path) -> None:
    text = "name: demo\n" + SOURCE + "steps:\n  - match: &m {by: rm, min_gap: 2}\n"
    other = text + "  - rate: {}\n"
    assert read(folder, other.replace("&m ", "")).steps[0] == read(folder, other).steps[0]
    merged = "name: demo\n" + SOURCE + "exports: [&g {to: trl-kto, by: rm, threshold: 1}, {<<: *g, threshold: 3}]\n"
    assert read(folder, merged).exports[1] == {"to": "trl-kto", "by": "rm", "threshold": 3}


def test_words_that_old_yaml_takes_for_truth_or_dates_are_text(folder: Path) -> None:
    recipe = read(folder, steps(f"match: {{by: rm, how: no, text: {LONG_AGO}, min_gap: 1e-3}}"))
    operator = recipe.steps[0].operator
    assert (operator.how, operator.text, operator.min_gap) == ("no", LONG_AGO, 0.001)  # type: ignore[attr-defined]


def test_unicode_is_read_and_kept(folder: Path) -> None:
    recipe = read(folder, steps('match: {by: rm, text: "é 你好 🙂"}'))
    assert recipe.steps[0].operator.text == "é 你好 🙂"  # type: ignore[attr-defined]


def test_gates_and_exports_are_read(folder: Path) -> None:
    recipe = read(
        folder, "name: demo\n" + SOURCE + 'gates: {kept_share: ">= 0.3"}\nexports: [trl-dpo, {to: jsonl, drop: [weight]}]\n'
    )
    assert recipe.gates == {"kept_share": ">= 0.3"}
    assert recipe.exports == ({"to": "trl-dpo"}, {"to": "jsonl", "drop": ["weight"]})


# -- the environment


def test_variables_come_from_the_environment_and_stay_out_of_the_text(folder: Path) -> None:
    text = "name: demo\nmodels: {judge: {backend: fake, name: x, api_key: '${KEY}'}}\n" + SOURCE
    recipe = read(folder, text, KEY="sk-secret")
    key = recipe.models["judge"].api_key
    assert key is not None and key.get_secret_value() == "sk-secret"
    assert "sk-secret" not in recipe.text + repr(recipe)


def test_two_dollars_stand_for_the_text_itself(folder: Path) -> None:
    recipe = read(folder, steps("match: {by: rm, text: '$${KEY} $5 ${KEY}'}"), KEY="v")
    assert recipe.steps[0].operator.text == "${KEY} $5 v"  # type: ignore[attr-defined]


def test_an_unset_variable_is_a_problem(folder: Path) -> None:
    assert problems(folder, steps("match: {by: rm, text: '${NOPE}'}")) == [
        "recipe:4: step 1 (match), text: environment variable NOPE is not set"
    ]


def test_an_unset_variable_in_a_source_path_is_one_problem(folder: Path) -> None:
    text = "name: demo\nsource:\n  path: ${CURATE_TEST_UNSET}/rows.jsonl\n  columns: {prompt: q, response: a}\n"
    assert problems(folder, text) == ["recipe:3: source, path: environment variable CURATE_TEST_UNSET is not set"]


def test_a_wrong_value_from_the_environment_is_quoted_as_written(folder: Path) -> None:
    assert problems(folder, steps("match: {by: rm, min_gap: '${GAP}'}"), GAP="sk-secret") == [
        "recipe:4: step 1 (match), min_gap: should be a number, got '${GAP}'"
    ]


def test_a_key_in_the_recipe_is_refused_and_not_shown(folder: Path) -> None:
    text = "name: demo\nmodels:\n  judge: {backend: fake, name: x, api_key: sk-secret}\n" + SOURCE
    (problem,) = problems(folder, text)
    assert problem.startswith("recipe:3: models.judge, api_key: a key in a recipe is published")
    assert "sk-secret" not in problem


# -- problems, all at once


def test_twelve_mistakes_are_reported_at_once_each_with_its_line(folder: Path) -> None:
    text = """\
name: my/pairs
modles: {}
models:
  judge: {backend: opnai, name: x}
source: {path: rows.jsonl, columns: {prompt: q, response: a}, scores: {rm: rm}, max_rejets: 3}
steps:
  - rat: {}
  - rate: {model: jugde}
  - match: {by: rmm, min_gap: much}
  - match: {by: rm}
  - weigh: {by: rm, name: rate}
  - weigh: {}
gates: {kept_share: high}
exports: [{too: jsonl}]
"""
    found = problems(folder, text)
    assert found == [
        "recipe:1: name: 'my/pairs' cannot name a dataset: use letters, digits, '.', '-' and '_', "
        "starting with a letter or digit",
        "recipe:2: modles: unknown; did you mean models?",
        "recipe:4: models.judge, backend: should be one of 'openai', 'vllm', 'sentence_transformers', 'transformers', 'hashing' "
        "or 'fake', got 'opnai'; did you mean openai?",
        "recipe:5: source, max_rejets: unknown; did you mean max_rejects?",
        "recipe:7: step 1 (rat): no operator is called rat; did you mean rate?",
        "recipe:8: step 2 (rate-2), model: no model is called jugde; did you mean judge?",
        "recipe:9: step 3 (match), min_gap: should be a number, got 'much'",
        "recipe:9: step 3 (match), by reads scores.rmm: no step before it writes that; did you mean rm (written by the source)?",
        "recipe:10: step 4 (match-2) takes responses, but is given pairs (from step 3 (match)); move it before step 3 (match)",
        "recipe:12: step 6 (weigh) writes weight, which step 5 (rate) has written; a value has one writer: leave one out, "
        "or say `replace: true` here",
        "recipe:13: gates, kept_share: should be a condition such as \">= 0.3\", got 'high'",
        "recipe:14: exports, 1: should be a mapping with the format under `to`, got {'too': 'jsonl'}",
    ]


@pytest.mark.parametrize(
    ("step", "problem"),
    [
        ("match: {by: rm, mingap: 1}", "step 1 (match), mingap: unknown; did you mean min_gap?"),
        ("match: {}", "step 1 (match), by: missing (Rater that decides)"),
        ("match", "step 1 (match), by: missing (Rater that decides)"),
        ("match: {by: rm, min_gap: -1}", "step 1 (match), min_gap: should be at least 0, got -1"),
        ("match: {by: rm, seed: 1.5}", "step 1 (match), seed: should be a whole number, got 1.5"),
        ("match: {by: [rm]}", "step 1 (match), by: should be text, got ['rm']"),
        ("match: rm", "step 1 (match): parameters should be a mapping, got 'rm'"),
        ("match: {by: rm, how: }", "step 1 (match), how: should be text, got nothing"),
        ("rate: {needs_reference: maybe}", "step 1 (rate), needs_reference: should be true or false, got 'maybe'"),
        ("rate: {name: a.b}", "step 1 (a.b), name: should be letters, digits, '-' and '_', got 'a.b'"),
        ("rate: {name: source}", "step 1 (source), name: `source` means the source; take another name"),
        ("rate: {file: nope.csv}", "step 1 (rate), file: file FOLDER/nope.csv does not exist"),
        ("rate: {model: judge}", "step 1 (rate), model: no model is called judge; there are none"),
        ("weigh: {replace: 3}", "step 1 (weigh), replace: should be true or false, got 3"),
    ],
)
def test_a_wrong_parameter_is_named_with_its_value(folder: Path, step: str, problem: str) -> None:
    found = problems(folder, steps(step))
    assert f"recipe:4: {problem.replace('FOLDER', str(folder))}" in found


def test_two_operators_in_one_step_are_told_apart(folder: Path) -> None:
    (problem,) = problems(folder, "name: demo\n" + SOURCE + "steps:\n  - rate: {}\n    match: {}\n")
    assert problem.startswith("recipe:4: step 1: should be one operator, `- name: {…}`, got 2 keys (rate, match)")


def test_a_given_name_can_be_taken_once(folder: Path) -> None:
    found = problems(folder, steps("rate: {name: a}", "rate: {name: a}"))
    assert found == ["recipe:5: step 2 (a), name: taken by step 1; names tell steps apart"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (SOURCE, "recipe:1: name: missing; it names the dataset, such as `name: my-pairs`"),
        ("name: demo\n", "recipe:1: source: missing; say where the rows come from, such as `source: {path: answers.jsonl}`"),
        ("name: 7\n" + SOURCE, "recipe:1: name: should be text, got 7"),
        (
            "name: demo\n" + SOURCE + "steps: {rate: {}}\n",
            "recipe:3: steps: should be a list (each step begins with `- `), got {'rate': {}}",
        ),
        ("name: demo\n" + SOURCE + "models: [x]\n", "recipe:3: models: should be a mapping, got ['x']"),
        ("name: demo\nsource: 3\n", "recipe:2: source: should be a mapping, got 3"),
        ("name: demo\nsource: {path: no.jsonl, columns: {prompt: q}}\n", "recipe:2: source: no.jsonl: no 'no.jsonl' in FOLDER"),
    ],
)
def test_a_wrong_part_is_named(folder: Path, text: str, problem: str) -> None:
    (found,) = problems(folder, text)
    assert found.startswith(problem.replace("FOLDER", str(folder)))


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ("scores: {rm: {valu: rm}}", ["scores.rm.value: missing", "scores.rm.valu: unknown; did you mean value?"]),
        ("scores: {rm: [1]}", ["scores.rm: should be a mapping, got [1]"]),
        ("join: {path: rows.jsonl, om: q}", ["join.on: missing (Joined field", "join.om: unknown; did you mean on?"]),
        (
            "rows: candidate",
            ["rows: should be one of 'candidates', 'pairs', 'prompts' or 'lists', got 'candidate'; did you mean candidates?"],
        ),
    ],
)
def test_a_wrong_field_deep_in_the_source_is_named(folder: Path, part: str, told: list[str]) -> None:
    found = problems(folder, f"name: demo\nsource:\n  path: rows.jsonl\n  columns: {{prompt: q, response: a}}\n  {part}\n")
    assert [problem.partition("source, ")[2][: len(text)] for problem, text in zip(found, told, strict=True)] == told


def test_a_missing_joined_file_is_named_where_it_stands(folder: Path) -> None:
    join = "  join:\n    - {path: rows.jsonl, on: q}\n    - {path: votes.csv, on: q}\n"
    text = "name: demo\nsource:\n  path: rows.jsonl\n  columns: {prompt: q, response: a}\n" + join
    (found,) = problems(folder, text)
    assert found.startswith("recipe:7: source: votes.csv: ")


# -- what steps need of one another


def test_a_rater_nobody_is_like_lists_those_there_are(folder: Path) -> None:
    assert problems(folder, steps("rate: {name: judge}", "match: {by: zzz}")) == [
        "recipe:5: step 2 (match), by reads scores.zzz: no step before it writes that; raters there are: "
        "judge (from step 1 (judge)), rm (from the source)"
    ]


def test_a_rater_is_known_by_its_step_name(folder: Path) -> None:
    assert read(folder, steps("rate: {name: judge}", "match: {by: judge}")).steps[1].grain_out == "pairs"


def test_an_aspect_nobody_writes_is_a_problem(folder: Path) -> None:
    assert problems(folder, steps("rate: {aspect: tone}", "match: {by: 'rate:tune'}")) == [
        "recipe:5: step 2 (match), by reads scores.rate.tune: no step before it writes that aspect; did you mean tone?"
    ]


def test_a_later_step_does_not_help(folder: Path) -> None:
    (problem,) = problems(folder, steps("match: {by: rate}", "rate"))
    assert "step 1 (match), by reads scores.rate: no step before it writes that" in problem


def test_scores_of_candidates_become_scores_of_both_sides(folder: Path) -> None:
    read(folder, steps("rate", "match: {by: rm}", "weigh: {by: rate}"))
    (problem,) = problems(folder, steps("rate", "match: {by: rm}", "weigh: {by: ratte}"))
    assert "step 3 (weigh), by reads chosen_scores.ratte: no step before it writes that; did you mean rate" in problem


def test_pairs_have_no_votes_until_somebody_votes(folder: Path) -> None:
    assert problems(folder, steps("match: {by: rm}", "weigh: {votes: judge}")) == [
        "recipe:5: step 2 (weigh), votes reads votes.judge: no step before it writes any votes"
    ]


def test_a_column_nobody_fills_is_a_problem(folder: Path) -> None:
    text = steps("rate: {needs_reference: true}")
    assert problems(folder, text) == [
        "recipe:4: step 1 (rate) reads reference: no step before it writes that, nor does the source map it"
    ]
    assert read(folder, text.replace("response: a", "response: a, reference: a"))


def test_a_step_given_the_wrong_rows_says_what_would_make_them(folder: Path) -> None:
    (problem,) = problems(folder, steps("weigh", "match: {by: rm}"))
    assert problem == (
        "recipe:4: step 1 (weigh) takes pairs, but is given responses (from the source); move it after step 2 (match)"
    )


def test_replace_allows_a_second_writer(folder: Path) -> None:
    assert len(read(folder, steps("match: {by: rm}", "weigh", "weigh: {replace: true}")).steps) == 3


def test_a_column_the_source_maps_has_a_writer(folder: Path) -> None:
    source = "source: {path: rows.jsonl, columns: {prompt: q, chosen: a, rejected: a, weight: rm}}\n"
    (problem,) = problems(folder, "name: demo\n" + source + "steps: [weigh]\n")
    assert "step 1 (weigh) writes weight, which the source has written" in problem


def test_an_unreadable_step_does_not_make_others_wrong(folder: Path) -> None:
    assert len(problems(folder, steps("match: {}", "weigh: {by: rate}", "zzz: {}", "weigh: {replace: true, by: zzz}"))) == 2


# -- overrides


def test_an_override_changes_the_value_and_keeps_comments(folder: Path) -> None:
    text = "# top\n" + steps("match: {by: rm, min_gap: 1}  # why")
    recipe = read(folder, text, "steps.match.min_gap=0.5")
    assert recipe.steps[0].operator.min_gap == 0.5  # type: ignore[attr-defined]
    assert recipe.text == text.replace("min_gap: 1", "min_gap: 0.5")


@pytest.mark.parametrize(
    ("override", "before", "after"),
    [
        ("match.seed=3", "match: {by: rm}", "match: {by: rm, seed: 3}"),
        ("steps.1.by=rm", "match: {by: zzz}", "match: {by: rm}"),
        ("match.by=rm", "match", "match: {by: rm}"),
        ("match.by=rm", "match:", "match: {by: rm}"),
        ("match.text='a, {b}: #c'", "match: {by: rm, text: x}", "match: {by: rm, text: 'a, {b}: #c'}"),
        ("match={by: rm, seed: 3}", "match: {by: zzz}", "match: {by: rm, seed: 3}"),
        ("match.name=best", "match: {by: rm}", "match: {by: rm, name: best}"),
    ],
)
def test_an_override_is_written_where_it_belongs(folder: Path, override: str, before: str, after: str) -> None:
    assert read(folder, steps(before), override).text == steps(after)


def test_an_override_of_a_shared_anchor_changes_one_place(folder: Path) -> None:
    text = steps("rate: &m {needs_reference: false}", "rate: {<<: *m, name: other}")
    recipe = read(folder, text.replace("{path", "{constants: {reference: x}, path"), "rate.needs_reference=true")
    assert [step.operator.needs_reference for step in recipe.steps] == [True, False]  # type: ignore[attr-defined]
    assert read(folder, recipe.text).steps == recipe.steps


def test_overrides_reach_source_and_name(folder: Path) -> None:
    recipe = read(folder, steps("rate"), "source.max_rejects=5", "name=other")
    assert (recipe.source[0].max_rejects, recipe.name) == (5, "other")
    assert read(folder, recipe.text) == read(folder, steps("rate"), "source.max_rejects=5", "name=other")


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("mach.min_gap=1", "--set mach.min_gap=1: no mach in the recipe; did you mean match?"),
        ("steps.mach.min_gap=1", "--set steps.mach.min_gap=1: no mach in steps; did you mean match?"),
        ("steps.9.min_gap=1", "--set steps.9.min_gap=1: no 9 in steps; it has 1 to 1"),
        ("match.mingap=1", "--set match.mingap=1: step 1 (match), mingap: unknown; did you mean min_gap?"),
        ("match.min_gap=much", "--set match.min_gap=much: step 1 (match), min_gap: should be a number, got 'much'"),
        ("source.max_rejets=1", "--set source.max_rejets=1: source, max_rejets: unknown; did you mean max_rejects?"),
        ("match.by.x=1", "--set match.by.x=1: match.by is 'rm', it has no x"),
        ("models.judge.name=x", "--set models.judge.name=x: no models in the recipe; it has name, source, steps"),
        ("match.min_gap", "--set match.min_gap: should be path=value, such as pair.min_gap=0.5"),
        ("match..x=1", "--set match..x=1: should be path=value, such as pair.min_gap=0.5"),
    ],
)
def test_an_override_that_leads_nowhere_is_a_problem(folder: Path, override: str, problem: str) -> None:
    found = problems(folder, steps("match: {by: rm}"), override)
    assert found == [problem.replace("match.by is", "steps.1.match.by is")]


# -- texts that are no recipe


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("\n", "recipe:1: the recipe is empty"),
        ("# nothing\n", "recipe:1: the recipe is empty"),
        ("- rate\n- match\n", "recipe:1: a recipe is a mapping with name, source and steps, got a list"),
        ("just text\nmore\n", "recipe:1: a recipe is a mapping with name, source and steps, got 'just text more'"),
        ("name: demo\nsource:\n\tpath: x\n", "recipe:3: a tab where YAML wants spaces; indent with spaces"),
        ("name: demo\nsteps: [a, b\n", "recipe:3: not valid YAML: expected ',' or ']', but got '<stream end>'"),
        ("name: demo\n---\nname: two\n", "recipe:2: a second document begins here"),
        ("name: *nope\n", "recipe:1: not valid YAML: found undefined alias 'nope'"),
        ("name: a\x07b\n", "recipe:1: character U+0007 is not allowed in YAML"),
        ("a: " + "[" * 5000 + "\n", "recipe:1: nested too deeply"),
    ],
)
def test_a_text_that_is_no_recipe_says_why(folder: Path, text: str, problem: str) -> None:
    (found,) = problems(folder, text)
    assert found.startswith(problem)


def test_a_key_given_twice_is_a_problem(folder: Path) -> None:
    found = problems(folder, "name: demo\n" + SOURCE + "steps:\n  - match:\n      by: rm\n      seed: 1\n      by: rm\n")
    assert found == ["recipe:7: by is given twice in one mapping (first on line 5)"]


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system ['true']", "!mine x", "!!set {a, b}", "!!binary aGk="])
def test_tags_are_refused(folder: Path, tag: str) -> None:
    found = problems(folder, f"name: demo\n{SOURCE}exports: [{{to: jsonl, x: {tag}}}]\n")
    assert found[0].startswith("recipe:3: tag ") and "is not allowed; write plain values" in found[0]


def test_aliases_cannot_grow_without_bound(folder: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    found = problems(folder, "\n".join(lines) + "\n")
    assert any("more than 20,000 values once its aliases are written out" in problem for problem in found)


@pytest.mark.parametrize("exports", ["&e [*e]", "[&e {to: x, <<: *e}]", "[&e {to: x, and: *e}]"])
def test_an_alias_inside_its_own_anchor_is_refused(folder: Path, exports: str) -> None:
    found = problems(folder, f"name: demo\n{SOURCE}exports: {exports}\n")
    assert found[0] == "recipe:3: nested more than 40 deep"


@pytest.mark.parametrize(
    ("escape", "told"), [("\\ud800", "lone surrogate U+D800 at character 1"), ("\\0", "NUL character at character 1")]
)
def test_escapes_of_what_no_text_may_hold_are_refused(folder: Path, escape: str, told: str) -> None:
    found = problems(folder, steps(f'match: {{by: rm, text: "{escape}"}}'))
    assert found[0] == f"recipe:4: {told}, which no text may hold"


def test_one_mistake_made_very_often_is_not_told_forever(folder: Path) -> None:
    assert len(problems(folder, "name: demo\n" + SOURCE + "gates:\n" + "  rows: '> 1'\n" * 5000)) == 50


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"PK\x03\x04\x00\x00", "not a text file"),
        ("naïve: é\n".encode("latin-1"), ":1: not UTF-8 text (byte 0xEF); save it as UTF-8"),
        (b"a: b\n" * 60_000, "larger than 256 KB"),
    ],
)
def test_a_file_that_is_no_recipe_says_why(tmp_path: Path, data: bytes, problem: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(data)
    with pytest.raises(RecipeError) as caught:
        read_recipe(path)
    assert str(path) in str(caught.value) and problem in str(caught.value)


def test_a_byte_order_mark_is_passed_over(folder: Path) -> None:
    (folder / "my.yaml").write_bytes(b"\xef\xbb\xbf" + steps("rate").encode())
    assert read_recipe(folder / "my.yaml", operators=TOYS).name == "demo"


def test_a_missing_file_and_a_folder_are_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist; `curate init` writes a recipe"):
        read_recipe(tmp_path / "no.yaml")
    with pytest.raises(UsageError, match="is a folder"):
        read_recipe(tmp_path)


# -- the plan


def test_the_plan_lists_what_differs_from_defaults(folder: Path) -> None:
    recipe = read(folder, steps("rate", "match: {by: rm, min_gap: 0, seed: 3}"))
    source, rate, match = describe(recipe)
    assert (source.step, source.grain_out, source.parameters["path"], source.line) == ("source", "responses", "rows.jsonl", 2)
    assert (rate.parameters, rate.line) == ({}, 4)
    assert (match.grain_in, match.grain_out, match.parameters) == ("responses", "pairs", {"by": "rm", "seed": 3})


# -- starters


ROWS: dict[str, tuple[list[dict[str, Any]], str]] = {
    "pairs": ([{"question": "q?", "chosen": "a", "rejected": "b", "chosen_score": 2, "rejected_score": 1}], "question"),
    "candidates": ([{"prompt": "q?", "completion": "a", "rating": 3.5, "generator": "m"}], "rating: rating"),
    "lists": ([{"instruction": "q?", "responses": ["a", "b"], "scores": [1.0, 2.0]}], "rows: lists"),
    "labelled": ([{"prompt": "q", "response_a": "a", "response_b": "b", "winner": w} for w in ("A", "B", "tie")], "first: A"),
    "prompts": ([{"prompt": "q?"}], "rows: prompts"),
    "trl": (
        [{s: [{"role": "user", "content": "q"}, {"role": "assistant", "content": s}] for s in ("chosen", "rejected")}],
        "dialect: trl",
    ),
    "unpaired": ([{"prompt": "q?", "completion": "a", "label": True}], "rows: candidates"),
    "binarized": (
        [
            {
                "prompt": "q",
                "chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
                "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "b"}],
                "score_chosen": 8.0,
                "score_rejected": 3.0,
            }
        ],
        "dialect: binarized",
    ),
    "bare_candidates": ([{"prompt": "q?", "response": "a"}], "attach"),
}


@pytest.mark.parametrize("kind", ROWS)
def test_a_starter_recognises_a_file_and_reads_without_problems(tmp_path: Path, kind: str) -> None:
    rows, told = ROWS[kind]
    (tmp_path / "my data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    text = init_text(tmp_path / "my data.jsonl", base=tmp_path)
    assert told in text
    recipe = read_recipe(text, base=tmp_path)
    assert (recipe.name, recipe.source[0].path) == ("my-data", "my data.jsonl")


@pytest.mark.parametrize("suffix", ["json", "csv", "parquet"])
def test_a_starter_reads_other_formats(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows.{suffix}"
    table = pa.table({"prompt": ["q?"], "response": ["a"], "reward": [1.5]})
    if suffix == "json":
        path.write_text(json.dumps(table.to_pylist()), encoding="utf-8")
    elif suffix == "csv":
        pyarrow.csv.write_csv(table, path)
    else:
        pyarrow.parquet.write_table(table, path)
    assert read_recipe(init_text(path, "named", base=tmp_path), base=tmp_path).steps[1].operator.by == "reward"  # type: ignore[attr-defined]


def test_a_starter_for_unknown_columns_says_what_it_saw(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"foo": 1, "bar": "x"}\n', encoding="utf-8")
    with pytest.raises(UsageError, match=r"its columns \(foo, bar\) are not ones"):
        init_text(tmp_path / "rows.jsonl", base=tmp_path)


@pytest.mark.parametrize("content", ["", "not json\n"])
def test_a_starter_for_a_file_without_rows_says_so(tmp_path: Path, content: str) -> None:
    (tmp_path / "rows.jsonl").write_text(content, encoding="utf-8")
    with pytest.raises(CurateError, match=r"rows\.jsonl"):
        init_text(tmp_path / "rows.jsonl", base=tmp_path)


def test_the_starter_for_the_samples_reads_without_problems(tmp_path: Path) -> None:
    recipe = read_recipe(init_text(base=tmp_path), base=tmp_path)
    assert recipe.grain_out == "pairs"


def test_every_operator_is_named_as_recipes_write_it() -> None:
    for name, operator in OPERATORS.items():
        assert name == "".join(f"_{c.lower()}" if c.isupper() else c for c in operator.__name__).lstrip("_")


# -- gates

GATED = (
    "rate",
    "match: {by: rm}",
    "weigh: {}",
)


def gates(folder: Path, *lines: str) -> list[str]:
    return problems(folder, steps(*GATED) + "gates:\n" + "".join(f"  {line}\n" for line in lines))


def test_every_wrong_gate_is_told_with_its_line_and_the_nearest_name(folder: Path) -> None:
    found = gates(
        folder,
        "kept_shar: '>= 0.3'",
        "kept_share.mach: '>= 0.3'",
        "score_gap.rmm:rm: '> 0'",
        "characters_mean: '> 5'",
        "rows: '> 5, < 4'",
        "prompts: 500",
        "weight_mean: '> 0'",
        "order_flip_rate: '< 5%'",
        "duplicate_share: '< 5%'",
        "refusal_share: '< 5%'",
    )
    assert found == [
        "recipe:8: gates, kept_shar: there is no such metric; did you mean kept_share?",
        "recipe:9: gates, kept_share.mach: there is no such metric; did you mean kept_share.match?",
        "recipe:10: gates, score_gap.rmm:rm: there is no such metric; did you mean score_gap.rm:score?",
        "recipe:11: gates, characters_mean: there is no such metric; did you mean chosen_characters_mean?",
        "recipe:12: gates, rows: no number meets both of its comparisons, got '> 5, < 4'",
        'recipe:13: gates, prompts: should be a condition such as ">= 0.3", got 500',
        "recipe:15: gates, order_flip_rate: cannot be told, since no step votes",
        "recipe:16: gates, duplicate_share: cannot be told, since no step filters duplicates",
        "recipe:17: gates, refusal_share: cannot be told, since no features step measures refusal",
    ]


def test_gates_on_steps_raters_and_drift_are_read(folder: Path) -> None:
    conditions = {
        "dropped.match.single_candidate": "< 5%",
        "score_gap.rate:score": "between 0 and 9",
        "agreement.rm": ">= 0.5, < 1",
        "drift.score.rm:score": "< 0.1",
    }
    text = steps(*GATED) + "gates:\n" + "".join(f"  {metric}: '{condition}'\n" for metric, condition in conditions.items())
    assert read(folder, text).gates == conditions


def test_nothing_is_said_of_raters_where_a_step_could_not_be_read(folder: Path) -> None:
    found = problems(folder, steps("zzz: {}", "match: {by: rm}") + "gates: {score_gap.other: '> 0', tie_rat: '> 0'}\n")
    assert [text for text in found if "gates" in text] == [
        "recipe:6: gates, tie_rat: there is no such metric; did you mean tie_rate?"
    ]
