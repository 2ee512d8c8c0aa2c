"""Faulty options of models are found while a recipe is read, all of them, and nothing is loaded for it."""

from pathlib import Path
from typing import Any

import pytest

from curate.errors import RecipeError
from curate.models.options import option_fault
from curate.models.spec import ModelSpec
from curate.recipe import read_recipe


def fault(backend: Any, kind: Any = None, **options: Any) -> str:
    return option_fault(ModelSpec(backend=backend, name="org/model", kind=kind, options=options), "m") or ""


@pytest.mark.parametrize(
    ("backend", "kind", "options", "told"),
    [
        ("vllm", None, {"tensor_paralel_size": 2}, "has no tensor_paralel_size; did you mean tensor_parallel_size? It has max_"),
        ("vllm", None, {"dtype": "fp7"}, "options, dtype: one of auto, half, float16, bfloat16, float, float32, got 'fp7'"),
        ("vllm", None, {"tensor_parallel_size": "two"}, "tensor_parallel_size: a whole number from 1 up, got 'two'"),
        ("vllm", None, {"gpu_memory_utilization": -0.5}, "gpu_memory_utilization: a number above 0, got -0.5"),
        ("vllm", None, {"lora": "/nowhere"}, "options, lora: /nowhere is no folder with an adapter_config.json"),
        ("vllm", None, {"chat_template": "/nowhere"}, "options, chat_template: /nowhere cannot be read"),
        ("vllm", "reward", {"truncate": "middle"}, "options, truncate: one of left, right, never, got 'middle'"),
        ("vllm", "chat", {"retries": -1}, "options, retries: expected a whole number from 0 up, got -1"),
        (
            "transformers",
            "reward",
            {"batch_token": 3},
            "backend transformers has no batch_token; did you mean batch_tokens? It has heads",
        ),
        ("transformers", "chat", {"heads": "a"}, "backend transformers has no heads; there are max_length, dtype"),
        ("transformers", None, {"eos": "yes"}, "options, eos: true or false, got 'yes'"),
        ("sentence_transformers", "embed", {"max_length": 0}, "options, max_length: a whole number from 1 up, got 0"),
        ("hashing", "embed", {"dimensions": 3}, "dimensions: a whole number from 16 to 65536, got 3"),
    ],
)
def test_what_is_wrong_is_told(backend: str, kind: str | None, options: dict[str, Any], told: str) -> None:
    assert told in fault(backend, kind, **options)


@pytest.mark.parametrize("backend", ["vllm", "transformers", "sentence_transformers"])
def test_a_folder_that_is_not_there_is_told(tmp_path: Path, backend: Any) -> None:
    gone = ModelSpec(backend=backend, name=str(tmp_path / "gone"))
    assert option_fault(gone, "m") == f"name: there is no folder {tmp_path}/gone"
    assert option_fault(gone.model_copy(update={"name": str(tmp_path)}), "m") is None


def test_what_is_right_passes() -> None:
    assert not fault("vllm", "chat", tensor_parallel_size=2, concurrency=4, **{"env.A": 1, "body.chat_template_kwargs.b": True})
    assert not fault("transformers", "reward", heads="a,b", truncate="never", retries=1)
    assert not fault("transformers", None, dtype="bfloat16", batch_tokens=512)
    assert not fault("sentence_transformers", None, prompt="query: ", heads="a")
    assert not fault("openai", "chat", **{"body.anything": 1})
    assert not fault("hashing", "embed", dimensions=64)


def test_a_recipe_tells_every_model_s_fault_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(
        "name: d\n"
        "models:\n"
        "  a: {backend: vllm, name: x, options: {dtype: fp7}}\n"
        "  b: {backend: hashing, name: x, options: {dimensions: 3}}\n"
        "source: {path: 'samples:prompts.jsonl', rows: prompts, columns: {prompt: prompt}}\n"
        "steps: [{generate: {model: a}}]\n"
    )
    with pytest.raises(RecipeError) as error:
        read_recipe(path)
    assert "r.yaml:3: models.a: options, dtype: one of" in str(error.value)
    assert "r.yaml:4: models.b: options, dimensions: a whole number" in str(error.value)
