"""Our vLLM back end beside bare `LLM.chat`: the same tiny model, prompts and environment, two processes on the same cores.

    python -m tests.benchmarks.vllm [--prompts 1000] [--tokens 64] [--rounds 3]

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
from tests.models.vllms import SMALL, spec

TARGET = 0.9
BARE = """
import json, os, sys, time
told = json.loads(sys.argv[1])
os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
os.environ["VLLM_CPU_KVCACHE_SPACE"] = "1"
from vllm import LLM, SamplingParams

llm = LLM(model=told["model"], dtype="float32", enforce_eager=True, seed=0)
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


def ours(folder: Path, prompts: list[str], tokens: int, rounds: int) -> list[tuple[float, int]]:
    measured = []
    with tempfile.TemporaryDirectory() as root, Session({"m": spec(folder)}, Path(root)) as session:
        chat = session.chat("m")
        for round_ in range(rounds + 1):
            began = time.perf_counter()
            replies = chat.reply(requests(prompts, tokens, round_))
            session.ledger.sync()
            seconds = time.perf_counter() - began
            assert all(reply.usable for reply in replies)
            measured.append((seconds, sum(reply.response_tokens or 0 for reply in replies)))
    return measured[1:]  # the first loads the model


def bare(folder: Path, prompts: list[str], tokens: int, rounds: int) -> list[tuple[float, int]]:
    told = json.dumps({"model": str(folder), "prompts": prompts, "tokens": tokens})
    command = [str(need_interpreter()), "-c", BARE, told]
    measured = []
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        for round_ in range(rounds + 1):
            process.stdin.write(f"{round_}\n")
            process.stdin.flush()
            line = next(line for line in process.stdout if line.startswith("ROUND "))
            found = json.loads(line.removeprefix("ROUND "))
            measured.append((found["seconds"], found["tokens"]))
        process.stdin.close()
    return measured[1:]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompts", type=int, default=1000)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    told = parser.parse_args()
    prompts = [f"Please explain precisely why the answer is {i} and not {i + 1}" for i in range(told.prompts)]
    with tempfile.TemporaryDirectory() as root:
        folder = tiny.chat_model(Path(root) / "chat")
        rates = {}
        for name, measure in (("LLM.chat", bare), ("curate", ours)):
            found = measure(folder, prompts, told.tokens, told.rounds)
            rates[name] = statistics.median(tokens / seconds for seconds, tokens in found)
            seconds = ", ".join(f"{one:.1f}" for one, _ in found)
            print(f"{name:9s} {rates[name]:9,.0f} tokens/s, {told.prompts} prompts in {seconds} s ({SMALL['dtype']})")
        share = rates["curate"] / rates["LLM.chat"]
        print(f"curate ÷ LLM.chat: {share:.2f} (target ≥ {TARGET})")


if __name__ == "__main__":
    main()
