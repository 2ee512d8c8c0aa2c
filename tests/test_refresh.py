"""Refreshes: only what is new is taken, what is known stays as it was, and unchanged input publishes nothing."""

import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from curate.errors import RecipeError, UsageError
from curate.ids import prompt_id
from curate.planning import outlook
from curate.recipe import read_recipe
from curate.refresh import Refresh, mappings_of, merged
from curate.run import Done, Run, Silence
from curate.source.partition import partition
from curate.source.reader import identified, table_of
from curate.store import gc
from curate.store.store import Shard, Snapshot, Store
from curate.store.versions import Version, Versions, damage, read_version
from tests.models.server import ModelServer, spawned

Row = dict[str, Any]
STEPS = """
  - generate: {model: m, n: 2, seed: 7}
  - judge: {model: m, rubric: helpfulness, rationale: false}
  - pair: {by: m, how: best_worst}
"""
CANDIDATES = "rows: candidates, columns: {prompt: prompt, response: response, model: model}, scores: {rm: rm}"


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several shards of a few prompts."""
    monkeypatch.setenv("CURATE_SHARD_MB", "0.001")


@pytest.fixture(scope="module")
def one_server() -> Iterator[ModelServer]:
    with spawned() as server:
        yield server


class Told(Silence):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def said(self, text: str) -> None:
        self.lines.append(text)


class Project:
    """A folder with rows, a recipe and a store."""

    def __init__(self, folder: Path, mapping: str, steps: str = " []", models: str = "", refresh: str = "append") -> None:
        self.folder, self.store = folder, Store(folder / "store")
        self.recipe = folder / "recipe.yaml"
        self.said: list[str] = []
        self.recipe.write_text(
            f"name: d\n{models}source: {{path: rows.jsonl, {mapping}}}\nrefresh: {refresh}\nsteps:{steps}\n", encoding="utf-8"
        )

    def rows(self, rows: list[Row]) -> None:
        (self.folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def run(self, rows: list[Row] | None = None, *overrides: str, refresh: str | None = None) -> Done:
        if rows is not None:
            self.rows(rows)
        told = Told()
        policy = None if refresh is None else Refresh.parse(refresh)
        done = Run(read_recipe(self.recipe, overrides=overrides), self.store, watch=told, refresh=policy)()
        self.said = told.lines
        assert damage(done.version) == []
        for step in done.version.manifest["steps"]:
            assert step["kept"] + sum(step["dropped"].values()) == step["rows_in"]
        return done

    def source(self, version: Version | None = None) -> Snapshot:
        found = version or Versions(self.store.root).latest("d")
        assert found is not None
        return self.store.snapshot(found.manifest["steps"][0]["snapshot"])

    def held(self) -> list[str]:
        """The prompts of the latest version's source by number of the row, in that order."""
        rows = [row for table in self.store.read(self.source(), ["row", "prompt"]) for row in table.to_pylist()]
        return [row["prompt"][0]["content"] for row in sorted(rows, key=lambda row: row["row"])]


def asked(*numbers: int) -> list[Row]:
    return [{"prompt": f"Question {number}: what is behind door {number}?"} for number in numbers]


def texts(*numbers: int) -> list[str]:
    return [row["prompt"] for row in asked(*numbers)]


def answers(numbers: range, each: int = 2) -> list[Row]:
    return [
        {"prompt": f"q{number}", "response": f"answer {n} to {number}", "model": "m", "rm": n}
        for number in numbers
        for n in range(each)
    ]


@pytest.fixture
def prompts(tmp_path: Path) -> Project:
    """A project of prompts without steps."""
    return Project(tmp_path, "rows: prompts, columns: {prompt: prompt}")


@pytest.fixture
def candidates(tmp_path: Path) -> Project:
    """A project of candidates that are paired."""
    return Project(tmp_path, CANDIDATES, "\n  - exact_duplicate\n  - pair: {by: rm, how: best_worst}")


# -- with models


def calls(server: ModelServer) -> list[str]:
    """What was asked since the last time."""
    bodies = [entry["body"] for entry in server.log()["requests"]]
    server.reset()
    server.plan(record=True)
    return bodies


def test_only_new_prompts_are_asked_and_the_union_is_published(tmp_path: Path, one_server: ModelServer) -> None:
    calls(one_server)
    models = f"models:\n  m: {{backend: openai, name: m, base_url: '{one_server.base_url}'}}\n"
    project = Project(tmp_path, "rows: prompts, columns: {prompt: prompt}", STEPS, models)
    first = project.run(asked(*range(30)))
    assert first.published and len(calls(one_server)) == 30 * 4  # two answers, each judged
    old = project.source().shards
    assert len(old) >= 3

    again = project.run(asked(*range(30)))
    assert not again.published and again.version == first.version and calls(one_server) == []
    assert project.said[0] == "nothing new, 30 known: append"
    assert again.stages[0].key == first.version.manifest["steps"][0]["key"]  # so that publishing sees at once that all is equal

    added = project.run(asked(*range(25, 40)))  # five known ones, ten new; 25 are gone from the file
    bodies = calls(one_server)
    assert str(added.version) == "d@v2" and len(bodies) == 10 * 4
    assert all(sum(f"Question {number}:" in body for body in bodies) == 4 for number in range(30, 40))
    assert project.said[0] == "10 new prompts, 30 known: append"
    assert project.source().shards[: len(old)] == old
    assert project.held() == texts(*range(40))

    changed = project.run(None, "pair.min_gap=100")
    assert str(changed.version) == "d@v3" and calls(one_server) == []
    assert changed.version.manifest["steps"][0]["rows_in"] == 40


def test_a_recipe_that_asks_otherwise_takes_known_answers_from_the_ledger(tmp_path: Path, one_server: ModelServer) -> None:
    calls(one_server)
    models = f"models:\n  m: {{backend: openai, name: m, base_url: '{one_server.base_url}'}}\n"
    project = Project(tmp_path, "rows: prompts, columns: {prompt: prompt}", "\n  - generate: {model: m, n: 1, seed: 7}", models)
    project.run(asked(*range(6)))
    project.run(asked(*range(4, 8)))
    assert len(calls(one_server)) == 8
    assert str(project.run(None, "generate.n=2").version) == "d@v3"
    assert len(calls(one_server)) == 8  # the second answer of each of the eight


def test_fake_models_give_the_union_the_answers_of_one_run_over_all(tmp_path: Path) -> None:
    def pairs(folder: Path, *reads: range) -> list[Row]:
        folder.mkdir()
        models = "models:\n  m: {backend: fake, name: m}\n"
        project = Project(folder, "rows: prompts, columns: {prompt: prompt}", STEPS, models)
        done = [project.run(asked(*numbers)) for numbers in reads][-1]
        found = [row for table in read_version(done.version, "pairs") for row in table.to_pylist()]
        return sorted(({**row, "row": None} for row in found), key=lambda row: str(row["pair_id"]))

    assert pairs(tmp_path / "parts", range(12), range(12, 20)) == pairs(tmp_path / "whole", range(20))


# -- policies


def test_removed_prompts_stay_under_append_and_go_under_replace(prompts: Project) -> None:
    prompts.run(asked(1, 2, 3))
    assert not prompts.run(asked(3)).published
    prompts.run(asked(3, 4))
    assert prompts.held() == texts(1, 2, 3, 4)
    assert sorted(row for t in prompts.store.read(prompts.source(), ["row"]) for row in t["row"].to_pylist()) == [0, 1, 2, 3]
    prompts.run(None, refresh="replace")
    assert prompts.held() == texts(3, 4)


def test_a_prompt_that_was_dropped_is_known(tmp_path: Path) -> None:
    project = Project(tmp_path, CANDIDATES, "\n  - pair: {by: rm, how: best_worst, min_gap: 5}")
    project.run(answers(range(5)))
    assert not project.run(answers(range(5))[::-1]).published
    assert project.said[0] == "nothing new, 5 known: append"


def test_a_window_of_prompts_drops_the_oldest_and_does_not_take_them_again(prompts: Project) -> None:
    assert prompts.run(asked(*range(12)), refresh="window:10").published
    assert prompts.held() == texts(*range(2, 12))
    assert not prompts.run(None, refresh="window:10").published
    prompts.run(asked(*range(13)), refresh="window:10")
    assert prompts.held() == texts(*range(3, 13))
    assert prompts.said[0] == "1 new prompt, 10 known; 1 prompt left the window: window:10"
    assert not prompts.run(asked(*range(13)), refresh="window:10").published
    assert not prompts.run(asked(*range(12)), refresh="window:10").published


def test_shards_inside_a_window_are_left_as_they_are(prompts: Project) -> None:
    prompts.run(asked(*range(20)), refresh="window:5v")
    first = prompts.source().shards
    prompts.run(asked(*range(25)), refresh="window:5v")
    assert prompts.source().shards[: len(first)] == first


def test_a_window_of_increments_keeps_the_last_ones(prompts: Project) -> None:
    for end in (3, 5, 6):
        prompts.run(asked(*range(end)), refresh="window:2v")
    assert prompts.held() == texts(3, 4, 5)
    assert not prompts.run(None, refresh="window:2v").published
    prompts.run(None, refresh="window:1v")
    assert prompts.held() == texts(5)


def test_a_window_of_days_goes_by_the_first_version_that_holds_an_increment(prompts: Project) -> None:
    prompts.run(asked(1, 2))
    prompts.run(None, "source.max_rejects=5")
    prompts.run(asked(3))
    prompts.run(asked(4))
    for number, days in ((1, 40), (2, 20), (3, 2)):
        _date(Versions(prompts.store.root).version("d", number), days)
    assert not prompts.run(None, refresh="window:50d").published
    prompts.run(None, refresh="window:30d")
    assert prompts.held() == texts(3, 4)
    assert not prompts.run(None, refresh="window:30d").published


def test_a_window_of_days_keeps_the_newest_increment_however_old(prompts: Project) -> None:
    prompts.run(asked(1))
    _date(prompts.run(asked(2)).version, 90)
    _date(Versions(prompts.store.root).version("d", 1), 100)
    prompts.run(None, refresh="window:30d")
    assert prompts.held() == texts(2)


def _date(version: Version, days: float) -> None:
    from datetime import UTC, datetime

    path = version.path / "run.json"
    about = json.loads(path.read_text())
    about["started"] = datetime.fromtimestamp(time.time() - days * 86_400, UTC).isoformat(timespec="seconds")
    path.write_text(json.dumps(about))


def test_a_prompt_back_from_outside_the_window_has_all_its_rows(tmp_path: Path) -> None:
    project = Project(tmp_path, CANDIDATES, refresh="window:2")
    project.run(answers(range(3)))
    assert project.held() == ["q1", "q1", "q2", "q2"]
    project.run([*answers(range(3)), {"prompt": "q0", "response": "late", "model": "m", "rm": 9}])
    assert project.held() == ["q2", "q2", "q0", "q0", "q0"]
    project.run([*answers(range(3)), *answers(range(1))])
    assert project.held() == ["q2", "q2", *["q0"] * 5]


def test_append_takes_back_what_a_window_left_out(prompts: Project) -> None:
    prompts.run(asked(*range(5)), refresh="window:3")
    prompts.run(None, refresh="append")
    assert sorted(prompts.held()) == texts(*range(5))


# -- rows of known prompts


def test_a_known_prompt_with_a_new_answer_moves_with_all_its_rows(candidates: Project) -> None:
    candidates.run(answers(range(20)))
    old = candidates.source().shards
    done = candidates.run([*answers(range(20)), {"prompt": "q7", "response": "better", "model": "m", "rm": 9}])
    assert candidates.said[0] == "1 known prompt with new rows, 20 known: append"
    now = candidates.source().shards
    assert sum(shard not in now for shard in old) == 1 and candidates.source().rows == 41
    ends = [_prompts(candidates.store, shard) for shard in now]
    assert sum("q7" in prompts for prompts in ends) == 1 and ends[-1] == ["q7"] * 3
    (pair,) = [row for table in read_version(done.version, "pairs") for row in table.to_pylist() if _asks(row, "q7")]
    assert pair["chosen"][-1]["content"] == "better"


def _asks(row: Row, text: str) -> bool:
    return bool(row["prompt"][0]["content"] == text)


def _prompts(store: Store, shard: Shard) -> list[str]:
    return [prompt[0]["content"] for prompt in store.read_shard(shard, "responses", ["prompt"])["prompt"].to_pylist()]


def test_a_corrected_score_is_a_new_row_and_a_moved_row_is_not(candidates: Project) -> None:
    rows = answers(range(4))
    candidates.run(rows)
    assert not candidates.run(rows[::-1]).published
    candidates.run([*rows[:-1], {**rows[-1], "rm": 8}])
    assert candidates.source().rows == 9


def test_rows_repeat_as_often_as_the_source_repeats_them(tmp_path: Path) -> None:
    project = Project(tmp_path, CANDIDATES)
    row = answers(range(1), 1)[0]
    project.run([row])
    project.run([row, row])
    assert project.source().rows == 2
    assert not project.run([row, row]).published


def test_a_renamed_file_brings_nothing_new(prompts: Project) -> None:
    prompts.run(asked(1, 2))
    (prompts.folder / "rows.jsonl").rename(prompts.folder / "renamed.jsonl")
    assert not prompts.run(None, "source.path=renamed.jsonl").published


# -- when nothing can be added


def test_another_mapping_takes_the_whole_source_and_says_why(candidates: Project) -> None:
    candidates.run(answers(range(4)))
    candidates.run(answers(range(2, 5)), "source.scores={rm2: rm}", "pair.by=rm2")
    assert candidates.said[0] == "the whole source is taken, because the rows of d@v1 were mapped in another way: append"
    assert set(candidates.held()) == {"q2", "q3", "q4"}


def test_a_part_taken_from_the_source_leaves_the_others_mapped_as_they_were(tmp_path: Path) -> None:
    (tmp_path / "more.jsonl").write_text('{"q": "Another?"}\n')
    project = Project(tmp_path, "rows: prompts, columns: {prompt: prompt}")
    text = project.recipe.read_text()
    both = (
        "[{path: rows.jsonl, rows: prompts, columns: {prompt: prompt}}, {path: more.jsonl, rows: prompts, columns: {prompt: q}}]"
    )
    project.recipe.write_text(text.replace("{path: rows.jsonl, rows: prompts, columns: {prompt: prompt}}", both))
    project.run(asked(1))
    project.recipe.write_text(text)
    project.run(asked(2))
    project.recipe.write_text(text.replace("rows.jsonl", "more.jsonl").replace("prompt: prompt", "prompt: q"))
    assert not project.run(asked(2)).published
    assert project.held() == [*texts(1), "Another?", *texts(2)]


def test_rejects_are_those_of_the_latest_read(prompts: Project) -> None:
    prompts.run(asked(1))
    done = prompts.run([*asked(1, 2), {"wrong": 1}], "source.max_rejects=1")
    assert done.version.manifest["rejects"]["rejected"] == 1
    assert "wrong" in (done.version.path / "rejects.jsonl").read_text()


def test_another_shard_size_is_no_other_mapping(prompts: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts.run(asked(1, 2))
    monkeypatch.setenv("CURATE_SHARD_MB", "1")
    prompts.run(asked(3))
    assert prompts.held() == texts(1, 2, 3)


def test_a_source_that_is_gone_is_read_whole(prompts: Project) -> None:
    prompts.run(asked(1, 2))
    for name in prompts.source().objects():
        prompts.store.object_path(name).unlink()
    prompts.run(asked(2, 3))
    assert "no longer whole" in prompts.said[0] and prompts.held() == texts(2, 3)


def test_gc_keeps_the_source_of_the_latest_version(prompts: Project) -> None:
    prompts.run(asked(1, 2, 3))
    prompts.run(asked(1, 2, 3, 4), refresh="window:2")
    for path in prompts.store.root.rglob("*"):
        os.utime(path, (time.time() - 3 * gc.SCRATCH_SECONDS,) * 2)
    garbage = gc.find(prompts.store, unused_for=60.0)
    gc.free(prompts.store, garbage)
    assert any("snapshots" in path.parts for path in garbage.files)  # that of the first version
    assert not list((prompts.store.root / "steps").iterdir())
    prompts.run(asked(1, 2, 3, 4, 5), refresh="window:3")
    assert prompts.held() == texts(3, 4, 5)


def test_an_empty_source_can_be_added_to(prompts: Project) -> None:
    prompts.run([])
    assert not prompts.run([]).published
    prompts.run(asked(1))
    prompts.run([])
    assert prompts.held() == texts(1)
    assert not prompts.run([], refresh="window:3").published


def test_the_plan_knows_what_was_worked_out(prompts: Project) -> None:
    prompts.run(asked(1, 2, 3))
    prompts.run(asked(4))
    (source,) = outlook(read_recipe(prompts.recipe), prompts.store.root)
    assert source.done and source.rows == 4
    assert source.parameters == {"refresh": "append"}


# -- what may be written


@pytest.mark.parametrize(
    ("written", "refresh"),
    [
        ("replace", Refresh()),
        ("append", Refresh("append")),
        ("window:1000", Refresh("window", prompts=1000)),
        ("window:0.5d", Refresh("window", days=0.5)),
        ("window:5v", Refresh("window", versions=5)),
        ({"policy": "window", "days": 30}, Refresh("window", days=30)),
        ({"policy": "append"}, Refresh("append")),
    ],
)
def test_a_refresh_is_text_or_a_mapping(written: Any, refresh: Refresh) -> None:
    assert Refresh.parse(written) == refresh == Refresh.parse(str(refresh))


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("apend", "should be one of replace, append, window:1000"),
        ("window", "should be one of"),
        ("window:0", "prompts: should be above 0, got 0"),
        ("window:1.5v", "versions: should be a whole number, got 1.5"),
        ({"policy": "window"}, "a window needs one of prompts, versions and days, got none"),
        ({"policy": "window", "days": 1, "prompts": 2}, "got prompts and days"),
        ({"policy": "append", "days": 1}, "days: only for the window policy"),
        ({"policy": "windo", "days": 1}, "no policy is called 'windo'"),
        ({"policy": "window", "day": 1}, "has no day; it has policy, prompts, versions and days"),
        ({"policy": "window", "days": "x"}, "days: should be a number, got 'x'"),
        ({"policy": "window", "prompts": True}, "prompts: should be a whole number, got True"),
        ({}, "policy: should be one of"),
        (7, "got 7"),
    ],
)
def test_what_is_no_refresh_says_so(written: Any, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        Refresh.parse(written)


def test_a_recipe_tells_the_line_of_a_wrong_refresh(prompts: Project) -> None:
    prompts.rows(asked(1))
    prompts.recipe.write_text(prompts.recipe.read_text().replace("append", "apend"))
    with pytest.raises(RecipeError, match=r"recipe.yaml:3: refresh: should be one of .* got 'apend'"):
        read_recipe(prompts.recipe)
    assert read_recipe(prompts.recipe, overrides=["refresh={policy: window, prompts: 3}"]).refresh == Refresh("window", prompts=3)


# -- against an obvious version


Said = tuple[int, int, int]
"""A row: its prompt, its answer, its score."""


def obvious(known: list[Said], gone: list[Said], come: list[Said], window: int | None) -> list[Said]:
    """Rows in the order of their ordinals after a refresh, one row at a time."""
    count = Counter(known + gone)
    new = []
    for said in come:
        count[said] -= 1
        if count[said] < 0:
            new.append(said)
    held, outside = {said[0] for said in known}, {said[0] for said in gone}
    back = {said[0] for said in new} & outside - held
    order = known + [said for place, said in enumerate(come) if said[0] in back or _is_new(come, place, known + gone)]
    if window is None:
        return order
    newest = list(dict.fromkeys(said[0] for said in reversed(order)))[:window]
    return [said for said in order if said[0] in newest]


def _is_new(come: list[Said], place: int, seen: list[Said]) -> bool:
    return come[: place + 1].count(come[place]) > seen.count(come[place])


def snapshot(store: Store, rows: list[Said]) -> Snapshot:
    """As a fresh read makes it."""
    made = []
    for number, (prompt, answer, score) in enumerate(rows):
        message = [{"role": "user", "content": f"p{prompt}"}]
        scores = [{"rater": "rm", "aspect": "s", "value": float(score)}]
        row = {"row": number, "prompt": message, "response": f"a{answer}", "turns": None, "scores": scores}
        made.append(identified(row, "responses"))
    shards = tuple(store.put_shard(table) for table in partition([table_of(made, "responses")], store.scratch, 150))
    extra = {"rejects": {}, "objects": [], "mappings": mappings_of({"reader": 1, "sources": [{"settings": {}}]})}
    return Snapshot("responses", shards, None, extra)


def content(store: Store, found: Snapshot) -> list[tuple[int, Said]]:
    """(ordinal, what the row says), by ordinal."""
    number = {prompt_id([{"role": "user", "content": f"p{p}"}]): p for p in range(9)}
    rows = [row for table in store.read(found) for row in table.to_pylist()]
    said = [(r["row"], (number[r["prompt_id"]], int(r["response"][1:]), int(r["scores"][0]["value"]))) for r in rows]
    return sorted(said)


ROWS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=12)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(reads=st.lists(ROWS, min_size=2, max_size=4), window=st.one_of(st.none(), st.integers(1, 5)))
@example(reads=[[(1, 0, 0), (0, 0, 0)], [(0, 0, 0), (1, 0, 1), (0, 0, 0)], [(1, 0, 0)]], window=1)
def test_merged_agrees_with_an_obvious_version(tmp_path: Path, reads: list[list[Said]], window: int | None) -> None:
    store = Store(tmp_path)
    refresh = Refresh("append") if window is None else Refresh("window", prompts=window)
    held = merged(store, None, snapshot(store, reads[0]), refresh, 150).snapshot
    expected = obvious([], [], reads[0], window)
    gone = [said for said in reads[0] if window is not None and said[0] not in {prompt for prompt, _, _ in expected}]
    for come in reads[1:]:
        fresh = snapshot(store, come)
        after = merged(store, held, fresh, refresh, 150).snapshot
        assert merged(store, held, fresh, refresh, 150).snapshot.id == after.id
        before, everything = expected, obvious(expected, gone, come, None)
        expected = obvious(expected, gone, come, window)
        found = content(store, after)
        assert [said for _, said in found] == expected
        ordinals = [ordinal for ordinal, _ in found]
        assert len(set(ordinals)) == len(ordinals)
        prompts = [set(store.read_shard(shard, "responses", ["prompt_id"])["prompt_id"].to_pylist()) for shard in after.shards]
        assert sum(map(len, prompts)) == len(set().union(*prompts))  # no prompt is split
        untouched = [shard for shard in held.shards if shard in after.shards]
        grown = {said[0] for said in everything[len(before) :]}
        left = {said[0] for said in everything} - {said[0] for said in expected}
        for shard in held.shards:
            inside = {said[0] for _, said in content(store, Snapshot("responses", (shard,)))}
            assert (shard in untouched) or inside & (grown | left)
        if Counter(before) == Counter(expected):
            assert after.id == held.id
        else:
            kept = {said[0] for said in expected}
            fresh_prompts = {said[0] for said in come}
            gone = [s for s in gone + everything if s[0] not in kept and s[0] in fresh_prompts and window is not None]
        held = after
