"""Models that say how probable they think an answer is, token by token: vLLM's, transformers' and a fake one."""

import hashlib
import math
import re
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from curate.errors import UsageError
from curate.ids import canonical_json
from curate.models.asking import LikelihoodRequest, Reply
from curate.models.boundary import Measured, Unmeasurable, measured, rising
from curate.models.caller import Caller
from curate.models.heads import NO_TEMPLATE, Unfit
from curate.models.lane import Lane
from curate.models.local import Options, device_of, loading, need_extra, pinned, trusted
from curate.models.numbers import key_of
from curate.models.shelf import VectorShelf
from curate.models.spec import ModelSpec


class Tokens(NamedTuple):
    """What a model thinks of each token of an answer."""

    values: np.ndarray
    """(tokens,) float32, natural logarithms."""
    ends: np.ndarray | None = None
    """(tokens,) int32: character of the answer at which the token ends; None if the tokenizer does not tell."""


Logprobs = Tokens | str
"""Tokens; or why there are none: "kind: detail"."""
OPTIONS = {
    "max_length": "tokens of a conversation that the model takes; its own limit if not given",
    "dtype": "float32, bfloat16, float16 or auto: float32 on a CPU, else bfloat16",
    "device": "cpu, cuda, cuda:1, ...",
    "batch_tokens": "tokens computed together, padding included",
}
ANSWER_OPTIONS = ("max_length", "dtype")
BATCH_TOKENS = 4096
REQUESTS_AT_ONCE = 512
"""Answers measured before their sums are put on the shelf."""
CHUNK = 256
"""Positions whose probabilities over the whole vocabulary are held at once."""


class Totals(NamedTuple):
    """What models think of some answers as wholes."""

    sums: np.ndarray
    """(N,) float32: natural logarithm of the answer's probability; NaN where it could not be measured."""
    tokens: np.ndarray
    """(N,) float32: tokens of the answer."""
    errors: list[str | None]


class LikelihoodModel:
    """A model that measures answers. What it was asked before is taken from the shelf, unless tokens are wanted."""

    def __init__(self, ask: Callable[[Sequence[LikelihoodRequest]], Sequence[Logprobs]], shelf: VectorShelf) -> None:
        self._ask = ask
        self._shelf = shelf

    def logprobs(self, requests: Sequence[LikelihoodRequest]) -> Sequence[Logprobs]:
        """Natural logarithms for each token of each answer; or why there are none."""
        return self._ask(requests)

    def totals(self, requests: Sequence[LikelihoodRequest]) -> Totals:
        """Sums over the tokens of each answer."""
        keys = [key_of(canonical_json([[dict(message) for message in one.messages], one.end])) for one in requests]
        rows, found = self._shelf.get(keys)
        missing = list({key: one for key, one, there in zip(keys, requests, found, strict=True) if not there}.items())
        errors: dict[bytes, str] = {}
        for start in range(0, len(missing), REQUESTS_AT_ONCE):
            part = missing[start : start + REQUESTS_AT_ONCE]
            told = self._ask([request for _, request in part])
            errors |= {key: one for (key, _), one in zip(part, told, strict=True) if isinstance(one, str)}
            good = [(key, one) for (key, _), one in zip(part, told, strict=True) if not isinstance(one, str)]
            sums = np.array([[one.values.sum(dtype=np.float64), len(one.values)] for _, one in good], np.float32).reshape(-1, 2)
            self._shelf.put([key for key, _ in good], sums)
        if missing:
            rows, found = self._shelf.get(keys)
        if rows.shape[1] == 0:
            rows = np.full((len(keys), 2), np.nan, np.float32)
        unknown = "engine: the model gave a number that is none"
        why = [None if there else errors.get(key, unknown) for key, there in zip(keys, found, strict=True)]
        return Totals(rows[:, 0], rows[:, 1], why)


def asked_by(caller: Caller, lane: Lane) -> Callable[[Sequence[LikelihoodRequest]], Sequence[Logprobs]]:
    """Asks a back end behind the caller."""

    def read(reply: Reply) -> Logprobs:
        if reply.error is not None or reply.raw is None:
            return f"{reply.error}: {reply.detail}"
        return checked(reply.raw["values"], reply.raw["ends"])

    return lambda requests: [read(reply) for reply in caller.ask_unkept(lane, requests)]


def checked(values: np.ndarray, ends: Sequence[int] | None) -> Logprobs:
    """The numbers, if they are some."""
    if not np.isfinite(values).all():
        return "engine: the model gave a number that is none"
    return Tokens(values, None if ends is None else np.array(ends, np.int32))


def measurer(spec: ModelSpec) -> "CausalLikelihood | FakeLikelihood":
    """A model in this process that measures answers."""
    if spec.backend == "transformers":
        return CausalLikelihood(pinned(spec))
    if spec.backend == "fake":
        return FakeLikelihood(spec)
    raise UsageError(f"model {spec.name}: backend {spec.backend} cannot measure answers; vllm and transformers can")


class CausalLikelihood:
    """A causal language model of transformers: one forward pass an answer."""

    def __init__(self, spec: ModelSpec) -> None:
        need_extra("transformers", spec)
        self.spec = spec
        options = Options(spec, OPTIONS)
        self.device = device_of(options)
        self.batch_tokens = options.number("batch_tokens") or BATCH_TOKENS
        self._lock = threading.Lock()
        with loading(spec):
            self.model, self.tokenizer = self._loaded(options)
        known = getattr(self.model.config.get_text_config(), "max_position_embeddings", None) or 1 << 20
        self.limit = min(options.number("max_length") or known, known)

    def _loaded(self, options: Options) -> tuple[Any, Any]:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        named = options.choice("dtype", ("auto", "float32", "bfloat16", "float16"), "auto")
        if named == "auto":
            named = "bfloat16" if self.device.startswith("cuda") else "float32"
        told = {"revision": self.spec.revision, "trust_remote_code": trusted(self.spec)}
        words = AutoTokenizer.from_pretrained(self.spec.name, **told)
        if not words.chat_template:
            raise Unfit(NO_TEMPLATE)
        model = AutoModelForCausalLM.from_pretrained(self.spec.name, dtype=getattr(torch, named), use_safetensors=True, **told)
        return model.to(self.device).eval(), words

    def logprobs(self, requests: Sequence[LikelihoodRequest]) -> list[Logprobs]:
        """Natural logarithms for each token of each answer; answers are computed beside those of about their length."""
        from curate.models.st_embed import by_length

        found: list[Logprobs] = [""] * len(requests)
        with self._lock:
            rendered: dict[int, Measured] = {}
            for place, request in enumerate(requests):
                one = self._measured(request)
                if isinstance(one, str):
                    found[place] = one
                else:
                    rendered[place] = one
            places = list(rendered)
            lengths = np.array([len(rendered[place].ids) for place in places], np.int64)
            for batch in by_length(lengths, self.batch_tokens):
                chosen = [places[i] for i in batch]
                for place, values in zip(chosen, self._forward([rendered[i] for i in chosen]), strict=True):
                    found[place] = checked(values, rendered[place].ends)
        return found

    def _measured(self, request: LikelihoodRequest) -> Measured | str:
        try:
            one = measured(self.tokenizer, request.messages, request.end)
        except Unmeasurable as error:
            return f"request: {error}"
        if len(one.ids) > self.limit:
            return f"request: {len(one.ids)} tokens, and the model takes {self.limit}"
        return one

    def _forward(self, batch: Sequence[Measured]) -> list[np.ndarray]:
        import torch

        from curate.models.st_embed import padded_right

        tokens, mask = padded_right([one.ids for one in batch], 0)
        ids = torch.from_numpy(tokens).to(self.device)
        made = []
        with torch.inference_mode():
            logits = self.model(input_ids=ids, attention_mask=torch.from_numpy(mask).to(self.device)).logits
            for row, one in enumerate(batch):
                parts = []
                for start in range(one.start, len(one.ids), CHUNK):
                    stop = min(start + CHUNK, len(one.ids))
                    wanted = ids[row, start:stop, None]
                    part = torch.log_softmax(logits[row, start - 1 : stop - 1].float(), dim=-1)
                    parts.append(part.gather(1, wanted)[:, 0].cpu().numpy())
                made.append(np.concatenate(parts).astype(np.float32))
        return made


class FakeLikelihood:
    """Log-probabilities drawn from a hash, one a word: careful words are likelier than careless ones."""

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec

    def logprobs(self, requests: Sequence[LikelihoodRequest]) -> list[Logprobs]:
        """One number for each word."""
        return [self._drawn(request) for request in requests]

    def _drawn(self, request: LikelihoodRequest) -> Logprobs:
        text = request.messages[-1].get("content") if len(request.messages) > 1 else None
        found = list(re.finditer(r"\w+|[^\w\s]", text)) if isinstance(text, str) else []
        if not found or not isinstance(text, str):
            return "request: there is no answer to measure"
        made, closing = [], [""] if request.end else []
        for place, word in enumerate([*(one[0] for one in found), *closing]):
            told = canonical_json([self.spec.name, self.spec.revision, place, word])
            draw = hashlib.sha256(told.encode("utf-8", "surrogatepass")).digest()
            made.append(math.log((int.from_bytes(draw[:4], "big") + 1) / (2**32 + 1)))
        ends = rising([one.end() for one in found], len(text)) + [len(text)] * len(closing)
        return Tokens(np.array(made, np.float32), np.array(ends, np.int32))
