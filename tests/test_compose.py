"""docker-compose.yml: valid, closed to the outside, and each of its commands and health checks run here without Docker."""

import base64
import fnmatch
import http.server
import json
import os
import re
import shlex
import shutil
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import jsonschema
import pytest
import yaml

from tests.compose import FILE, ROOT, Json, Machine, Missing, Service, compose, this_environment
from tests.postgres import Cluster, free_port, private_cluster

PASSWORD = {"POSTGRES_PASSWORD": "any"}
SECRET = re.compile(r"PASSWORD|KEY|TOKEN|AUTH|SECRET")
LOGIN = "team:s3cret"
VLLM_ARGUMENTS = {  # of `vllm serve` in vLLM's documentation
    *("--host", "--port", "--api-key", "--served-model-name", "--revision", "--dtype", "--max-model-len"),
    *("--gpu-memory-utilization", "--tensor-parallel-size", "--max-num-seqs", "--seed", "--runner", "--quantization"),
}


@pytest.fixture
def told() -> Json:
    return compose(PASSWORD)


@pytest.fixture(scope="session")
def specification() -> Any:
    """The compose specification's own JSON schema, as published with check-jsonschema."""
    schema = json.loads((files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json").read_text(encoding="utf-8"))
    return jsonschema.validators.validator_for(schema)(schema)


def test_it_follows_the_compose_specification(told: Json, specification: Any) -> None:
    assert [f"{error.json_path}: {error.message}" for error in specification.iter_errors(told)] == []


@pytest.mark.parametrize(("name", "value"), [("restrat", "always"), ("healthcheck", {"tset": []}), ("depends_on", {"x": {}})])
def test_the_specification_finds_mistakes(told: Json, specification: Any, name: str, value: Any) -> None:
    told["services"]["worker"][name] = value
    assert not specification.is_valid(told)


# -- closed to the outside


def test_ports_are_published_on_loopback_only(told: Json) -> None:
    published = {name: service.get("ports", []) for name, service in told["services"].items()}
    assert {name: ports for name, ports in published.items() if ports} == {"server": ["127.0.0.1:4200:4200"]}
    assert told["networks"]["database"] == {"internal": True}
    assert [name for name, service in told["services"].items() if "database" in service.get("networks", [])] == [
        "database",
        "server",
    ]


def test_no_service_reaches_into_the_machine(told: Json) -> None:
    reaching = {"privileged", "network_mode", "pid", "ipc", "cap_add", "devices", "extra_hosts"}
    for name, service in told["services"].items():
        assert not reaching & set(service), name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        for volume in service.get("volumes", []):
            source, _, mode = volume.partition(":")[0], *volume.rpartition(":")[1:]
            assert source in told["volumes"] or mode == "ro", f"{name}: {volume} lets a container change files of this machine"
            assert "docker.sock" not in volume


def test_no_secret_has_a_default() -> None:
    written = yaml.safe_load(FILE.read_text(encoding="utf-8"))["services"].values()
    given = [pair for service in written for pair in service.get("environment", {}).items()]
    secrets = [(name, value) for name, value in given if SECRET.search(name)]
    assert len(secrets) >= 8
    # passed on if it is set, or refused if it is not
    assert [pair for pair in secrets if not (pair[1] is None or re.fullmatch(r"\$\{\w+:\?[^}]+\}", pair[1]))] == []


@pytest.mark.parametrize("environment", [{}, {"POSTGRES_PASSWORD": ""}])
def test_without_a_password_nothing_starts(environment: dict[str, str]) -> None:
    with pytest.raises(Missing, match="POSTGRES_PASSWORD: set it in the environment"):
        compose(environment)


# -- runs for months


def test_every_service_is_watched_restarted_and_bounded(told: Json) -> None:
    once = {"deploy"}
    for name, service in told["services"].items():
        assert service["restart"] == ("no" if name in once else "unless-stopped"), name
        assert service["init"] is True and service["stop_grace_period"] == "60s", name
        assert service["logging"] == {"driver": "json-file", "options": {"max-size": "10m", "max-file": "5"}}, name
        check = service["healthcheck"]
        assert check == {"disable": True} if name in once else {"test", "interval", "timeout", "retries"} <= set(check), name


def test_services_wait_until_what_they_need_is_ready(told: Json) -> None:
    def waits(name: str) -> dict[str, str]:
        return {other: how["condition"] for other, how in told["services"][name].get("depends_on", {}).items()}

    assert waits("server") == {"database": "service_healthy"}
    assert waits("deploy") == {"server": "service_healthy"}
    ready = {"server": "service_healthy", "deploy": "service_completed_successfully", "vllm": "service_healthy"}
    assert waits("worker") == ready


def test_what_must_last_is_in_named_volumes(told: Json) -> None:
    kept = {name: [volume.split(":")[0] for volume in service.get("volumes", [])] for name, service in told["services"].items()}
    assert (
        "database" in kept["database"] and "store" in kept["worker"] and "models" in kept["vllm"] and "server" in kept["server"]
    )
    used = {name for volumes in kept.values() for name in volumes}
    assert set(told["volumes"]) <= used
    mounted = {name for name in used if name.startswith(".")}
    assert mounted == {"./flows", "./data"} and all((ROOT / name).is_dir() for name in mounted)


# -- the model server: there is no GPU here, so its arguments and its check only


def test_the_model_server_asks_for_a_gpu_and_only_in_its_profile(told: Json) -> None:
    vllm = told["services"]["vllm"]
    assert vllm["profiles"] == ["gpu"]
    assert vllm["deploy"]["resources"]["reservations"]["devices"] == [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}]
    assert told["services"]["worker"]["depends_on"]["vllm"]["required"] is False
    assert [name for name, service in told["services"].items() if service.get("profiles")] == ["vllm"]


def test_the_model_servers_arguments_are_documented(told: Json) -> None:
    command = told["services"]["vllm"]["entrypoint"] + told["services"]["vllm"]["command"]
    assert command[:2] == ["vllm", "serve"] and not command[2].startswith("-")
    names = [word.split("=")[0] for word in command[3:]]
    assert set(names) <= VLLM_ARGUMENTS
    other = os.environ.get("CURATE_VLLM_PYTHON") or str(ROOT / ".venv-vllm" / "bin" / "python")
    if Path(other).exists():
        parse = (
            "import sys; from vllm.utils.argparse_utils import FlexibleArgumentParser as P;"
            "from vllm.entrypoints.launchers.cli_args import make_arg_parser; make_arg_parser(P()).parse_args(sys.argv[1:])"
        )
        subprocess.run([other, "-c", parse, *command[2:]], check=True, timeout=300)


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False), (None, False)])
def test_the_model_servers_check(told: Json, tmp_path: Path, status: int | None, healthy: bool) -> None:
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert status is not None
            self.send_response(status if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Answer)
    port = server.server_port
    threading.Thread(target=server.serve_forever, daemon=True).start()
    if status is None:
        server.shutdown()
        server.server_close()
    try:
        service = Service.of("vllm", told["services"]["vllm"], {}).moved({":8000": f":{port}"})
        assert Machine(tmp_path, this_environment()).healthy(service) is healthy
    finally:
        if status is not None:
            server.shutdown()
            server.server_close()


# -- the image


class Line(NamedTuple):
    """An instruction of the image's recipe."""

    verb: str
    words: list[str]


def image(told: Json, name: str = "worker") -> list[Line]:
    text = told["services"][name]["build"]["dockerfile_inline"]
    return [Line(line.split()[0], shlex.split(line)[1:]) for line in text.splitlines() if line.strip()]


def sent() -> list[str]:
    """Files of a clean checkout that the builder gets to see."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    return [name for name in names if (ROOT / name).is_file() and not ignored(name)]


def ignored(name: str) -> bool:
    """Whether .dockerignore leaves a file out: the last line that fits it or a folder of its decides."""
    found = False
    parts = PurePosixPath(name).parts
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!").removeprefix("**/")
        anywhere = line.startswith("**/")
        starts = ["/".join(parts[: end + 1]) for end in range(len(parts))]
        if line and not line.startswith("#"):
            fits = any(
                fnmatch.fnmatchcase(start.split("/")[-1] if anywhere else start, pattern)
                and (anywhere or start.count("/") == pattern.count("/"))
                for start in starts
            )
            found = not line.startswith("!") if fits else found
    return found


def context(told: Json, folder: Path) -> Path:
    """What the image's COPY lines bring together."""
    seen = sent()
    for verb, words in image(told):
        if verb == "COPY":
            *sources, target = words
            for source in sources:
                brought = [name for name in seen if name == source or name.startswith(f"{source}/")]
                assert brought, f"COPY {source}: nothing of that name is sent to the builder"
                for name in brought:
                    at = folder / target / (PurePosixPath(name).relative_to(source) if target != "./" else name)
                    at.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(ROOT / name, at)
    return folder


def test_all_of_ours_run_one_image_as_a_user_of_its_own(told: Json) -> None:
    lines = image(told)
    assert lines == image(told, "server") == image(told, "deploy")
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", lines[0].words[0])
    assert [line.words for line in lines if line.verb == "USER"] == [["curate"]] and lines[-1].verb == "USER"
    assert {line.verb for line in lines} == {"FROM", "ENV", "WORKDIR", "COPY", "RUN", "USER"}
    made = next(line.words for line in lines if line.words[:2] == ["install", "--directory"])
    mounted = {"/store", "/prefect"}  # a new volume gets the owner of the folder it is laid over
    assert mounted <= set(made) and made[made.index("--owner") + 1] == "curate"


def test_the_builder_sees_nothing_else() -> None:
    names = sent()
    assert "curate/flow.py" in names and "data/samples/prompts.jsonl" in names and "flows/recipes/demo.yaml" in names
    assert {name.split("/")[0] for name in names} == {"curate", "flows", "data", "pyproject.toml", "README.md", "LICENSE"}
    assert all(map(ignored, [".env", "data/store/datasets/x", "tests/compose.py", "curate/__pycache__/x.pyc", ".git/config"]))


def test_what_is_copied_makes_a_wheel(told: Json, tmp_path: Path) -> None:
    folder = context(told, tmp_path / "build")
    build = [
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--wheel-dir",
        str(tmp_path),
        ".",
    ]
    subprocess.run([str(this_environment() / "python"), *build], check=True, cwd=folder)
    assert len(list(tmp_path.glob("curate-*.whl"))) == 1


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Programs as in the image: where CI=true its `pip install` is run in an environment of its own; else those of the tests."""
    if os.environ.get("CI") != "true":
        return this_environment()
    told = compose(PASSWORD)
    folder = tmp_path_factory.mktemp("image")
    subprocess.run([str(this_environment() / "python"), "-m", "venv", str(folder / "env")], check=True)
    environment = os.environ | {"PATH": f"{folder / 'env' / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    install = next(line.words for line in image(told) if line.verb == "RUN" and line.words[0] == "pip")
    subprocess.run(install, check=True, cwd=context(told, folder / "build"), env=environment, timeout=1200)
    return folder / "env" / "bin"


# -- everything started, in the order of the file


class Stack:
    """All services but the model server, on this machine."""

    def __init__(self, machine: Machine, cluster: Cluster) -> None:
        self.machine, self.cluster = machine, cluster
        self.port, worker_port = free_port(), free_port()
        home = machine.home
        places = {
            "0.0.0.0": "127.0.0.1",
            "//server:4200": f"//127.0.0.1:{self.port}",
            "4200": self.port,
            ":8080": f":{worker_port}",
            "/prefect": home / "prefect",
            "/store": home / "store",
            "/srv/curate/flows": ROOT / "flows",
        }
        given = {"POSTGRES_PASSWORD": cluster.password, "PREFECT_SERVER_API_AUTH_STRING": LOGIN, "PREFECT_API_AUTH_STRING": LOGIN}
        told = compose(given)["services"]
        services = {name: Service.of(name, told[name], given) for name in told}
        # a container's own folders and names; the password of the database is no place and stays as it is
        self.database, self.server, self.deploy, self.worker = (
            services[name].moved(places) for name in ("database", "server", "deploy", "worker")
        )
        self.server = _with(
            self.server,
            PREFECT_SERVER_DATABASE_HOST="127.0.0.1",
            PREFECT_SERVER_DATABASE_PORT=str(cluster.port),
            PREFECT_SERVER_DATABASE_PASSWORD=services["server"].environment["PREFECT_SERVER_DATABASE_PASSWORD"],
        )
        self.worker = _with(self.worker, PREFECT_WORKER_WEBSERVER_PORT=str(worker_port))

    def database_is_ready(self) -> bool:
        """pg_isready as the file has it, on the cluster's port."""
        return self.machine.healthy(self.database, PGPORT=str(self.cluster.port), also=str(self.cluster.programs))

    def post(self, path: str, body: Json) -> Any:
        """What the server's API answers."""
        headers = {"content-type": "application/json", "authorization": f"Basic {base64.b64encode(LOGIN.encode()).decode()}"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/api{path}", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=30) as reply:
            return json.load(reply)


def _with(service: Service, **more: str) -> Service:
    return replace(service, environment={**service.environment, **more})


@pytest.fixture(scope="module")
def stack(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    home = tmp_path_factory.mktemp("stack")
    for name in ("prefect", "store"):
        (home / name).mkdir()
    with private_cluster() as cluster:
        yield Stack(Machine(home, programs), cluster)


@pytest.mark.slow
def test_all_services_work_together(stack: Stack) -> None:
    machine = stack.machine
    assert stack.database_is_ready()
    assert not machine.healthy(stack.server) and not machine.healthy(stack.worker)
    with machine.running(stack.server) as server:
        machine.await_healthy(stack.server, server)
        assert int(stack.cluster.ask("SELECT count(*) FROM information_schema.tables WHERE table_name LIKE 'flow_run%'")) > 0
        for _ in range(2):  # each `up` deploys again
            done = machine.once(stack.deploy, stack.deploy.command)
            assert done.returncode == 0, done.stdout + done.stderr
        deployments = {one["name"]: one for one in stack.post("/deployments/filter", {})}
        assert set(deployments) == {"demo", "demo-refresh"}
        with machine.running(stack.worker) as worker:
            machine.await_healthy(stack.worker, worker)
            _run_to_its_end(stack, deployments["demo"])
            stack.cluster.stop()
            assert not stack.database_is_ready() and not machine.healthy(stack.server)
            stack.cluster.start()
            machine.await_healthy(stack.server, server)
        assert worker.returncode == 0 and not machine.healthy(stack.worker)
    _nothing_tells_the_password(stack)


def _run_to_its_end(stack: Stack, deployment: Json) -> None:
    run = stack.post(f"/deployments/{deployment['id']}/create_flow_run", {})
    deadline = time.monotonic() + 180
    while (state := stack.post("/flow_runs/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}})[0]["state"])["type"] not in (
        "COMPLETED",
        "FAILED",
        "CRASHED",
        "CANCELLED",
    ):
        assert time.monotonic() < deadline, state
        time.sleep(0.5)
    assert (state["type"], state["message"]) == ("COMPLETED", "published demo@v1")
    listed = stack.machine.once(stack.worker, ("curate", "versions"))
    assert "demo@v1" in listed.stdout, listed.stdout + listed.stderr


def _nothing_tells_the_password(stack: Stack) -> None:
    secret = stack.cluster.password.encode()
    for path in stack.machine.home.rglob("*"):
        if path.is_file():
            assert secret not in path.read_bytes(), path
