"""Runs as Prefect flows, on a server and a worker of their own: the same bytes, everything shown, nothing left hanging."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from curate.services import down, up
from curate.store.runs import past_runs
from tests.models.server import ModelServer, spawned

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent
PROMPTS = 40
Json = dict[str, Any]


class Prefect:
    """A running server, asked through its API."""

    def __init__(self, root: Path, url: str) -> None:
        self.root, self.url = root, url

    def post(self, path: str, body: Json) -> Any:
        """What the API answers."""
        data = json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as reply:
            return json.load(reply)

    def flow_run(self, name: str) -> Json:
        """The flow run of that name."""
        (found,) = self.post("/flow_runs/filter", {"flow_runs": {"name": {"any_": [name]}}})
        return dict(found)

    def of_run(self, name: str, what: str) -> list[Json]:
        """Task runs, artifacts or logs of a flow run."""
        of = {"flow_run_id": {"any_": [self.flow_run(name)["id"]]}}
        within = {"task_runs": {"flow_runs": {"name": {"any_": [name]}}}, "artifacts": {"artifacts": of}, "logs": {"logs": of}}
        return list(self.post(f"/{what}/filter", within[what] | {"limit": 200}))

    def asset_events(self, key: str) -> list[Json]:
        """Materializations of an asset, newest first."""
        named = {"event": {"prefix": ["prefect.asset.materialization"]}, "resource": {"id": [key]}}
        return list(self.post("/events/filter", {"filter": named, "limit": 50})["events"])


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefect]:
    """A server and a worker on free ports."""
    root = tmp_path_factory.mktemp("services") / "store"
    before = os.environ.get("CURATE_RETRY_SECONDS")
    os.environ["CURATE_RETRY_SECONDS"] = "1,1"
    try:
        url = up(root).api_url
        assert url is not None
        yield Prefect(root, url)
    finally:
        down(root)
        os.environ.pop("CURATE_RETRY_SECONDS")
        if before is not None:
            os.environ["CURATE_RETRY_SECONDS"] = before


@pytest.fixture(scope="module")
def one_model() -> Iterator[ModelServer]:
    with spawned() as server:
        yield server


@pytest.fixture
def model(one_model: ModelServer) -> ModelServer:
    """A model server that counts what it is asked."""
    one_model.reset()
    return one_model


def curate(*words: object, url: str | None = None, check: bool = True, **more: str) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own, with Prefect's address or without."""
    done = subprocess.run(command(*words), env=environment(url, **more), capture_output=True, text=True, timeout=300, check=False)
    assert not check or done.returncode == 0, done.stderr
    return done


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "curate.cli.main", *map(str, words)]


def environment(url: str | None = None, **more: str) -> dict[str, str]:
    """This environment without anybody's Prefect, or with the one at `url`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return kept | ({"PREFECT_API_URL": url} if url else {}) | {"PYTHONWARNINGS": "ignore", **more}


def asked(folder: Path, model: ModelServer, steps: str = "", name: str = "asked") -> Path:
    """A recipe that asks the model server."""
    folder.mkdir(exist_ok=True)
    lines = [json.dumps({"prompt": f"Question {number}: what is behind door {number}?"}) for number in range(PROMPTS)]
    (folder / "prompts.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    recipe = folder / "recipe.yaml"
    recipe.write_text(
        f"name: {name}\n"
        "models:\n"
        f"  m: {{backend: openai, name: m, base_url: '{model.base_url}',"
        " options: {timeout_s: 30, retries: 1, down_seconds: 2}}\n"
        "source: {path: prompts.jsonl, rows: prompts, columns: {prompt: prompt}}\n"
        f"steps:\n  - generate: {{model: m}}\n{steps}",
        encoding="utf-8",
    )
    return recipe


def data_of(store: Path, name: str = "demo", version: str = "v0001") -> dict[str, bytes]:
    """Every file of a version but the one that tells of the run."""
    folder = store / "datasets" / name / version
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "run.json"
    }


def start(prefect: Prefect, recipe: str, store: Path, **parameters: Any) -> Json:
    """Have the worker run a recipe, wait, and return the flow run."""
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from curate.flow import curation
    from curate.services import POOL

    with temporary_settings({PREFECT_API_URL: prefect.url}), get_client(sync_client=True) as client:
        flow_id = client.create_flow(curation)
        deployment = client.create_deployment(
            flow_id, f"test-{store.parent.name}", entrypoint="curate.flow:curation", work_pool_name=POOL
        )
        told = {"recipe": recipe, "store": str(store)} | parameters
        created = client.create_flow_run_from_deployment(deployment, parameters=told)
    return finished(prefect, str(created.id))


def finished(prefect: Prefect, flow_run: str, seconds: float = 180) -> Json:
    """The flow run once it ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with urllib.request.urlopen(f"{prefect.url}/flow_runs/{flow_run}", timeout=30) as reply:
            found: Json = json.load(reply)
        if found["state_type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"):
            return found
        time.sleep(0.3)
    raise AssertionError(f"flow run {flow_run} is {found['state_name']} after {seconds:.0f} s")


# -- the same with and without


@pytest.fixture(scope="module")
def shown(prefect: Prefect, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The demo run as a flow from the command line: its store and the run's id."""
    store = tmp_path_factory.mktemp("flow") / "store"
    done = curate("run", "demo", "--store", store, "--json", url=prefect.url)
    return store, json.loads(done.stdout)["run"]


def test_inline_in_a_flow_and_by_the_worker_the_bytes_are_the_same(
    prefect: Prefect, shown: tuple[Path, str], tmp_path: Path
) -> None:
    curate("run", "demo", "--store", tmp_path / "inline")
    ended = start(prefect, "demo", tmp_path / "worker")
    assert ended["state_name"] == "Completed", ended["state"]
    inline = data_of(tmp_path / "inline")
    assert "manifest.json" in inline and inline == data_of(shown[0]) == data_of(tmp_path / "worker")


def test_every_step_is_a_task_and_publishing_too(prefect: Prefect, shown: tuple[Path, str]) -> None:
    tasks = {task["name"].rsplit("-", 1)[0]: task["state_name"] for task in prefect.of_run(shown[1], "task_runs")}
    steps = [step["name"] for step in json.loads(data_of(shown[0])["manifest.json"])["steps"]]
    assert set(steps) | {"publish", "version"} == set(tasks), tasks
    assert set(tasks.values()) == {"Completed"}


def test_funnel_progress_report_and_version_are_artifacts(prefect: Prefect, shown: tuple[Path, str]) -> None:
    artifacts = prefect.of_run(shown[1], "artifacts")
    by_key = {artifact["key"]: artifact for artifact in artifacts}
    funnel = json.loads(by_key["funnel-demo"]["data"])
    steps = json.loads(data_of(shown[0])["manifest.json"])["steps"]
    assert [row["step"] for row in funnel] == [step["name"] for step in steps]
    assert [row["kept"] for row in funnel] == [f"{step['kept']:,}" for step in steps]
    page = re.search(r"\((file://[^)]+)\)", by_key["report-demo"]["data"])
    assert page and Path(page[1].removeprefix("file://")).read_text(encoding="utf-8").startswith("<!doctype html")
    assert "demo@v1" in by_key["version-demo"]["data"]
    bars = [artifact for artifact in artifacts if artifact["type"] == "progress"]
    assert bars and all(float(bar["data"]) == 100 for bar in bars)


def test_the_version_is_an_asset_made_from_its_source(prefect: Prefect, shown: tuple[Path, str]) -> None:
    deadline = time.monotonic() + 20
    while not (events := prefect.asset_events("curate://demo")) and time.monotonic() < deadline:
        time.sleep(0.3)  # events travel on their own
    event = next(event for event in events if event["payload"]["run"] == shown[1])
    manifest = json.loads(data_of(shown[0])["manifest.json"])
    assert event["event"].endswith("succeeded")
    assert event["payload"]["version"] == "demo@v1" and event["payload"]["content"] == manifest["content"]
    assert "file://samples:responses.jsonl" in {related["prefect.resource.id"] for related in event["related"]}


def test_the_runs_page_shows_it_in_a_browser(prefect: Prefect, shown: tuple[Path, str]) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert browser, "a browser is needed: install chromium"
    page = f"{prefect.url.removesuffix('/api')}/runs/flow-run/{prefect.flow_run(shown[1])['id']}"
    picture = ROOT / "build" / "flow-run.png"
    picture.parent.mkdir(exist_ok=True)
    picture.unlink(missing_ok=True)
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1400,1400", "--virtual-time-budget=20000"]
    dom = subprocess.run([browser, *options, "--dump-dom", page], capture_output=True, text=True, timeout=120, check=True).stdout
    text = re.sub(r"<[^>]+>", " ", dom)
    assert shown[1] in text and "Completed" in text and "exact_duplicate: 806 in, 786 kept" in text
    subprocess.run([browser, *options, f"--screenshot={picture}", page], capture_output=True, timeout=120, check=True)
    assert picture.stat().st_size > 20_000


def test_the_record_names_the_flow_run_and_the_flow_run_the_record(prefect: Prefect, shown: tuple[Path, str]) -> None:
    (record,) = past_runs(shown[0])
    assert record["via"] == "prefect" and record["state"] == "done"
    assert record["flow_run_id"] == prefect.flow_run(shown[1])["id"]


def test_a_run_that_finds_nothing_new_says_so(prefect: Prefect, shown: tuple[Path, str]) -> None:
    done = curate("run", "demo", "--store", shown[0], "--json", url=prefect.url)
    run = json.loads(done.stdout)
    assert not run["published"]
    assert prefect.flow_run(run["run"])["state_name"] == "Unchanged"
    assert [record["state"] for record in past_runs(shown[0])] == ["unchanged", "done"]
    assert len([e for e in prefect.asset_events("curate://demo") if e["payload"]["run"] == run["run"]]) == 0


def test_a_server_that_does_not_answer_stops_nobody(tmp_path: Path) -> None:
    done = curate("run", "demo", "--store", tmp_path, url="http://127.0.0.1:9/api")
    assert "does not answer: running without it" in done.stderr and "published demo@v1" in done.stdout


# -- failures


def test_a_wrong_recipe_is_one_sentence(prefect: Prefect, tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text("name: wrong\nsource: {path: none.jsonl}\nsteps: [{pear: {}}]\n", encoding="utf-8")
    ended = start(prefect, str(tmp_path / "wrong.yaml"), tmp_path / "store")
    assert ended["state_name"] == "Failed" and "pear" in ended["state"]["message"]


def test_a_step_whose_model_was_down_is_tried_again(prefect: Prefect, model: ModelServer, tmp_path: Path) -> None:
    recipe = asked(tmp_path, model)
    model.plan(share={"cut": 1.0})
    process = subprocess.Popen(
        command("run", recipe, "--store", tmp_path / "store"), env=environment(prefect.url), stderr=subprocess.PIPE, text=True
    )
    assert process.stderr
    while (line := process.stderr.readline()) and "no_response" not in line:
        pass  # until the first try ended without an answer
    model.plan()
    _, said = process.communicate(timeout=200)
    assert process.returncode == 0, said
    runs = past_runs(tmp_path / "store")
    tasks = prefect.of_run(runs[0]["id"], "task_runs")
    (generate,) = [task for task in tasks if task["name"].startswith("generate")]
    assert generate["run_count"] > 1 and generate["state_name"] == "Completed"


def test_a_killed_flow_is_shown_as_crashed_and_continued(prefect: Prefect, model: ModelServer, tmp_path: Path) -> None:
    recipe, store = asked(tmp_path, model), tmp_path / "store"
    model.plan(latency_s=0.5)
    with subprocess.Popen(
        command("run", recipe, "--store", store), env=environment(prefect.url), start_new_session=True, stderr=subprocess.DEVNULL
    ) as process:
        while model.counts()["count"] < 3 and process.poll() is None:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    (killed,) = past_runs(store)
    assert killed["state"] == "crashed"
    assert "crashed" in curate("runs", "--store", store).stdout
    assert prefect.flow_run(killed["id"])["state_name"] == "Running"  # nobody has told Prefect
    model.plan()
    ended = start(prefect, str(recipe), store)
    assert ended["state_name"] == "Completed", ended["state"]
    assert prefect.flow_run(killed["id"])["state_name"] == "Crashed"
    assert [record["state"] for record in past_runs(store)] == ["done", "crashed"]


# -- side by side


def test_a_scheduled_run_steps_aside_while_another_makes_the_dataset(
    prefect: Prefect, model: ModelServer, tmp_path: Path
) -> None:
    recipe, store = asked(tmp_path, model), tmp_path / "store"
    model.plan(latency_s=8.0)
    with subprocess.Popen(command("run", recipe, "--store", store), env=environment(), stderr=subprocess.PIPE) as process:
        while not past_runs(store) and process.poll() is None:
            time.sleep(0.05)
        ended = start(prefect, str(recipe), store, busy="step_aside")
        process.communicate(timeout=120)
    assert ended["state_name"] == "Skipped", ended["state"]
    assert process.returncode == 0
    assert {record["state"] for record in past_runs(store)} == {"done", "skipped"}


def test_two_runs_of_one_recipe_at_once_make_one_version(model: ModelServer, tmp_path: Path) -> None:
    recipe, store = asked(tmp_path, model), tmp_path / "store"
    model.plan(latency_s=0.5)
    both = [
        subprocess.Popen(
            command("run", recipe, "--store", store), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sorted(record["state"] for record in past_runs(store)) == ["done", "unchanged"]
    assert model.counts()["count"] == PROMPTS


def test_eight_recipes_at_once_against_one_store(tmp_path: Path) -> None:
    store = tmp_path / "store"
    names = [f"eight-{number}" for number in range(8)]
    running = [
        subprocess.Popen(
            command("run", "demo", "--set", f"name={name}", "--set", f"split.seed={number}", "--store", store),
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for number, name in enumerate(names)
    ]
    said = [process.communicate(timeout=200)[1] for process in running]
    assert [process.returncode for process in running] == [0] * 8, said
    for name in names:
        assert (store / "datasets" / name / "v0001" / "manifest.json").exists()
    for name in names:
        curate("verify", name, "--store", store)


# -- on a schedule


def test_a_schedule_publishes_what_is_new_and_asks_for_nothing_else(prefect: Prefect, model: ModelServer, tmp_path: Path) -> None:
    store = prefect.root  # schedules belong to the store whose worker runs them
    recipe = asked(tmp_path, model, name="nightly")
    curate("schedule", recipe, "--interval", "5s", "--store", store)
    try:
        first = run_in(store, "done")
        assert (first["version"], first["schedule"] is not None, model.counts()["count"]) == ("nightly@v1", True, PROMPTS)
        run_in(store, "unchanged")
        more = [json.dumps({"prompt": f"Another question {number}: what is behind door {number}?"}) for number in range(10)]
        with (tmp_path / "prompts.jsonl").open("a", encoding="utf-8") as out:
            out.write("\n".join(more) + "\n")
        second = run_in(store, "done", first["id"])
        assert (second["version"], model.counts()["count"]) == ("nightly@v2", PROMPTS + 10)
        late = {json.dumps(entry["body"]) if "body" in entry else entry["sha256"] for entry in model.log()["requests"][PROMPTS:]}
        assert len(late) == 10
        recipe.write_text(recipe.read_text(encoding="utf-8") + "  - exact_duplicate: {column: response}\n", encoding="utf-8")
        third = run_in(store, "done", first["id"], second["id"])
        assert (third["version"], model.counts()["count"]) == ("nightly@v3", PROMPTS + 10)
        change = curate("diff", "nightly@v2", "nightly@v3", "--store", store).stdout
        assert f"line {len(recipe.read_text(encoding='utf-8').splitlines())}" in change and "exact_duplicate" in change
    finally:
        curate("schedule", "nightly", "--off", "--store", store)
    log = (store / "services" / "worker.log").read_text(encoding="utf-8").splitlines()
    of_first = [line for line in log if first["id"] in line and " nightly " in line]
    for step in ("source", "generate", "publish"):  # a person can follow a run from its id
        assert any(
            re.match(rf"\d{{4}}-\d\d-\d\dT[\d:]+[+-]\d{{4}} INFO nightly {first['id']} {step}: ", line) for line in of_first
        )
    assert len(of_first) == len(set(of_first)) and of_first[-1].endswith("published nightly@v1")


def run_in(store: Path, state: str, *but: str, name: str = "nightly", seconds: float = 120) -> Json:
    """The first run of that dataset in that state that is none of `but`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for record in past_runs(store):
            if record["name"] == name and record["state"] == state and record["id"] not in but:
                return record
        time.sleep(0.3)
    raise AssertionError(f"no run is {state} after {seconds:.0f} s: {past_runs(store)}")


def test_a_closed_gate_is_a_state_with_its_table(prefect: Prefect, tmp_path: Path) -> None:
    store, told = tmp_path / "store", tmp_path / "told.json"
    recipe = tmp_path / "demo.yaml"
    recipe.write_text((ROOT / "flows/recipes/demo.yaml").read_text(encoding="utf-8") + 'gates: {rows: ">= 1_000_000"}\n')
    hook = f"{sys.executable} -c \"import sys; open('{told}', 'w').write(sys.stdin.read())\""
    done = curate("run", recipe, "--store", store, "--notify", hook, url=prefect.url, check=False)
    assert done.returncode == 1 and "rows" in done.stderr and not (store / "datasets" / "demo" / "v0001").exists()
    (record,) = past_runs(store)
    assert record["state"] == "gate_closed"
    assert prefect.flow_run(record["id"])["state_name"] == "GateClosed"
    (table,) = [one for one in prefect.of_run(record["id"], "artifacts") if one["key"] == "gates-demo"]
    assert json.loads(table["data"])[0]["metric"] == "rows"
    event = json.loads(told.read_text(encoding="utf-8"))
    assert event["event"] == "gate_closed" and event["gates"][0]["metric"] == "rows"
    curate("run", recipe, "--store", store, "--publish-anyway", url=prefect.url)
    manifest = json.loads(data_of(store)["manifest.json"])
    assert manifest["published_anyway"] is True and manifest["gates"][0]["passed"] is False
