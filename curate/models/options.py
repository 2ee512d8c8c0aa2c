"""What is wrong with a model's folder or options, told when a recipe is read: nothing is loaded or asked for it."""

from pathlib import Path

from curate.errors import UsageError
from curate.models.limits import CALLER_OPTIONS, Rules
from curate.models.spec import ModelSpec

IN_FILES = ("vllm", "transformers", "sentence_transformers")
"""Back ends whose models are files: in a folder or of the hub, whose names begin with neither a slash nor a dot."""


def option_fault(spec: ModelSpec, key: str) -> str | None:
    """What is wrong, in a sentence without the model's name, or None. Options of servers are told by the server."""
    try:
        Rules.of(spec.options, key)
        _check(spec.model_copy(update={"options": {k: v for k, v in spec.options.items() if k not in CALLER_OPTIONS}}))
    except UsageError as error:
        return str(error).removeprefix(f"model {key}, ").removeprefix(f"model {spec.name}, ")
    return None


def _check(spec: ModelSpec) -> None:
    """Raise UsageError where the back end would, as far as that needs no model."""
    if spec.backend in IN_FILES and spec.name.startswith(("/", "./", "../", "~")) and not Path(spec.name).is_dir():
        raise UsageError(f"name: there is no folder {spec.name}")
    if spec.backend == "vllm":
        from curate.models.vllm_backend import Settings

        Settings(spec).worker(spec.kind or "chat")
    elif spec.backend == "hashing":
        from curate.models.hashing import dimensions_of

        dimensions_of(spec)
    elif spec.backend in ("transformers", "sentence_transformers"):
        from curate.models import likelihood, rewards, st_embed
        from curate.models.local import Options
        from curate.models.rendering import TRUNCATE

        other = likelihood.OPTIONS if spec.backend == "transformers" else st_embed.OPTIONS
        known = {"reward": rewards.OPTIONS, None: rewards.OPTIONS | other}.get(spec.kind, other)
        told = Options(spec, known)
        told.number("max_length")
        told.number("batch_tokens")
        if "truncate" in known:
            told.choice("truncate", TRUNCATE, "left")
            told.truth("template")
            told.truth("eos")
