"""Reward models with gates, as ArmoRM publishes them: their own numbers, without their own code."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate.errors import StepError, UsageError
from curate.models.gated import ARCHITECTURE, last_place, prompt_end
from curate.models.local import local_model
from curate.models.spec import ModelSpec
from tests import tiny

torch = pytest.importorskip("torch")
torch.set_num_threads(1)
OBJECTIVES, HIDDEN, TEMPERATURE = 4, 24, 2.0


def checkpoint(folder: Path, *, left_out: str = "") -> dict[str, Any]:
    """A released model's files with random weights: a body, and the heads under the names they are published by."""
    from safetensors.torch import save_file
    from transformers import LlamaConfig, LlamaModel

    folder.mkdir(parents=True, exist_ok=True)
    words = tiny.tokenizer(folder)
    torch.manual_seed(0)
    config = LlamaConfig(**tiny.shape(words, 512), initializer_range=0.2)
    body = {f"model.{name}": value for name, value in LlamaModel(config).state_dict().items()}
    widths = [config.hidden_size, HIDDEN, HIDDEN, OBJECTIVES]
    heads = {
        "regression_layer.weight": torch.randn(OBJECTIVES, config.hidden_size) * 0.3,
        "reward_transform_matrix": torch.eye(OBJECTIVES) - 0.4 * torch.eye(OBJECTIVES).roll(1, 0),
        "gating.logit_scale": torch.tensor([1.7]),
    }
    for place, (into, out) in enumerate(zip(widths, widths[1:], strict=False)):
        heads[f"gating.layers.{place}.weight"] = torch.randn(out, into) * 0.4
        heads[f"gating.layers.{place}.bias"] = torch.randn(out)
    weights = body | heads
    weights.pop(left_out, None)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    told = config.to_dict() | {"architectures": [ARCHITECTURE], "num_objectives": OBJECTIVES, "gating_hidden_dim": HIDDEN}
    told |= {"gating_n_hidden": 2, "gating_temperature": TEMPERATURE, "model_type": "llama"}
    told["auto_map"] = {"AutoModelForSequenceClassification": f"modeling_custom.{ARCHITECTURE}"}
    (folder / "config.json").write_text(json.dumps(told))
    (folder / "modeling_custom.py").write_text(f"open({str(folder / 'ran')!r}, 'w').close()\n")
    return weights


def spec(folder: Path, **options: Any) -> ModelSpec:
    return ModelSpec(backend="transformers", name=str(folder), kind="reward", options=options)


def conversation(asked: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]


CONVERSATIONS = [
    conversation("Which?", "The first one."),
    conversation("Please explain precisely why the answer is 42", "\n\nSecond line."),  # its opening merges with the answer
    conversation("Hello", "No. " * 20),
    [*conversation("Hello", "Yes."), *conversation("And then?", "Nothing.")],
]


def slowly(weights: dict[str, Any], folder: Path, messages: list[dict[str, str]]) -> list[float]:
    """Score and rewards of one conversation, step by step."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaModel

    words = AutoTokenizer.from_pretrained(folder)
    body = LlamaModel(LlamaConfig.from_pretrained(folder)).eval()
    body.load_state_dict({name.removeprefix("model."): value for name, value in weights.items() if name.startswith("model.")})
    before = words.apply_chat_template(messages[:-1], tokenize=False)
    place = len(words(before)["input_ids"]) - 1  # the token that ends the prompt
    ids = words(words.apply_chat_template(messages, tokenize=False))["input_ids"]
    with torch.no_grad():
        states = body(input_ids=torch.tensor([ids])).last_hidden_state[0].numpy().astype(float)
    rewards = weights["regression_layer.weight"].numpy() @ states[-1]
    x = states[place]
    for layer in range(3):
        x = weights[f"gating.layers.{layer}.weight"].numpy() @ x + weights[f"gating.layers.{layer}.bias"].numpy()
        x = np.maximum(x, 0) if layer < 2 else x
    raised = np.exp(x / TEMPERATURE)
    gates = 1.7 * raised / raised.sum()
    matrix = weights["reward_transform_matrix"].numpy()
    freed = [sum(rewards[i] * matrix[i][j] for i in range(OBJECTIVES)) for j in range(OBJECTIVES)]
    return [sum(gate * reward for gate, reward in zip(gates, freed, strict=True)), *rewards]


def test_the_mixture_is_that_of_a_slow_computation_in_any_company(tmp_path: Path) -> None:
    weights = checkpoint(tmp_path)
    model = local_model(spec(tmp_path), "reward")
    expected = np.array([slowly(weights, tmp_path, one) for one in CONVERSATIONS])
    assert model.heads == ("reward", "reward_0", "reward_1", "reward_2", "reward_3")
    assert model.score(CONVERSATIONS).values == pytest.approx(expected, abs=1e-4)
    alone = np.concatenate([model.score([one]).values for one in CONVERSATIONS])
    assert alone == pytest.approx(expected, abs=1e-4)
    assert np.ptp(expected[:, 0]) > 0.1 and not (tmp_path / "ran").exists()


def test_gates_and_rewards_are_computed_in_float32_behind_a_body_in_half_of_it(tmp_path: Path) -> None:
    weights = checkpoint(tmp_path)
    half = local_model(spec(tmp_path, dtype="bfloat16"), "reward")
    assert half.model.regression_layer.weight.dtype == half.model.gating.layers[0].weight.dtype == torch.float32
    assert half.model.reward_transform_matrix.dtype == torch.float32 and half.model.model.norm.weight.dtype == torch.bfloat16
    expected = np.array([slowly(weights, tmp_path, one) for one in CONVERSATIONS])
    assert np.abs(half.score(CONVERSATIONS).values - expected).max() < 0.1 * np.abs(expected).max()


def test_gates_depend_on_the_prompt_alone(tmp_path: Path) -> None:
    """Where but one objective has a reward, score over reward is its gate."""
    checkpoint(tmp_path)
    model = local_model(spec(tmp_path), "reward")
    with torch.no_grad():
        model.model.reward_transform_matrix[:] = torch.eye(OBJECTIVES)
        model.model.regression_layer.weight[1:] = 0.0
        told = [(asked, answer) for asked in ("Which?", "Why is it 42?") for answer in ("a", "quite another answer")]
        found = model.score([conversation(*one) for one in told]).values
    first = found[:, 0] / found[:, 1]  # the first objective's gate
    assert first[0] == pytest.approx(first[1], rel=1e-4) and first[2] == pytest.approx(first[3], rel=1e-4)
    assert abs(first[0] - first[2]) > 1e-3 and 0 < first.min() < first.max() < 1.7


def test_objectives_are_named_and_the_mixture_is_the_reward(tmp_path: Path) -> None:
    checkpoint(tmp_path)
    assert local_model(spec(tmp_path, heads="help,truth,safety,verbosity"), "reward").heads[:3] == ("reward", "help", "truth")
    with pytest.raises(UsageError, match="options, heads: 4 different names"):
        local_model(spec(tmp_path, heads="help,truth"), "reward")


@pytest.mark.parametrize("left_out", ["reward_transform_matrix", "gating.layers.1.bias", "regression_layer.weight"])
def test_a_checkpoint_without_some_weights_is_refused(tmp_path: Path, left_out: str) -> None:
    checkpoint(tmp_path, left_out=left_out)
    with pytest.raises(StepError, match=f"has no weights for {left_out}"):
        local_model(spec(tmp_path), "reward")


def test_a_prompt_whose_end_was_cut_off_is_that_rows_error(tmp_path: Path) -> None:
    checkpoint(tmp_path)
    long = conversation("Which?", "word " * 60)
    cut, whole = local_model(spec(tmp_path, max_length=40), "reward").score([long, CONVERSATIONS[0]]).errors
    assert cut == "request: nothing tells where the prompt ends; if that was cut, use truncate: right" and whole is None
    assert local_model(spec(tmp_path, max_length=40, truncate="right"), "reward").score([long]).errors == [None]


def test_the_prompt_ends_before_the_answers_opening(tmp_path: Path) -> None:
    words = tiny.tokenizer(tmp_path)
    assert words.decode(prompt_end(words)) == "\n<|im_start|>assistant"
    assert last_place([1, 2, 3, 1, 2, 4], (1, 2)) == 3 and last_place([1, 2], (2, 1)) is None
    words.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    with pytest.raises(ValueError, match="does not tell where a prompt ends"):
        prompt_end(words)
