"""TRL's trainers around a model of a few thousand weights, to run their own data preparation."""

from typing import Any


def prepare(form: str, rows: Any, tokenizer: Any, scratch: str) -> Any:
    """What the trainer of a format makes of a dataset before training: `trainer.train_dataset`.

    rows: a `datasets.Dataset`. Nothing is truncated or left out for its length.
    """
    import trl

    shared: dict[str, Any] = {"output_dir": scratch, "max_length": None, "use_cpu": True, "bf16": False, "report_to": "none"}
    kinds = {
        "trl-dpo": (trl.DPOTrainer, trl.DPOConfig),
        "trl-kto": (trl.KTOTrainer, trl.KTOConfig),
        "trl-reward": (trl.RewardTrainer, trl.RewardConfig),
        "trl-sft": (trl.SFTTrainer, trl.SFTConfig),
    }
    trainer, config = kinds[form]
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
