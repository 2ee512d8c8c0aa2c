"""Models of the hub are known by their commit, and loaded by it; the hub's cache is laid out here as huggingface_hub does."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from curate.models.hub import model_commit
from curate.models.local import local_model
from curate.models.session import Session, identity_of
from curate.models.spec import ModelSpec
from tests.models import tiny

OLD, NEW = "a" * 40, "b" * 40
CONVERSATION = tiny.conversation("kind")


def put(cache: Path, commit: str, ref: str, seed: int) -> None:
    """A model's files under a commit, to which a branch or tag points from now on."""
    folder = cache / "models--org--rm"
    tiny.decoder(folder / "snapshots" / commit, seed=seed)
    (folder / "refs").mkdir(exist_ok=True)
    (folder / "refs" / ref).write_text(commit)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache and no network."""
    pytest.importorskip("torch")
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    model_commit.cache_clear()
    yield tmp_path / "hub"
    model_commit.cache_clear()


def spec(revision: str | None = None) -> ModelSpec:
    return ModelSpec(backend="transformers", name="org/rm", revision=revision, kind="reward")


def test_a_branch_a_tag_and_none_stand_for_their_commit(cache: Path) -> None:
    put(cache, OLD, "main", 0)
    put(cache, NEW, "v2", 1)
    assert identity_of(spec())["revision"] == identity_of(spec("main"))["revision"] == OLD
    assert identity_of(spec("v2")) == identity_of(spec(NEW)) != identity_of(spec())


def test_what_is_called_by_a_commit_is_what_computes(cache: Path, tmp_path: Path) -> None:
    put(cache, OLD, "main", 0)
    put(cache, NEW, "v2", 1)
    folder = cache / "models--org--rm" / "snapshots" / NEW
    (wanted,) = (
        local_model(ModelSpec(backend="transformers", name=str(folder), kind="reward"), "reward").score([CONVERSATION]).values
    )
    from transformers.utils import hub  # it read where the cache lies when it was imported

    assert hub
    with Session({"rm": spec("v2")}, tmp_path / "store") as session:
        backend = session._backend("rm", "reward") if (cache / "models--org--rm").exists() else None
    assert backend is not None and backend.spec.revision == NEW
    assert backend.score([CONVERSATION]).values[0] == pytest.approx(wanted, abs=1e-6)


def test_a_branch_that_moved_is_another_model(cache: Path) -> None:
    put(cache, OLD, "main", 0)
    before = identity_of(spec())
    put(cache, NEW, "main", 1)
    assert identity_of(spec()) == before  # asked once a process: a run does not change its mind
    model_commit.cache_clear()
    assert identity_of(spec())["revision"] == NEW


def test_what_nobody_knows_stays_as_it_was_written(cache: Path) -> None:
    assert identity_of(spec())["revision"] is None and identity_of(spec("v9"))["revision"] == "v9"
    put(cache, OLD, "main", 0)
    shutil.move(cache / "models--org--rm" / "refs" / "main", cache / "models--org--rm" / "elsewhere")
    model_commit.cache_clear()
    assert identity_of(spec("../elsewhere"))["revision"] == "../elsewhere"  # no way out of the folder of notes
