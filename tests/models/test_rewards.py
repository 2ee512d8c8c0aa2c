"""Rewards of models in this process: raw, the same whatever is scored beside them, and right about what they learnt."""

import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate.errors import StepError, UsageError
from curate.models.local import REMOTE_CODE, local_model
from curate.models.rendering import Rendering
from curate.models.session import Session, identity_of
from curate.models.spec import ModelSpec
from tests.models import tiny
from tests.models.tiny import answer, conversation

torch = pytest.importorskip("torch")
torch.set_num_threads(1)


def spec(folder: Path, backend: str = "transformers", **options: Any) -> ModelSpec:
    return ModelSpec(backend=backend, name=str(folder), kind="reward", options=options)  # type: ignore[arg-type]


def scored(told: ModelSpec, conversations: Any) -> np.ndarray:
    return local_model(told, "reward").score(conversations).values


def some(count: int, seed: int = 0) -> list[list[dict[str, str]]]:
    """Conversations of different lengths."""
    random = np.random.default_rng(seed)
    return [conversation(answer(1, 1, random, int(random.integers(0, 30)))) for _ in range(count)]


# -- rendering


def ids(words: Any, *messages: tuple[str, str], **options: Any) -> list[str]:
    """The tokens of a conversation."""
    rendering = Rendering(words, options.pop("limit", 64), **options)
    (rendered,) = rendering.render([[{"role": role, "content": text} for role, text in messages]])
    assert rendered.error is None, rendered.error
    return words.convert_ids_to_tokens(rendered.ids)


ASKED = ("user", "word0"), ("assistant", "kind")
IN_TEMPLATE = ["<|user|>", "word0", "<|end|>", "<|assistant|>", "kind", "<|end|>"]


def test_a_first_token_stands_there_exactly_once() -> None:
    words = tiny.tokenizer()
    assert ids(words, *ASKED) == ["<s>", *IN_TEMPLATE]  # the template writes it and the tokenizer would add it
    words.chat_template = tiny.TEMPLATE.replace("{{ bos_token }}", "")
    assert ids(words, *ASKED) == ["<s>", *IN_TEMPLATE]
    words.chat_template = "{{ bos_token }} " + tiny.TEMPLATE
    assert ids(words, *ASKED) == ["<s>", *IN_TEMPLATE]


def test_the_last_token_is_added_only_where_it_is_missing_and_wanted() -> None:
    words = tiny.tokenizer()
    assert ids(words, *ASKED, eos=True) == ["<s>", *IN_TEMPLATE]
    words.chat_template = "{{ messages[-1]['content'] }}"
    assert ids(words, *ASKED, eos=True) == ["<s>", "kind", "<|end|>"]
    assert ids(words, *ASKED) == ["<s>", "kind"]


def test_without_a_template_question_and_answer_are_a_pair() -> None:
    words = tiny.tokenizer(pairs=True)
    assert ids(words, *ASKED) == ["[CLS]", "word0", "[SEP]", "kind", "[SEP]"]
    (rendered,) = Rendering(words, 64).render([conversation("kind", "word0")])
    assert rendered.kinds == [0, 0, 0, 1, 1]
    assert ids(words, ("user", "word0"), ("assistant", "word1"), ("user", "word2"), ("assistant", "kind"))[1:4] == [
        "word0",
        "word1",
        "word2",
    ]


@pytest.mark.parametrize(
    ("truncate", "kept"),
    [
        ("left", ["<s>", "<|end|>", "<|assistant|>", "kind", "<|end|>"]),
        ("right", ["<s>", "<|user|>", "word0", "<|end|>", "<|assistant|>"]),
    ],
)
def test_what_is_too_long_is_cut_where_told_and_counted(truncate: Any, kept: list[str]) -> None:
    words = tiny.tokenizer()
    (rendered,) = Rendering(words, 5, truncate).render([conversation("kind", "word0")])
    assert (words.convert_ids_to_tokens(rendered.ids), rendered.cut) == (kept, 2)


def test_what_may_not_be_cut_or_has_no_answer_is_an_error() -> None:
    rendering = Rendering(tiny.tokenizer(), 5, "never")
    long, none, empty, short = rendering.render(
        [conversation("kind", "word0"), [], [{"role": "assistant", "content": None}], [{"role": "user", "content": "word0"}]]
    )
    assert long.error == "request: 7 tokens, and the model takes 5"
    assert none.error == empty.error == "request: there is no answer to score"
    assert short.error is None


def test_a_template_that_refuses_is_that_rows_error() -> None:
    words = tiny.tokenizer()
    words.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}{{ bos_token }} kind"
    )
    bad, good = Rendering(words, 64).render([[{"role": "system", "content": "x"}], conversation("kind")])
    assert bad.error == "request: the chat template refuses this conversation: no system"
    assert good.error is None


@pytest.mark.parametrize("pairs", [False, True])
def test_half_a_surrogate_pair_is_that_rows_error(pairs: bool) -> None:
    bad, good = Rendering(tiny.tokenizer(pairs=pairs), 64).render([conversation("kind \ud800"), conversation("kind")])
    assert (bad.error or "").startswith("request: the tokenizer refuses this text: ") and good.error is None


# -- neighbours


@pytest.mark.parametrize("made", ["no padding token", "padding token", "pairs"])
@pytest.mark.parametrize("count", [1, 2, 3, 17])
def test_a_reward_does_not_depend_on_its_neighbours(tmp_path: Path, made: str, count: int) -> None:
    model = tiny.encoder(tmp_path) if made == "pairs" else tiny.decoder(tmp_path, pad=made == "padding token")
    told = spec(tmp_path, "sentence_transformers" if made == "pairs" else "transformers")
    local = local_model(told, "reward")
    conversations = some(17)
    alone = []
    for one in local.rendering.render(conversations):  # what transformers says of each by itself
        given = {"input_ids": torch.tensor([one.ids])} | ({"token_type_ids": torch.tensor([one.kinds])} if one.kinds else {})
        with torch.no_grad():
            alone.append(model(**given).logits[0].numpy())
    order = np.random.default_rng(1).permutation(17)
    found = np.concatenate([local.score([conversations[i] for i in order[at : at + count]]).values for at in range(0, 17, count)])
    assert found == pytest.approx(np.array(alone)[order], abs=1e-5)
    assert np.std(found) > 0.05  # they do differ


def test_left_padding_of_the_tokenizer_changes_nothing(tmp_path: Path) -> None:
    tiny.decoder(tmp_path, pad=True)
    before = scored(spec(tmp_path), some(5))
    words = tiny.tokenizer(pad=True)
    words.padding_side = "left"
    words.save_pretrained(tmp_path)
    assert scored(spec(tmp_path), some(5)) == pytest.approx(before, abs=1e-6)


def test_a_conversation_that_ends_with_what_could_be_padding_is_read_to_its_end(tmp_path: Path) -> None:
    model = tiny.decoder(tmp_path)
    words = tiny.tokenizer()
    words.pad_token = words.eos_token  # as people do where there is none; every conversation ends with it
    words.save_pretrained(tmp_path)
    local = local_model(spec(tmp_path), "reward")
    (one,) = local.rendering.render([conversation("kind")])
    with torch.no_grad():
        wanted = model(input_ids=torch.tensor([one.ids])).logits[0].numpy()
    assert local.score([conversation("kind"), conversation("rude " * 9)]).values[0] == pytest.approx(wanted, abs=1e-5)


def test_a_model_that_names_its_padding_reads_as_transformers_does(tmp_path: Path) -> None:
    """It was trained so: the last token before what looks like padding is read, even where that is the conversation's own."""
    model = tiny.decoder(tmp_path)
    model.config.pad_token_id = tiny.tokenizer().eos_token_id
    model.save_pretrained(tmp_path)
    local = local_model(spec(tmp_path), "reward")
    (one,) = local.rendering.render([conversation("kind")])
    assert one.ids[-1] == model.config.pad_token_id
    with torch.no_grad():
        wanted = model(input_ids=torch.tensor([one.ids])).logits[0].numpy()
        shorter = model(input_ids=torch.tensor([one.ids[:-1]])).logits[0].numpy()
    assert wanted == pytest.approx(shorter, abs=1e-5)
    assert local.score([conversation("kind"), conversation("rude " * 9)]).values[0] == pytest.approx(wanted, abs=1e-5)


def test_positions_that_are_counted_from_behind_the_paddings_are_fewer(tmp_path: Path) -> None:
    from transformers import RobertaConfig, RobertaForSequenceClassification

    words = tiny.tokenizer(pairs=True)
    words.model_input_names = ["input_ids", "attention_mask"]
    words.model_max_length = 10**30  # as many are published
    words.save_pretrained(tmp_path)
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    told = {
        "max_position_embeddings": 12 + words.pad_token_id + 1,
        "num_labels": 1,
        "pad_token_id": words.pad_token_id,
        "type_vocab_size": 1,
    }
    RobertaForSequenceClassification(RobertaConfig(vocab_size=len(words), **shape, **told)).save_pretrained(tmp_path)
    found = local_model(spec(tmp_path), "reward").score([conversation("kind " * 30)])
    assert found.errors == [None] and found.cut.tolist() == [36 - 12]


def test_rewards_are_raw(tmp_path: Path) -> None:
    model = tiny.encoder(tmp_path)
    with torch.no_grad():
        model.classifier.bias += 5.0
    model.save_pretrained(tmp_path)
    assert scored(spec(tmp_path, "sentence_transformers"), some(5)).min() > 2  # a sigmoid would keep them below 1


# -- options and what is refused


def test_heads_are_named_by_option_or_by_the_model(tmp_path: Path) -> None:
    tiny.decoder(tmp_path, heads=3)
    assert local_model(spec(tmp_path), "reward").heads == ("reward_0", "reward_1", "reward_2")
    assert local_model(spec(tmp_path, heads="help, truth,brief"), "reward").heads == ("help", "truth", "brief")
    for wrong in ("a,b", "a,b,b", "a.b,c,d", "a,,b"):
        with pytest.raises(UsageError, match="options, heads: 3 different names without dots"):
            local_model(spec(tmp_path, heads=wrong), "reward")


def test_an_option_that_does_not_exist_is_named_with_those_that_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="backend transformers has no truncation; did you mean truncate"):
        local_model(spec(tmp_path, truncation=True), "reward")
    tiny.decoder(tmp_path)
    with pytest.raises(UsageError, match="options, truncate: one of left, right, never, got 'middle'"):
        local_model(spec(tmp_path, truncate="middle"), "reward")


def test_only_safetensors_are_read(tmp_path: Path) -> None:
    model = tiny.decoder(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(StepError, match="cannot be loaded.*only weights as .safetensors are read"):
        local_model(spec(tmp_path), "reward")


@pytest.mark.parametrize("backend", ["transformers", "sentence_transformers"])
def test_a_checkpoint_without_a_trained_head_never_scores(tmp_path: Path, backend: str) -> None:
    """The library would draw the head at random and say nothing."""
    from transformers import LlamaConfig, LlamaForCausalLM

    words = tiny.tokenizer()
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, num_labels=1
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    words.save_pretrained(tmp_path)
    with pytest.raises(
        StepError, match="LlamaForCausalLM, has no weights for score.weight, so that its scores would be random: name"
    ):
        local_model(spec(tmp_path, backend), "reward")


def test_a_cross_encoder_whose_head_was_lost_never_scores(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    tiny.encoder(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["classifier.bias"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(StepError, match="BertForSequenceClassification, has no weights for classifier.bias, so that"):
        local_model(spec(tmp_path, "sentence_transformers"), "reward")


def test_a_models_own_code_runs_only_if_the_environment_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.decoder(tmp_path)
    config = tmp_path / "config.json"
    mapped = '{"auto_map": {"AutoConfig": "own.Own", "AutoModelForSequenceClassification": "own.Own"}, "model_type": "own",'
    config.write_text(mapped + config.read_text().replace('"model_type": "llama"', '"old": 1').lstrip("{"))
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\nOwn = None\n")
    with pytest.raises(StepError, match=f"code of its own: if you trust it, set {REMOTE_CODE}="):
        local_model(spec(tmp_path), "reward")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("device", ["cuda:7", "nonsense"])
def test_a_device_that_is_not_there_is_one_sentence(tmp_path: Path, device: str) -> None:
    tiny.decoder(tmp_path)
    with pytest.raises(StepError, match="cannot be loaded: "):
        local_model(spec(tmp_path, device=device), "reward")


def test_a_model_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StepError, match="cannot be loaded"):
        local_model(spec(tmp_path / "nowhere"), "reward")


# -- kept


def test_a_second_session_computes_nothing_and_a_changed_model_everything(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    tiny.decoder(folder, heads=2)
    told = spec(folder, max_length=12)
    conversations = some(6)
    with Session({"rm": told}, tmp_path / "store") as session:
        first = session.reward("rm").rewards([*conversations, conversations[0]])
    moved = folder.rename(tmp_path / "elsewhere").rename(folder)
    (moved / "model.safetensors").rename(tmp_path / "aside")  # what is not there cannot compute
    identity = identity_of(told)
    (tmp_path / "aside").rename(moved / "model.safetensors")
    assert identity != identity_of(told) == identity_of(told.model_copy(update={"name": f"{folder}/"}))
    with Session({"again": told}, tmp_path / "store") as session:
        model = session.reward("again")
        second = model.rewards([*conversations, conversations[0]])
        assert not session._backends  # it was never loaded
        assert model.heads(2) == ("reward_0", "reward_1")
    assert (first.values == second.values).all() and (first.cut == second.cut).all() and first.cut.max() > 0
    tiny.decoder(folder, heads=2, seed=1)
    with Session({"rm": told}, tmp_path / "store") as session:
        assert not np.allclose(session.reward("rm").rewards(conversations).values, first.values[:6])


def test_a_model_gives_its_memory_back_when_its_step_is_over_and_returns_when_asked(tmp_path: Path) -> None:
    tiny.decoder(tmp_path / "model")
    first, second = some(2)
    with Session({"rm": spec(tmp_path / "model")}, tmp_path / "store") as session:
        session.reward("rm").rewards([first])
        held = weakref.ref(session._backends["rm", "reward"].model)
        session.rest()
        assert held() is None
        assert np.isfinite(session.reward("rm").rewards([first, second]).values).all()


def test_a_reward_that_is_no_number_is_an_error_and_not_kept(tmp_path: Path) -> None:
    model = tiny.decoder(tmp_path / "model")
    with torch.no_grad():
        model.model.embed_tokens.weight[tiny.tokenizer().convert_tokens_to_ids("rude")] = float("nan")
    model.save_pretrained(tmp_path / "model")
    with Session({"rm": spec(tmp_path / "model")}, tmp_path / "store") as session:
        found = session.reward("rm").rewards([conversation("kind"), conversation("rude")])
        assert np.isnan(found.values[:, 0]).tolist() == [False, True]
        assert found.errors == [None, "engine: the model gave a number that is none"]
        assert len(session.reward("rm").shelf) == 1  # type: ignore[union-attr]


def test_an_endless_reward_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.decoder(tmp_path)
    local = local_model(spec(tmp_path), "reward")
    monkeypatch.setattr(local, "_logits", lambda batch: np.full((len(batch), 1), np.inf, np.float32))
    found = local.score([conversation("kind")])
    assert np.isnan(found.values).all() and found.errors == ["engine: the model gave a number that is none"]


# -- trained on the spot


def counted(seed: int, count: int) -> tuple[list[list[dict[str, str]]], np.ndarray]:
    """Conversations of ten words each, and how many of them are good and bad: 0 to 3, drawn independently.

    They are drawn from five words, which lie in clearly different directions of a model's 32.
    """
    random = np.random.default_rng(seed)
    marks = random.integers(0, 4, (count, 2))
    texts = []
    for good, bad in marks.tolist():
        drawn = [
            random.choice(tiny.GOOD[:2], good),
            random.choice(tiny.BAD[:2], bad),
            random.choice(tiny.PLAIN[:1], 10 - good - bad),
        ]
        texts.append(" ".join(random.permutation(np.concatenate(drawn)).tolist()))
    return [conversation(text) for text in texts], marks


@pytest.mark.parametrize("seed", range(5))
def test_a_cross_encoder_learns_what_it_is_taught(tmp_path: Path, seed: int) -> None:
    """Good words count for an answer, bad ones against it. A regression can learn that as below, if no word has a place."""
    model, words = tiny.encoder(tmp_path, seed), tiny.tokenizer(pairs=True)
    with torch.no_grad():
        layer = model.bert.encoder.layer[0]
        model.bert.embeddings.position_embeddings.weight.zero_()
        layer.attention.self.query.weight.zero_()
        layer.attention.output.dense.weight.mul_(0.05)
        layer.output.dense.weight.zero_()
        model.bert.pooler.dense.weight.mul_(0.05)  # where its tanh is as good as straight
        taught, marks = counted(100 + seed, 400)
        texts = [one[1]["content"] for one in taught]
        coded = words(
            [taught[0][0]["content"]] * len(texts), texts, return_tensors="pt", return_token_type_ids=False
        )  # as it is saved
        pooled = model.bert(**coded).pooler_output
        wanted = torch.tensor(marks[:, :1] - marks[:, 1:], dtype=torch.float32)
        middle = pooled.mean(dim=0)
        model.classifier.weight.copy_(
            torch.linalg.lstsq(pooled - middle, wanted - wanted.mean(), rcond=0.01, driver="gelsd").solution.T
        )
        model.classifier.bias.copy_(wanted.mean() - model.classifier.weight @ middle)
    model.save_pretrained(tmp_path)
    asked, marks = counted(200 + seed, 300)
    values, truth = scored(spec(tmp_path, "sentence_transformers"), asked)[:, 0], marks[:, 0] - marks[:, 1]
    first, second = np.triu_indices(300, 1)
    told = truth[first] != truth[second]
    right = np.sign(values[first] - values[second]) == np.sign(truth[first] - truth[second])
    assert right[told].mean() >= 0.99


@pytest.mark.parametrize("seed", range(5))
def test_a_multi_head_model_learns_each_head(tmp_path: Path, seed: int) -> None:
    """As ArmoRM's first stage: a frozen body, and for each attribute a regression on the last token.

    Without queries the attention is the mean over all words, and without a network behind it the last token holds a little of
    that mean beside itself: numbers of words, of which there are equally many, are linear in it, whatever the random weights.
    """
    model = tiny.decoder(tmp_path, heads=2, pad=True, seed=seed)
    with torch.no_grad():
        model.model.layers[0].self_attn.q_proj.weight.zero_()
        model.model.layers[0].self_attn.o_proj.weight.mul_(0.05)  # so little that the norm stays what it is
        model.model.layers[0].mlp.down_proj.weight.zero_()
        taught, marks = counted(100 + seed, 400)
        rendered = Rendering(tiny.tokenizer(pad=True), 64).render(taught)
        last = model.model(input_ids=torch.tensor([one.ids for one in rendered])).last_hidden_state[:, -1]
        model.score.weight.copy_(torch.linalg.lstsq(last, torch.tensor(marks, dtype=torch.float32), rcond=1e-5).solution.T)
    model.save_pretrained(tmp_path)
    asked, marks = counted(200 + seed, 300)
    values = local_model(spec(tmp_path, heads="good,bad"), "reward").score(asked).values
    assert np.abs(values - marks).mean() < 0.2
    for head in (0, 1):
        assert np.corrcoef(values[:, head], marks[:, head])[0, 1] > 0.98
        assert abs(np.corrcoef(values[:, head], marks[:, 1 - head])[0, 1]) < 0.25  # five times what chance gives
