"""Which commit of the hub a model's name stands for: branches and tags move, and numbers belong to the weights they came from."""

import re
from functools import lru_cache
from pathlib import Path

COMMIT = re.compile(r"[0-9a-f]{40}")
NAME = re.compile(r"(?:[A-Za-z0-9][\w.-]*/)?[A-Za-z0-9][\w.-]*")
MAIN = "main"
SECONDS = 10.0
"""How long the hub may take to answer; then what was last downloaded counts."""


@lru_cache(maxsize=64)
def model_commit(name: str, revision: str | None) -> str | None:
    """The commit of a model's revision (default main), asked once a process; without a network the one last downloaded.

    None if nobody knows it: then the model cannot be loaded from the hub either. `name` must not be a folder's.
    """
    if revision and COMMIT.fullmatch(revision):
        return revision
    if not NAME.fullmatch(name):
        return None
    return _told_by_hub(name, revision) or _last_downloaded(name, revision or MAIN)


def _told_by_hub(name: str, revision: str | None) -> str | None:
    from huggingface_hub import HfApi

    try:
        sha = HfApi().model_info(name, revision=revision, timeout=SECONDS).sha
    except Exception:  # the hub's own errors, and those of whatever network library lies below
        return None
    return None if sha is None else str(sha)


def _last_downloaded(name: str, revision: str) -> str | None:
    from huggingface_hub import constants

    refs = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}" / "refs"
    note = (refs / revision).resolve()
    if not note.is_relative_to(refs.resolve()) or not note.is_file():
        return None
    commit = note.read_text(encoding="utf-8").strip()
    return commit if COMMIT.fullmatch(commit) else None
