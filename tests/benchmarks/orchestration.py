"""What orchestrating model calls costs: curate, the openai SDK alone, curator and distilabel, on one local server.

    python -m tests.benchmarks.orchestration [--requests 10000] [--at-once 64 256] [--rounds 3]
                                             [--replay 10000 20000 100000] [--peers] [--pin]

The server runs in a process of its own and answers about 1 KB after 50 ms. Each client runs in a fresh process and an
environment of its own under build/bench-venvs, made with pip where it is missing (`--peers` for curator and distilabel;
what cannot be installed or fails is named with the reason). They take turns, in rounds, and the middle round is printed.
Each does eight prompts first, so that nobody is charged for imports.

`curate run` is everything from a file of prompts to a published version, with ledger and retries; `step generate` is the
part of it from the prompts in a shard to responses in Arrow on disk. `replay` is the same run in a fresh process and a
store that holds nothing but the ledger. CPU is user and system time of the client and the processes it started; memory is the
proportional set size of all of them together, sampled every 50 ms; load is the machine's as each client ended. `fixed` is
what a run of eight prompts costs in a warm process, without the 50 ms that it waits: what no number of requests changes.
The ideal is answers in full rounds of 50 ms; `floor` is how near to it a client comes that does nothing but send and receive
bytes, on this machine and at this moment. `--pin` gives the server a core of its own.
"""

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

# curate, numpy and the peers are imported where they are used: this file runs in environments that have only one of them

LATENCY = 0.05
WARM_UP = 8
ANSWER_TOKENS = 400
TARGETS = {"cpu_us": 450, "wall_ratio": 1.2, "replay": 20_000}
VENVS = Path("build") / "bench-venvs"
PACKAGES = {"openai": ["openai"], "curator": ["bespokelabs-curator"], "distilabel": ["distilabel[openai]", "requests"]}
RECIPE = """
name: bench
models:
  m: {{backend: openai, name: m, base_url: {url}, options: {{concurrency: {at_once}, max_concurrency: {at_once}}}}}
source: {{path: {path}, rows: prompts, columns: {{prompt: prompt}}}}
steps:
  - generate: {{model: m, temperature: 0.7, max_tokens: {tokens}}}
"""
Numbers = dict[str, float]
Cores = set[int] | None
"""Where a process may run; None: anywhere."""


def prompts(count: int) -> list[str]:
    """Different questions of about 450 characters."""
    return [f"Question {number}. " + "Why is the sky blue? " * 20 for number in range(count)]


def spent() -> tuple[float, float]:
    """CPU seconds of this process and those it started and waited for, and the wall clock."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system, time.perf_counter()


def measured(work: Callable[[], int]) -> Numbers:
    """CPU and wall of some work, which says how many answers it has."""
    cpu, wall = spent()
    answers = work()
    after = spent()
    return {"answers": answers, "cpu": after[0] - cpu, "wall": after[1] - wall}


# -- clients, each run in a process of its own


def curate(url: str, requests: int, at_once: int, folder: Path) -> Numbers:
    """A recipe with one `generate` step, run as `curate run` runs it."""
    from curate.recipe import read_recipe
    from curate.run import Run, Silence
    from curate.store.store import Store

    class Watch(Silence):
        def __init__(self) -> None:
            self.begun, self.ended, self.rows = spent(), spent(), 0

        def started(self, step: str, rows: int | None) -> None:
            if step == "generate":
                self.begun = spent()

        def finished(self, stage: Any, seconds: float, reused: bool) -> None:
            if stage.name == "generate":
                self.ended = spent()
                self.rows = stage.snapshot.kept

    def run(count: int, place: Path) -> tuple[Numbers, Watch]:
        place.mkdir(parents=True, exist_ok=True)
        data, recipe, watch = place / "prompts.jsonl", place / "recipe.yaml", Watch()
        if not data.exists():
            data.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in prompts(count)))
        recipe.write_text(RECIPE.format(url=url, at_once=at_once, path=data, tokens=ANSWER_TOKENS))

        def work() -> int:
            Run(read_recipe(recipe), Store(place / "store"), watch=watch)()
            return watch.rows

        return measured(work), watch

    with tempfile.TemporaryDirectory(prefix="curate-bench-") as warm:
        run(WARM_UP, Path(warm) / "first")
        fixed, _ = run(WARM_UP, Path(warm) / "second")
    numbers, watch = run(requests, folder)
    step = {"step_cpu": watch.ended[0] - watch.begun[0], "step_wall": watch.ended[1] - watch.begun[1]}
    return numbers | step | {"fixed_cpu": fixed["cpu"], "fixed_wall": fixed["wall"] - LATENCY, "warm_up": 2 * WARM_UP}


def floor(url: str, requests: int, at_once: int, folder: Path) -> Numbers:
    """One fixed request over hand-written protocols, whose answers nobody reads: what server and machine allow just now."""
    from tests.benchmarks.transport import measure

    found = asyncio.run(measure("floor", url, requests, at_once))
    rounds = -(-requests // at_once)
    return {"answers": requests, "cpu": found["cpu_us"] * requests / 1e6, "wall": found["wall_ratio"] * rounds * LATENCY}


def plain_sdk(url: str, requests: int, at_once: int, folder: Path) -> Numbers:
    """The SDK with a semaphore, as its users write it; nothing is kept."""
    import openai

    async def ask(texts: list[str]) -> int:
        semaphore = asyncio.Semaphore(at_once)
        async with openai.AsyncOpenAI(base_url=url, api_key="none") as client:

            async def one(text: str) -> str | None:
                async with semaphore:
                    reply = await client.chat.completions.create(
                        model="m", messages=[{"role": "user", "content": text}], temperature=0.7, max_tokens=ANSWER_TOKENS
                    )
                    return reply.choices[0].message.content

            return sum(answer is not None for answer in await asyncio.gather(*map(one, texts)))

    asyncio.run(ask(prompts(WARM_UP)))
    return measured(lambda: asyncio.run(ask(prompts(requests))))


def curator(url: str, requests: int, at_once: int, folder: Path) -> Numbers:
    """Bespoke curator with its rate limits out of the way."""
    for name in ("TELEMETRY_ENABLED", "CURATOR_VIEWER"):
        os.environ[name] = "0"
    os.environ.update(CURATOR_CACHE_DIR=str(folder), CURATOR_DISABLE_RICH_DISPLAY="1", OPENAI_API_KEY="none")
    import litellm  # type: ignore[import-not-found]

    carried = Path(litellm.__file__).parent / "litellm_core_utils" / "tokenizers"  # the vocabularies, without a download
    os.environ["TIKTOKEN_CACHE_DIR"] = str(carried)
    from bespokelabs import curator as library  # type: ignore[import-not-found]

    rates = {"max_requests_per_minute": 10**8, "max_tokens_per_minute": 10**11, "max_concurrent_requests": at_once}
    model = library.LLM(
        model_name="m",
        backend="openai",
        backend_params={"base_url": url, "api_key": "none", **rates},
        generation_params={"temperature": 0.7, "max_tokens": ANSWER_TOKENS},
    )

    def ask(texts: list[str]) -> int:
        answers = model(texts)
        return len(getattr(answers, "dataset", answers))

    ask(["Warm up. " + text for text in prompts(WARM_UP)])
    return measured(lambda: ask(prompts(requests)))


def distilabel(url: str, requests: int, at_once: int, folder: Path) -> Numbers:
    """distilabel's TextGeneration, a batch as large as what is in flight."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    from distilabel.models.llms import OpenAILLM  # type: ignore[import-not-found]
    from distilabel.pipeline import Pipeline  # type: ignore[import-not-found]
    from distilabel.steps import LoadDataFromDicts  # type: ignore[import-not-found]
    from distilabel.steps.tasks import TextGeneration  # type: ignore[import-not-found]

    def ask(texts: list[str]) -> int:
        with Pipeline(name=f"bench-{len(texts)}", cache_dir=folder) as pipeline:
            load = LoadDataFromDicts(data=[{"instruction": text} for text in texts], batch_size=at_once)
            model = OpenAILLM(
                model="m",
                base_url=url,
                api_key="none",
                generation_kwargs={"temperature": 0.7, "max_new_tokens": ANSWER_TOKENS},
            )
            load >> TextGeneration(llm=model, input_batch_size=at_once)
        rows = pipeline.run(use_cache=False)["default"]["train"]
        return sum(answer is not None for answer in rows["generation"])

    ask(prompts(WARM_UP))
    return measured(lambda: ask(prompts(requests)))


CLIENTS = {"floor": floor, "curate": curate, "openai": plain_sdk, "curator": curator, "distilabel": distilabel}


# -- taking turns


def environment(name: str) -> str:
    """The interpreter of a client's own environment. Raises RuntimeError if it cannot be made."""
    if name not in PACKAGES:
        return sys.executable
    folder = VENVS / name
    python, ready = folder / "bin" / "python", folder / "ready"
    if not ready.exists():
        print(f"installing {' '.join(PACKAGES[name])} into {folder}", file=sys.stderr)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES[name]]
        for command in ([sys.executable, "-m", "venv", str(folder)], pip):
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"cannot be installed: {last_line(done.stderr)}")
        ready.touch()
    return str(python)


def last_line(text: str) -> str:
    """What an error message comes down to."""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1].strip()[:200] if lines else "no message"


def plan(url: str) -> None:
    """Tell the server how to answer, and let it forget what was asked before: a long log slows it down."""
    for page, body in (("/_reset", {}), ("/_plan", {"latency_s": LATENCY, "static": 700})):
        urllib.request.urlopen(urllib.request.Request(url + page, data=json.dumps(body).encode())).close()


def asked_of(url: str) -> int:
    """Requests that the server has seen since then."""
    with urllib.request.urlopen(url + "/_log?summary") as told:
        return int(json.load(told)["count"])


def one(client: str, python: str, url: str, requests: int, at_once: int, folder: Path, cores: Cores) -> Numbers:
    """A client in a fresh process, and the most memory it took. Raises RuntimeError with the reason if it fails."""
    from tests.benchmarks.scale import pss

    command = [python, "-m", "tests.benchmarks.orchestration", "--client", client, "--url", url + "/v1"]
    command += ["--requests", str(requests), "--at-once", str(at_once), "--folder", str(folder)]
    folder.parent.mkdir(parents=True, exist_ok=True)
    errors = folder.with_suffix(".err")
    peak = 0
    plan(url)
    with errors.open("w") as told, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=told, text=True) as process:
        stop = threading.Event()

        def sample() -> None:
            nonlocal peak
            while not stop.wait(0.05):
                peak = max(peak, pss(process.pid))

        if cores is not None:
            os.sched_setaffinity(process.pid, cores)
        thread = threading.Thread(target=sample)
        thread.start()
        try:
            out, _ = process.communicate(timeout=600)
        except subprocess.TimeoutExpired:
            process.kill()
            raise RuntimeError("took more than ten minutes") from None
        finally:
            stop.set()
            thread.join()
    if process.returncode:
        raise RuntimeError(last_line(errors.read_text()))
    found: Numbers = json.loads(out.splitlines()[-1])
    if found["answers"] != requests:
        raise RuntimeError(f"{found['answers']} of {requests} answered: {last_line(errors.read_text())}")
    found["sent"] = asked_of(url) - found.get("warm_up", WARM_UP)
    return found | {"peak": peak / 1e6, "load": os.getloadavg()[0]}


class Turns:
    """Clients that take turns, and why some no longer do."""

    def __init__(self, url: str, clients: Iterable[str], scratch: Path, cores: Cores = None) -> None:
        self.url = url
        self.cores = cores
        self.scratch = scratch
        self.left_out: dict[str, str] = {}
        self.pythons: dict[str, str] = {}
        for client in clients:
            try:
                self.pythons[client] = environment(client)
            except (RuntimeError, OSError) as problem:
                self.left_out[client] = str(problem)

    def rounds(self, requests: int, at_once: int, rounds: int) -> dict[str, Numbers]:
        """The middle round of each client."""
        found: dict[str, list[Numbers]] = {client: [] for client in self.pythons}
        for turn in range(rounds):
            for client in list(self.pythons):
                folder = self.scratch / f"{client}-{at_once}-{turn}"
                try:
                    numbers = one(client, self.pythons[client], self.url, requests, at_once, folder, self.cores)
                except RuntimeError as problem:
                    self.left_out[client] = f"failed at {at_once} in flight: {problem}"
                    del self.pythons[client]
                    continue
                finally:
                    shutil.rmtree(folder, ignore_errors=True)
                if numbers["sent"] < requests:
                    self.left_out[client] = f"asked only {numbers['sent']:.0f} of {requests} at {at_once} in flight"
                    del self.pythons[client]
                    continue
                found[client].append(numbers)
        return {client: middle(turns) for client, turns in found.items() if turns}

    def replays(self, rows: int, rounds: int) -> list[Numbers]:
        """The ledger filled once, then rows served from it into a new store each time."""
        first, found = self.scratch / f"first-{rows}", []
        one("curate", sys.executable, self.url, rows, 256, first, self.cores)
        for turn in range(rounds):
            folder = self.scratch / f"replay-{turn}"
            shutil.copytree(first / "store" / "ledger", folder / "store" / "ledger")
            found.append(one("curate", sys.executable, self.url, rows, 256, folder, self.cores))
            shutil.rmtree(folder)
        shutil.rmtree(first)
        return found


def middle(turns: list[Numbers]) -> Numbers:
    """Each number's median."""
    return {key: statistics.median(turn[key] for turn in turns) for key in turns[0]}


def lines(found: dict[str, Numbers], requests: int, at_once: int) -> list[str]:
    """The clients side by side."""
    rows = []
    for client, numbers in found.items():
        rows.append((client + " run" * (client == "curate"), numbers["cpu"], numbers["wall"], numbers))
        if "step_cpu" in numbers:
            rows.append(("  step generate", numbers["step_cpu"], numbers["step_wall"], numbers))
    ideal = -(-requests // at_once) * LATENCY
    ours = found["curate"]["cpu"] if "curate" in found else float("nan")
    table = [
        f"{at_once:>9}  {name:<16}{cpu / requests * 1e6:>17,.0f}{cpu / ours:>10.2f}{wall / ideal:>14.2f}"
        f"{told['peak']:>13,.0f}{told['load']:>7.1f}"
        for name, cpu, wall, told in rows
    ]
    fixed = [
        f"{'':>9}  {'fixed':<16}{numbers['fixed_cpu'] * 1000:.0f} ms CPU and {numbers['fixed_wall'] * 1000:.0f} ms a run"
        for numbers in found.values()
        if "fixed_cpu" in numbers
    ]
    return table + fixed


def main() -> None:
    """Measure, or be one of the clients."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--at-once", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--replay", type=int, nargs="*", default=[10_000, 20_000, 100_000], help="rows served from the ledger")
    parser.add_argument("--pin", action="store_true", help="the server on a core of its own, the clients on the others")
    parser.add_argument("--peers", action="store_true", help="curator and distilabel as well: gigabytes to install")
    for hidden in ("--client", "--url", "--folder"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.client:
        with contextlib.redirect_stdout(sys.stderr):  # libraries talk
            numbers = CLIENTS[told.client](told.url, told.requests, told.at_once[0], Path(told.folder))
        print(json.dumps(numbers))
        return
    scratch = Path(tempfile.mkdtemp(prefix="curate-bench-", dir=os.environ.get("TMPDIR")))
    server = subprocess.Popen([sys.executable, "-m", "tests.models.server"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout
        url = server.stdout.readline().strip()
        cores: Cores = None
        if told.pin and len(usable := sorted(os.sched_getaffinity(0))) > 1:
            os.sched_setaffinity(server.pid, usable[-1:])
            cores = set(usable[:-1])
        turns = Turns(url, ["floor", "curate", "openai", *(("curator", "distilabel") if told.peers else ())], scratch, cores)
        print(
            f"{told.requests:,} requests, answers of ~1 KB after {LATENCY * 1000:g} ms, middle of {told.rounds} rounds, "
            f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
        )
        names = f"{'CPU us a request':>17}{'x curate':>10}{'wall / ideal':>14}{'peak PSS MB':>13}{'load':>7}"
        print(f"{'in flight':>9}  {'client':<16}{names}")
        for at_once in told.at_once:
            print("\n".join(lines(turns.rounds(told.requests, at_once, told.rounds), told.requests, at_once)), flush=True)
        print(f"{'':>9}  {'target':<16}{'<= ' + str(TARGETS['cpu_us']):>17}{'':>10}{'<= ' + str(TARGETS['wall_ratio']):>14}")
        for rows in told.replay:
            found = turns.replays(rows, told.rounds)
            row = middle(found)
            print(
                f"replay of {rows:,} rows: {rows / row['step_wall']:,.0f} rows/s in the step "
                f"({row['step_cpu'] / rows * 1e6:.0f} us CPU a row), {rows / row['wall']:,.0f} rows/s of the whole run "
                f"({row['cpu'] / rows * 1e6:.0f} us), best {rows / min(n['wall'] for n in found):,.0f}, "
                f"{max(n['sent'] for n in found):.0f} calls made (target {TARGETS['replay']:,} and 0), load {row['load']:.1f}",
                flush=True,
            )
        for client, reason in turns.left_out.items():
            print(f"left out: {client}, {reason}")
        print(f"load at the end {os.getloadavg()[0]:.1f}")
    finally:
        server.kill()
        server.wait()
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
