"""The card of a version."""

import re
from pathlib import Path

import polars as pl
import pytest
import yaml

from curate.publish.card import card, license_of
from curate.publish.figures import compare, contents, figures
from curate.publish.wording import code, fence, number, one_line, shorten, visible
from tests.publish.versions import SECRET, answer, make, steps, three_prompts, with_goal


def head(text: str) -> dict:
    return yaml.safe_load(text.split("---\n")[1])


def test_the_card_tells_where_every_row_went(tmp_path: Path) -> None:
    text = (make(tmp_path, three_prompts(), steps()).path / "README.md").read_text()
    assert "| `source` | responses | 7 | 7 | 100.0 % | none |  |" in text
    assert "| `exact_duplicate` | responses | 7 | 6 | 85.7 % | 1 `exact_duplicate` |  |" in text
    assert "| `pair` | responses | 6 | 5 | 83.3 % | 1 `single_candidate` | 4 pairs |" in text
    assert "| `margin` | pairs | 4 | 3 | 75.0 % | 1 `small_margin` |  |" in text


def test_scores_lengths_and_models_are_told_by_side(tmp_path: Path) -> None:
    text = (make(tmp_path, three_prompts(), steps()).path / "README.md").read_text()
    # pairs: good-fair (9, 5), good-bad (9, 1), fair-bad (5, 1)
    assert "| `rm · help` | chosen | 3 | 7.67 | 5 | 7 | 9 | 9 | 9 |" in text
    assert "| `rm · help` | rejected | 3 | 2.33 | 1 | 1 | 1 | 3 | 5 |" in text
    assert "| chosen | 3 | 4 | 4 | 4 | 4 | 4 | 4 |" in text
    assert "the longer one in 83.3 % of the pairs" in text  # twice longer, once a tie
    assert "| `m1` | 66.7 % | 0.0 % |" in text
    assert "| `m3` | 0.0 % | 66.7 % |" in text


def test_the_header_names_each_table_as_a_configuration_that_datasets_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    version = make(tmp_path / "store", three_prompts(), steps())
    names = {c["config_name"] for c in head((version.path / "README.md").read_text())["configs"]}
    assert names == {"default", "responses", "dropped", "dropped_responses"}

    def load(name: str) -> list[dict]:
        return list(datasets.load_dataset(str(version.path), name, split="train", cache_dir=str(tmp_path / "cache")))

    assert [row["chosen"][0]["content"] for row in load("default")] == ["good", "good", "fair"]
    assert [row["reason"] for row in load("dropped")] == ["small_margin"]
    assert sorted(row["reason"] for row in load("dropped_responses")) == ["exact_duplicate", "single_candidate"]
    assert len(load("responses")) == 5


def test_the_polars_line_of_the_card_loads_the_version(tmp_path: Path) -> None:
    version = make(tmp_path, three_prompts(), steps())
    line = re.search(r"pl\.read_ipc\(.*\)", (version.path / "README.md").read_text())
    assert line is not None
    assert line[0] == 'pl.read_ipc(f"{folder}/pairs/*.arrow")'
    assert pl.read_ipc(f"{version.path}/pairs/*.arrow").height == 3


def test_a_text_cannot_leave_its_fence_or_its_table_cell(tmp_path: Path) -> None:
    trap = "a\n```\n</details><script>alert(1)</script>\n````\nb\u202e"
    rows = three_prompts()
    rows[0] = answer("A?", trap, 9, domain="x | y\n# z", model="`m`")
    text = (make(tmp_path, rows, steps()).path / "README.md").read_text()
    outside = re.sub(r"(?ms)^(`{3,})[a-z]*\n.*?\n\1$", "", text)
    assert "<script>" not in outside
    assert "<script>" in text
    assert "\u202e" not in text
    assert "| `x \\| y # z` | 2 |" in text
    assert "`` `m` ``" in text


def test_the_card_is_the_same_for_the_same_files(tmp_path: Path) -> None:
    first, second = (make(tmp_path / name, three_prompts(), with_goal()) for name in ("a", "b"))
    assert card(first.path, first.manifest) == card(second.path, second.manifest)


def test_the_card_does_not_need_the_list_of_files(tmp_path: Path) -> None:
    version = make(tmp_path, three_prompts(), steps())
    manifest = {name: value for name, value in version.manifest.items() if name != "files"}
    assert card(version.path, manifest) == (version.path / "README.md").read_text()


def test_an_empty_version_has_a_card(tmp_path: Path) -> None:
    text = (make(tmp_path, [], steps()).path / "README.md").read_text()
    assert "of which none was kept" in text
    assert head(text)["size_categories"] == ["n<1K"]
    assert "nan" not in text


def test_a_version_of_responses_has_a_card_with_one_side(tmp_path: Path) -> None:
    text = (make(tmp_path, three_prompts(), steps()[:1]).path / "README.md").read_text()
    assert "6 responses to 3 distinct prompts" in text
    assert "**Response** (`" in text
    assert "| `m2` | 33.3 % |" in text


def test_a_version_of_prompts_has_a_card(tmp_path: Path) -> None:
    rows = [{"prompt_id": "p", "prompt": [{"role": "user", "content": "hello there"}]}]
    text = (make(tmp_path, rows, [], grain="prompts").path / "README.md").read_text()
    assert "A dataset of prompts: 1 prompt" in text
    assert "hello there" in text


def test_rows_without_texts_scores_and_models_have_a_card(tmp_path: Path) -> None:
    rows = [answer("A?", None, None, model=None, source=None)]
    text = (make(tmp_path, rows, []).path / "README.md").read_text()
    assert "(no text)" in text
    assert "None" not in text


def test_a_licence_is_named_only_if_all_rows_share_one_the_hub_knows() -> None:
    assert license_of({"Apache 2.0": 3}) == {"license": "apache-2.0"}
    assert license_of({None: 3}) == {"license": "unknown"}
    assert license_of({"mit": 1, None: 1}) == {"license": "other", "license_name": "mit, not told"}
    assert license_of({"mit": 1, "cc-by-4.0": 1}) == {"license": "other", "license_name": "cc-by-4.0, mit"}
    assert license_of({"my own": 1}) == {"license": "other", "license_name": "my own"}


def test_rejected_rows_are_counted(tmp_path: Path) -> None:
    rejects = [{"file": "a.jsonl", "line": 3, "reason": "no text"}]
    text = (make(tmp_path, three_prompts(), steps(), rejects=rejects).path / "README.md").read_text()
    assert "1 row of the source could not be used" in text
    assert "| `no text` | 1 |" in text


def test_figures_agree_with_polars_over_the_files(tmp_path: Path) -> None:
    version = make(tmp_path, three_prompts(), steps())
    frame = pl.read_ipc(f"{version.path}/pairs/*.arrow")
    found = figures(version.path, version.manifest)
    assert found.rows == frame.height
    assert found.scores[0].sides["chosen"].mean == pytest.approx(frame["chosen_score_rm_help"].mean())
    assert found.other_rows == {"responses": 5, "dropped/pairs": 1, "dropped/responses": 2}
    assert found.prompts == frame["prompt_id"].n_unique() == 1


def test_cohens_d_is_the_gap_in_pooled_standard_deviations() -> None:
    import numpy as np

    found = compare("x", {"chosen": np.array([2.0, 4.0, 6.0]), "rejected": np.array([1.0, 3.0, 5.0, np.nan])})
    assert found.effect == pytest.approx(0.5)  # means 4 and 3, both standard deviations 2
    assert found.sides["rejected"].n == 3
    assert compare("x", {"chosen": np.array([1.0]), "rejected": np.array([1.0])}).effect is None


def test_contents_joins_messages_and_keeps_null() -> None:
    import pyarrow as pa

    lists = pa.array([[{"content": "a"}, {"content": None}, {"content": "b"}], None, [], [{"content": "c"}]])
    assert contents(lists).to_pylist() == ["a\n\n\n\nb", None, "", "c"]
    assert contents(lists.slice(3)).to_pylist() == ["c"]


def test_wording_shortens_and_shows_what_is_hidden() -> None:
    assert shorten("x" * 12_350, 5) == "xxxxx… (+12,345 characters)"
    assert visible("a\x1b[2J\u202eb\n😀") == "a⟨U+001B⟩[2J⟨U+202E⟩b\n😀"
    assert one_line("a\n b" + "c" * 200, 10) == "a bccccccc…"
    assert code(SECRET).startswith("`````")
    assert fence("````").startswith("`````")
    assert [number(x) for x in (None, float("nan"), 3.0, 0.12345, 1234.5)] == ["–", "–", "3", "0.123", "1,234"]
