"""flows/: what a team deploys with Prefect's own command, on a server and a worker of this machine."""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from curate.services import down, up
from curate.store.runs import past_runs

FLOWS = Path(__file__).parent.parent / "flows"
SECONDS = 180.0
Json = dict[str, Any]


class Team:
    """A server, a worker and a store; the folder flows/ as a team checked it out."""

    def __init__(self, store: Path, url: str, flows: Path) -> None:
        self.store, self.url, self.flows = store, url, flows

    def deploy(self, **more: str | None) -> subprocess.CompletedProcess[str]:
        """The command that prefect.yaml names."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "CURATE_"))}
        quiet = {
            "DO_NOT_TRACK": "1",
            "NO_COLOR": "1",
            "PREFECT_HOME": str(self.store / "home"),
            "PREFECT_CLI_WRAP_LINES": "false",
        }
        environment = kept | quiet | {"PREFECT_API_URL": self.url, "CURATE_STORE": str(self.store)} | more
        return subprocess.run(
            [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"],
            cwd=self.flows,
            env={name: value for name, value in environment.items() if value is not None},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    def post(self, path: str, body: Json) -> Any:
        """What the API answers; asked again while its SQLite is locked, as Prefect's own clients do."""
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), {"content-type": "application/json"})
        for _ in range(20):
            try:
                with urllib.request.urlopen(request, timeout=30) as reply:
                    return json.load(reply)
            except urllib.error.HTTPError as error:
                if error.code != 503:
                    raise
                time.sleep(0.5)
        pytest.fail(f"{path}: 503 for 10 s")

    def deployments(self) -> dict[str, Json]:
        """By name."""
        return {one["name"]: one for one in self.post("/deployments/filter", {})}

    def run(self, deployment: str, **parameters: Any) -> tuple[str, str]:
        """How a run of it by the worker ends: name of the state, and what it says."""
        made = self.post(f"/deployments/{self.deployments()[deployment]['id']}/create_flow_run", {"parameters": parameters})
        deadline = time.monotonic() + SECONDS
        while True:
            state = self.post("/flow_runs/filter", {"flow_runs": {"id": {"any_": [made["id"]]}}})[0]["state"]
            if state["type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"):
                return state["name"], state["message"]
            assert time.monotonic() < deadline, state
            time.sleep(0.5)


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    folder = tmp_path_factory.mktemp("team")
    flows = folder / "checkout" / "flows"
    flows.mkdir(parents=True)
    for path in (*FLOWS.glob("*.py"), FLOWS / "prefect.yaml"):
        shutil.copyfile(path, flows / path.name)
    store = folder / "store"
    try:
        url = up(store).api_url
        assert url is not None
        yield Team(store, url, flows)
    finally:
        down(store)


@pytest.mark.slow
def test_a_deployment_without_a_store_is_never_made(team: Team) -> None:
    done = team.deploy(CURATE_STORE=None)
    assert done.returncode != 0 and "CURATE_STORE: set it to the folder of the store" in done.stdout + done.stderr
    assert team.deployments() == {}


@pytest.fixture(scope="module")
def deployed(team: Team) -> Team:
    done = team.deploy()
    assert done.returncode == 0, done.stdout + done.stderr
    return team


@pytest.mark.slow
def test_deployments_name_flow_store_and_folder(deployed: Team) -> None:
    found = deployed.deployments()
    assert {name: one["entrypoint"] for name, one in found.items()} == {
        "demo": "curation.py:curation",
        "demo-refresh": "refresh.py:refresh",
    }
    for one in found.values():
        assert one["parameters"]["store"] == str(deployed.store)
        assert one["pull_steps"] == [{"prefect.deployments.steps.set_working_directory": {"directory": str(deployed.flows)}}]
        assert (one["work_pool_name"], one["global_concurrency_limit"]["limit"]) == ("curate", 1)
        assert one["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"
        assert [schedule["active"] for schedule in one["schedules"]] == [False]


@pytest.mark.slow
def test_deploying_again_changes_nothing(deployed: Team) -> None:
    before = deployed.deployments()
    assert deployed.deploy().returncode == 0
    after = deployed.deployments()
    assert {name: one["id"] for name, one in after.items()} == {name: one["id"] for name, one in before.items()}
    assert [len(one["schedules"]) for one in after.values()] == [1, 1]


@pytest.mark.slow
def test_the_worker_runs_them(deployed: Team) -> None:
    assert deployed.run("demo") == ("Completed", "published demo@v1")
    assert deployed.run("demo-refresh") == ("Unchanged", "demo@v1 already holds exactly this content")
    last, first = past_runs(deployed.store)
    assert (first["via"], last["via"]) == ("prefect", "prefect")
    assert (first["version"], last["version"]) == ("demo@v1", "demo@v1")


@pytest.mark.slow
def test_a_refresh_adds_only_what_is_new(deployed: Team, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "name: growing\n"
        "models:\n  m: {backend: fake, name: m}\n"
        "source: {path: prompts.jsonl, rows: prompts, columns: {prompt: prompt}}\n"
        "steps:\n  - generate: {model: m}\n"
    )
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "one"}\n{"prompt": "two"}\n')
    assert deployed.run("demo", recipe=str(recipe)) == ("Completed", "published growing@v1")
    prompts.write_text('{"prompt": "three"}\n')  # the others are gone from the source, not from the dataset
    assert deployed.run("demo-refresh", recipe=str(recipe)) == ("Completed", "published growing@v2")
    manifest = json.loads((deployed.store / "datasets" / "growing" / "v0002" / "manifest.json").read_bytes())
    assert sum(manifest["splits"].values()) == 3
