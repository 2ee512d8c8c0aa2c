"""What was kept of every token is read again: spans that make up the answer, and numbers that make up its score."""

import json
from pathlib import Path
from typing import Any

import pytest

from curate import tables
from curate.errors import Damaged, UnknownName, UsageError
from curate.publish.token_logprobs import least_likely, spans, token_logprobs
from curate.publish.why import why
from curate.recipe import read_recipe
from curate.run import Done, run_recipe
from curate.store.store import Store
from tests import tiny

ANSWERS = ["the first one", "no, not at all", "Second line.\n\n 🙂 is better"]
FAKE = "{backend: fake, name: policy}"


def run(folder: Path, model: str, steps: str, rows_are: str = "candidates") -> Done:
    rows: list[dict[str, Any]] = [{"prompt": f"Which {place}?", "response": text} for place, text in enumerate(ANSWERS)]
    if rows_are == "pairs":
        rows = [{"prompt": "Which?", "chosen": ANSWERS[0], "rejected": ANSWERS[1]}]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = f"{{path: {folder}/rows.jsonl, rows: {rows_are}}}"
    (folder / "r.yaml").write_text(f"name: d\nmodels:\n  m: {model}\nsource: {source}\nsteps:\n{steps}")
    return run_recipe(read_recipe(folder / "r.yaml"), folder / "store")


def held(done: Done, folder: Path) -> None:
    """Spans are the answers and sums the scores of the step's own snapshot."""
    store = Store(folder / "store")
    stage = next(stage for stage in done.stages if stage.name == "likelihood")
    [rows] = token_logprobs(store, done.version, "likelihood")
    [scores] = store.read(stage.snapshot, ["scores"])
    sums = tables.score_of(scores, "m", "logprob")
    measured = 0
    for row, total in zip(rows.to_pylist(), sums.tolist(), strict=True):
        if row["logprobs.m"] is not None:
            measured += 1
            assert "".join(spans(row["response"], [token["end"] for token in row["logprobs.m"]])) == row["response"]
            assert sum(token["logprob"] for token in row["logprobs.m"]) == pytest.approx(total, rel=1e-5)
    assert measured == 3


def test_spans_make_up_the_answer_and_numbers_its_score(tmp_path: Path) -> None:
    held(run(tmp_path, FAKE, "  - likelihood: {model: m, tokens: true}\n"), tmp_path)


@pytest.mark.slow
def test_so_they_do_where_transformers_measures(tmp_path: Path) -> None:
    folder = tiny.chat_model(tmp_path / "chat")
    held(run(tmp_path, f"{{backend: transformers, name: {folder}}}", "  - likelihood: {model: m, tokens: true}\n"), tmp_path)


def test_why_tells_which_tokens_surprised_a_model(tmp_path: Path) -> None:
    steps = "  - likelihood: {model: m, tokens: true}\n  - features: {measures: [words]}\n"
    done = run(tmp_path, FAKE, steps)
    [rows] = token_logprobs(Store(tmp_path / "store"), done.version, "likelihood")
    row = next(row for row in rows.to_pylist() if row["response"] == ANSWERS[1])
    values = [token["logprob"] for token in row["logprobs.m"]]
    parts = spans(row["response"], [token["end"] for token in row["logprobs.m"]])
    assert parts == ["no", ",", " not", " at", " all", ""]
    events = why(done.version, row["response_id"]).events
    [told] = [event.text for event in events if (event.step, event.did) == ("likelihood", "saw")]
    worst = parts[values.index(min(values))]
    assert f"m: 6 tokens, the least likely {f'“{worst}”' if worst else 'token 6'} {min(values):.3g}"[:-1] in told


def test_scores_by_models_are_told_of_the_step_that_asked_them(tmp_path: Path) -> None:
    done = run(tmp_path, FAKE, "  - likelihood: {model: m}\n  - features: {measures: [words]}\n")
    [rows] = Store(tmp_path / "store").read(done.stages[-1].snapshot, ["response_id"])
    events = why(done.version, rows["response_id"][0].as_py()).events
    assert not any("came with" in event.text for event in events)
    [told] = [event.text for event in events if (event.step, event.did) == ("likelihood", "scored")]
    assert told.startswith("m logprob -") and "; m mean_logprob -" in told


def test_both_sides_of_a_pair_are_told(tmp_path: Path) -> None:
    done = run(tmp_path, FAKE, "  - likelihood: {model: m, tokens: true}\n", "pairs")
    [rows] = token_logprobs(Store(tmp_path / "store"), done.version, "likelihood")
    [row] = rows.to_pylist()
    told = least_likely(Store(tmp_path / "store"), done.version, "likelihood", row["pair_id"])
    assert [one.partition(" tokens")[0] for one in told] == ["chosen: m: 4", "rejected: m: 6"]


def test_what_is_not_there_is_said_plainly(tmp_path: Path) -> None:
    done = run(tmp_path, FAKE, "  - likelihood: {model: m}\n")
    store = Store(tmp_path / "store")
    with pytest.raises(UnknownName, match="has no step 'other'; it has source, likelihood"):
        next(token_logprobs(store, done.version, "other"))
    with pytest.raises(UsageError, match="kept no tokens: a `likelihood` step with `tokens: true` does"):
        next(token_logprobs(store, done.version, "likelihood"))
    kept = run(tmp_path, FAKE, "  - likelihood: {model: m, tokens: true}\n  - features: {measures: [words]}\n")
    with pytest.raises(Damaged, match="are no longer in .*; run the recipe again"):
        next(token_logprobs(Store(tmp_path / "elsewhere"), kept.version, "likelihood"))
    assert least_likely(Store(tmp_path / "elsewhere"), kept.version, "likelihood", "0" * 64) == []


def test_tokens_that_are_wanted_later_make_a_version_of_their_own_and_stay(tmp_path: Path) -> None:
    plain = run(tmp_path, FAKE, "  - likelihood: {model: m}\n")
    told = run(tmp_path, FAKE, "  - likelihood: {model: m, tokens: true}\n")
    assert (plain.published, told.published, told.version.number) == (True, True, 2)
    assert told.version.manifest["content"] == plain.version.manifest["content"]
    held(told, tmp_path)
    again = run(tmp_path, FAKE, "  - likelihood: {model: m}\n")
    assert (again.published, again.version.number) == (False, 2)
    held(again, tmp_path)
