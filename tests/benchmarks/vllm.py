"""Our vLLM back end beside bare `LLM.chat`: the same tiny model, prompts and environment, two processes on the same cores.

    python -m tests.benchmarks.vllm [--prompts 1000] [--tokens 64] [--rounds 7]

Ours counts everything from the requests to the replies in the ledger on the disk; neither counts loading the model.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from curate.models.asking import Request, Sampling
from curate.models.session import Session
from curate.models.vllm_install import need_interpreter
from tests import tiny
from tests.models.vllms import spec

TARGET = 0.9
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
    began = time.perf_counter()
    outputs = llm.chat(prompts, ask, use_tqdm=False)
    seconds = time.perf_counter() - began
    print("ROUND", json.dumps({"seconds": seconds, "tokens": sum(len(o.outputs[0].token_ids) for o in outputs)}), flush=True)
"""


def requests(prompts: list[str], tokens: int, round_: int) -> list[Request]:
    sampling = Sampling(max_tokens=tokens, temperature=1.0)
    return [Request(({"role": "user", "content": f"{text} {round_}"},), sampling, seed) for seed, text in enumerate(prompts)]


class Ours:
    """A session with one model."""

    def __init__(self, folder: Path, prompts: list[str], tokens: int, root: Path) -> None:
        self.session = Session({"m": spec(folder)}, root)
        self.prompts, self.tokens = prompts, tokens

    def __call__(self, round_: int) -> float:
        """Tokens a second."""
        chat = self.session.chat("m")
        began = time.perf_counter()
        replies = chat.reply(requests(self.prompts, self.tokens, round_))
        self.session.ledger.sync()
        seconds = time.perf_counter() - began
        assert all(reply.usable for reply in replies)
        return sum(reply.response_tokens or 0 for reply in replies) / seconds

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

    def __call__(self, round_: int) -> float:
        """Tokens a second."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{round_}\n")
        self.process.stdin.flush()
        line = next(line for line in self.process.stdout if line.startswith("ROUND "))
        found = json.loads(line.removeprefix("ROUND "))
        return float(found["tokens"] / found["seconds"])

    def close(self) -> None:
        self.process.communicate()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompts", type=int, default=1000)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    told = parser.parse_args()
    prompts = [f"Please explain precisely why the answer is {i} and not {i + 1}" for i in range(told.prompts)]
    with tempfile.TemporaryDirectory() as root:
        folder = tiny.chat_model(Path(root) / "chat")
        sides = {"LLM.chat": Bare(folder, prompts, told.tokens), "curate": Ours(folder, prompts, told.tokens, Path(root) / "s")}
        try:
            # by turns, so that what else the machine does falls on both; the first round loads and warms
            rounds = [{name: side(round_) for name, side in sides.items()} for round_ in range(told.rounds + 1)][1:]
        finally:
            for side in sides.values():
                side.close()
    for name in sides:
        rates = [one[name] for one in rounds]
        print(f"{name:9s} median {statistics.median(rates):7,.0f}, best {max(rates):7,.0f} tokens/s; {told.prompts} prompts")
    share = statistics.median(one["curate"] / one["LLM.chat"] for one in rounds)
    best = max(one["curate"] for one in rounds) / max(one["LLM.chat"] for one in rounds)
    print(f"curate ÷ LLM.chat: {share:.2f} in the median round, {best:.2f} best against best (target ≥ {TARGET})")


if __name__ == "__main__":
    main()
