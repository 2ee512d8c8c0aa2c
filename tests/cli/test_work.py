"""What a user does, one command after the other: run, preview, tag, look, verify, free, and go on after a crash."""

import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Curate, start, write_project


def test_a_run_says_what_came_out_and_what_to_do_next(curate: Curate, tmp_path: Path) -> None:
    recipe, store = write_project(tmp_path), tmp_path / "a store"
    told = curate("run", recipe, "--store", store)
    assert told.code == 0
    assert re.match(r"published colours@v1: train \d+, test \d+ pairs, in ", told.out)
    assert f"\n    curate show colours@v1 --store '{store}'\n    curate report colours@v1 --store '{store}'\n" in told.out
    assert [line.split(" ")[0] for line in told.err.splitlines()] == [
        *("source", "exact_duplicate", "features", "pair", "margin", "split"),
        "publish:",
    ]
    again = curate("run", recipe, "--store", store)
    assert again.out.startswith("nothing published: colours@v1 already holds exactly this content (train ")
    assert again.err.count("done before") == 6


def test_the_store_comes_from_the_option_then_the_environment_then_here(
    curate: Curate, read_only: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "no versions yet" in curate("versions").out
    shutil.copytree(read_only, tmp_path / "data" / "store")
    assert "colours@v1" in curate("versions").out
    monkeypatch.setenv("CURATE_STORE", str(tmp_path / "empty"))
    assert "no versions yet" in curate("versions").out
    assert "colours@v1" in curate("versions", "--store", read_only).out


def test_a_limit_makes_a_preview_and_no_version(curate: Curate, tmp_path: Path) -> None:
    recipe, store = write_project(tmp_path), tmp_path / "store"
    told = curate("run", recipe, "--limit", "6", "--store", store)
    assert told.code == 0
    assert told.out.startswith("made colours@preview, which is no version and is replaced by the next preview: ")
    assert "no versions yet" in curate("versions", "--store", store).out
    shown = json.loads(curate("show", "colours@preview", "--json", "--store", store).out)
    assert shown["version"] == "colours@preview" and 0 < shown["total"] < 10
    assert curate("show", "colours", "--store", store).err == (
        "error: 'colours' has no version yet; `curate run` publishes one\n"
    )
    assert curate("run", recipe, "--store", store).out.startswith("published colours@v1: ")


def test_a_tag_is_set_used_moved_and_removed(curate: Curate, store: Path) -> None:
    assert curate("tag", "colours@v1", "good", "--store", store).out == "colours@good is colours@v1\n"
    assert curate("show", "colours@good", "--store", store).out.rstrip().endswith("in colours@v1 pairs")
    assert re.search(r"colours@v1 .* good$", curate("versions", "--store", store).out, re.MULTILINE)
    curate("tag", "colours@v2", "good", "--store", store)
    assert curate("show", "colours@good", "--store", store).out.rstrip().endswith("in colours@v2 pairs")
    assert curate("tag", "colours", "good", "--delete", "--store", store).out == "removed tag good of colours\n"
    assert curate("show", "colours@good", "--store", store).code == 2


def test_verify_and_gc_find_nothing_wrong_with_a_fresh_store(curate: Curate, store: Path) -> None:
    assert curate("verify", "--store", store) == (0, "2 versions checked, no problems\n", "")
    assert curate("verify", "colours@v1", "--store", store).out == "1 version checked, no problems\n"
    assert curate("gc", "--dry-run", "--keep-days", "0", "--store", store).out.startswith("would free ")


def test_gc_frees_what_it_announced_and_nothing_that_is_used(curate: Curate, store: Path) -> None:
    stray = store / "objects" / "00" / ("0" * 64 + ".arrow")
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"x" * 2_000_000)
    before = curate("gc", "--dry-run", "--keep-days", "0", "--json", "--store", store).out
    announced = json.loads(before)
    assert announced["files"] >= 1 and announced["bytes"] >= 2_000_000 and announced["freed"] is False
    assert stray.exists()
    freed = json.loads(curate("gc", "--keep-days", "0", "--json", "--store", store).out)
    assert freed == announced | {"freed": True}
    assert not stray.exists()
    assert curate("verify", "--store", store).code == 0
    assert curate("run", store.parent / "curate.yaml", "--set", "margin.min=3", "--store", store).err.count("done before") == 6


def test_another_threshold_tells_what_a_run_with_it_gives(curate: Curate, store: Path) -> None:
    told = curate("show", "colours@v1", "--rethreshold", "margin=3", "--store", store)
    then = re.search(r"colours@v1 would keep (\d+) of its (\d+) pairs", told.out)
    assert then
    rows = {v["version"]: sum(v["splits"].values()) for v in json.loads(curate("versions", "--json", "--store", store).out)}
    assert (int(then[2]), int(then[1])) == (rows["colours@v1"], rows["colours@v2"])


def test_a_report_is_written_under_the_versions_name(
    curate: Curate, read_only: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert curate("report", "colours@v1", "--store", read_only).out == "wrote colours-v1.html\n"
    assert "<html" in (tmp_path / "colours-v1.html").read_text()


def test_the_demo_only_replaces_what_a_demo_made(curate: Curate, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    told = curate("demo", tmp_path / "mine")
    assert told.code == 2 and "no demo made it; name another folder" in told.err
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep"


@pytest.mark.slow
def test_the_demo_plays_from_start_to_end_and_again(curate: Curate, tmp_path: Path) -> None:
    for _ in range(2):
        told = curate("demo", tmp_path / "demo")
        assert told.code == 0, told.err
    verbs = re.findall(r"^\$ curate ([a-z]+)", told.out, re.MULTILINE)
    assert verbs == ["run", "show", "show", "why", "export", "run", "diff", "run", "why", *["run"] * 5, "report"]
    assert "no real model is called" in " ".join(told.out.split())
    assert (tmp_path / "demo" / "report.html").exists()
    judged = re.search(r"of (\d+) pairs .* (\d+) prefer the truly worse .* dropped (\d+) of those", " ".join(told.out.split()))
    assert judged and int(judged[1]) > int(judged[2]) > int(judged[3]) > 0


def wait_for(store: Path, seconds: float = 60) -> None:
    """Until a run has put its record into the store."""
    end = time.monotonic() + seconds
    while not list(store.glob("runs/*/run.json")):
        assert time.monotonic() < end, "no run began"
        time.sleep(0.01)


@pytest.mark.slow
def test_a_killed_run_is_shown_as_crashed_and_the_same_command_goes_on(curate: Curate, tmp_path: Path) -> None:
    recipe, store = write_project(tmp_path, prompts=2_000), tmp_path / "store"
    killed = start("run", recipe, "--store", store, start_new_session=True)
    wait_for(store)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert re.search(r"colours +crashed", curate("runs", "--store", store).out)
    assert curate("run", recipe, "--store", store).out.startswith("published colours@v1: ")
    newest, oldest = json.loads(curate("runs", "--json", "--store", store).out)
    assert (newest["state"], newest["version"], oldest["state"]) == ("done", "colours@v1", "crashed")


@pytest.mark.slow
def test_ctrl_c_is_130(tmp_path: Path, curate: Curate) -> None:
    recipe, store = write_project(tmp_path, prompts=2_000), tmp_path / "store"
    stopped = start("run", recipe, "--store", store, start_new_session=True)
    wait_for(store)
    os.killpg(stopped.pid, signal.SIGINT)
    _, said = stopped.communicate(timeout=60)
    assert stopped.returncode == 130
    assert "run the same command again to continue" in said and "Traceback" not in said
    assert re.search(r"colours +interrupted", curate("runs", "--store", store).out)


def test_a_failed_run_says_why_in_the_list_of_runs(curate: Curate, tmp_path: Path) -> None:
    recipe, store = write_project(tmp_path), tmp_path / "store"
    (tmp_path / "answers.jsonl").write_text("not JSON\n")
    error = curate("run", recipe, "--store", store).err.removeprefix("error: ").strip()
    assert "1 of 1" in error
    (record,) = json.loads(curate("runs", "--json", "--store", store).out)
    assert record["state"] == "failed" and record["error"] == error
    assert "colours  failed" in curate("runs", "--store", store).out
