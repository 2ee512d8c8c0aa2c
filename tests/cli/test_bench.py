"""`curate bench noise` as a user calls it: tables, page and JSON, a stop and going on, wrong use."""

import json
import re
import signal
import subprocess
import sys
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from curate.cli.main import app
from curate.errors import CurateError, UsageError
from curate.maths import noise_baselines

QUICK = ("--rates", "0,0.3", "--kinds", "symmetric", "--seeds", "2", "--methods", "untreated,trimmed,peer_review,oracle")


def pairs(path: Path, count: int = 100, prompts: int = 25) -> Path:
    """Careful answers are preferred to short ones."""
    with path.open("w", encoding="utf-8") as out:
        for n in range(count):
            words = "a careful answer" if n % 10 else "a good reply"
            row = {"prompt": f"question {n % prompts}", "chosen": f"{words} {n} " * (5 + n % 7), "rejected": f"hm {n % 13}"}
            out.write(json.dumps(row) + "\n")
    return path


def bench(data: Path, out: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["bench", "noise", str(data), "--out", str(out), *words])


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    folder = tmp_path_factory.mktemp("bench")
    return bench(pairs(folder / "pairs.jsonl"), folder / "out", *QUICK), folder / "out"


def test_filters_are_compared_and_one_is_named(done: tuple[Result, Path]) -> None:
    told, out = done
    assert told.exit_code == 0, told.output
    body = json.loads((out / "noise.json").read_text())
    methods = ["untreated", "trimmed", "peer_review", "oracle"]
    assert [(row["rate"], row["method"]) for row in body["summary"]] == [(rate, m) for rate in (0.0, 0.3) for m in methods]
    by_method = {row["method"]: row for row in body["summary"] if row["rate"] == 0.3}
    assert by_method["peer_review"]["auc"] > 0.9 and by_method["peer_review"]["noise_low"] < 0.3
    assert body["summary"][0]["auc"] is None  # nothing was planted
    assert (body["pairs"], body["prompts"], body["use"], body["complete"]) == (100, 25, "peer_review", True)
    assert len(body["runs"]) == 16 and len(by_method["trimmed"]["purity"]) == len(by_method["trimmed"]["shares"])
    assert "In a recipe: `- peer_review: {model: embed}`" in told.stdout
    assert (
        re.search(r"30% symmetric flips +drops % +flips %", told.stdout) and max(map(len, told.stdout.splitlines()[:14])) <= 100
    )


class Page(HTMLParser):
    """Whatever a page would load or run, and its headings."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [f"{tag} {name}" for name, _ in attrs if name in ("src", "href") or name.startswith("on")]


def test_the_page_is_one_file_with_plots_and_a_table(done: tuple[Result, Path]) -> None:
    text = (done[1] / "noise.html").read_text()
    page = Page()
    page.feed(text)
    assert page.loads == [] and not {"script", "link", "img", "iframe"} & set(page.tags)
    titles = re.findall(r"<figcaption>([^<]+)", text)
    assert len(titles) == 10 and any(title.startswith("Purity of what is kept, 30.0 %") for title in titles)
    assert "Use peer_review" in text or "Best so far is peer_review" in text
    rows = re.findall(r'<tr class="chosen"><td>([\d.]+ %)</td><td>peer_review</td>', text)
    assert rows == ["0.0 %", "30.0 %"]


def test_a_second_call_computes_nothing_anew_and_more_seeds_only_the_new_ones(tmp_path: Path) -> None:
    data, out = pairs(tmp_path / "pairs.jsonl"), tmp_path / "out"
    words = ("--rates", "0.3", "--kinds", "symmetric", "--methods", "untreated,peer_review")
    bench(data, out, *words, "--seeds", "1")
    first = json.loads((out / "noise.json").read_text())["runs"]
    assert bench(data, out, *words, "--seeds", "2").exit_code == 0
    second = json.loads((out / "noise.json").read_text())["runs"]
    assert second[:2] == first and len(second) == 4  # CPU seconds and all
    pairs(data, 120)
    bench(data, out, *words, "--seeds", "1")
    assert json.loads((out / "noise.json").read_text())["runs"] != first


def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(tmp_path: Path) -> None:
    data, out = pairs(tmp_path / "pairs.jsonl", 400, 80), tmp_path / "out"
    command = [sys.executable, "-m", "curate.cli.main", "bench", "noise", str(data), "--seeds", "40", "--out", str(out)]
    command += ["--methods", "untreated,peer_review", "--rates", "0.1,0.3"]
    heeded = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # even where these tests run in the background of a shell
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heeded) as process:
        assert process.stderr is not None
        while not re.match(r"\d+ of 320 runs", process.stderr.readline()):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert re.search(r"^stopped after \d+ of 320 runs; the same command goes on from there$", said, re.MULTILINE)
    body = json.loads((out / "noise.json").read_text())
    assert not body["complete"] and 0 < len(body["runs"]) < 320 and "Stopped early" in (out / "noise.html").read_text()


def test_a_version_is_a_subject_as_well(tmp_path: Path) -> None:
    data = pairs(tmp_path / "pairs.jsonl")
    (tmp_path / "r.yaml").write_text(
        "name: d\nsource: {path: pairs.jsonl, rows: pairs, columns: {prompt: prompt, chosen: chosen, "
        "rejected: rejected}}\nsteps: []\n"
    )
    store = tmp_path / "store"
    assert CliRunner().invoke(app, ["run", str(tmp_path / "r.yaml"), "--store", str(store)]).exit_code == 0
    words = ("--rates", "0.3", "--kinds", "gap", "--methods", "untreated,label_em", "--seeds", "1")
    bench(store / "datasets" / "d" / "v0001", tmp_path / "a", *words)
    bench(data, tmp_path / "b", *words)
    first, second = (json.loads((tmp_path / name / "noise.json").read_text()) for name in "ab")
    assert first["data"] == "v0001" and [body["pairs"] for body in (first, second)] == [100, 100]
    assert first["prompts"] == second["prompts"] == 25


def test_a_large_file_is_drawn_from_by_whole_prompts(tmp_path: Path) -> None:
    told = bench(
        pairs(tmp_path / "pairs.jsonl"), tmp_path / "out", "--limit", "40", *QUICK[:6], "--methods", "untreated,label_em"
    )
    body = json.loads((tmp_path / "out" / "noise.json").read_text())
    assert (body["pairs"], body["prompts"], body["pairs_left_out"]) == (40, 10, 60)  # four pairs to a prompt
    assert "40 of 100 pairs, drawn by whole prompts; --limit 0 takes all" in told.stderr


def test_a_library_that_is_not_here_is_told_in_a_line_and_in_both_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise_baselines, "find_spec", lambda name: None)
    told = bench(pairs(tmp_path / "pairs.jsonl"), tmp_path / "out", "--rates", "0.3", "--kinds", "gap", "--seeds", "1")
    line = "cleanlab is not installed: pip install 'curate[noise]' adds its row"
    body = json.loads((tmp_path / "out" / "noise.json").read_text())
    assert told.exit_code == 0 and line in told.stderr and body["methods_left_out"] == [line]
    assert body["asked"]["methods"] == [method for method in noise_baselines.METHODS if method != "cleanlab"]
    assert "cleanlab is not installed" in (tmp_path / "out" / "noise.html").read_text()
    asked = bench(tmp_path / "pairs.jsonl", tmp_path / "out", "--methods", "cleanlab,oracle")
    assert isinstance(asked.exception, UsageError) and line in str(asked.exception)


def test_a_quick_look_takes_less_of_all_that_is_not_asked_for(tmp_path: Path) -> None:
    data = pairs(tmp_path / "pairs.jsonl")
    assert bench(data, tmp_path / "out", "--quick", "--seeds", "1", "--limit", "40").exit_code == 0
    body = json.loads((tmp_path / "out" / "noise.json").read_text())
    methods = ["untreated", "confident_learning", "trimmed", "label_em", "peer_review", "peer_review_apart", "oracle"]
    assert body["asked"] == {"kinds": ["symmetric"], "rates": [0.0, 0.3], "methods": methods, "seeds": 1}
    assert body["pairs"] == 40


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--methods", "magic"), "magic"),
        (("--kinds", "rude"), "rude"),
        (("--rates", "0.1,lots"), "numbers with commas between"),
        (("--rates", "0.7"), "shares from 0 to 0.5"),
    ],
)
def test_wrong_use_is_said_before_anything_is_read(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    told = bench(tmp_path / "missing.jsonl", tmp_path / "out", *words)
    assert told.exit_code != 0 and said in str(told.exception) and isinstance(told.exception, CurateError)


def test_answers_are_no_pairs(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "a", "response": "b", "score": 3}\n' * 3)
    told = bench(tmp_path / "a.jsonl", tmp_path / "out")
    assert told.exit_code == 1 and "its rows are responses; flips are planted in pairs" in str(told.exception)
