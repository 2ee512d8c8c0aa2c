"""Reward models trained whole: they learn what comparisons teach, the same for the same seed, and leave nothing behind."""

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate.errors import UsageError
from curate.models.fine_tuning import RewardTrainer, Tuning
from curate.models.spec import ModelSpec
from tests.models import tiny
from tests.models.tiny import answer, conversation

torch = pytest.importorskip("torch")
torch.set_num_threads(1)
FAST = Tuning(learning_rate=3e-3, batch=8)


def spec(folder: Path, **told: Any) -> ModelSpec:
    return ModelSpec(**{"backend": "transformers", "name": str(folder), "kind": "reward", **told})


def comparisons(count: int, seed: int = 0) -> tuple[list[Any], list[Any]]:
    """The chosen answer has two good words, the rejected one two bad ones."""
    random = np.random.default_rng(seed)
    chosen = [conversation(answer(2, 0, random, 3), f"word{n % 9}") for n in range(count)]
    return chosen, [conversation(answer(0, 2, random, 3), f"word{n % 9}") for n in range(count)]


def trainer(folder: Path, count: int = 60) -> RewardTrainer:
    made = RewardTrainer(spec(folder))
    assert made.read(*comparisons(count)).all()
    return made


def test_a_model_learns_what_pairs_teach_and_generalises(tmp_path: Path) -> None:
    tiny.decoder(tmp_path)
    model = trainer(tmp_path, 120).new(1, FAST)
    before = model.margins()
    for _ in range(4):
        model.train(np.arange(60))
    after = model.margins()
    assert before.shape == (120,) and before.dtype == np.float32
    assert (after[60:] > 0).mean() > 0.85 > (before[60:] > 0).mean()
    model.close()


def test_the_same_seed_gives_the_same_numbers_and_nobody_else_is_disturbed(tmp_path: Path) -> None:
    tiny.decoder(tmp_path)
    given = trainer(tmp_path)
    torch.manual_seed(5)
    expected = torch.rand(3)

    def trained(seed: int, rows: np.ndarray) -> np.ndarray:
        model = given.new(seed, FAST)
        model.train(rows)
        found: np.ndarray = model.margins()
        model.close()
        return found

    torch.manual_seed(5)
    first = trained(1, np.arange(60))
    assert torch.equal(torch.rand(3), expected)
    assert np.array_equal(first, trained(1, np.arange(60)))
    assert not np.array_equal(first, trained(1, np.arange(60)[::-1].copy()))


def test_what_is_dropped_out_is_drawn_anew_in_each_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.decoder(tmp_path)
    model, seeds, real = trainer(tmp_path, 10).new(3, FAST), [], torch.manual_seed
    monkeypatch.setattr(torch, "manual_seed", lambda seed: (seeds.append(seed), real(seed))[1])
    for _ in range(3):
        model.train(np.arange(10))
    model.close()
    assert len(set(seeds)) == 3


def test_a_model_without_a_head_is_given_one_by_the_seed(tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    words = tiny.tokenizer()
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, num_labels=1
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    words.save_pretrained(tmp_path)
    given = trainer(tmp_path, 20)
    one, same, other = (given.new(seed, FAST).margins() for seed in (1, 1, 2))
    assert np.array_equal(one, same) and not np.allclose(one, other)


def test_what_the_model_cannot_read_is_told_and_left_out(tmp_path: Path) -> None:
    tiny.decoder(tmp_path)
    given = RewardTrainer(spec(tmp_path, options={"truncate": "never", "max_length": 20}))
    chosen, rejected = comparisons(4)
    rejected[1] = conversation("word1 " * 40)
    chosen[2] = [{"role": "assistant", "content": None}]
    usable = given.read(chosen, rejected)
    assert usable.tolist() == [True, False, False, True]
    given.select(usable)
    assert given.new(0, FAST).margins().shape == (2,)


def test_memory_is_given_back(tmp_path: Path) -> None:
    tiny.decoder(tmp_path)
    given = trainer(tmp_path, 20)
    gc.collect()
    before = sum(type(thing) is torch.nn.Parameter for thing in gc.get_objects())
    model = given.new(0, FAST)
    model.train(np.arange(20))
    assert sum(type(thing) is torch.nn.Parameter for thing in gc.get_objects()) > before
    model.close()
    assert sum(type(thing) is torch.nn.Parameter for thing in gc.get_objects()) == before


def test_models_that_cannot_be_trained_are_refused_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="backend fake cannot be trained here; transformers can"):
        RewardTrainer(spec(tmp_path, backend="fake"))
    tiny.decoder(tmp_path, heads=2)
    with pytest.raises(UsageError, match="2 outputs"):
        RewardTrainer(spec(tmp_path)).read(*comparisons(2))
    monkeypatch.setattr("curate.models.local.find_spec", lambda module: None)
    with pytest.raises(UsageError, match=r"needs torch; pip install 'curate\[embed\]'"):
        RewardTrainer(spec(tmp_path))
