"""What judges have in common: how a question is put to a model and how its answer is read."""

import hashlib
import re
from abc import ABC
from collections.abc import Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from string import Template
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, PrivateAttr, StringConstraints

from curate.ids import digest
from curate.maths import verdicts
from curate.maths.verdicts import Wanted
from curate.models.asking import Reply, Request, Sampling
from curate.models.operator import ModelOperator
from curate.score.rubric import Rubric, RubricName, instruction, load

NO_TEXT, NO_REFERENCE = "no text", "no reference"
ALTERNATIVES = 20  # log-probabilities at a token: as many as servers give
KEPT = 20_000  # characters of a rationale or an unparsable reply; the ledger has all of it
CODE = 12  # hex digits that open and close a block
ModelKey = Annotated[str, StringConstraints(min_length=1)]
Turn = Mapping[str, Any]


@dataclass(frozen=True)
class Question:
    """One thing to ask a judge, once."""

    how: str
    """Name of the instruction."""
    rubrics: tuple[Rubric, ...]
    wanted: tuple[Wanted, ...]
    blocks: str
    """What it is to look at."""
    round: int

    @property
    def same(self) -> Hashable:
        """Equal for questions that one answer serves."""
        return self.how, self.rubrics, tuple(one.head for one in self.wanted), self.blocks, self.round


class Opinion(NamedTuple):
    """What came of a question."""

    values: tuple[float, ...] | None
    """What each answer is worth, in the order of what was wanted; None where there is an error."""
    rationale: str | None = None
    """The reasons given; the raw reply where it could not be read."""
    error: str | None = None

    def value(self, place: int) -> float | None:
        """What one answer is worth; None where there is an error."""
        return None if self.values is None else self.values[place]


class Judging(ModelOperator, ABC):
    """Parameters and conduct of every judge. The rater of what it writes is the model's key in the recipe."""

    model: ModelKey | tuple[ModelKey, ...] = Field(description="The judge, or a panel: every one of them is asked, each is a rater.")
    rubric: RubricName | tuple[RubricName, ...] = Field(
        default="overall", description="What to judge by: names of curate's rubrics or .md files; each is an aspect."
    )
    repeats: int = Field(default=1, ge=1, le=127, description="How often each question is asked; the round tells them apart.")
    weighted: bool = Field(
        default=False,
        description="Average over the answers the judge could have given, by their log-probabilities at the verdict's tokens.",
    )
    structured: Literal["auto", "json", "text"] = Field(
        default="auto",
        description="json: an object held to a schema by the server; text: a verdict on the last line; auto: json, and text "
        "where the server refuses it.",
    )
    rationale: bool = Field(default=True, description="Ask for reasons before the verdict, and keep them.")
    temperature: float | None = Field(default=0.0, ge=0, description="Of sampling; null for the model's own.")
    max_tokens: int | None = Field(default=2048, ge=1, description="Longest reply, reasoning included; null for no limit.")
    seed: int = Field(default=0, ge=0, lt=2**31, description="Of the order in which responses are shown, and of sampling.")

    _text_only: set[str] = PrivateAttr(default_factory=set)
    _takes_json: set[str] = PrivateAttr(default_factory=set)

    @property
    def panel(self) -> tuple[str, ...]:
        """The judges' keys."""
        return (self.model,) if isinstance(self.model, str) else self.model

    @property
    def aspects(self) -> tuple[str, ...]:
        """The rubrics' names."""
        return tuple(Path(named).stem for named in _several(self.rubric))

    def models(self) -> set[str]:
        """The judges."""
        return set(self.panel)

    def files(self) -> set[str]:
        """Rubrics that do not come with curate."""
        return {str(named) for named in self._rubric_names() if isinstance(named, Path)}

    def parameters(self) -> dict[str, Any]:
        """As the recipe has them, but rubrics and instructions by what they say."""
        given = super().parameters()
        given["rubric"] = [rubric.identity for rubric in self.rubrics()]
        return given | {"instructions": digest([system(question, form) for question in self._samples() for form in ("json", "text")])}

    def rubrics(self) -> tuple[Rubric, ...]:
        """The rubrics, read from their files."""
        return tuple(load(named) for named in _several(self.rubric))

    def _rubric_names(self) -> tuple[str | Path, ...]:
        return _several(self.rubric)

    def _samples(self) -> list[Question]:
        """A question of each kind the step asks, for what the instructions say."""
        raise NotImplementedError

    def _check_panel(self) -> None:
        if not self.panel or len(set(self.panel)) < len(self.panel):
            raise ValueError(f"`model` names one judge or several different ones, got {', '.join(self.panel) or 'none'}")
        if not self.aspects or len(set(self.aspects)) < len(self.aspects):
            raise ValueError(f"`rubric` names one aspect or several different ones, got {', '.join(self.aspects) or 'none'}")

    # -- asking

    def opinions(self, questions: Sequence[Question]) -> dict[str, list[Opinion]]:
        """Each judge's opinion on each question, in order. Equal questions are put once."""
        if not questions:
            return {key: [] for key in self.panel}
        first: dict[Hashable, int] = {}
        which = [first.setdefault(question.same, len(first)) for question in questions]
        distinct = [questions[which.index(place)] for place in range(len(first))] if len(first) < 2 else _firsts(questions, which)
        with ThreadPoolExecutor(len(self.panel)) as pool:
            asked = dict(zip(self.panel, pool.map(lambda key: self._ask(key, distinct), self.panel), strict=True))
        return {key: [opinions[place] for place in which] for key, opinions in asked.items()}

    def _ask(self, key: str, questions: Sequence[Question]) -> list[Opinion]:
        if self.structured != "auto":
            return self._put(key, questions, self.structured)
        if key in self._text_only:
            return self._put(key, questions, "text")
        # one question tells whether the server takes a schema, before a whole shard is refused
        tried = 0 if key in self._takes_json else 1
        opinions = self._put_or_text(key, questions[:tried])
        if key in self._text_only:
            return opinions + self._put(key, questions[tried:], "text")
        return opinions + self._put_or_text(key, questions[tried:])

    def _put_or_text(self, key: str, questions: Sequence[Question]) -> list[Opinion]:
        """With a schema; again without where the server refuses the request."""
        opinions = self._put(key, questions, "json")
        refused = [place for place, opinion in enumerate(opinions) if (opinion.error or "").startswith("request:")]
        for place, again in zip(refused, self._put(key, [questions[place] for place in refused], "text"), strict=True):
            opinions[place] = again
            if again.error is None and len(refused) == len(questions):
                self._text_only.add(key)
        if len(refused) < len(questions):
            self._takes_json.add(key)
        return opinions

    def _put(self, key: str, questions: Sequence[Question], form: Literal["json", "text"]) -> list[Opinion]:
        if not questions:
            return []
        replies = self.called.chat(key).reply([self._request(question, form) for question in questions])
        return [self._opinion(reply, question.wanted, form) for reply, question in zip(replies, questions, strict=True)]

    def _request(self, question: Question, form: Literal["json", "text"]) -> Request:
        sampling = Sampling(
            temperature=self.temperature, max_tokens=self.max_tokens, logprobs=ALTERNATIVES if self.weighted else None
        )
        messages = (
            {"role": "system", "content": system(question, form, self.reasons)},
            {"role": "user", "content": question.blocks},
        )
        wanted = {"name": "verdict", "schema": verdicts.schema(question.wanted, self.reasons)} if form == "json" else None
        return Request(messages, sampling, self.seed + question.round, question.round, response_format=wanted)

    @property
    def reasons(self) -> bool:
        """Whether reasons are asked for."""
        return self.rationale

    def _opinion(self, reply: Reply, wanted: Sequence[Wanted], form: Literal["json", "text"]) -> Opinion:
        if reply.error is not None:
            return Opinion(None, None, storable(f"{reply.error}: {reply.detail or 'no answer'}"))
        text = reply.text or ""
        if reply.finish_reason == "length":  # `Mark: 1` may have been about to become 10
            return Opinion(None, storable(text) or None, "unparsable: cut off at max_tokens")
        reading = verdicts.read_lines(text, wanted) if form == "text" else verdicts.read_object(text, wanted, self.reasons)
        if reading is None:
            return Opinion(None, storable(text) or None, "unparsable: not one verdict in the form asked for")
        if not self.weighted:
            values = [one.worth[found.choice] for found, one in zip(reading.found, wanted, strict=True)]
        elif (values_or_none := verdicts.expected(reading, wanted, text, reply.logprobs)) is None:
            return Opinion(None, storable(text) or None, "unparsable: no log-probabilities where the verdict stands")
        else:
            values = values_or_none
        return Opinion(tuple(values), storable(reading.rationale or "") or None if self.reasons else None)
