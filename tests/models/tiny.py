"""Tiny reward models made and trained on the spot: a tokenizer of words, and networks that a regression teaches."""

from pathlib import Path
from typing import Any

import numpy as np

TEMPLATE = "{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}|> {{ message['content'] }} <|end|> {% endfor %}"
GOOD = ("kind", "clear", "true", "helpful")
BAD = ("rude", "vague", "false", "useless")
PLAIN = tuple(f"word{number}" for number in range(24))
SPECIAL = ["<s>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>", "<unk>"]


def tokenizer(pad: bool = False, template: bool = True, pairs: bool = False) -> Any:
    """One token a word. pairs: [CLS] a [SEP] b [SEP], as cross-encoders take them."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = [*SPECIAL, *(["[CLS]", "[SEP]", "[PAD]"] if pairs else []), *(["<pad>"] if pad else []), *GOOD, *BAD, *PLAIN]
    vocabulary = {word: place for place, word in enumerate(words)}
    inner = Tokenizer(models.WordLevel(vocabulary, "<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    named: dict[str, Any] = {"bos_token": "<s>", "eos_token": "<|end|>", "unk_token": "<unk>"}
    if pairs:
        inner.post_processor = processors.TemplateProcessing(
            "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", [("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
        )
        named = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "<unk>"}
    else:
        inner.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A <s> $B", [("<s>", 0)])
    if pad:
        named["pad_token"] = "<pad>"
    made = PreTrainedTokenizerFast(tokenizer_object=inner, model_max_length=64, **named)
    made.model_input_names = ["input_ids", "token_type_ids", "attention_mask"] if pairs else ["input_ids", "attention_mask"]
    if template and not pairs:
        made.chat_template = TEMPLATE
    return made


def decoder(folder: Path, heads: int = 1, pad: bool = False, seed: int = 0) -> Any:
    """A random Llama with a head on its last token, saved to a folder with its tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForSequenceClassification

    torch.manual_seed(seed)
    words = tokenizer(pad)
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
        num_labels=heads,
        pad_token_id=words.pad_token_id,
        initializer_range=0.3,
    )
    model = LlamaForSequenceClassification(config).eval()
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return model


def encoder(folder: Path, seed: int = 0) -> Any:
    """A random BERT that reads pairs, with one output, saved as a cross-encoder."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(seed)
    words = tokenizer(pairs=True)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
        num_labels=1,
        pad_token_id=words.pad_token_id,
        initializer_range=0.2,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model = BertForSequenceClassification(config).eval()
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return model


def answer(good: int, bad: int, random: np.random.Generator, plain: int = 6) -> str:
    """So many good words, bad words and others, shuffled."""
    words = [*random.choice(GOOD, good), *random.choice(BAD, bad), *random.choice(PLAIN, plain)]
    return " ".join(random.permutation(words).tolist())


def conversation(text: str, asked: str = "word0 word1 word2") -> list[dict[str, str]]:
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": text}]
