"""Reward models that learn from comparisons: sequence classifiers of transformers, all of whose weights are trained."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from curate.errors import UsageError
from curate.models.local import need_extra
from curate.models.numbers import Conversation
from curate.models.rendering import Rendered
from curate.models.rewards import LocalReward
from curate.models.spec import ModelSpec
from curate.models.st_embed import by_length

LOG = logging.getLogger(__name__)
LONGEST_STEP = 1.0
"""Norm to which gradients are cut."""


@dataclass(frozen=True)
class Tuning:
    """How the weights are trained."""

    learning_rate: float = 1e-5
    batch: int = 8
    """Pairs a step."""


class RewardTrainer:
    """Pairs of conversations as one model reads them, and fresh copies of that model that learn from them."""

    def __init__(self, spec: ModelSpec) -> None:
        need_extra("torch", spec)
        if spec.backend != "transformers":
            raise UsageError(f"model {spec.name}: backend {spec.backend} cannot be trained here; transformers can")
        # updates are smaller than what bfloat16 can tell apart
        self.spec = spec.model_copy(update={"options": {"dtype": "float32", **spec.options}})
        self.rendered: list[tuple[Rendered, Rendered]] = []

    def read(self, chosen: Sequence[Conversation], rejected: Sequence[Conversation]) -> np.ndarray:
        """Take these pairs; which of them the model can read on both sides, (N,) bool. The others must not be trained on."""
        reward = LocalReward(self.spec, headless=True)
        if len(reward.heads) > 1:
            raise UsageError(f"model {self.spec.name}: {len(reward.heads)} outputs; comparisons train a model of one")
        sides = (reward.rendering.render(chosen), reward.rendering.render(rejected))
        self.rendered = list(zip(*sides, strict=True))
        return np.array([first.error is None and second.error is None for first, second in self.rendered], dtype=bool)

    def select(self, usable_N: np.ndarray) -> None:
        """Keep these pairs alone."""
        self.rendered = [pair for pair, wanted in zip(self.rendered, usable_N.tolist(), strict=True) if wanted]

    def new(self, seed: int, tuning: Tuning) -> "TunedReward":
        """The model before training: weights it came with, a head drawn by the seed where it came with none."""
        return TunedReward(self.spec, self.rendered, seed, tuning)


class TunedReward:
    """One copy of the model, trained by the Bradley-Terry loss -log s(reward(chosen) - reward(rejected)) with AdamW.

    Loshchilov and Hutter 2019, arXiv:1711.05101, without decay. The same seed, pairs and threads give the same numbers on a CPU.
    """

    def __init__(self, spec: ModelSpec, rendered: Sequence[tuple[Rendered, Rendered]], seed: int, tuning: Tuning) -> None:
        import torch

        self._seed, self._passes, self._tuning, self._rendered = seed, 0, tuning, rendered
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self._reward: LocalReward | None = LocalReward(spec, headless=True)
        self._model: Any = self._reward.model
        self._model.requires_grad_(True)
        self._optimizer: Any = torch.optim.AdamW(self._model.parameters(), lr=tuning.learning_rate, weight_decay=0.0)

    def train(self, rows: np.ndarray) -> None:
        """One pass over these pairs, in this order."""
        import torch

        self._passes += 1
        self._model.train()
        with torch.random.fork_rng():  # what is dropped out is drawn anew in each pass, and changes no draw of anybody else
            torch.manual_seed(self._seed + self._passes)
            for begin in range(0, len(rows), self._tuning.batch):
                pairs = [self._rendered[row] for row in rows[begin : begin + self._tuning.batch]]
                rewards = self._rewards([side for pair in pairs for side in pair]).view(-1, 2)
                loss: Any = -torch.nn.functional.logsigmoid(rewards[:, 0] - rewards[:, 1]).mean()
                self._optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self._model.parameters(), LONGEST_STEP)
                self._optimizer.step()
        self._model.eval()

    def margins(self) -> np.ndarray:
        """Reward of the chosen side minus that of the rejected one, (N,) float32, nothing dropped out."""
        import torch

        sides = [side for pair in self._rendered for side in pair]
        rewards = np.zeros(len(sides), np.float32)
        self._model.eval()
        with torch.inference_mode():
            for places in by_length(np.array([len(side.ids) for side in sides], np.int64), self._loaded().batch_tokens):
                rewards[places] = self._rewards([sides[place] for place in places]).cpu().numpy()
        return rewards[0::2] - rewards[1::2]

    def _rewards(self, batch: Sequence[Rendered]) -> Any:
        import torch

        loaded = self._loaded()
        kind = loaded.device.partition(":")[0]
        with torch.autocast(kind, dtype=torch.bfloat16, enabled=kind == "cuda"):
            return loaded.forward(batch)[:, 0].float()

    def _loaded(self) -> LocalReward:
        if self._reward is None:
            raise RuntimeError("the model was closed")
        return self._reward

    def close(self) -> None:
        """Free the model and what its optimizer remembers, on a GPU too."""
        from curate.models.session import free_memory

        self._reward = self._model = self._optimizer = None
        free_memory()
