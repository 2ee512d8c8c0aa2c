"""Embeddings by a sentence-transformers model in this process: sorted by length, in bfloat16 where the machine has it."""

import threading
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

from curate.errors import StepError
from curate.models.local import Options, device_of, loading, need_extra, trusted
from curate.models.numbers import Vectors
from curate.models.spec import ModelSpec

OPTIONS = {
    "engine": "torch, openvino or auto: openvino on a CPU where it is installed",
    "dtype": "bfloat16, float32 or auto: bfloat16 where the machine computes with it",
    "device": "cpu, cuda, cuda:1, ...",
    "batch_tokens": "tokens computed together, padding included",
    "max_length": "tokens of a text that are read; the model's own limit if not given",
    "prompt": "put before every text; the model's own default prompt if not given",
}
ANSWER_OPTIONS = ("max_length", "prompt")
"""Options that change vectors by more than rounding."""
BATCH_TOKENS = {"cpu": 1024, "cuda": 65_536}
TOKENIZED_AT_ONCE = 16_384  # texts


class SentenceEmbed:
    """A sentence-transformers model. Its pooling and what follows run in float32 whatever the engine."""

    kind_of_likeness = "semantic"

    def __init__(self, spec: ModelSpec) -> None:
        need_extra("sentence_transformers", spec)
        self.spec = spec
        self.options = Options(spec, OPTIONS)
        self._lock = threading.Lock()
        self._prepare()

    def _prepare(self) -> None:
        self.device = device_of(self.options)
        kind = self.device.partition(":")[0]
        self.batch_tokens = self.options.number("batch_tokens") or BATCH_TOKENS.get(kind, BATCH_TOKENS["cuda"])
        self.engine = self.options.choice("engine", ("auto", "torch", "openvino"), "auto")
        if self.engine == "openvino":
            need_extra("openvino", self.spec)
        if self.engine == "auto":
            self.engine = "openvino" if kind == "cpu" and find_spec("openvino") is not None else "torch"
        dtype = self.options.choice("dtype", ("auto", "float32", "bfloat16"), "auto")
        self.half = dtype == "bfloat16" or (dtype == "auto" and bfloat16_is_fast(self.device))
        with loading(self.spec):
            self.model = self._loaded()
            told = self.options.text("prompt")
            named = self.model.default_prompt_name
            self.prompt = told if told is not None else self.model.prompts.get(named, "") if named else ""
            length = self.options.number("max_length") or self.model.max_seq_length or self.model.tokenizer.model_max_length
            self.max_length = min(int(length), 1 << 20)
            self._hidden = self._compiled() if self.engine == "openvino" else self._torch_hidden()

    def _loaded(self) -> Any:
        from sentence_transformers import SentenceTransformer

        return SentenceTransformer(
            self.spec.name,
            revision=self.spec.revision,
            device="cpu" if self.engine == "openvino" else self.device,
            trust_remote_code=trusted(self.spec),
            model_kwargs={"use_safetensors": True},
        ).eval()

    def _torch_hidden(self) -> Callable[[Any, Any], Any]:
        import torch

        inner = self.model[0].auto_model
        if self.half:
            inner.to(torch.bfloat16)

        def hidden(ids: Any, mask: Any) -> Any:
            return inner(input_ids=ids, attention_mask=mask)[0].float()

        return hidden

    def _compiled(self) -> Callable[[Any, Any], Any]:
        """The model in OpenVINO, converted as it stands in memory."""
        import openvino
        import torch

        class Hidden(torch.nn.Module):  # type: ignore[misc, unused-ignore]
            def __init__(self, inner: Any) -> None:
                super().__init__()
                self.inner = inner

            def forward(self, input_ids: Any, attention_mask: Any) -> Any:
                return self.inner(input_ids=input_ids, attention_mask=attention_mask)[0]

        inner = self.model[0].auto_model
        inner.set_attn_implementation("eager")
        example = torch.ones((2, 8), dtype=torch.long)
        shape = openvino.PartialShape([-1, -1])
        graph = openvino.convert_model(
            Hidden(inner), example_input={"input_ids": example, "attention_mask": example}, input=[shape, shape]
        )
        precision = {"INFERENCE_PRECISION_HINT": "bf16" if self.half else "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        compiled = openvino.Core().compile_model(graph, "CPU", precision)
        return lambda ids, mask: torch.from_numpy(compiled([ids.numpy(), mask.numpy()])[0].copy())

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of unit length, (N, D) float32, in order."""
        return self.vectors(texts).values

    def vectors(self, texts: Sequence[str]) -> Vectors:
        """The same, and how many tokens of each text were not read."""
        with self._lock:
            parts = [self._embedded(texts[at : at + TOKENIZED_AT_ONCE]) for at in range(0, len(texts), TOKENIZED_AT_ONCE)]
        return Vectors.joined(parts)

    def _embedded(self, texts: Sequence[str]) -> Vectors:
        import torch

        prompted = [self.prompt + text for text in texts]
        coded = self.model.tokenizer(prompted, truncation=True, max_length=self.max_length, return_attention_mask=False)
        ids: list[list[int]] = coded["input_ids"]
        cut = np.full(len(texts), np.nan, np.float32)
        if coded.encodings is not None:  # each part that was cut off begins and ends with special tokens of its own
            added = self.model.tokenizer.num_special_tokens_to_add()
            for place, one in enumerate(coded.encodings):
                cut[place] = sum(len(part.ids) - added for part in one.overflowing)
        lengths = np.array([len(one) for one in ids])
        rows: list[Any] = [None] * len(ids)
        with torch.inference_mode():
            for places in by_length(lengths, self.batch_tokens):
                for place, vector in zip(places, self._vectors([ids[place] for place in places]), strict=True):
                    rows[place] = vector
        vectors = np.stack(rows)
        if not np.isfinite(vectors).all():
            raise StepError(f"model {self.spec.name} gave vectors that hold no numbers; try options: {{dtype: float32}}")
        return Vectors(vectors, cut)

    def _vectors(self, ids: Sequence[list[int]]) -> np.ndarray:
        import torch

        padded, mask = padded_right(ids, int(self.model.tokenizer.pad_token_id or 0))
        device = "cpu" if self.engine == "openvino" else self.device
        given, mask_given = torch.from_numpy(padded).to(device), torch.from_numpy(mask).to(device)
        features: dict[str, Any] = {"input_ids": given, "attention_mask": mask_given}
        features["token_embeddings"] = self._hidden(given, mask_given)
        for module in list(self.model)[1:]:
            features = module(features)
        found: np.ndarray = torch.nn.functional.normalize(features["sentence_embedding"].float()).cpu().numpy()
        return found


def bfloat16_is_fast(device: str) -> bool:
    """Whether the machine computes with bfloat16 itself."""
    import torch

    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    told = getattr(torch.cpu, "_is_avx512_bf16_supported", None) or getattr(torch.cpu, "_is_amx_tile_supported", None)
    return bool(told and told())


def by_length(lengths: np.ndarray, batch_tokens: int) -> list[list[int]]:
    """Places of texts in batches of at most so many tokens, padding included, the shortest texts first; one text at least."""
    batches: list[list[int]] = []
    for place in np.argsort(lengths, kind="stable").tolist():
        if batches and int(lengths[place]) * (len(batches[-1]) + 1) <= batch_tokens:
            batches[-1].append(place)
        else:
            batches.append([place])
    return batches


def padded_right(ids: Sequence[Sequence[int]], pad: int) -> tuple[np.ndarray, np.ndarray]:
    """(tokens, mask), both (N, longest) int64: padding stands behind, where no position counts it and nothing before sees it."""
    longest = max(map(len, ids))
    tokens, mask = np.full((len(ids), longest), pad, np.int64), np.zeros((len(ids), longest), np.int64)
    for row, one in enumerate(ids):
        tokens[row, : len(one)], mask[row, : len(one)] = one, 1
    return tokens, mask
