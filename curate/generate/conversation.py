"""Ask for responses and hear them: one of each prompt's models at a time, or in conversations of several turns."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple

from curate.generate.messages import Message, plain, said, split_thought, storable, stored
from curate.generate.sampled import AT_ONCE, Sampled, error_text
from curate.generate.wording import block, instruction, text_wanted
from curate.models.asking import Reply, Request, Sampling
from curate.models.replies import request_of

END = re.compile(r"\W*END\W*")
Answered = tuple[Sequence["Ask"], Sequence["Answer"]]
"""What was wanted, and what came of it."""


class Ask(NamedTuple):
    """One sample wanted of one model for one prompt."""

    row: int
    prompt_id: str
    key: str
    """The model's key in the recipe."""
    about: Mapping[str, Any]
    """What `meta` gains: system, context and what was drawn for them."""
    request: Request
    """The first that is asked."""


class Answer(NamedTuple):
    """What came of an Ask; all of it None but `error`, `finish_reason` and `prompt_tokens` where it failed."""

    response: str | None = None
    turns: list[Message] | None = None
    """The whole completion as it is stored, where it is more than a text."""
    reasoning: str | None = None
    finish_reason: str | None = "error"
    prompt_tokens: int | None = None
    response_tokens: int | None = None
    """Of all turns; None if one is unknown."""
    logprob_sum: float | None = None
    error: str | None = None


@dataclass(slots=True)
class Talk:
    """What came of an Ask so far."""

    ask: Ask
    turns: list[Message] = field(default_factory=list)
    """Messages after the prompt."""
    replies: list[Reply] = field(default_factory=list)
    """The model's own, as they came."""
    thought: str | None = None
    """The latest reply's."""
    error: str | None = None
    over: bool = False


@dataclass(frozen=True)
class Conversations:
    """How a step's conversations go."""

    step: Sampled
    sampling: Sampling
    turns: int
    user_model: str | None
    splits: bool
    """Whether reasoning is taken out of a response."""

    def answered(self, wanted: Iterator[Ask]) -> Iterator[Answered]:
        """What came of all that is wanted, in order and in portions; of a single turn as the replies come."""
        asks: list[Ask] = []
        asked = self.step.ask_ahead(noted(wanted, asks))
        return self._of_one_turn(asks, asked) if self.turns == 1 else self._of_several(asks, asked)

    def _of_one_turn(self, asks: Sequence[Ask], asked: Iterator[list[Reply]]) -> Iterator[Answered]:
        end = 0
        for replies in asked:
            start, end = end, end + len(replies)
            yield asks[start:end], [self._answer(reply) for reply in replies]

    def _of_several(self, asks: Sequence[Ask], asked: Iterator[list[Reply]]) -> Iterator[Answered]:
        replies = list(chain.from_iterable(asked))
        talks = [Talk(ask) for ask in asks]
        self._go_on(talks, replies)
        for start in range(0, len(talks), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            yield asks[part], [answer_of(talk.replies, talk.turns, talk.thought, talk.error) for talk in talks[part]]

    # -- what the model says

    def _answer(self, reply: Reply) -> Answer:
        """What came of a single reply."""
        if reply.error is not None:
            return answer_of((reply,), (), None, error_text(reply))
        thought, message = self._heard(reply)
        return answer_of((reply,), (message,), thought, None)

    def _heard(self, reply: Reply) -> tuple[str | None, Message]:
        """What was thought, and the message."""
        thought, text = reply.reasoning, reply.text or ""
        if self.splits and thought is None:
            thought, text = split_thought(text)
        message: Message = {"role": "assistant", "content": storable(text)}
        if reply.tool_calls:
            message["tool_calls"] = [dict(call) for call in reply.tool_calls]
        return None if thought is None else storable(thought), message

    def _take(self, talk: Talk, reply: Reply) -> None:
        """Add a reply to its conversation; tool calls end it, for nobody is there to make them."""
        talk.replies.append(reply)
        if reply.error is not None:
            talk.error, talk.over = error_text(reply), True
            return
        talk.thought, message = self._heard(reply)
        talk.turns.append(message)
        talk.over = bool(reply.tool_calls) or not message["content"].strip()

    # -- several turns

    def _go_on(self, talks: Sequence[Talk], replies: Sequence[Reply]) -> None:
        """One turn of all conversations after the other."""
        for turn in range(1, self.turns):
            for talk, reply in zip(talks, replies, strict=True):
                self._take(talk, reply)
            talks = [talk for talk in talks if not talk.over]
            self._user_speaks(talks, turn)
            talks = [talk for talk in talks if not talk.over]
            replies = self.step.ask(map(self._next, talks))
        for talk, reply in zip(talks, replies, strict=True):
            self._take(talk, reply)

    def _next(self, talk: Talk) -> tuple[str, Request]:
        """The next question of a conversation."""
        first = talk.ask.request
        messages = (*first.messages, *talk.turns)
        return talk.ask.key, request_of(messages, self.sampling, first.seed, first.sample, first.tools)

    def _user_speaks(self, talks: Sequence[Talk], turn: int) -> None:
        wanted = [self._asked_of_the_user(talk, turn) for talk in talks]
        for talk, reply in zip(talks, self.step.ask(wanted), strict=True):
            text = said(reply)
            if reply.error is not None:
                talk.error, talk.over = error_text(reply), True
            elif not text or END.fullmatch(text):
                talk.over = True
            else:
                talk.turns.append({"role": "user", "content": text})

    def _asked_of_the_user(self, talk: Talk, turn: int) -> tuple[str, Request]:
        assert self.user_model is not None
        first = talk.ask.request
        spoken = [f"{m['role']}: {plain(m)}" for m in (*first.messages, *talk.turns) if m["role"] in ("user", "assistant")]
        messages = text_wanted(instruction("simulate_user"), block("conversation", "\n\n".join(spoken)))
        seed = self.step.seed_for(str(first.seed), self.user_model, first.sample, turn)
        return self.user_model, Request(messages, Sampling(self.step.temperature), seed, first.sample)


def noted(wanted: Iterator[Ask], asks: list[Ask]) -> Iterator[tuple[str, Request]]:
    """What is asked of which model, each put among `asks`."""
    for ask in wanted:
        asks.append(ask)
        yield ask.key, ask.request


def answer_of(replies: Sequence[Reply], turns: Sequence[Message], thought: str | None, error: str | None) -> Answer:
    """What came of a conversation: the model's replies, and all that was said after the prompt."""
    first, last = replies[0], replies[-1]
    alone = first is last
    if error is not None:
        return Answer(prompt_tokens=first.prompt_tokens, error=error)
    text = turns[-1]["content"]
    whole = None if len(turns) == 1 and not last.tool_calls else [stored(message) for message in turns]
    return Answer(
        text if last.tool_calls else text.strip(),
        whole,
        thought,
        last.finish_reason,
        first.prompt_tokens,
        first.response_tokens if alone else added([reply.response_tokens for reply in replies]),
        logprob_sum(first) if alone else added([logprob_sum(reply) for reply in replies]),
    )


def added(values: Sequence[Any]) -> Any:
    """The sum, or None if one is unknown."""
    return None if None in values else sum(values)


def logprob_sum(reply: Reply) -> float | None:
    """Nats over all tokens of a reply; None if it came without."""
    return None if reply.logprobs is None else float(sum(token["logprob"] for token in reply.logprobs))
