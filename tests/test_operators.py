"""Laws every operator obeys, whatever its parameters; parametrised from the dictionary, so that none is left out."""

import atexit
import json
import pickle
import shutil
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest

from curate import ids, tables
from curate.engine.shard import ApplyTask, FeatureTask, Outcome, Task, read_objects, run_apply, run_chain, run_features
from curate.ids import digest
from curate.models.operator import CallsModels
from curate.models.session import Session
from curate.models.spec import ModelSpec
from curate.operator import DatasetOperator, Made, Operator, ShardOperator
from curate.operators import OPERATORS
from curate.store.store import Snapshot, Store
from curate.tables import Grain
from tests.models import tiny

TEXTS = [
    "The answer is 42.",
    "the answer  is 42",
    "",
    " ",
    "I'm sorry, but I can't help with that.",
    "مرحبا بالعالم",
    "答えは四十二です。",
    "🙂🙃 \u202eright to left\u202c e\u0301",
    "no, no, no, no, no, no, no, no, no, no, no, no, no, no, no, no",
    "<|im_end|> [INST] ``` \\boxed{7}",
    "word " * 400,
    '{"a": 1}',
    "\ufeff\u200b\u2028",
]
FAKES = {
    "a": ModelSpec(backend="fake", name="a-7b", options={"quality": 0.8, "refuse_share": 0.1}),
    "words": ModelSpec(backend="hashing", name="words"),
    "b": ModelSpec(backend="fake", name="b-7b", options={"quality": 0.3, "reasoning": "tags", "position_bias": 0.3}),
}
PARAMETERS: dict[str, list[dict[str, Any]]] = {
    "rewrite": [
        {"model": "a", "kind": "rephrase", "n": 2},
        {"model": "b", "kind": "evolve", "rounds": 2, "keep_original": True},
        {"model": "a", "kind": "back_translate"},
    ],
    "generate": [
        {"model": "a"},
        {"model": ["a", "b"], "models_per_prompt": 1, "n": 2, "system": "principles", "seed": 3},
        {"model": ["a", "b"], "turns": 2, "user_model": "b", "logprobs": True},
    ],
    "perturb": [
        {"how": ["principle", "fact", "tone"], "model": "a", "per_response": 2},
        {"how": ["drop_sentences", "reverse_sentences", "truncate", "repeat"]},
    ],
    "judge": [
        {"model": "a"},
        {"model": ["a", "b"], "rubric": ["helpfulness", "honesty"], "how": "critique", "together": True},
        {"model": "b", "how": "listwise", "per_call": 2, "repeats": 2},
        {"model": "a", "how": "reference", "structured": "text", "weighted": True},
    ],
    "judge_sentences": [
        {"model": "a"},
        {"model": ["a", "b"], "rubric": ["honesty", "truthfulness"], "per_call": 3, "repeats": 2},
    ],
    "likelihood": [{"model": "a"}, {"model": "a", "reference": ["b"], "beta": 0.5, "end": False}],
    "vote": [
        {"model": "a"},
        {"model": ["a", "b"], "orders": "one", "ties": False, "repeats": 2, "rubric": ["helpfulness", "honesty"]},
    ],
    "exact_duplicate": [{}, {"normalise": "text", "within": "all", "keep": "longest"}],
    "near_duplicate": [
        {},
        {"within": "all", "shingle": "character", "threshold": 0.3, "keep": "longest"},
        {"within": "all", "size": 1, "threshold": 0.2, "linkage": "single"},
    ],
    "contamination": [
        {"against": {"held": "held.jsonl"}},
        {"against": {"held": "held.jsonl"}, "words": 2, "threshold": 0.1, "model": "words", "similarity": 0.3},
    ],
    "semantic_duplicate": [{"model": "words"}, {"model": "words", "within": "all", "threshold": 0.3, "storage": "float32"}],
    "features": [{}, {"drop": ["refusal", "truncated"]}],
    "verify": [{"check": "number"}, {"check": "auto"}, {"check": "choice", "drop_wrong": True}],
    "reward": [{"model": "a"}, {"model": ["a", "b"], "drop_cut": True}],
    "aggregate": [{"from": ["rm:quality", "judge:helpful"]}, {"from": ["rm:quality", "judge:helpful"], "calibrate": "quantile"}],
    "attach": [{"file": "review.jsonl", "scores": {"mark": "review:mark"}, "flags": "bad"}],
    "threshold": [{"by": "rm:quality", "min": 1.0}, {"by": "rm:quality", "min": 1.0, "missing": "keep"}],
    "prefer": [
        {"by": "rm:quality", "how": "scores", "scale": 2.0},
        {"by": "a"},
        {"by": ["a:overall", "b"], "how": "bradley_terry", "smoothing": 0.0},
    ],
    "pair": [
        {"by": "rm:quality"},
        {"by": "rm:quality", "how": "all_gap", "min_gap": 1.0},
        {"by": "rm:quality", "how": "random_gap", "seed": 3},
    ],
    "lint": [{}, {"except": ["language"], "drop": ["refusal", "near_identical"], "thresholds": {"repetition": 0.2}}],
    "margin": [{"by": "rm:quality", "min": 1.0}],
    "consistency": [
        {"raters": ["rm:quality", "judge:helpful"]},
        {"raters": ["rm:quality", "judge:helpful"], "how": "share", "min_agreement": 0.6},
        {"raters": ["rm:quality", "judge:helpful"], "how": "kendall", "min_agreement": 0.4},
        {"raters": ["rm:quality", "judge:helpful"], "how": "spread", "max_spread": 1.0},
    ],
    "peer_review": [
        {"model": "words"},
        {"use": ["length"], "noise": 0.2, "learner": "mlp", "related": "apart"},
        {"learner": "implicit", "use": ["one:dpo", "other:dpo"]},
        {"learner": "fine_tuned", "model": "trainable", "rounds": 2, "folds": 2, "noise": 0.2, "learning_rate": 1e-3},
    ],
    "label_em": [{"use": ["length"]}, {"model": "words", "annotator": "rater", "drop": False, "cross_fit": False}],
    "inject_noise": [{"rate": 0.3}, {"rate": 0.2, "kind": "gap", "by": "rm:quality"}, {"rate": 0.2, "kind": "annotator"}],
    "flip": [{}, {"by": "peer_review:flip_prob", "above": 0.3}],
    "soft_label": [{"how": "margin", "by": "rm:quality"}, {"how": "evidence", "by": "peer_review:flip_prob"}],
    "mask": [
        {"by": "judge:truthfulness_sentences"},
        {"meta": ["good", "bad"], "neutral": "mask", "empty": "unmask"},
        {"check": "equations"},
    ],
    "weight": [
        {"how": "confidence"},
        {"how": "hardness", "by": "peer_review:margin_a"},
        {"how": "margin", "min": 0.5},
        {"how": "likelihood", "scores": ["rm:quality", "judge:helpful"]},
        {"how": "level", "scores": ["rm:quality"]},
    ],
    "weight_sets": [
        {"sets": "domain", "use": ["rm:quality"], "steps": 20},
        {"sets": "domain", "model": "words", "use": ["judge:helpful"], "steps": 20},
    ],
    "order": [{}, {"by": "peer_review:margin_a", "cut_at": 0.0, "first": "hard"}, {"within": "prompt"}],
    "balance": [
        {"by": "domain", "at_most": 5},
        {"by": "prompt", "at_most": 1, "keep": "best", "score": "rm:quality"},
        {"by": "domain", "quotas": {"a": 3}, "other": 4, "keep": "random", "seed": 3},
        {"by": "domain", "weights": {"a": 2, "b": 1}},
    ],
    "select": [
        {"how": "top", "by": "rm:quality", "share": 0.4},
        {"how": "top", "by": "judge:helpful", "count": 1, "within": "prompt"},
        {"how": "bands", "by": "rm:quality", "bands": [[-2, 0, 3], [0, 2]]},
        {"how": "farthest", "model": "words", "count": 4},
        {"how": "facility", "scores": ["rm:quality", "judge:helpful"], "share": 0.5, "within": "prompt"},
    ],
    "goal": [{"by": "rm:quality"}, {"by": "rm:quality", "scale": [1, 10], "map": "quantile"}],
    "split": [{"test": 0.3, "validation": 0.2}],
}


def test_every_operator_is_under_these_laws() -> None:
    assert set(PARAMETERS) == set(OPERATORS)


def scores(random: np.random.Generator) -> list[dict[str, Any]]:
    made = [{"rater": "rm", "aspect": "quality", "value": float(random.integers(0, 4))}]
    if random.random() < 0.2:
        made[0] |= {"value": None, "error": "no reply"}
    if random.random() < 0.7:
        made.append({"rater": "judge", "aspect": "helpful", "value": float(random.normal())})
    return made if random.random() < 0.9 else []


def implied(number: int) -> list[dict[str, Any]]:
    """Rewards that two policies imply."""
    values = np.random.default_rng(number).normal(size=2).tolist()
    return [{"rater": rater, "aspect": "dpo", "value": value} for rater, value in zip(("one", "other"), values, strict=True)]


def votes(random: np.random.Generator) -> list[dict[str, Any]]:
    told = [None, 0.0, 0.5, 1.0, 0.8]

    def drawn() -> dict[str, Any]:
        return {name: told[random.integers(len(told))] for name in ("p_chosen", "p_swapped")}

    return [
        {"rater": rater, "aspect": "overall", "round": round_, **drawn()}
        for rater in "ab"
        for round_ in range(int(random.integers(0, 3)))
    ]


def table_of(grain: Grain, prompts: int, seed: int) -> pa.Table:
    """Random rows: ties, gaps, missing scores, equal texts and any Unicode among them."""
    random = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for number in range(prompts):
        messages = [{"role": "user", "content": f"question {number} {TEXTS[random.integers(len(TEXTS))]}"}]
        about = {
            "prompt": messages,
            "prompt_id": ids.prompt_id(messages),
            "reference": "42",
            "meta": json.dumps({"check": "number"}),
        }
        for _ in range(1 if grain == "prompts" else int(random.integers(1, 5))):
            texts = [TEXTS[i] for i in random.integers(len(TEXTS), size=2)]
            row: dict[str, Any] = about | {"row": len(rows), "domain": random.choice(["a", "b"]).item()}
            if grain == "responses":
                row |= {"response": texts[0], "response_id": f"r{len(rows):04d}", "model": "m", "scores": scores(random)}
            elif grain == "pairs":
                row |= {"chosen": texts[0], "rejected": texts[1], "chosen_id": f"c{len(rows)}", "rejected_id": f"d{len(rows)}"}
                sides = [scores(random) + implied(2 * len(rows) + side) for side in range(2)]
                row |= {"pair_id": f"p{len(rows):04d}", "chosen_scores": sides[0], "rejected_scores": sides[1]}
                row["votes"] = votes(random)
            rows.append(row)
    return tables.from_rows(rows, grain)


class Case(NamedTuple):
    """An operator on rows of a grain."""

    operator: Operator
    grain: Grain
    session: Session


def takes(name: str, parameters: dict[str, Any], grain: Grain) -> bool:
    """Whether these parameters are for that grain."""
    if name == "judge":
        return grain != "prompts" or parameters.get("how") not in ("listwise", "reference")
    if name == "consistency":
        return (grain == "responses") == (parameters.get("how") in ("kendall", "spearman", "top", "spread"))
    return name != "prefer" or grain == "pairs" or parameters.get("how") == "scores"


def cases() -> Iterator[Any]:
    for name, operator in OPERATORS.items():
        for number, parameters in enumerate(PARAMETERS[name]):
            for grain in (grain for grain in operator.takes if takes(name, parameters, grain)):
                yield pytest.param((name, parameters, grain), id=f"{name}-{number}-{grain}")


@cache
def tiny_model() -> Path:
    """A sequence classifier of a few weights, for what is trained whole."""
    pytest.importorskip("torch").set_num_threads(1)
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    tiny.decoder(folder)
    return folder


def trainable(parameters: dict[str, Any]) -> dict[str, ModelSpec]:
    """That model, where the parameters name it."""
    named = parameters.get("model") == "trainable"
    return {"trainable": ModelSpec(backend="transformers", name=str(tiny_model()), kind="reward")} if named else {}


@pytest.fixture(params=cases())
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    name, parameters, grain = request.param
    if name == "contamination":
        path = tmp_path / "held.jsonl"
        path.write_text("".join(json.dumps({"question": text}) + "\n" for text in TEXTS[:9]))
        parameters = parameters | {"against": {"held": str(path)}}
    if name == "attach":
        path = tmp_path / "review.jsonl"
        key = {"prompts": "prompt_id", "responses": "response_id", "pairs": "pair_id"}[grain]
        table = table_of(grain, 12, 5)
        path.write_text(
            "".join(
                json.dumps({key: i, "mark": 1, "bad": "dull" if n % 3 else None}) + "\n"
                for n, i in enumerate(table[key].to_pylist())
            )
        )
        parameters = parameters | {"file": str(path)}
    with Session(FAKES | trainable(parameters), tmp_path / "models") as session:
        yield Case(OPERATORS[name](name=name, **parameters), grain, session)


def ready(operator: Operator, session: Session) -> Any:
    """The operator as the runner would call it: with the models, if it calls any."""
    return operator.with_models(session.for_step(operator.name)) if isinstance(operator, CallsModels) else operator


def loaded(operator: Operator, grain: Grain, table: pa.Table) -> pa.Table:
    """The columns the runner would hand it."""
    return table.select([*dict.fromkeys([*operator.columns(grain), "flags"])])


def result(made: pa.Table | Made) -> pa.Table:
    return made.rows if isinstance(made, Made) else made


def test_columns_keep_their_types_and_rows_their_number(case: Case) -> None:
    operator, grain, session = case
    table = loaded(operator, grain, table_of(grain, 12, 5))
    made = ready(operator, session)(table)
    out = operator.makes or grain
    assert all(tables.SCHEMAS[out].field(name).type == result(made)[name].type for name in result(made).column_names)
    if operator.makes is None:
        assert result(made).num_rows == table.num_rows
        assert set(result(made).column_names) <= {field.split(".")[0] for field in operator.writes(grain)}
    if isinstance(made, Made):
        assert len(made.flags) == table.num_rows


def test_the_input_is_not_changed(case: Case) -> None:
    operator, grain, session = case
    table = loaded(operator, grain, table_of(grain, 12, 5))
    before = table.to_pylist()
    ready(operator, session)(table)
    assert table.to_pylist() == before


def test_the_same_answer_twice_and_after_pickling(case: Case, tmp_path: Path) -> None:
    operator, grain, session = case
    table = loaded(operator, grain, table_of(grain, 12, 5))
    again = pickle.loads(pickle.dumps(operator))
    assert again == operator
    first = result(ready(operator, session)(table)).to_pylist()
    assert first == result(ready(again, session)(table)).to_pylist()
    if isinstance(operator, CallsModels):
        with Session(
            FAKES | trainable(operator.parameters()), tmp_path / "anew"
        ) as anew:  # asked again, not read from the ledger
            assert first == result(ready(again, anew)(table)).to_pylist()


def test_no_rows_in_no_rows_out(case: Case) -> None:
    operator, grain, session = case
    made = ready(operator, session)(loaded(operator, grain, tables.empty(grain)))
    assert result(made).num_rows == 0


def by_prompt(table: pa.Table, pieces: int) -> list[pa.Table]:
    """The table cut into shards that never split a prompt."""
    prompts = table["prompt_id"].to_pylist()
    starts = [i for i, prompt in enumerate(prompts) if not i or prompt != prompts[i - 1]]
    cuts = [starts[int(len(starts) * piece / pieces)] for piece in range(pieces)] + [len(prompts)]
    return [table.slice(start, end - start) for start, end in zip(cuts, cuts[1:], strict=False)]


def run_through_the_engine(operator: Operator, grain: Grain, parts: list[pa.Table], root: Path) -> tuple[list[Outcome], pa.Table]:
    store = Store(root)
    shards = [store.put_shard(tables.bare(part)) for part in parts]
    if isinstance(operator, ShardOperator):
        outcomes = [run_chain(Task(root, (operator,), ("asked",), grain, i, shard))[0] for i, shard in enumerate(shards)]
    else:
        assert isinstance(operator, DatasetOperator)
        measured = [run_features(FeatureTask(root, operator, "asked", grain, i, shard)) for i, shard in enumerate(shards)]
        state = operator.decide(read_objects(store, [name for name, _ in measured]))
        rows = [count for _, count in measured]
        starts = [sum(rows[:i]) for i in range(len(rows))]
        states = [store.put_table(state.slice(s, n) if operator.aligned else state) for s, n in zip(starts, rows, strict=True)]
        outcomes = [run_apply(ApplyTask(root, operator, "asked", grain, i, s, states[i])) for i, s in enumerate(shards)]
    snapshot = Snapshot(operator.makes or grain, tuple(outcome.shard for outcome in outcomes))
    return outcomes, pa.concat_tables(store.read(snapshot))


def with_some_flagged(table: pa.Table) -> pa.Table:
    """Every seventh row dropped by an earlier step."""
    flags = tables.add_flags(table, np.arange(table.num_rows) % 7 == 3, "earlier", "dropped before")
    return table.set_column(table.schema.get_field_index("flags"), "flags", flags)


def test_whole_is_sharded(case: Case, tmp_path: Path) -> None:
    operator, grain, session = case
    table = with_some_flagged(table_of(grain, 12, 5))
    _, whole = run_through_the_engine(ready(operator, session), grain, [table], tmp_path / "whole")
    _, parts = run_through_the_engine(ready(operator, session), grain, by_prompt(table, 4), tmp_path / "parts")
    columns = [name for name in whole.column_names if name != "row"]
    order = [(name, "ascending") for name in ("prompt_id", *(c for c in ("response_id", "pair_id") if c in columns))]
    assert whole.select(columns).sort_by(order).to_pylist() == parts.select(columns).sort_by(order).to_pylist()


def test_kept_and_dropped_make_the_input(case: Case, tmp_path: Path) -> None:
    operator, grain, session = case
    table = with_some_flagged(table_of(grain, 12, 5))
    outcomes, after = run_through_the_engine(ready(operator, session), grain, by_prompt(table, 3), tmp_path)
    counts = [outcome.counts for outcome in outcomes]
    assert sum(c["rows_in"] for c in counts) == int(tables.is_kept(table).sum())
    assert all(c["kept"] + sum(c["dropped"].values()) == c["rows_in"] for c in counts)
    carried = sum(any(flag["by"] == "earlier" for flag in flags or []) for flags in after["flags"].to_pylist())
    if operator.makes in (None, grain):
        assert carried == table.num_rows - int(tables.is_kept(table).sum())


def test_parameters_are_plain_json_and_decide_the_key(case: Case) -> None:
    operator = case.operator
    assert digest(operator.parameters()) == digest(json.loads(json.dumps(operator.parameters())))
