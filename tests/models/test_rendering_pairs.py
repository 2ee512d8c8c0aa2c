"""A cross-encoder of BERT's kind is told which text each token is of, exactly as transformers would tell it."""

import json
from pathlib import Path

import numpy as np
import pytest

from curate.models.local import local_model
from curate.models.rendering import Rendering
from curate.models.spec import ModelSpec
from tests.models import tiny

torch = pytest.importorskip("torch")
PAIRS = [("word0", "kind clear"), ("word1 word2 word3", "rude"), ("word4 " * 40, "true " * 40), ("word5", "")]


def test_kinds_and_tokens_are_those_of_the_tokenizer(tmp_path: Path) -> None:
    words = tiny.tokenizer(pairs=True)
    rendered = Rendering(words, 64).render([tiny.conversation(answer, asked) for asked, answer in PAIRS])
    for one, (asked, answer) in zip(rendered, PAIRS, strict=True):
        theirs = words([asked], [answer], truncation="longest_first", max_length=64, return_token_type_ids=True)
        assert (one.ids, one.kinds) == (theirs["input_ids"][0], theirs["token_type_ids"][0])
    assert words.convert_ids_to_tokens(rendered[3].ids) == ["[CLS]", "word5", "[SEP]", "[SEP]"]  # an empty answer is one


def test_scores_are_those_of_transformers_with_both_segments(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    model = tiny.encoder(tmp_path)
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"tokenizer_class": "BertTokenizer", "do_lower_case": False}))
    words = AutoTokenizer.from_pretrained(tmp_path)
    assert "token_type_ids" in words.model_input_names
    with torch.no_grad():
        model.bert.embeddings.token_type_embeddings.weight.mul_(20)  # so that it matters which text a token is of
        model.save_pretrained(tmp_path)
        asked, answers = map(list, zip(*PAIRS, strict=True))
        coded = words(asked, answers, padding=True, truncation="longest_first", max_length=64, return_tensors="pt")
        theirs = model(**coded).logits.numpy()
        blind = model(**{name: value for name, value in coded.items() if name != "token_type_ids"}).logits.numpy()
    conversations = [tiny.conversation(answer, question) for question, answer in PAIRS]
    for backend in ("transformers", "sentence_transformers"):
        told = ModelSpec(backend=backend, name=str(tmp_path), kind="reward")
        assert local_model(told, "reward").score(conversations).values == pytest.approx(theirs, abs=1e-5)
    assert np.abs(theirs - blind).max() > 0.01
