"""A tiny model that sees, made on the spot, and pictures for it: no library for images is needed to make either."""

import json
import struct
import zlib
from pathlib import Path
from typing import Any

from tests import tiny

EDGE = 28
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}{% else %}<image>{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
AROUND, PICTURE = "<fake_token_around_image>", "<image>"
SEEN = f"{AROUND}<global-img>{PICTURE}{AROUND}"
"""What stands for a picture in a prompt as the model reads it: one token, and those around it."""


def png(red: int, green: int, blue: int) -> bytes:
    """A square of one colour."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    lines = (b"\0" + bytes((red, green, blue)) * EDGE) * EDGE
    head = struct.pack(">IIBBBBB", EDGE, EDGE, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def pixels(red: int, green: int, blue: int) -> Any:
    """The same as the model is given it, (1, 1, 3, EDGE, EDGE) in [-1, 1]."""
    import torch

    colour = torch.tensor([red, green, blue], dtype=torch.float32) / 127.5 - 1
    return colour[None, None, :, None, None].expand(1, 1, 3, EDGE, EDGE).contiguous()


def seeing_model(folder: Path) -> Path:
    """An Idefics3 of random weights: of the models that see, one which vLLM loads without torchvision."""
    import torch
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration

    folder.mkdir(parents=True, exist_ok=True)
    words = tiny.tokenizer(folder)
    words.add_special_tokens({"additional_special_tokens": [AROUND, PICTURE, "<end_of_utterance>", "<global-img>"]})
    words.chat_template = TEMPLATE
    words.save_pretrained(folder)
    edge = {"longest_edge": EDGE}
    steps = {"do_resize": True, "do_image_splitting": False, "do_rescale": True, "do_normalize": True, "do_pad": True}
    scale = {"size": edge, "max_image_size": edge, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"image_processor_type": "Idefics3ImageProcessor"} | steps | scale)
    )
    (folder / "processor_config.json").write_text(json.dumps({"processor_class": "Idefics3Processor", "image_seq_len": 1}))
    torch.manual_seed(0)
    sight = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = Idefics3Config(
        vision_config=sight | {"image_size": EDGE, "patch_size": 14},
        text_config=tiny.shape(words, 512) | {"model_type": "llama", "initializer_range": 0.2},
        image_token_id=words.convert_tokens_to_ids(PICTURE),
        scale_factor=2,
        pad_token_id=words.pad_token_id,
        tie_word_embeddings=False,
    )
    model = Idefics3ForConditionalGeneration(config).float()
    for name, weight in model.named_parameters():
        if weight.dim() > 1 and ("connector" in name or "vision" in name):
            torch.nn.init.normal_(weight, std=0.3)  # so that what is seen matters
    model.save_pretrained(folder)
    return folder
