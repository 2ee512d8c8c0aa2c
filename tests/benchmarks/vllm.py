"""Our vLLM back end beside bare `LLM.chat`: the same tiny model, prompts and environment, two processes on the same cores.

    python -m tests.benchmarks.vllm [--prompts 1000] [--tokens 64] [--rounds 8] [--minutes 8]

Ours counts everything from the requests to the replies in the ledger on the disk; neither counts loading the model. Both
answer a round one after the other, each first in every other round, so that what else the machine does falls on both; the
time of a round is told by the clock and in CPU seconds, which a busy machine does not stretch.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from curate.models.asking import Request, Sampling
from curate.models.session import Session
from curate.models.vllm_install import need_interpreter
from tests import tiny
from tests.models.vllms import spec

TARGET = 0.9
TICKS = os.sysconf("SC_CLK_TCK")
BARE = """
import json, os, sys, time
told = json.loads(sys.argv[1])
os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
os.environ["VLLM_CPU_KVCACHE_SPACE"] = "1"
from vllm import LLM, SamplingParams

llm = LLM(model=told["model"], dtype="float32", enforce_eager=True, enable_chunked_prefill=False)
for line in sys.stdin:
    round_ = int(line)
    prompts = [[{"role": "user", "content": f"{text} {round_}"}] for text in told["prompts"]]
    ask = [SamplingParams(max_tokens=told["tokens"], temperature=1.0, seed=i, ignore_eos=False) for i in range(len(prompts))]
    began, used = time.perf_counter(), time.process_time()
    outputs = llm.chat(prompts, ask, use_tqdm=False)
    seconds, used = time.perf_counter() - began, time.process_time() - used
    tokens = sum(len(o.outputs[0].token_ids) for o in outputs)
    print("ROUND", json.dumps({"seconds": seconds, "engine": used, "tokens": tokens}), flush=True)
"""


class Round(NamedTuple):
    """What one side took for all prompts."""

    tokens: int
    seconds: float
    engine: float
    """CPU seconds of the process that vLLM is in."""
    rest: float = 0.0
    """CPU seconds of curate's own process."""

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return self.tokens / self.seconds

    @property
    def cpu(self) -> float:
        """CPU microseconds a token."""
        return 1e6 * (self.engine + self.rest) / self.tokens


def requests(prompts: list[str], tokens: int, round_: int) -> list[Request]:
    sampling = Sampling(max_tokens=tokens, temperature=1.0)
    return [Request(({"role": "user", "content": f"{text} {round_}"},), sampling, seed) for seed, text in enumerate(prompts)]


def cpu_of(process: int) -> float:
    """CPU seconds of another process so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


class Ours:
    """A session with one model."""

    def __init__(self, folder: Path, prompts: list[str], tokens: int, root: Path) -> None:
        self.session = Session({"m": spec(folder)}, root)
        self.prompts, self.tokens = prompts, tokens

    def __call__(self, round_: int) -> Round:
        """One round; in the first, the model is loaded."""
        chat = self.session.chat("m")
        engine = self.session._backend("m", "chat").engine
        asked = requests(self.prompts, self.tokens, round_)
        before = cpu_of(engine.pid) if engine.pid else 0.0
        began, used = time.perf_counter(), time.process_time()
        replies = chat.reply(asked)
        self.session.ledger.sync()
        seconds, used = time.perf_counter() - began, time.process_time() - used
        assert all(reply.usable for reply in replies)
        return Round(sum(reply.response_tokens or 0 for reply in replies), seconds, cpu_of(engine.pid) - before, used)

    def close(self) -> None:
        self.session.close()


class Bare:
    """A process that calls LLM.chat."""

    def __init__(self, folder: Path, prompts: list[str], tokens: int) -> None:
        told = json.dumps({"model": str(folder), "prompts": prompts, "tokens": tokens})
        self.process = subprocess.Popen(
            [str(need_interpreter()), "-c", BARE, told],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def __call__(self, round_: int) -> Round:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{round_}\n")
        self.process.stdin.flush()
        line = next(line for line in self.process.stdout if line.startswith("ROUND "))
        return Round(**json.loads(line.removeprefix("ROUND ")))

    def close(self) -> None:
        self.process.communicate()


def measured(told: argparse.Namespace) -> dict[str, list[Round]]:
    """Rounds of both sides."""
    prompts = [f"Please explain precisely why the answer is {i} and not {i + 1}" for i in range(told.prompts)]
    with tempfile.TemporaryDirectory() as root:
        folder = tiny.chat_model(Path(root) / "chat")
        sides: dict[str, Bare | Ours] = {
            "LLM.chat": Bare(folder, prompts, told.tokens),
            "curate": Ours(folder, prompts, told.tokens, Path(root) / "s"),
        }
        rounds: dict[str, list[Round]] = {name: [] for name in sides}
        deadline = time.monotonic() + told.minutes * 60
        try:
            for side in sides.values():
                side(-1)  # loads and warms
            for round_ in range(told.rounds):
                for name in list(sides)[:: 1 if round_ % 2 else -1]:
                    rounds[name].append(sides[name](round_))
                if time.monotonic() > deadline and round_ % 2:
                    break
        finally:
            for side in sides.values():
                side.close()
    return rounds


def main() -> None:
    """Print both sides and their ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompts", type=int, default=1000)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=8.0, help="No new rounds after this.")
    told = parser.parse_args()
    rounds = measured(told)
    print(f"{told.prompts} prompts, {len(rounds['curate'])} rounds; medians")
    for name, found in rounds.items():
        rate, cpu = statistics.median(one.rate for one in found), statistics.median(one.cpu for one in found)
        rest = 1e6 * statistics.median(one.rest / told.prompts for one in found)
        own = f", {rest:.0f} µs a reply of them in curate's process" if rest else ""
        print(f"{name:9s} {rate:8,.0f} tokens/s, {cpu:6.1f} CPU µs a token{own}")
    pairs = list(zip(rounds["curate"], rounds["LLM.chat"], strict=True))
    shares = sorted(ours.rate / bare.rate for ours, bare in pairs)
    costs = sorted(bare.cpu / ours.cpu for ours, bare in pairs)
    engine = statistics.median((bare.engine / bare.tokens) / (ours.engine / ours.tokens) for ours, bare in pairs)
    print(
        f"throughput, curate ÷ LLM.chat: {statistics.median(shares):.2f} ({shares[0]:.2f} to {shares[-1]:.2f}), target ≥ {TARGET}"
    )
    print(f"tokens a CPU second, curate ÷ LLM.chat: {statistics.median(costs):.2f} ({costs[0]:.2f} to {costs[-1]:.2f})")
    print(f"the same of the processes that vLLM is in: {engine:.2f}")


if __name__ == "__main__":
    main()
