"""Turn conversations into the tokens a model was trained on: the one place for templates, first and last tokens, and cutting.

With a chat template, the tokens are the template's; exactly one first token (BOS) stands before them if the tokenizer has
one that it or the template puts there. Without one, the conversation is a pair, what was asked and what was answered, as
cross-encoders take it.
"""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:  # vLLM's worker, which has the standard library alone, renders with this module, too
    from curate.models.numbers import Conversation

Truncate = Literal["left", "right", "never"]
"""What becomes of a conversation that is too long. left: its beginning is cut off, the first token and the answer stay; right:
its end is cut off; never: it is an error. Pairs are cut at the end, of the longer text first, whichever side is named."""
TRUNCATE: tuple[Truncate, ...] = ("left", "right", "never")
TURNS = "\n\n"  # between what was said, where there is no template


class Rendered(NamedTuple):
    """A conversation as a model takes it."""

    ids: list[int]
    kinds: list[int] | None = None
    """Which text of a pair each token is of, for models that ask for it."""
    cut: int = 0
    """Tokens cut off."""
    error: str | None = None
    """Why it cannot be put to the model: "request: ..."; None if it can."""


class Refused(ValueError):
    """A chat template says no."""


class Rendering:
    """How one model takes conversations.

    tokenizer: of transformers. limit: tokens the model takes. template: use the chat template (None: if there is one).
    eos: put the tokenizer's last token (EOS) behind what does not end with it.
    """

    def __init__(
        self, tokenizer: Any, limit: int, truncate: Truncate = "left", template: bool | None = None, eos: bool = False
    ) -> None:
        self.tokenizer = tokenizer
        self.limit = limit
        self.truncate = truncate
        self.eos = eos
        self.with_template = bool(tokenizer.chat_template) if template is None else template
        self.kinds = "token_type_ids" in tokenizer.model_input_names
        self._opens = self._opening()

    def render(self, conversations: "Sequence[Conversation]") -> list[Rendered]:
        """Each conversation on its own: nothing of one depends on another."""
        return [self._render([plain(message) for message in conversation]) for conversation in conversations]

    def _render(self, messages: list[dict[str, Any]]) -> Rendered:
        if not messages or (messages[-1].get("content") is None and not messages[-1].get("tool_calls")):
            return Rendered([], error="request: there is no answer to score")
        try:
            ids, kinds = self._templated(messages) if self.with_template else self._paired(messages)
        except Refused as problem:
            return Rendered([], error=f"request: {problem}")
        except (TypeError, ValueError) as problem:  # such as half a surrogate pair
            return Rendered([], error=f"request: the tokenizer refuses this text: {str(problem)[:200]}")
        over = len(ids) - self.limit
        if over <= 0:
            return Rendered(ids, kinds)
        if self.truncate == "never":
            return Rendered([], error=f"request: {len(ids)} tokens, and the model takes {self.limit}")
        if not self.with_template:
            ids, kinds = self._paired(messages, cut=True)
        elif self.truncate == "right":
            ids = ids[: self.limit]
        else:
            start = ids[:1] if self._opens is not None and ids[0] == self._opens else []
            ids = start + ids[len(start) + over :]
        return Rendered(ids, kinds, over)

    def _templated(self, messages: list[dict[str, Any]]) -> tuple[list[int], None]:
        try:
            text = self.tokenizer.apply_chat_template(messages, tokenize=False)
        except Exception as problem:  # a template is a program that came with the model: it may refuse in any way
            raise Refused(f"the chat template refuses this conversation: {str(problem)[:200]}") from None
        ids = list(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
        if self._opens is not None:
            while ids[:1] == [self._opens]:
                ids = ids[1:]
            ids = [self._opens, *ids]
        last = self.tokenizer.eos_token_id
        return (ids if not self.eos or last is None or ids[-1:] == [last] else [*ids, last]), None

    def _paired(self, messages: list[dict[str, Any]], cut: bool = False) -> tuple[list[int], list[int] | None]:
        asked = TURNS.join(str(message.get("content") or "") for message in messages[:-1])
        how = {"truncation": "longest_first", "max_length": self.limit} if cut else {"truncation": False}
        answer = str(messages[-1].get("content") or "")
        # a list of one: alone, an empty answer is taken for none, and the text for one that has no pair
        coded = self.tokenizer([asked], [answer], return_token_type_ids=self.kinds, verbose=False, **how)
        return list(coded["input_ids"][0]), list(coded["token_type_ids"][0]) if self.kinds else None

    def _opening(self) -> int | None:
        """The first token, if the tokenizer puts it before a text of its own accord or the template writes it."""
        first: int | None = self.tokenizer.bos_token_id
        if first is None:
            return None
        by_itself = list(self.tokenizer("a", verbose=False)["input_ids"])[:1] == [first]
        written = self.with_template and "bos_token" in str(self.tokenizer.chat_template)
        return first if by_itself or written else None


def plain(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message as templates take it: without what it does not have, and tool calls as values."""
    kept = {name: value for name, value in message.items() if value is not None}
    if isinstance(kept.get("tool_calls"), str):
        kept["tool_calls"] = json.loads(kept["tool_calls"])
    return kept
