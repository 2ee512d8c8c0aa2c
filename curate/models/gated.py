"""Reward models as ArmoRM publishes them: rewards for many objectives, mixed by a network that looks at the prompt alone.

The layers are built here; the code that comes with such a checkpoint is never run. H. Wang et al., "Interpretable Preferences
via Multi-Objective Reward Modeling and Mixture-of-Experts", EMNLP 2024 Findings, arXiv:2406.12845, sections 3.1 and 3.2.
"""

from collections.abc import Sequence
from typing import Any

from curate.models.local import need_weights
from curate.models.numbers import ONE_HEAD

ARCHITECTURE = "LlamaForRewardModelWithGating"
"""What the configuration of such a checkpoint names as its architecture."""


def is_gated(config: Any) -> bool:
    """Whether a model's configuration says that it is one."""
    return ARCHITECTURE in (getattr(config, "architectures", None) or ())


def gated_model(name: str, config: Any, tokenizer: Any, dtype: Any, revision: str | None) -> Any:
    """A checkpoint's model, whose outputs are the mixed score and then the reward of each objective, as the regression gives it.

    Score: sum over objectives of g(x) (r M), with the rewards r read off the last token, g the gates read off the token that
    ends the prompt x, and M the matrix that frees rewards of what they owe to verbosity. Body in `dtype`, heads in float32.
    Raises ValueError for a checkpoint that lacks weights, or whose tokenizer does not tell where a prompt ends.
    """
    made, about = _model_class().from_pretrained(
        name, config=config, dtype=dtype, revision=revision, use_safetensors=True, output_loading_info=True
    )
    need_weights(about["missing_keys"], config)
    made.marker = prompt_end(tokenizer)
    for part in (made.regression_layer, made.gating):
        part.float()
    made.reward_transform_matrix.data = made.reward_transform_matrix.data.float()
    made.config.num_labels = made.objectives + 1
    made.named_first = (ONE_HEAD,)
    return made


def prompt_end(tokenizer: Any) -> tuple[int, ...]:
    """The tokens between a prompt and its answer: the one that ends the prompt, then the answer's opening.

    Without the white space that the opening ends with: it may be merged with how the answer begins.
    """
    asked = [{"role": "user", "content": "a"}]
    texts = [tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=told) for told in (False, True)]
    closed, opened = (list(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts)
    opening = opened[len(closed) :] if opened[: len(closed)] == closed else []
    while opening and not tokenizer.decode(opening[-1:]).strip():
        opening.pop()
    if not closed or not opening:
        raise ValueError("its chat template does not tell where a prompt ends and an answer begins")
    return (closed[-1], *opening)


def last_place(ids: Sequence[int], marker: Sequence[int]) -> int | None:
    """Where the last occurrence of some tokens begins; None if there is none."""
    width = len(marker)
    starts = range(len(ids) - width, -1, -1)
    return next((start for start in starts if tuple(ids[start : start + width]) == tuple(marker)), None)


def _model_class() -> Any:
    """The model as a class of transformers, whose weights are called as in the checkpoint."""
    import torch
    from transformers import LlamaModel, LlamaPreTrainedModel
    from transformers.modeling_outputs import SequenceClassifierOutput

    class Gating(torch.nn.Module):  # type: ignore[misc, unused-ignore]
        """Weights of the objectives: hidden layers with ReLU, then a softmax that a temperature flattens."""

        def __init__(self, config: Any, objectives: int) -> None:
            super().__init__()
            hidden, layers = getattr(config, "gating_hidden_dim", 1024), getattr(config, "gating_n_hidden", 3)
            widths = [config.hidden_size, *[hidden] * layers, objectives]
            self.temperature = getattr(config, "gating_temperature", 10)
            self.logit_scale = torch.nn.Parameter(torch.ones(1))
            self.layers = torch.nn.ModuleList([torch.nn.Linear(*pair) for pair in zip(widths, widths[1:], strict=False)])

        def forward(self, x: Any) -> Any:
            for layer in self.layers[:-1]:
                x = torch.relu(layer(x))
            return torch.softmax(self.layers[-1](x) / self.temperature, dim=1) * self.logit_scale

    class Gated(LlamaPreTrainedModel):  # type: ignore[misc, unused-ignore]
        """A body, the regression of each objective, and the gates."""

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.objectives = int(getattr(config, "num_objectives", 19))
            self.model = LlamaModel(config)
            self.regression_layer = torch.nn.Linear(config.hidden_size, self.objectives, bias=False)
            self.reward_transform_matrix = torch.nn.Parameter(torch.zeros(self.objectives, self.objectives), requires_grad=False)
            self.gating = Gating(config, self.objectives)
            self.marker: tuple[int, ...] = ()
            self.post_init()

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            states = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            rows = torch.arange(len(states), device=states.device)
            lengths = attention_mask.sum(dim=1)
            told = zip(input_ids.tolist(), lengths.tolist(), strict=True)
            places = [last_place(ids[:length], self.marker) for ids, length in told]
            at = torch.tensor([place or 0 for place in places], device=states.device)
            rewards = self.regression_layer(states[rows, lengths - 1].float())
            score = (self.gating(states[rows, at].float()) * (rewards @ self.reward_transform_matrix)).sum(dim=1, keepdim=True)
            return SequenceClassifierOutput(logits=torch.cat([score, rewards], dim=1))

    return Gated
