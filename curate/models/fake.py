"""The `fake` back end: models that cost nothing and answer the same every time, for tests, demos and dry runs.

A reply follows from a hash of the model's identity, the messages, the seed and the sample, so a recipe of fake models
gives the same dataset on every machine. Each written reply has a hidden quality in [0, 1]: the share of careful words
(`precisely`, `thoroughly`, ...) among its careful and careless ones (`maybe`, `somehow`, ...). A fake judge or reward
model reads it back with `read_quality`; a text without such words has the quality its hash draws.
"""

import asyncio
import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from curate.ids import canonical_json
from curate.models.asking import Attempt, ErrorKind, Reply, Request
from curate.models.fake_draws import Draw
from curate.models.fake_judging import BLOCK, Form, Piece, candidates_in, lines_asked, seen_by, written_json, written_lines
from curate.models.fake_settings import Settings
from curate.models.fake_writing import NOUNS, compose, content_of, edited, result_of, topics
from curate.models.spec import ModelSpec, Price

REFUSALS = ("the model declined to answer this request",)
TOKEN = re.compile(r" ?\w+|\W")


def tokens_of(text: str) -> list[str]:
    """A text cut into tokens of about a word, which joined give the text again."""
    return TOKEN.findall(text)


class FakeBackend:
    """A chat model that answers from a hash. Its replies are as long, as slow and as faulty as its options say."""

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        self.settings = Settings.of(spec)
        self._tries: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"FakeBackend({self.spec.name})"

    async def close(self) -> None:
        """Nothing to free."""

    async def send(self, request: Request) -> Attempt:
        """One try. A try that fails is drawn from the request and the number of tries before it in this process."""
        delay = self.settings.number("delay_s")
        await asyncio.sleep(delay)
        about: list[Any] = [self.spec.name, self.spec.revision, list(request.messages), request.seed, request.sample]
        if request.tools:
            about.append(list(request.tools))
        if request.response_format is not None:
            about.append(request.response_format)
        named = hashlib.sha256(canonical_json(about).encode("utf-8", "surrogatepass")).hexdigest()
        if Draw("fails", named, self._tries[named]).happens(self.settings.number("fail_share")):
            self._tries[named] += 1
            kind = cast(ErrorKind, self.settings.told["fail_kind"])
            wait = 0.0 if kind == "rate_limit" else None
            return Attempt(Reply(error=kind, detail=f"the fake server failed at try {self._tries[named]}", seconds=delay), wait)
        self._tries.pop(named, None)
        if Draw("refuses", named).happens(self.settings.number("refuse_share")):
            return Attempt(Reply(error="refused", detail=REFUSALS[0], seconds=delay))
        return Attempt(self.answer(request, named))

    def answer(self, request: Request, named: str) -> Reply:
        """The reply to a request that does not fail. named: what the draws follow from."""
        draw = Draw("answer", named)
        pieces = self._verdict(request, draw) or [(self.text(request, draw), None)]
        if self.settings.told["reasoning"] == "tags" and request.response_format is None:
            pieces.insert(0, (f"<think>\n{compose(draw, 20, 0.5, (), 0.0)}\n</think>\n\n", None))
        tokens = [(token, odds) for text, odds in pieces for token in ([text] if odds else tokens_of(text))]
        tokens, finish = cut(tokens, request.sampling.max_tokens, request.sampling.stop)
        text = "".join(token for token, _ in tokens)
        thought = compose(Draw("thought", named), 20, 0.5, (), 0.0) if self.settings.told["reasoning"] is True else None
        asked = sum(len(tokens_of(content_of(message))) + 4 for message in request.messages)
        wanted = request.sampling.logprobs
        return Reply(
            text=text,
            reasoning=thought,
            finish_reason=finish,
            prompt_tokens=asked,
            response_tokens=len(tokens),
            logprobs=None if wanted is None else tuple(logprobs(draw, tokens, wanted)),
            seconds=self.settings.number("delay_s"),
            cost_usd=cost(self.spec.usd_per_mtok, asked, len(tokens)),
            raw={"message": {"role": "assistant", "content": text}, "finish_reason": finish},
        )

    def text(self, request: Request, draw: Draw) -> str:
        """Free text: an answer, or a text edited as the prompt asks."""
        settings = self.settings
        prompt = next((content_of(message) for message in reversed(request.messages) if message.get("role") == "user"), "")
        shown = next((block for block in BLOCK.finditer(prompt) if block["name"] == "text"), None)
        if shown is not None:
            whole = "\n".join(content_of(message) for message in request.messages)
            return edited(draw, shown["text"], whole.replace(shown[0], ""))
        longer = 4 if draw.happens(settings.number("truncate_share")) else 1
        words = settings.number("words") * (0.5 + draw.share()) * longer
        quality = min(1.0, max(0.0, settings.number("quality") + settings.number("spread") * draw.bell()))
        text = compose(draw, words, quality, topics(prompt), settings.number("sprinkle"))
        found = result_of(draw, prompt, settings.number("wrong_share"))
        return str(settings.told["template"]).replace("{text}", text if found is None else f"{text} {found}")

    def _verdict(self, request: Request, draw: Draw) -> list[Piece]:
        """A reply in the form that a judge is asked for, JSON or last lines; nothing where none is."""
        lines = None if request.response_format else lines_asked(content_of(request.messages[0]) if request.messages else "")
        if request.response_format is not None:
            schema = request.response_format.get("schema") or {}
        elif lines:
            schema = {"properties": {"reasons": {"type": "string"}} | lines}
        else:
            return []
        prompt = "\n".join(content_of(message) for message in request.messages if message.get("role") != "system")
        shown = candidates_in(prompt) or [("A", prompt)]
        found = Form(self.settings, draw, seen_by(self.settings, draw, shown), schema).fill(schema)
        return list(written_json(found) if lines is None else written_lines(found))


def cut(tokens: list[tuple[str, Any]], most: int | None, stops: Sequence[str]) -> tuple[list[tuple[str, Any]], str]:
    """The tokens before the first stop sequence, at most so many, and why they end."""
    ends = [found for stop in stops if stop and (found := "".join(token for token, _ in tokens).find(stop)) >= 0]
    if ends:
        kept, length = [], 0
        for token, odds in tokens:
            if length >= min(ends):
                break
            kept.append((token[: min(ends) - length], odds))
            length += len(token)
        tokens = kept
    if most is not None and len(tokens) > most:
        return tokens[:most], "length"
    return tokens, "stop"


def logprobs(draw: Draw, tokens: Sequence[tuple[str, Mapping[str, float] | None]], most: int) -> Iterator[dict[str, Any]]:
    """Log-probabilities for each token, with the most probable alternatives."""
    for token, odds in tokens:
        if odds is None or token not in odds:
            sure = 0.5 + 0.5 * draw.share()
            odds = {token: sure} | {f" {draw.pick(NOUNS)}": (1 - sure) / (place + 2) for place in range(min(most, 3))}
        likely = sorted(odds.items(), key=lambda item: (-item[1], item[0]))[:most]
        yield {
            "token": token,
            "logprob": math.log(odds[token]),
            "top": {name: math.log(share) for name, share in likely if share > 0},
        }


def cost(price: Price | None, asked: int, answered: int) -> float | None:
    """US dollars; None where no price is known."""
    return None if price is None else (asked * price.into + answered * price.out) / 1e6
