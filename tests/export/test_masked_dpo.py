"""Weights of spans, carried over to tokens."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.errors import ExportError, UsageError
from curate.export import export, tokenizing
from curate.export.check import check
from curate.export.token_weights import shared, tokens_of, weigh_characters, weigh_tokens
from tests.export.conftest import MakeVersion, Row, messages, pair, read

CHOSEN = "It is hot. It is cold."
REJECTED = "It is wet."


def span(side: str, start: int, end: int, weight: float = 0.0) -> Row:
    return {"side": side, "start": start, "end": end, "weight": weight}


def masked(version: MakeVersion, tmp_path: Path, spans: list[Row], **options: Any) -> list[Row]:
    made = version([pair("A?", CHOSEN, REJECTED, spans=spans)])
    return read(export(made, "masked-dpo", tmp_path / "out", **options).path)


@pytest.fixture
def words(tmp_path: Path) -> str:
    """Folder of a tokenizer whose tokens are long: it knows ` cold.` and `. It`, but only in their place."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [(".", "Ġ"), ("I", "t"), (".Ġ", "It"), ("h", "o"), ("ho", "t")]
    vocabulary = [*alphabet, *dict.fromkeys(first + second for first, second in merges)]
    raw = Tokenizer(models.BPE(vocab={text: index for index, text in enumerate(vocabulary)}, merges=merges))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens([AddedToken(token, special=True) for token in (tokenizing.START, tokenizing.END)])
    made = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token=tokenizing.END, pad_token=tokenizing.END)
    made.chat_template = tokenizing.CHATML
    made.save_pretrained(tmp_path / "words")
    return str(tmp_path / "words")


# -- spans


def test_rows_have_the_spans_of_both_sides(version: MakeVersion, tmp_path: Path) -> None:
    given_spans = [span("rejected", 0, 10), span("chosen", 11, 22, 1.0), span("chosen", 0, 11, 0.0)]
    (row,) = masked(version, tmp_path, given_spans)
    assert row["chosen_spans"] == [{"start": 0, "end": 11, "weight": 0.0}, {"start": 11, "end": 22, "weight": 1.0}]
    assert row["rejected_spans"] == [{"start": 0, "end": 10, "weight": 0.0}]
    assert "chosen_token_ids" not in row


def test_a_version_or_a_pair_without_spans_is_refused(version: MakeVersion, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="masked-dpo needs the column spans"):
        export(version([pair("A?", "good", "bad")], root="a"), "masked-dpo", tmp_path / "out")
    rows = [pair("A?", "good", "bad", spans=[span("chosen", 0, 1)]), pair("B?", "good", "bad")]
    made = version(rows)
    with pytest.raises(ExportError, match=f"1 pair has no spans on either side, first {rows[1]['pair_id']}.*--skip unmarked"):
        export(made, "masked-dpo", tmp_path / "out")
    assert export(made, "masked-dpo", tmp_path / "out", skip=("unmarked",)).rows == {"train": 1}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (span("chosen", 11, 23), "chosen: span 11..23 does not lie in its text of 22 characters"),
        (span("rejected", -1, 3), "rejected: span -1..3 does not"),
        (span("chosen", 5, 4), "chosen: span 5..4 does not"),
        (span("chosen", 5, 6) | {"weight": None}, "weight None, which is no number"),
        (span("both", 0, 1), "a span of side 'both'"),
    ],
)
def test_a_span_that_fits_no_text_is_refused(version: MakeVersion, tmp_path: Path, wrong: Row, said: str) -> None:
    with pytest.raises(ExportError, match=said):
        masked(version, tmp_path, [wrong])


# -- tokens


def told(reader: Any, row: Row, side: str) -> list[tuple[str, float]]:
    """The tokens of a side as text, each with its weight."""
    texts = [reader.decode([token]) for token in row[f"{side}_token_ids"]]
    return list(zip(texts, row[f"{side}_token_weights"], strict=True))


def test_a_token_is_masked_where_its_characters_are(version: MakeVersion, tmp_path: Path) -> None:
    tokenizing.bytewise().save_pretrained(tmp_path / "bytes")
    (row,) = masked(version, tmp_path, [span("chosen", 0, 10), span("chosen", 10, 22, 1.0)], tokenizer=str(tmp_path / "bytes"))
    tokens = told(tokenizing.bytewise(), row, "chosen")
    assert "".join(text for text, weight in tokens if weight == 0) == "It is hot."
    assert "".join(text for text, weight in tokens if weight == 1) == " It is cold.<|im_end|>\n"
    assert set(row["rejected_token_weights"]) == {1.0}


def test_what_touches_a_masked_span_is_masked(version: MakeVersion, tmp_path: Path, words: str) -> None:
    """A token that reaches from one sentence into the next belongs to both."""
    (row,) = masked(version, tmp_path, [span("chosen", 0, 10), span("chosen", 10, 22, 1.0)], tokenizer=words)
    tokens = told(tokenizing.load(words), row, "chosen")
    assert (". It", 0.0) in tokens
    (row,) = masked(version, tmp_path, [span("chosen", 0, 10, 1.0), span("chosen", 10, 22)], tokenizer=words, force=True)
    assert (". It", 0.0) in told(tokenizing.load(words), row, "chosen")


def test_a_sentence_alone_has_other_tokens_than_in_its_place(version: MakeVersion, tmp_path: Path, words: str) -> None:
    """The released code tokenises sentences alone: their number differs, and it forgets the mask; ours does not."""
    reader = tokenizing.load(words)
    sentences = ["It is hot.", " It is cold."]
    alone = [len(reader(text, add_special_tokens=False)["input_ids"]) for text in sentences]
    (row,) = masked(version, tmp_path, [span("chosen", 0, 10), span("chosen", 10, 22, 1.0)], tokenizer=words)
    whole = len(row["chosen_token_ids"]) - len(reader("<|im_end|>\n", add_special_tokens=False)["input_ids"])
    assert sum(alone) != whole
    assert 0 < row["chosen_token_weights"].count(0.0) < whole


@pytest.mark.usefixtures("trl")
@pytest.mark.filterwarnings("ignore:`gradient_checkpointing` is deprecated:FutureWarning")  # TRL 1.16 under transformers 5.23
def test_tokens_are_those_that_the_trainer_makes(version: MakeVersion, tmp_path: Path, words: str) -> None:
    from datasets import load_dataset

    from curate.export.trainers import prepare

    rows = [
        pair("A?", CHOSEN, REJECTED, spans=[span("chosen", 0, 10)]),
        pair([{"role": "system", "content": "be brief"}, *messages("B?")], "😀 مرحبا", "", spans=[span("chosen", 0, 1)]),
    ]
    done = export(version(rows), "masked-dpo", tmp_path / "out", tokenizer=words)
    data = load_dataset(str(done.path), cache_dir=str(tmp_path / "cache"))["train"]
    made = prepare("trl-dpo", data, tokenizing.load(words), str(tmp_path / "trainer"))
    for got, row in zip(made, read(done.path), strict=True):
        for side in ("chosen", "rejected"):
            assert got[f"{side}_ids"] == row[f"{side}_token_ids"]
            assert len(row[f"{side}_token_weights"]) == len(row[f"{side}_token_ids"])
    assert check(done.path, tokenizer=words).problems == []


def test_a_character_of_several_tokens_is_masked_whole(version: MakeVersion, tmp_path: Path) -> None:
    tokenizing.bytewise().save_pretrained(tmp_path / "bytes")
    made = version([pair("A?", "a😀é", "b", spans=[span("chosen", 1, 2)])])
    (row,) = read(export(made, "masked-dpo", tmp_path / "out", tokenizer=str(tmp_path / "bytes")).path)
    assert row["chosen_token_weights"][:7] == [1.0, *[0.0] * 4, *[1.0] * 2]  # 1, 4 and 2 bytes


def test_a_side_that_calls_a_tool_has_tokens_without_mask(version: MakeVersion, tmp_path: Path) -> None:
    tokenizing.bytewise().save_pretrained(tmp_path / "bytes")
    calls = json.dumps([{"type": "function", "function": {"name": "f", "arguments": {}}}])
    turns = [{"role": "assistant", "tool_calls": calls}]
    made = version([pair("A?", "good", "bad", rejected_turns=turns, spans=[span("chosen", 0, 4)])])
    (row,) = read(export(made, "masked-dpo", tmp_path / "out", tokenizer=str(tmp_path / "bytes")).path)
    assert set(row["rejected_token_weights"]) == {1.0} and row["chosen_token_weights"][:4] == [0.0] * 4


def reader_with(template: str) -> Any:
    reader = tokenizing.bytewise()
    reader.chat_template = template
    return reader


def test_a_template_that_strips_the_text_moves_its_spans() -> None:
    reader = reader_with("{% for m in messages %}[{{ m.content | trim }}]{% endfor %}")
    made = tokens_of(reader, messages("A?"), [{"role": "assistant", "content": "  yes. no.  "}], [span("chosen", 2, 6)], None)
    assert reader.decode([token for token, weight in zip(*made, strict=True) if weight == 0]) == "yes."


def test_a_template_that_changes_the_text_is_refused(version: MakeVersion, tmp_path: Path) -> None:
    reader_with("{% for m in messages %}[{{ m.content | upper }}]{% endfor %}").save_pretrained(tmp_path / "upper")
    with pytest.raises(ExportError, match=r"pair \w+: .*changes the response's text"):
        masked(version, tmp_path, [span("chosen", 0, 4)], tokenizer=str(tmp_path / "upper"))


def test_text_that_imitates_the_place_of_a_response_is_only_text() -> None:
    from curate.export.token_weights import MARK

    reader = tokenizing.bytewise()
    made = tokens_of(reader, messages(MARK), [{"role": "assistant", "content": f"a {MARK}"}], [span("chosen", 0, 1)], None)
    assert reader.decode([token for token, weight in zip(*made, strict=True) if weight == 0]) == "a"


def test_a_folder_without_tokenizer_is_refused(version: MakeVersion, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no folder"):
        masked(version, tmp_path, [span("chosen", 0, 4)], tokenizer=str(tmp_path / "nowhere"))


# -- the mathematics

SPANS = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12), st.sampled_from([0.0, 0.5, 1.0])), max_size=4)


@given(SPANS)
def test_a_characters_weight_is_the_lowest_of_its_spans(told_spans: list[tuple[int, int, float]]) -> None:
    spans = [{"start": min(a, b), "end": max(a, b), "weight": weight} for a, b, weight in told_spans]
    found = weigh_characters(12, spans)
    for place in range(12):
        assert found[place] == min([1.0, *(s["weight"] for s in spans if s["start"] <= place < s["end"])])


@given(SPANS, st.lists(st.integers(0, 3), max_size=12))
def test_a_tokens_weight_is_the_lowest_of_its_characters(told_spans: list[tuple[int, int, float]], lengths: list[int]) -> None:
    spans = [{"start": min(a, b), "end": max(a, b), "weight": weight} for a, b, weight in told_spans]
    characters = np.concatenate([weigh_characters(12, spans), np.ones(24)])
    ends = np.cumsum([0, *lengths]).tolist()
    offsets = list(zip(ends, ends[1:], strict=False))
    for (start, end), weight in zip(offsets, weigh_tokens(characters, offsets), strict=True):
        assert weight == min([1.0, *characters[start:end].tolist()])


@given(st.lists(st.integers(0, 2), max_size=6), st.lists(st.integers(0, 2), max_size=6))
def test_shared_tokens_are_the_common_beginning(first: list[int], second: list[int]) -> None:
    length = shared(first, second)
    assert first[:length] == second[:length]
    assert length == min(len(first), len(second)) or first[length] != second[length]
