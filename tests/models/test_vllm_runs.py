"""Whole recipes with models that vLLM runs: in processes of its own, one after the other, and behind its own server."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from curate.models.asking import Request, Sampling
from curate.models.session import Session
from curate.models.spec import ModelSpec
from curate.publish.version import Stage
from curate.recipe import read_recipe
from curate.run import Done, run_recipe
from tests import tiny
from tests.models.vllms import SMALL, need_vllm, spec, workers

pytestmark = pytest.mark.slow
OPTIONS = json.dumps(SMALL)
STEPS = """steps:
  - generate: {model: policy, n: 3, seed: 7, temperature: 1.0, max_tokens: 16}
  - judge: {model: policy, rubric: helpfulness, rationale: false, max_tokens: 60}
"""
REWARDED = """  - reward: {model: rm}
  - pair: {by: "rm:reward", how: best_worst}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need_vllm()
    made = tmp_path_factory.mktemp("tiny")
    tiny.chat_model(made / "chat", positions=4096)
    tiny.reward_model(made / "rm")
    (made / "prompts.jsonl").write_text("".join(json.dumps({"prompt": f"Question {i}?"}) + "\n" for i in range(8)))
    return made


def run(folder: Path, store: Path, models: str, steps: str) -> Done:
    path = store.with_suffix(".yaml")
    source = f"source: {{path: {folder}/prompts.jsonl, rows: prompts}}\n"
    path.write_text(f"name: d\nmodels:\n{models}{source}{steps}")
    return run_recipe(read_recipe(path), store)


def in_process(folder: Path) -> str:
    return (
        f"  policy: {{backend: vllm, name: {folder}/chat, options: {OPTIONS}}}\n"
        f"  rm: {{backend: vllm, name: {folder}/rm, kind: reward, options: {OPTIONS}}}\n"
    )


def free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        found: int = made.getsockname()[1]
        return found


class Watching:
    """The workers alive at every moment."""

    def __init__(self) -> None:
        self.seen: list[list[int]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._over.wait(0.02):
            if (alive := workers()) and (not self.seen or self.seen[-1] != alive):
                self.seen.append(alive)

    def __enter__(self) -> "Watching":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def test_generate_judge_reward_pair_with_one_engine_at_a_time(folder: Path, tmp_path: Path) -> None:
    with Watching() as watching:
        done = run(folder, tmp_path / "store", in_process(folder), STEPS + REWARDED)
    assert len(watching.seen) == 2 and all(len(alive) == 1 for alive in watching.seen)  # policy and judge share one
    assert not workers()
    counts = {stage.name: stage.counts for stage in done.stages}
    assert counts["generate"]["made"] == 24 and not any("errors" in count for count in counts.values())
    with Watching() as watching:
        again = run(folder, tmp_path / "store", in_process(folder), STEPS + REWARDED)
    assert not again.published and not watching.seen


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[str]:
    """vLLM's own server with the same model."""
    port = free_port()
    settings = json.dumps({"backend": "xgrammar", "disable_any_whitespace": True})
    command = [str(need_vllm()), "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder / "chat")]
    command += ["--served-model-name", "tiny", "--host", "127.0.0.1", "--port", str(port), "--dtype", "float32"]
    command += ["--enforce-eager", "--structured-outputs-config", settings]
    variables = os.environ | {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=variables, start_new_session=True)
    try:
        deadline = time.monotonic() + 300
        while process.poll() is None and time.monotonic() < deadline:
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as answer:
                if answer.status == 200:
                    break
            time.sleep(0.5)
        else:
            pytest.fail((folder / "server.log").read_text(errors="replace")[-3000:])
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def by_name(done: Done) -> dict[str, Stage]:
    return {stage.name: stage for stage in done.stages}


def texts(done: Done) -> list[tuple[str, str]]:
    rows = [row for path in sorted((done.version.path / "responses").glob("*.arrow")) for row in read_arrow(path)]
    return sorted((row["prompt"][0]["content"], row["response"]) for row in rows)


def read_arrow(path: Path) -> list[dict[str, Any]]:
    with pa.OSFile(str(path)) as source:
        found: list[dict[str, Any]] = pa.ipc.open_file(source).read_all().to_pylist()
        return found


def test_the_same_recipe_behind_vllms_own_server_gives_the_same_answers(folder: Path, server: str, tmp_path: Path) -> None:
    behind = ModelSpec(backend="openai", name="tiny", base_url=server)
    remote = run(folder, tmp_path / "remote", f"  policy: {{backend: openai, name: tiny, base_url: '{server}'}}\n", STEPS)
    local = run(folder, tmp_path / "local", in_process(folder).splitlines()[0] + "\n", STEPS)
    assert len(texts(remote)) == len(texts(local)) == 24
    assert {name: stage.counts for name, stage in by_name(remote).items()} == {
        name: stage.counts for name, stage in by_name(local).items()
    }
    schema = {"type": "object", "properties": {"mark": {"type": "integer"}}, "required": ["mark"], "additionalProperties": False}
    greedy, seeded = Sampling(temperature=0.0, max_tokens=16), Sampling(temperature=1.0, max_tokens=16, logprobs=2)
    asked = [Request(({"role": "user", "content": f"Question {i}?"},), greedy) for i in range(4)]
    asked += [Request(({"role": "user", "content": f"Question {i}?"},), seeded, seed=i) for i in range(4)]
    asked += [Request(({"role": "user", "content": "?"},), greedy, response_format={"name": "v", "schema": schema})]
    with Session({"remote": behind, "local": spec(folder / "chat")}, tmp_path / "store") as session:
        theirs, ours = session.chat("remote").reply(asked), session.chat("local").reply(asked)
    assert [reply.text for reply in theirs] == [reply.text for reply in ours]
    assert [reply.finish_reason for reply in theirs] == [reply.finish_reason for reply in ours]
    assert [reply.prompt_tokens for reply in theirs] == [reply.prompt_tokens for reply in ours]
    assert [row["token"] for row in theirs[4].logprobs or ()] == [row["token"] for row in ours[4].logprobs or ()]


def test_a_worker_does_not_outlive_a_parent_that_is_killed(folder: Path, tmp_path: Path) -> None:
    script = f"""
import json
from pathlib import Path
from curate.models.asking import Request, Sampling
from curate.models.session import Session
from tests.models.vllms import spec
with Session({{"m": spec(Path({str(folder / "chat")!r}))}}, Path({str(tmp_path)!r})) as session:
    session.chat("m").reply([Request(({{"role": "user", "content": "x"}},), Sampling(max_tokens=4))])
    print(session._backends["m", "chat"].engine.pid, flush=True)
    session.chat("m").reply([Request(({{"role": "user", "content": str(i)}},), Sampling(max_tokens=400)) for i in range(400)])
"""
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=root, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        parent.kill()
        deadline = time.monotonic() + 15
        while Path(f"/proc/{worker}").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not Path(f"/proc/{worker}").exists()
