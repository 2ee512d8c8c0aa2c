"""Reward models in this process: sequence classifiers of transformers, and cross-encoders of sentence-transformers.

Rewards are the raw numbers of the last layer, never a sigmoid of them. A reward does not depend on what is scored beside it:
every conversation is rendered on its own, padded behind, and read at its own last token.
"""

import threading
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from curate.errors import UsageError
from curate.models.gated import gated_model, is_gated, last_place
from curate.models.local import Options, device_of, loading, need_extra, need_weights, trusted
from curate.models.numbers import ONE_HEAD, Conversation, Rewards
from curate.models.rendering import TRUNCATE, Rendered, Rendering, Truncate
from curate.models.spec import ModelSpec
from curate.models.st_embed import bfloat16_is_fast, by_length, padded_right

OPTIONS = {
    "heads": "names of the model's outputs in order, commas between; those of its configuration if not given; of a model with "
    "gates those of its objectives, behind `reward`, the mixed score",
    "max_length": "tokens of a conversation that are read; the model's own limit if not given",
    "truncate": "left, right or never",
    "template": "true or false: render by the tokenizer's chat template; true if it has one",
    "eos": "true: end every conversation with the tokenizer's EOS",
    "dtype": "float32, bfloat16, float16 or auto: float32 on a CPU, else bfloat16",
    "device": "cpu, cuda, cuda:1, ...",
    "batch_tokens": "tokens computed together, padding included",
}
ANSWER_OPTIONS = ("heads", "max_length", "truncate", "template", "eos", "dtype")
BATCH_TOKENS = {"cpu": 4096, "cuda": 32_768}
LONGEST = 1 << 20  # tokenizers that know no limit say 10^30


class LocalReward:
    """A sequence classifier. The heads are its labels: one for most reward models, several for those of many attributes."""

    module = "transformers"

    def __init__(self, spec: ModelSpec, headless: bool = False) -> None:
        """headless: the checkpoint may lack weights, which are drawn at random: to be trained, never to score by."""
        need_extra(self.module, spec)
        self.spec = spec
        self._headless = headless
        self.options = Options(spec, OPTIONS)
        self.device = device_of(self.options)
        kind = self.device.partition(":")[0]
        self.batch_tokens = self.options.number("batch_tokens") or BATCH_TOKENS.get(kind, BATCH_TOKENS["cuda"])
        self._lock = threading.Lock()
        with loading(spec):
            self.model, self.tokenizer = self._loaded()
        self.heads = self._heads()
        truncate = cast(Truncate, self.options.choice("truncate", TRUNCATE, "left"))
        eos = bool(self.options.truth("eos", False))
        self.rendering = Rendering(self.tokenizer, self._limit(), truncate, self._with_template(), eos)

    def _with_template(self) -> bool | None:
        told = self.options.truth("template")
        if told and not self.tokenizer.chat_template:
            raise UsageError(f"model {self.spec.name}, options, template: its tokenizer has no chat template")
        return told

    def _dtype(self) -> Any:
        import torch

        named = self.options.choice("dtype", ("auto", "float32", "bfloat16", "float16"), "auto")
        if named == "auto":
            named = "bfloat16" if self.device.startswith("cuda") and bfloat16_is_fast(self.device) else "float32"
        return getattr(torch, named)

    def _loaded(self) -> tuple[Any, Any]:
        from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

        told = {"revision": self.spec.revision, "trust_remote_code": trusted(self.spec)}
        config = AutoConfig.from_pretrained(self.spec.name, **told)
        if is_gated(config):
            words = AutoTokenizer.from_pretrained(self.spec.name, revision=self.spec.revision)
            model = gated_model(self.spec.name, config, words, self._dtype(), self.spec.revision)
            return model.to(self.device).eval(), words
        model, about = AutoModelForSequenceClassification.from_pretrained(
            self.spec.name, dtype=self._dtype(), use_safetensors=True, output_loading_info=True, **told
        )
        if not self._headless:
            need_weights(about["missing_keys"], config)
        return model.to(self.device).eval(), AutoTokenizer.from_pretrained(self.spec.name, **told)

    def _limit(self) -> int:
        """Tokens the model takes."""
        config = self.model.config.get_text_config()
        known = getattr(config, "max_position_embeddings", None) or LONGEST
        if config.model_type in ("roberta", "xlm-roberta", "camembert"):
            known -= int(config.pad_token_id or 0) + 1  # their positions are counted from behind the padding's
        model = min(int(known), int(self.tokenizer.model_max_length), LONGEST)
        return min(self.options.number("max_length") or model, int(known))

    def _heads(self) -> tuple[str, ...]:
        first = tuple(getattr(self.model, "named_first", ()))
        count = int(self.model.config.num_labels) - len(first)
        return first + self._heads_of(count)

    def _heads_of(self, count: int) -> tuple[str, ...]:
        told = self.options.text("heads")
        if told is not None:
            names = tuple(name.strip() for name in told.split(","))
            if len(names) != count or len(set(names)) < count or any(not name or "." in name for name in names):
                raise UsageError(
                    f"model {self.spec.name}, options, heads: {count} different names without dots, commas between, got {told!r}"
                )
            return names
        if count == 1:
            return (ONE_HEAD,)
        labels = [str(self.model.config.id2label.get(place, f"LABEL_{place}")).replace(".", "_") for place in range(count)]
        return tuple(f"{ONE_HEAD}_{place}" if label == f"LABEL_{place}" else label for place, label in enumerate(labels))

    def score(self, conversations: Sequence[Conversation]) -> Rewards:
        """Raw rewards, each conversation's last message being the answer."""
        with self._lock:
            rendered = [self._fit(one) for one in self.rendering.render(conversations)]
            values = np.full((len(rendered), len(self.heads)), np.nan, np.float32)
            places = [place for place, one in enumerate(rendered) if one.error is None]
            lengths = np.array([len(rendered[place].ids) for place in places], np.int64)
            for batch in by_length(lengths, self.batch_tokens):
                chosen = [places[i] for i in batch]
                values[chosen] = self._logits([rendered[place] for place in chosen])
        errors = [one.error for one in rendered]
        for place in places:
            if not np.isfinite(values[place]).all():
                values[place], errors[place] = np.nan, "engine: the model gave a number that is none"
        cut = np.array([np.nan if one.error is not None else one.cut for one in rendered], np.float32)
        return Rewards(values, errors, cut)

    def _fit(self, one: Rendered) -> Rendered:
        """A conversation that the model can read, or why it cannot: gates need the place where the prompt ends."""
        marker = getattr(self.model, "marker", ())
        if one.error is None and marker and last_place(one.ids, marker) is None:
            return Rendered([], error="request: nothing tells where the prompt ends; if that was cut, use truncate: right")
        return one

    def _logits(self, batch: Sequence[Rendered]) -> np.ndarray:
        import torch

        with torch.inference_mode():
            found: np.ndarray = self.forward(batch).float().cpu().numpy()
        return found

    def forward(self, batch: Sequence[Rendered]) -> Any:
        """Raw rewards of conversations, a tensor (N, heads)."""
        import torch

        pad = self._padding(batch)
        tokens, mask = padded_right([one.ids for one in batch], pad)
        given = {"input_ids": torch.from_numpy(tokens).to(self.device), "attention_mask": torch.from_numpy(mask).to(self.device)}
        if batch[0].kinds is not None:
            kinds, _ = padded_right([one.kinds or [] for one in batch], 0)
            given["token_type_ids"] = torch.from_numpy(kinds).to(self.device)
        before = self.model.config.pad_token_id
        try:
            self.model.config.pad_token_id = pad
            return self.model(**given).logits
        finally:
            self.model.config.pad_token_id = before

    def _padding(self, batch: Sequence[Rendered]) -> int:
        """The token that fills up a batch. The model finds a conversation's end by it.

        The model's own, if its configuration names one: it was trained so. Else the tokenizer's, or one that no conversation
        of the batch holds: an end that looks like padding would be read one token too early.
        """
        own = self.model.config.pad_token_id
        if own is not None:
            return int(own)
        present = {token for one in batch for token in one.ids}
        told = self.tokenizer.pad_token_id
        if told is not None and told not in present:
            return int(told)
        size = int(self.model.config.get_text_config().vocab_size)
        return next(token for token in range(size - 1, -1, -1) if token not in present)


class CrossEncoderReward(LocalReward):
    """A cross-encoder of sentence-transformers that is a sequence classifier: it reads question and answer together. Its
    activation is left out, and so are all modules behind the classifier.
    """

    module = "sentence_transformers"

    def _with_template(self) -> bool | None:
        return bool(super()._with_template())
