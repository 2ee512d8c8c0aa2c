"""Models that run in this process: what their options mean, where their files lie and what tells them from others."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from curate.errors import StepError, UsageError
from curate.models.heads import Unfit, without_head
from curate.models.spec import ModelSpec

REMOTE_CODE = "CURATE_TRUST_REMOTE_CODE"
"""Environment variable that names models (their `name`, commas between) whose own code may run on this machine."""
FINGERPRINTED = (".json", ".jinja", ".txt", ".model", ".safetensors")
Option = str | bool | int | float | None


class Options:
    """A model's options, read with their types; one that nobody asked for is an error."""

    def __init__(self, spec: ModelSpec, known: Mapping[str, str]) -> None:
        self.spec = spec
        unknown = sorted(spec.options.keys() - known.keys())
        if unknown:
            near = get_close_matches(unknown[0], known, 1)
            there = (f"did you mean {near[0]}? It has " if near else "there are ") + (", ".join(known) or "none")
            raise UsageError(f"model {spec.name}, options: backend {spec.backend} has no {', '.join(unknown)}; {there}")

    def number(self, name: str, default: int | None = None) -> int | None:
        """A whole number above zero."""
        told = self.spec.options.get(name)
        if told is None:
            return default
        if not isinstance(told, int) or isinstance(told, bool) or told < 1:
            raise UsageError(f"model {self.spec.name}, options, {name}: a whole number from 1 up, got {told!r}")
        return told

    def choice(self, name: str, values: Sequence[str], default: str) -> str:
        """One of some words."""
        told = self.spec.options.get(name)
        if told is None:
            return default
        if told not in values:
            raise UsageError(f"model {self.spec.name}, options, {name}: one of {', '.join(values)}, got {told!r}")
        return str(told)

    def truth(self, name: str, default: bool | None = None) -> bool | None:
        """True or false."""
        told = self.spec.options.get(name)
        if told is not None and not isinstance(told, bool):
            raise UsageError(f"model {self.spec.name}, options, {name}: true or false, got {told!r}")
        return default if told is None else told

    def text(self, name: str, default: str | None = None) -> str | None:
        """Any text."""
        told = self.spec.options.get(name)
        return default if told is None else str(told)


def need_extra(module: str, spec: ModelSpec) -> None:
    """Raise one sentence that names the way out if a library is not installed."""
    if find_spec(module) is None:
        raise UsageError(f"model {spec.name}: backend {spec.backend} needs {module}; pip install 'curate[embed]'")


def trusted(spec: ModelSpec) -> bool:
    """Whether the model's own code may run: only if the environment names it. A recipe cannot allow it."""
    return spec.name in [name.strip() for name in os.environ.get(REMOTE_CODE, "").split(",") if name.strip()]


@contextmanager
def loading(spec: ModelSpec) -> Iterator[None]:
    """Turn what goes wrong while a model is loaded into one sentence; libraries say nothing on the way."""
    import logging
    import warnings

    from transformers.utils import logging as told

    told.disable_progress_bar()
    told.set_verbosity_error()
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (OSError, ValueError, KeyError, RuntimeError, AssertionError) as problem:  # torch asserts that it has CUDA
        lines = [line for line in str(problem).splitlines() if line.strip()] or [type(problem).__name__]
        hint = ""
        if "trust_remote_code" in str(problem):
            hint = f"; it brings code of its own: if you trust it, set {REMOTE_CODE}={spec.name} in the environment"
        elif "safetensors" in str(problem):
            hint = "; only weights as .safetensors are read, because other files can run code when they are opened"
        raise StepError(f"model {spec.name} cannot be loaded: {lines[0][:500]}{hint}") from problem


def need_weights(missing: Iterable[str], config: Any) -> None:
    """Raise Unfit if a reward model's checkpoint lacks weights, which the library has drawn at random."""
    if names := list(missing):
        raise Unfit(without_head(getattr(config, "architectures", None) or (), names))


def device_of(options: Options) -> str:
    """Where to compute: the option `device`, else a GPU if there is one."""
    import torch

    return options.text("device") or ("cuda" if torch.cuda.is_available() else "cpu")


def local_identity(spec: ModelSpec) -> dict[str, Any]:
    """What more tells a model in a folder from others: what is in its files. Empty for a model of the hub, but see `pinned`."""
    if spec.backend == "hashing":
        return {"likeness": "lexical"}
    folder = Path(spec.name)
    if not folder.is_dir():
        return {}
    files = sorted(path for path in folder.rglob("*") if path.suffix in FINGERPRINTED and path.is_file())
    stated = [(path, path.stat()) for path in files]
    seen = tuple((str(path), about.st_size, about.st_mtime_ns, about.st_ino) for path, about in stated)
    return {"name": folder.resolve().name, "content": _content(str(folder), seen)}


def pinned(spec: ModelSpec) -> ModelSpec:
    """The model with its revision as a commit, if it is one of the hub: what runs in this process is what it is called by."""
    if spec.backend not in ("transformers", "sentence_transformers") or Path(spec.name).is_dir():
        return spec
    from curate.models.hub import model_commit

    short = spec.backend == "sentence_transformers" and "/" not in spec.name
    found = (model_commit(f"sentence-transformers/{spec.name}", spec.revision) if short else None) or model_commit(
        spec.name, spec.revision
    )
    return spec if found is None else spec.model_copy(update={"revision": found})


@lru_cache(maxsize=64)
def _content(folder: str, seen: tuple[tuple[str, int, int, int], ...]) -> str:
    """Hash of the files' names and contents, hex; the same wherever the folder lies."""
    import xxhash

    total = xxhash.xxh3_128()
    for name, size, _, _ in seen:
        total.update(f"{os.path.relpath(name, folder)}\0{size}\0".encode())
        with open(name, "rb") as source:
            while block := source.read(1 << 24):
                total.update(block)
    return total.hexdigest()


def local_model(spec: ModelSpec, kind: str) -> Any:
    """A model in this process, loaded: `encode` for embeddings, `score` for rewards."""
    spec = pinned(spec)
    if spec.backend == "hashing" and kind == "embed":
        from curate.models.hashing import HashingEmbed

        return HashingEmbed(spec)
    if spec.backend == "sentence_transformers" and kind == "embed":
        from curate.models.st_embed import SentenceEmbed

        return SentenceEmbed(spec)
    if kind == "reward" and spec.backend in ("sentence_transformers", "transformers"):
        from curate.models.rewards import CrossEncoderReward, LocalReward

        return (LocalReward if spec.backend == "transformers" else CrossEncoderReward)(spec)
    able = {"hashing": "embeddings", "sentence_transformers": "embeddings and rewards", "transformers": "rewards"}
    raise UsageError(f"model {spec.name}: backend {spec.backend} gives {able[spec.backend]}, and a step asks it for {kind}")


def answer_options(spec: ModelSpec) -> dict[str, Any]:
    """The options that change what a local model answers."""
    from curate.models import hashing, rewards, st_embed

    if spec.backend == "hashing":
        return {"dimensions": hashing.dimensions_of(spec), "scheme": hashing.SCHEME}
    known = {*rewards.ANSWER_OPTIONS, *(st_embed.ANSWER_OPTIONS if spec.backend == "sentence_transformers" else ())}
    return {name: value for name, value in sorted(spec.options.items()) if name in known and value is not None}
