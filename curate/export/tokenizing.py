"""A tokenizer that needs no download: one token a byte, messages in ChatML."""

from typing import Any

from curate.errors import UsageError

START, END = "<|im_start|>", "<|im_end|>"
CHATML = (
    "{% if tools %}{{ '<|im_start|>tools\\n' + (tools | tojson) + '<|im_end|>\\n' }}{% endif %}"
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message.role + '\\n' + (message.content or '') }}"
    "{% if message.tool_calls %}{{ message.tool_calls | tojson }}{% endif %}"
    "{{ '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def bytewise() -> Any:
    """A tokenizer whose decoding gives back every text exactly."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(alphabet)}, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens([AddedToken(START, special=True), AddedToken(END, special=True)])
    made = PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token=END, pad_token=END, additional_special_tokens=[START], clean_up_tokenization_spaces=False
    )
    made.chat_template = CHATML
    return made


def load(folder: str) -> Any:
    """The tokenizer in a folder. UsageError if there is none, or it has no chat template."""
    from pathlib import Path

    from transformers import AutoTokenizer

    if not Path(folder).is_dir():
        raise UsageError(
            f"--tokenizer {folder} is no folder; save one with AutoTokenizer.from_pretrained(...).save_pretrained({folder!r})"
        )
    try:
        loaded = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise UsageError(f"--tokenizer {folder} cannot be loaded: {error}") from error
    if not loaded.chat_template:
        raise UsageError(f"the tokenizer in {folder} has no chat template; give one whose model is trained on conversations")
    if loaded.pad_token is None:
        loaded.pad_token = loaded.eos_token
    return loaded
