"""TRL's trainers around a model of a few thousand weights, to run their own data preparation."""

from typing import Any

KINDS = {
    "trl-dpo": ("trl", "DPO"),
    "trl-kto": ("trl", "KTO"),
    "trl-reward": ("trl", "Reward"),
    "trl-sft": ("trl", "SFT"),
    "trl-tpo": ("trl.experimental.tpo", "TPO"),
}
"""Module and name of each trainer."""


def prepare(form: str, rows: Any, tokenizer: Any, scratch: str) -> Any:
    """What a trainer, by its key in KINDS, makes of a dataset before training: `trainer.train_dataset`.

    rows: a `datasets.Dataset`. Nothing is truncated or left out for its length.
    """
    from importlib import import_module

    shared: dict[str, Any] = {"output_dir": scratch, "max_length": None, "use_cpu": True, "bf16": False, "report_to": "none"}
    module, name = KINDS[form]
    found = import_module(module)
    trainer, config = getattr(found, f"{name}Trainer"), getattr(found, f"{name}Config")
    model = f"{scratch}/model"
    (_scorer if form == "trl-reward" else _writer)(tokenizer).save_pretrained(model)  # trainers load their reference by name
    return trainer(model=model, args=config(**shared), train_dataset=rows, processing_class=tokenizer).train_dataset


def _config(tokenizer: Any, **more: Any) -> Any:
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **more,
    )


def _writer(tokenizer: Any) -> Any:
    from transformers import LlamaForCausalLM

    return LlamaForCausalLM(_config(tokenizer))


def _scorer(tokenizer: Any) -> Any:
    from transformers import LlamaForSequenceClassification

    return LlamaForSequenceClassification(_config(tokenizer, num_labels=1))
