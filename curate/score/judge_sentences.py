"""Have models say of every sentence of a response whether it is correct, for `pair` and `mask`."""

from collections.abc import Iterator, Sequence
from typing import ClassVar, NamedTuple

import pyarrow as pa
from pydantic import Field

from curate.maths.sentence_labels import WORTH, Labelled, share_correct
from curate.maths.sentences import sentence_ends
from curate.maths.verdicts import Wanted
from curate.score.judge import SIDES, Item, items_of
from curate.score.judging import NO_REFERENCE, NO_TEXT, Judging, Opinion, Question, block, conversation
from curate.score.marks import Mark, appended
from curate.score.rubric import Rubric, RubricNames, load
from curate.tables import Grain

ASPECT = "_sentences"  # after the rubric's name
TEXTS: dict[Grain, dict[str, str]] = {"responses": SIDES["responses"], "pairs": SIDES["pairs"]}
TOO_LONG = "too long: more sentences than max_sentences"


class Cell(NamedTuple):
    """One score to come."""

    item: Item
    aspect: str
    round: int
    ends: list[int]
    questions: list[int]
    """Numbers of the questions that together ask about every sentence; empty where nothing is asked, `error` says why."""
    error: str | None = None


class JudgeSentences(Judging):
    """A score for each response: the share of correct sentences among the correct and incorrect ones. The rater is the
    model's key in the recipe, the aspect the rubric's name with `_sentences` after it.

    The rationale is a JSON object: `ends`, where each sentence ends (characters of the text; a sentence begins where the one
    before it ends), `labels`, correct, incorrect or neutral, and the judge's `reasons`. `mask` makes spans of it. Null without
    an error where no sentence is correct or incorrect; null with one as for `judge`.

    Source: Gu et al., "Mask-DPO: Generalizable Fine-grained Factuality Alignment of LLMs", 2025, arXiv:2503.02846, section 3,
    where a model trained for it labels the sentences.
    """

    takes: ClassVar[tuple[Grain, ...]] = ("responses", "pairs")

    rubric: RubricNames = Field(
        default="truthfulness", description="What to judge by: names of curate's rubrics or .md files; each is an aspect."
    )
    reference: bool = Field(default=False, description="Show the judge the row's reference; a row without one gets no score.")
    per_call: int = Field(default=20, ge=1, le=100, description="Most sentences asked about in a call; all are shown in each.")
    max_sentences: int = Field(default=200, ge=1, description="Longer responses get no score, and an error that says so.")

    def reads(self, grain: Grain) -> set[str]:
        """Conversation and texts, and the reference where it is shown."""
        sides = {
            name for side in TEXTS[grain] for name in (side, f"{side}_id", "turns" if side == "response" else f"{side}_turns")
        }
        return {"prompt", "prompt_id"} | sides | ({"reference"} if self.reference else set())

    def writes(self, grain: Grain) -> set[str]:
        """A score for each judge and aspect."""
        columns = TEXTS[grain].values()
        return {f"{column}.{rater}.{aspect}{ASPECT}" for column in columns for rater in self.panel for aspect in self.aspects}

    def calls(self, rows: int) -> int:
        """One for each text of up to `per_call` sentences, aspect, round and judge; longer ones take more."""
        return rows * len(self.aspects) * self.repeats * len(self.panel)

    def samples(self, rubrics: Sequence[Rubric]) -> list[Question]:
        """One for each rubric."""
        return [Question("sentences", (rubric,), (wanted(1),), "", 0) for rubric in rubrics]

    def __call__(self, table: pa.Table, /) -> pa.Table:
        """The scores, appended to those of the row or of either side."""
        grain: Grain = "pairs" if "chosen" in table.column_names else "responses"
        questions: list[Question] = []
        cells = self._cells(table, grain, questions)
        opinions = self.opinions(questions)
        columns = TEXTS[grain].values()
        return pa.table({column: appended(table[column], self._marks(column, cells, opinions)) for column in columns})

    def _cells(self, table: pa.Table, grain: Grain, questions: list[Question]) -> list[Cell]:
        """The scores to come; what they ask is put into `questions`."""
        rubrics = list(zip([load(named) for named in self.named], self.aspects, strict=True))
        conversations = [conversation(turns or []) for turns in table["prompt"].to_pylist()]
        references = table["reference"].to_pylist() if self.reference else None
        cells = []
        for item in (item for items in items_of(table, grain) for item in items):
            ends = sentence_ends(item.text or "")
            reference = references[item.row] if references is not None else None
            error = self._error(ends, missing=references is not None and reference is None)
            shown = "" if error else self._shown(conversations[item.row], reference, item, ends)
            for rubric, aspect in rubrics:
                for round_ in range(self.repeats):
                    asked = [] if error else self._ask_about(len(ends), rubric, shown, round_, questions)
                    cells.append(Cell(item, f"{aspect}{ASPECT}", round_, ends, asked, error))
        return cells

    def _error(self, ends: list[int], missing: bool) -> str | None:
        if not ends:
            return NO_TEXT
        return NO_REFERENCE if missing else TOO_LONG if len(ends) > self.max_sentences else None

    def _shown(self, asked: str, reference: str | None, item: Item, ends: list[int]) -> str:
        """Conversation, reference and the numbered sentences, each a block."""
        before = [asked, *([conversation(item.turns[:-1])] if item.turns and len(item.turns) > 1 else [])]
        before += [block("reference", reference)] if reference is not None else []
        text = item.text or ""
        parts = [text[begin:end].strip() for begin, end in zip([0, *ends], ends, strict=False)]
        return "\n\n".join([*before, *(block(f"answer {number}", part) for number, part in enumerate(parts, 1))])

    def _ask_about(self, count: int, rubric: Rubric, shown: str, round_: int, questions: list[Question]) -> list[int]:
        """Questions about every sentence, of nearly equal size."""
        calls = -(-count // self.per_call)
        for call in range(calls):
            numbers = range(1 + call * count // calls, 1 + (call + 1) * count // calls)
            questions.append(Question("sentences", (rubric,), tuple(map(wanted, numbers)), shown, round_))
        return list(range(len(questions) - calls, len(questions)))

    def _marks(self, column: str, cells: Sequence[Cell], opinions: dict[str, list[Opinion]]) -> Iterator[Mark]:
        """Every judge's score for each cell of a column."""
        for rater in self.panel:
            for cell in cells:
                if cell.item.column == column:
                    yield mark(cell, rater, [opinions[rater][question] for question in cell.questions])


def wanted(number: int) -> Wanted:
    """What a judge may say of a sentence."""
    return Wanted(f"Sentence {number}", WORTH)


def mark(cell: Cell, rater: str, opinions: Sequence[Opinion]) -> Mark:
    """The score that a judge's opinions on all parts of a text make."""
    of = (cell.item.row, rater, cell.aspect)
    failed = next((opinion for opinion in opinions if opinion.values is None), None)
    if cell.error is not None:
        return Mark(*of, None, None, cell.round, cell.error)
    if failed is not None:
        return Mark(*of, None, failed.rationale, cell.round, failed.error)
    names = {worth: label for label, worth in WORTH.items()}
    worths = [value for opinion in opinions for value in opinion.values or ()]
    labels = tuple(names[min(names, key=lambda known: abs(known - value))] for value in worths)
    reasons = "\n".join(opinion.rationale for opinion in opinions if opinion.rationale)
    rationale = Labelled(tuple(cell.ends), labels).to_json(reasons or None)
    return Mark(*of, share_correct(labels), rationale, cell.round, None)
