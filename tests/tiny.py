"""Tiny models made on the spot: random weights, a tokenizer trained on a few sentences, a chat template."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SENTENCES = [
    "The quick brown fox jumps over the lazy dog and runs into the garden.",
    "Please explain precisely why the answer is 42 and not 17.",
    "A response may be short, long, right or wrong; the judge gives marks from 1 to 10.",
    "Question: which of the two answers is better? Answer: the first one is better than the second.",
    "First line.\n\nSecond line.\n\nThird line.\n\n",
    'user assistant system score verdict reasons true false {} [] " : , 0 1 2 3 4 5 6 7 8 9',
]
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def tokenizer(folder: Path, vocabulary: int = 512) -> Any:
    """A byte-level BPE tokenizer with a ChatML template, saved in the folder."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    trained.train_from_iterator(SENTENCES * 20, trainer)
    made = PreTrainedTokenizerFast(tokenizer_object=trained, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    made.chat_template = TEMPLATE
    made.save_pretrained(folder)
    return made


def without_template(folder: Path) -> None:
    """Take the chat template out of a model's folder."""
    from transformers import AutoTokenizer

    words = AutoTokenizer.from_pretrained(folder)
    words.chat_template = None
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    words.save_pretrained(folder)


def shape(words: Any, positions: int) -> dict[str, Any]:
    return {
        "vocab_size": len(words),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,  # of 32 dimensions: the fewest that vLLM takes on a CPU
        "num_key_value_heads": 1,
        "max_position_embeddings": positions,
        "bos_token_id": None,
        "eos_token_id": words.eos_token_id,
        "pad_token_id": words.pad_token_id,
        "tie_word_embeddings": False,
    }


def chat_model(folder: Path, *, seed: int = 0, positions: int = 512, settings: Mapping[str, Any] | None = None) -> Path:
    """A Qwen2 of random weights, wide enough apart that its tokens are not equally likely."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    words = tokenizer(folder)
    torch.manual_seed(seed)
    config = Qwen2Config(**(shape(words, positions) | {"initializer_range": 0.2} | dict(settings or {})))
    model = Qwen2ForCausalLM(config).to(torch.float32)
    model.save_pretrained(folder)
    return folder


def reward_model(
    folder: Path, *, seed: int = 0, positions: int = 512, heads: int = 1, settings: Mapping[str, Any] | None = None
) -> Path:
    """A Llama with a head for sequence classification, of random weights."""
    import torch
    from transformers import LlamaConfig, LlamaForSequenceClassification

    folder.mkdir(parents=True, exist_ok=True)
    words = tokenizer(folder)
    torch.manual_seed(seed)
    told = shape(words, positions) | {"initializer_range": 0.2, "num_labels": heads}
    config = LlamaConfig(**(told | dict(settings or {})))
    LlamaForSequenceClassification(config).to(torch.float32).save_pretrained(folder)
    return folder


def adapter(folder: Path, *, seed: int = 1, rank: int = 8) -> Path:
    """A LoRA adapter of random weights for `chat_model`, in the files that peft writes."""
    import json

    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    drawn = torch.Generator().manual_seed(seed)
    weights = {}
    for layer in range(2):
        for name, width in (("q_proj", 64), ("v_proj", 32)):
            place = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            weights[f"{place}.lora_A.weight"] = torch.randn(rank, 64, generator=drawn)
            weights[f"{place}.lora_B.weight"] = torch.randn(width, rank, generator=drawn) * 0.1
    save_file(weights, folder / "adapter_model.safetensors")
    told = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": rank, "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(told | {"target_modules": ["q_proj", "v_proj"]}))
    return folder
