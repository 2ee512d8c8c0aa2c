"""What vLLM's worker looks into once a model is loaded: whether it can do what it is there for. Raises Unfit if it cannot.

Runs in vLLM's environment.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from curate.models.heads import NO_TEMPLATE, Unfit, head_fault, without_head


def need_head(llm: Any) -> None:
    """A reward model has a trained head: vLLM scores without one, too, by whatever lay in memory."""
    config = llm.model_config
    if "classify" not in llm.supported_tasks:
        raise Unfit(without_head(config.architectures))
    folder = Path(config.model)
    if not folder.is_dir():
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(config.model, "config.json", revision=config.revision)
        folder = Path(found).parent if isinstance(found, str) else folder
    if fault := head_fault(folder):
        raise Unfit(fault)


def need_template(render: Callable[[], Any]) -> None:
    """A conversation can be put to a chat model. What else its template objects to is a row's error."""
    try:
        render()
    except Exception as problem:  # a template is a program that came with the model
        if "must provide a chat template" in str(problem):
            raise Unfit(NO_TEMPLATE) from None
