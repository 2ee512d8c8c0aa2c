"""Whole runs against a model server that fails, from the command line: what was paid for is kept, whatever happens."""

import base64
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from curate.models.ledger_care import export
from curate.store.versions import Version, Versions, data_files
from tests.models.server import ModelServer, spawned

ROOT = Path(__file__).parent.parent
KILLS = int(os.environ.get("CURATE_KILLS", "5"))
PROMPTS = 60
CHAIN = """  - judge: {model: m, rubric: helpfulness, rationale: false}
  - pair: {by: judged, how: best_worst}
  - margin: {min: 1}
""".replace("judged", "m")
Entry = Mapping[str, Any]


@pytest.fixture(scope="module")
def one_server() -> Iterator[ModelServer]:
    """A server in a process of its own."""
    with spawned() as server:
        yield server


@pytest.fixture
def server(one_server: ModelServer) -> ModelServer:
    """The server, its plan and log empty."""
    one_server.reset()
    return one_server


STARTED: "list[subprocess.Popen[str]]" = []


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """A test that failed leaves no run behind."""
    yield
    for process in STARTED:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    STARTED.clear()


class Project:
    """A folder with prompts, a recipe and a store, and the commands that somebody types there."""

    def __init__(
        self, folder: Path, base_url: str, *, generate: str = "", steps: str = "", options: str = "", more: str = ""
    ) -> None:
        self.folder, self.store = folder, folder / "store"
        self.environment = os.environ | {"CURATE_SHARD_MB": "0.004", "PYTHONWARNINGS": "ignore"}
        self.said: list[str] = []
        """All that was ever printed."""
        with (folder / "prompts.jsonl").open("w", encoding="utf-8") as out:
            for number in range(PROMPTS):
                out.write(json.dumps({"prompt": f"Question {number}: what is behind door {number}?"}) + "\n")
        self.recipe = folder / "recipe.yaml"
        self.recipe.write_text(
            "name: asked\n"
            "models:\n"
            f"  m: {{backend: openai, name: m, base_url: '{base_url}', options: {{timeout_s: 10{options}}}{more}}}\n"
            "source: {path: prompts.jsonl, rows: prompts, columns: {prompt: prompt}}\n"
            "steps:\n"
            f"  - generate: {{model: m, seed: 7{generate}}}\n"
            f"{steps}",
            encoding="utf-8",
        )

    def line(self, *words: object) -> list[str]:
        return [sys.executable, "-m", "curate.cli.main", *map(str, words)]

    def curate(self, *words: object, code: int = 0) -> str:
        """What a command prints; it must end with this code."""
        told = subprocess.run(self.line(*words), cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=120)
        self.said.append(told.stdout + told.stderr)
        assert told.returncode == code, self.said[-1]
        assert "Traceback" not in self.said[-1]
        return self.said[-1]

    def run(self, *words: object, code: int = 0) -> str:
        """What `curate run` prints."""
        return self.curate("run", self.recipe, "--store", self.store, *words, code=code)

    def start(self, *words: object) -> "subprocess.Popen[str]":
        """`curate run` in a process group of its own."""
        line = self.line("run", self.recipe, "--store", self.store, *words)
        pipe = subprocess.PIPE
        STARTED.append(
            subprocess.Popen(line, cwd=ROOT, env=self.environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True)
        )
        return STARTED[-1]

    def end(self, process: "subprocess.Popen[str]", how: signal.Signals) -> int:
        """Send a signal to the whole group, wait, and return the exit code."""
        if process.poll() is None:
            os.killpg(process.pid, how)
        told = process.communicate(timeout=60)
        STARTED.remove(process)
        self.said.append("".join(told))
        return process.returncode

    def version(self) -> Version:
        """The newest version."""
        return Versions(self.store).find("asked")

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Rows of a table of the newest version."""
        paths = data_files(self.version(), table)
        return [row for path in paths for row in pa.ipc.open_file(path).read_all().to_pylist()]

    def responses(self) -> list[dict[str, Any]]:
        """Every response, dropped ones too."""
        return self.rows("responses") + self.rows("dropped/responses")

    def recorded(self) -> Counter[str]:
        """What the ledger holds an answer to, and how many."""
        if not (self.store / "ledger").exists():
            return Counter()
        out = self.folder / "export.jsonl"
        out.unlink(missing_ok=True)
        export(self.store / "ledger", out)
        records = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
        return Counter(question(record["request"]) for record in records if not record["reply"].get("error"))


def question(asked: Mapping[str, Any]) -> str:
    """A request as both the wire and the ledger tell it."""
    return json.dumps([asked["messages"], asked.get("seed")], sort_keys=True)


def asked(server: ModelServer) -> list[Entry]:
    """The log of chat requests."""
    return [one for one in server.log()["requests"] if one["path"].endswith("/chat/completions")]


def answered(entry: Entry) -> bool:
    """Whether a whole answer was delivered."""
    return bool(entry["delivered"]) and entry["status"] == 200 and entry["fault"] == "ok"


def questions_in(log: list[Entry]) -> list[str]:
    return [question(json.loads(entry["body"])) for entry in log]


def wait_for(server: ModelServer, count: int, process: "subprocess.Popen[str]") -> None:
    """Until so many requests came in."""
    while server.counts()["count"] < count:
        assert process.poll() is None, "".join(process.communicate())
        time.sleep(0.02)


def files_of(version: Version) -> dict[str, bytes]:
    """Every file of a version but run.json, which tells times."""
    return {
        str(path.relative_to(version.path)): path.read_bytes()
        for path in version.path.rglob("*")
        if path.is_file() and path.name != "run.json"
    }


@pytest.mark.slow
def test_rows_with_errors_are_asked_again_and_no_others(server: ModelServer, tmp_path: Path) -> None:
    project = Project(tmp_path, server.base_url, options=", retries: 0", steps="max_errors: 1\n")
    server.plan(share={"429": 0.05, "500": 0.05, "cut": 0.05, "half_json": 0.05}, seed=3, words=[3, 8])
    project.run()
    rows = project.responses()
    assert len(rows) == PROMPTS
    failed = [row for row in rows if row["response"] is None]
    assert 0 < len(failed) < PROMPTS / 2
    for row in rows:
        errors = [score["error"] for score in row["scores"] or [] if score["error"]]
        assert len(errors) == (row["response"] is None), row
    kinds = {score["error"].split(":")[0] for row in failed for score in row["scores"]}
    assert kinds <= {"server", "connection", "bad_reply"} and len(kinds) > 1

    server.reset()
    project.run()
    assert len(asked(server)) == len(failed)
    assert all(row["response"] for row in project.responses())
    before = files_of(project.version())

    server.reset()
    assert "nothing published" in project.run()
    assert asked(server) == []
    assert files_of(project.version()) == before


@pytest.mark.slow
def test_killed_at_random_and_rerun_asks_nothing_twice(server: ModelServer, tmp_path: Path) -> None:
    at_once = 6
    (tmp_path / "whole").mkdir()
    options = f", concurrency: {at_once}, max_concurrency: {at_once}"
    whole = Project(tmp_path / "whole", server.base_url, generate=", n: 2", steps=CHAIN, options=options)
    server.plan(words=[3, 8])
    whole.run()
    expected = files_of(whole.version())
    every = len(asked(server))
    assert every == 4 * PROMPTS

    draw, kills, lost_in_all, attempts = random.Random(), 0, 0, 0
    while kills < KILLS:
        attempts += 1
        folder = tmp_path / f"killed-{attempts}"
        folder.mkdir()
        project = Project(folder, server.base_url, generate=", n: 2", steps=CHAIN, options=options)
        project.recipe = whole.recipe  # versions hold the recipe as it was
        server.reset()
        server.plan(record=True, words=[3, 8], latency_s=0.08, share={"500": 0.03, "half_json": 0.03, "cut": 0.03})
        lost: Counter[str] = Counter()
        known: Counter[str] = Counter()
        seen = 0
        while kills < KILLS:
            process = project.start()
            wait_for_or_end(server, seen + 1, process)
            time.sleep(draw.uniform(0.0, 1.0))
            ended = project.end(process, signal.SIGKILL)
            time.sleep(0.2)  # the server learns of the end
            log = asked(server)
            assert not [one for one in questions_in(log[seen:]) if known[one]], "an answer that was recorded was asked again"
            known, seen = project.recorded(), len(log)
            if ended != -signal.SIGKILL:
                assert ended == 0, project.said[-1]
                break
            kills += 1
            delivered = Counter(questions_in([entry for entry in log if answered(entry)]))
            fresh = {one for one in delivered if not known[one]}
            assert len(fresh) <= at_once, "more was lost than was in flight"
            lost.update(fresh)
        project.run()
        log = asked(server)
        assert not [one for one in questions_in(log[seen:]) if known[one]]
        delivered = Counter(questions_in([entry for entry in log if answered(entry)]))
        assert len(delivered) == every
        assert {one: count - 1 for one, count in delivered.items() if count > 1} == dict(lost)
        assert set(project.recorded().values()) == {1}
        lost_in_all += sum(lost.values())
        assert files_of(project.version()) == expected
    print(f"killed {kills} times: {lost_in_all} answers were delivered but not yet recorded, and asked again; no other")  # noqa: T201


def wait_for_or_end(server: ModelServer, count: int, process: "subprocess.Popen[str]") -> None:
    """Until so many requests came in, or the process ended."""
    while server.counts()["count"] < count and process.poll() is None:
        time.sleep(0.02)


@pytest.mark.slow
def test_only_what_a_change_touches_is_asked(server: ModelServer, tmp_path: Path) -> None:
    project = Project(tmp_path, server.base_url, generate=", n: 4, max_tokens: 8", steps=CHAIN)

    def asked_by(*words: object) -> list[Mapping[str, Any]]:
        server.reset()
        server.plan(record=True, words=[3, 13])
        project.run(*words)
        return [json.loads(entry["body"]) for entry in asked(server)]

    first = asked_by()
    judged = [body for body in first if "response_format" in body]
    assert len(first) - len(judged) == 4 * PROMPTS
    truncated = [row for row in project.responses() if row["finish_reason"] == "length"]
    assert 0 < len(truncated) < 4 * PROMPTS

    longer = ("--set", "generate.max_tokens=100")
    again = [body for body in asked_by(*longer) if "response_format" not in body]
    assert len(again) == len(truncated)
    assert {body.get("max_tokens") or body.get("max_completion_tokens") for body in again} == {100}

    more = asked_by(*longer, "--set", "generate.n=8")
    written = [body for body in more if "response_format" not in body]
    assert len(written) == 4 * PROMPTS and not {question(body) for body in written} & {question(body) for body in first}

    eight = (*longer, "--set", "generate.n=8")
    assert asked_by(*eight, "--set", "margin.min=2") == []
    assert asked_by(*eight, "--set", "pair.how=all_gap") == []

    rubric = asked_by(*eight, "--set", "judge.rubric=honesty")
    assert rubric and all("response_format" in body for body in rubric)
    assert len(rubric) <= 8 * PROMPTS


@pytest.mark.slow
def test_a_server_that_is_down_seals_nothing(tmp_path: Path) -> None:
    with spawned() as server:
        port = server.port
    project = Project(tmp_path, server.base_url, options=", down_seconds: 1", steps="max_errors: 0.5\n")
    began = time.monotonic()
    said = project.run(code=1)
    assert time.monotonic() - began < 15
    (error,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert re.search(rf"\b{PROMPTS} of {PROMPTS} rows have no answer \(connection {PROMPTS}\)", error), error
    assert said.strip().splitlines()[-1] == error
    assert not (project.store / "datasets").exists() or not list((project.store / "datasets").rglob("manifest.json"))
    with spawned(port) as server:
        project.run()
        assert len(asked(server)) == PROMPTS
    assert all(row["response"] for row in project.responses()) and len(project.responses()) == PROMPTS


@pytest.mark.slow
def test_a_limit_on_calls_keeps_what_was_paid(server: ModelServer, tmp_path: Path) -> None:
    project = Project(tmp_path, server.base_url)
    server.plan(record=True)
    said = project.run("--max-calls", 25, code=1)
    assert "raise --max-cost or --max-calls" in said and f"{PROMPTS - 25} of {PROMPTS} rows have no answer" in said
    assert len(asked(server)) == 25
    assert sum(project.recorded().values()) == 25
    project.run()
    assert Counter(questions_in(asked(server))).most_common(1)[0][1] == 1 and len(asked(server)) == PROMPTS


@pytest.mark.slow
def test_a_limit_on_cost_keeps_what_was_paid(server: ModelServer, tmp_path: Path) -> None:
    price = ", usd_per_mtok: {in: 1000, out: 1000}"
    project = Project(
        tmp_path, server.base_url, options=", concurrency: 2, max_concurrency: 2", generate=", max_tokens: 20", more=price
    )
    server.plan(record=True, words=[8, 10])
    project.run("--max-cost", 0.5, code=1)
    paid = json.loads(project.curate("ledger", "--json", "--store", project.store))["rows"]
    assert [row["model"] for row in paid] == ["m"]
    count = len(asked(server))
    assert 0 < count < PROMPTS and paid[0]["answered"] == count
    assert 0.25 < paid[0]["cost_usd"] <= 0.5
    project.run()
    assert Counter(questions_in(asked(server))).most_common(1)[0][1] == 1 and len(asked(server)) == PROMPTS


@pytest.mark.slow
def test_ctrl_c_lets_answers_come_in_and_asks_nothing_twice(server: ModelServer, tmp_path: Path) -> None:
    project = Project(tmp_path, server.base_url, options=", concurrency: 4, max_concurrency: 4", generate=", n: 2")
    server.plan(record=True, latency_s=0.15)
    process = project.start()
    wait_for(server, 20, process)
    began = time.monotonic()
    assert project.end(process, signal.SIGINT) == 130, project.said[-1]
    assert time.monotonic() - began < 10
    assert "run the same command again to continue" in project.said[-1] and "Traceback" not in project.said[-1]
    assert 20 <= len(asked(server)) < 2 * PROMPTS
    project.run()
    log = asked(server)
    assert len(log) == 2 * PROMPTS and all(map(answered, log))
    assert len(set(questions_in(log))) == len(log)


# -- the ledger's command


@pytest.mark.slow
def test_the_ledger_tells_exports_and_merges(server: ModelServer, tmp_path: Path) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    here, there = (
        Project(tmp_path / name, server.base_url, steps=CHAIN, generate=", n: 2", more=", usd_per_mtok: {in: 1, out: 2}")
        for name in ("here", "there")
    )
    here.run()
    log = asked(server)
    store = ("--store", here.store)

    def spent(by: str) -> dict[str, dict[str, Any]]:
        told = json.loads(here.curate("ledger", "--by", by, "--json", *store))
        assert told["by"] == by and sum(row["calls"] for row in told["all"]) == len(log)
        return {row[by]: row for row in told["rows"]}

    assert {model: row["answered"] for model, row in spent("model").items()} == {"m": len(log)}
    assert {step: row["answered"] for step, row in spent("step").items()} == {"generate": 2 * PROMPTS, "judge": 2 * PROMPTS}
    (day,) = spent("day")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", day)
    (row,) = spent("model").values()
    assert row["cost_usd"] == pytest.approx((row["prompt_tokens"] + 2 * row["response_tokens"]) / 1e6) and row["cost_usd"] > 0
    shown = here.curate("ledger", "--by", "step", *store)
    assert f"{row['cost_usd']:,.4f}" in shown and "generate" in shown and "judge" in shown

    out = tmp_path / "all.jsonl"
    assert f"wrote {len(log):,} records" in here.curate("ledger", "--export", out, *store)
    records = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert len(records) == len(log) and all(record["reply"]["text"] for record in records)
    assert f"{len(log):,} of them answers" in here.curate("ledger", "--check", *store)
    here.curate("ledger", "--check", "--export", out, *store, code=2)

    assert "copied" in there.curate("ledger", "--merge", here.store, "--store", there.store)
    assert "here already" in there.curate("ledger", "--merge", here.store, "--store", there.store)
    there.run()
    assert len(asked(server)) == len(log), "an answer that was merged was asked for"
    assert files_of(there.version()) == files_of(here.version())


# -- secrets


def everything(project: Project) -> Iterator[tuple[str, bytes]]:
    """All that a run leaves behind, by name: files as they lie there, tables and records in plain words, what was printed."""
    for path in project.store.rglob("*"):
        if path.is_file():
            yield str(path), path.read_bytes()
            if path.suffix == ".arrow":
                yield f"{path} in words", repr(pa.ipc.open_file(path).read_all().to_pydict()).encode()
    out = project.folder / "records.jsonl"
    out.unlink(missing_ok=True)
    project.curate("ledger", "--export", out, "--store", project.store)
    yield str(out), out.read_bytes()
    for number, text in enumerate(project.said):
        yield f"output {number}", text.encode()


@pytest.mark.slow
@pytest.mark.parametrize(("way", "transport"), [("key", "fast"), ("userinfo", "fast"), ("key", "sdk"), ("userinfo", "sdk")])
def test_planted_secrets_are_nowhere(server: ModelServer, tmp_path: Path, way: str, transport: str) -> None:
    planted = {"PLANTED_KEY": "sk-plantedkey7f3a", "PLANTED_HEADER": "plantedheader9c1e"}
    planted |= {"PLANTED_USER": "planteduser55d0", "PLANTED_PASSWORD": "plantedword2b8d"}
    base_url = server.base_url
    if way == "userinfo":
        base_url = base_url.replace("http://", "http://${PLANTED_USER}:${PLANTED_PASSWORD}@")
    project = Project(
        tmp_path,
        base_url,
        options=f", retries: 1, concurrency: 4, max_concurrency: 4, transport: {transport}, header.X-Team: '${{PLANTED_HEADER}}'",
        more=", api_key: '${PLANTED_KEY}'",
        steps="max_errors: 1\n",
    )
    project.environment |= planted
    userinfo = f"{planted['PLANTED_USER']}:{planted['PLANTED_PASSWORD']}"
    secrets = [*planted.values(), base64.b64encode(userinfo.encode()).decode()]

    server.plan(record=True, share={"401_echo": 1.0})
    project.run("--set", "max_errors=0.1", code=1)
    sent = asked(server)[0]["headers"]
    assert planted["PLANTED_HEADER"] in sent.values()
    assert sent["authorization"].endswith(planted["PLANTED_KEY"] if way == "key" else secrets[-1])

    server.plan(share={"500_echo": 0.6, "401_echo": 0.02}, latency_s=0.05)
    process = project.start()
    wait_for(server, 20, process)
    project.end(process, signal.SIGKILL)
    project.run()
    assert any(row["response"] is None for row in project.responses()), "no error was stored"
    version = str(project.version())
    for words in (
        ["show", version, "--funnel"],
        ["report", version, "--out", project.store / "report.html"],
        ["runs"],
        ["ledger"],
    ):
        project.curate(*words, "--store", project.store)

    server.plan(share={"redirect": 0.1})
    project.run()
    found = [(name, secret) for name, held in everything(project) for secret in secrets if secret.encode() in held]
    assert found == []
