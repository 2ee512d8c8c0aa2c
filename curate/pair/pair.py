"""Make chosen-rejected pairs from the scored candidates of each prompt."""

from typing import Any, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, FiniteFloat, field_validator, model_validator

from curate import ids, tables
from curate.maths import chance, pairing
from curate.maths.series import at_least, one_series, series_field
from curate.operator import Made, ShardOperator
from curate.pair import families
from curate.tables import Grain

RIGHT = 0.5  # a verifier's score from which an answer counts as right
CURRY_K = 3  # best against three others: Curry-DPO's curriculum over four answers
BATCH = 16_384  # rows taken at a time: keeps a column's chunk below Arrow's 2 GB of text
REASONS = (
    "single_candidate",
    "no_response",
    "no_score",
    "no_system",
    "one_system",
    "no_parent",
    "all_right",
    "all_wrong",
    "identical",
    "tie",
    "small_gap",
    "below_floor",
    "length_ratio",
    "not_picked",
)
"""Why a response is in no pair; of several that hold, the last: the check it came closest to passing."""
(
    SINGLE,
    NO_RESPONSE,
    NO_SCORE,
    NO_SYSTEM,
    ONE_SYSTEM,
    NO_PARENT,
    ALL_RIGHT,
    ALL_WRONG,
    IDENTICAL,
    TIE,
    SMALL_GAP,
    BELOW_FLOOR,
    LENGTH_RATIO,
    NOT_PICKED,
    PICKED,
) = range(15)
CARRIED = [c.name for c in tables.PROMPT_COLUMNS if c.name not in ("row", "parent_id", "scores", "evidence", "flags")]
SIDES = {"": "response", "_turns": "turns", "_id": "response_id", "_model": "model", "_scores": "scores"}


class Pair(ShardOperator):
    """Compare candidates of one prompt by one score series; what made no pair is flagged with the reason.

    Candidates are ranked by falling score, then by position. Comparisons that break a guard (`min_gap`, `floor`,
    `max_length_ratio`, equal scores, identical texts) are left out first; the policy picks from the rest:

    - best_worst: the best against the worst.
    - best_random: the best against others drawn at random; one, or `per_prompt`.
    - best_vs_k: the best against the `k` worst (Curry-DPO).
    - all_gap: every two candidates; `per_prompt` keeps the largest gaps.
    - random_gap: comparisons drawn at random; one, or `per_prompt` (COIG-P).
    - adjacent: each against the next in rank; `per_prompt` keeps the highest ranks.
    - correct_incorrect: scores from 0.5 against those below; `per_prompt` spreads over different candidates (Eurus).
    - levels: every two candidates on different levels; `per_prompt` keeps the largest gaps (TRPA).
    - tree: as correct_incorrect, but among responses after the same steps: those with one `parent_id`, which is the
      `response_id` of the step before, or its own id under `step` in `meta`. The steps before become part of the pair's
      prompt, and `per_prompt` counts for each parent (Eurus).
    - cross_system: no scores; a response written under one system message is better, under that message, than one written
      under another. The message becomes part of the pair's prompt. Drawn at random; one, or `per_prompt` (Janus).

    With `with_system`, the system message that the chosen response was written under becomes part of the pair's prompt under
    any policy: what a policy conditioned on it is trained on (DPA).

    Where a pair's prompt grows, `prompt_id` stays that of the prompt it grew from: all its pairs fall into one split, and a
    trainer is given the grown `prompt`, which is what both sides answer.
    """

    version: ClassVar[int] = 2

    takes: ClassVar[tuple[Grain, ...]] = ("responses",)
    makes: ClassVar[Grain | None] = "pairs"

    by: str | None = Field(
        default=None, description="The score series to compare: rater or rater:aspect; cross_system alone needs none."
    )
    how: Literal[
        "best_worst",
        "best_random",
        "best_vs_k",
        "all_gap",
        "random_gap",
        "adjacent",
        "correct_incorrect",
        "levels",
        "tree",
        "cross_system",
    ] = Field(default="best_worst", description="Which candidates meet.")
    system: str = Field(
        default="system", description="cross_system: field of `meta` that tells under which message a response was written."
    )
    step: str | None = Field(
        default=None,
        description="tree: field of `meta` that holds a step's own id, which parent_id names; its response_id if not given.",
    )
    with_system: bool = Field(
        default=False, description="Put the system message that the chosen response was written under before the pair's prompt."
    )
    k: int | None = Field(default=None, ge=1, description="best_vs_k: how many others the best meets; 3 if not given.")
    levels: tuple[FiniteFloat, ...] | None = Field(
        default=None, description="levels: scores at which a new level begins, ascending; every distinct score if not given."
    )
    min_gap: FiniteFloat = Field(default=0.0, ge=0, description="Smallest difference of the two scores, in the rater's unit.")
    ties: Literal["drop", "keep"] = Field(default="drop", description="Equal scores: no pair, or the earlier row is chosen.")
    floor: FiniteFloat | None = Field(default=None, description="Lowest score of a chosen response, in the rater's unit.")
    max_length_ratio: FiniteFloat | None = Field(
        default=None, ge=1, description="Most characters of the longer side per character of the shorter."
    )
    per_prompt: int | None = Field(
        default=None, ge=1, description="At most so many pairs a prompt; the policy's own number if not given."
    )
    seed: int = Field(default=0, ge=0, description="Seed of the random policies; draws depend on it and the ids alone.")

    @field_validator("by", mode="before")
    @classmethod
    def _one_rater(cls, by: Any) -> Any:
        if isinstance(by, (list, tuple, set, dict)):
            raise ValueError(f"pair compares by one score series, got {len(by)}: aggregate them first")
        return by

    @model_validator(mode="after")
    def _fits_policy(self) -> Self:
        if self.how == "cross_system":
            if self.by is not None or self.min_gap or self.floor is not None or self.ties == "keep":
                raise ValueError("how: cross_system compares no scores: leave out by, min_gap, floor and ties")
        elif self.by is None:
            raise ValueError(f"how: {self.how} compares scores: say `by`, a rater or rater:aspect")
        if self.system != "system" and self.how != "cross_system":
            raise ValueError(f"system belongs to how: cross_system, got how: {self.how}")
        if self.step is not None and self.how != "tree":
            raise ValueError(f"step belongs to how: tree, got how: {self.how}")
        if self.k is not None and self.how != "best_vs_k":
            raise ValueError(f"k belongs to how: best_vs_k, got how: {self.how}")
        if self.levels is not None and self.how != "levels":
            raise ValueError(f"levels belongs to how: levels, got how: {self.how}")
        if self.levels is not None and list(self.levels) != sorted(set(self.levels)):
            raise ValueError(f"levels must ascend, got {list(self.levels)}")
        if self.ties == "keep" and (self.min_gap > 0 or self.how in ("correct_incorrect", "levels", "tree")):
            raise ValueError("ties: keep contradicts min_gap above 0 and the policies correct_incorrect, levels and tree")
        return self

    def reads(self, grain: Grain) -> set[str]:
        """Texts, ids and the score series."""
        read = {"prompt_id", "response", "response_id"} | ({"meta"} if self.with_system or self.step else set())
        if self.by is None:
            return read | {"meta"}
        return read | {series_field(self.by, "scores")} | ({"parent_id"} if self.how == "tree" else set())

    def writes(self, grain: Grain) -> set[str]:
        """What a pair has beside the columns of its prompt."""
        sides = {side + suffix for side in ("chosen", "rejected") for suffix in SIDES}
        return sides | {"pair_id", "margin", "origin"}

    def __call__(self, table: pa.Table, /) -> Made:
        """The pairs, ordered by the rows of their chosen and rejected side, and a flag on each response in none."""
        scores = np.zeros(table.num_rows, np.float32) if self.by is None else one_series(table, self.by)
        prompts = _codes(table["prompt_id"])
        usable = _answered(table) & ~np.isnan(scores)
        systems = families.systems(table["meta"], self.system) if self.by is None else None
        tree = families.tree(table, prompts, self.step) if self.how == "tree" else None
        if systems is not None:
            usable &= systems != families.NONE
        if tree is not None:
            prompts, usable = tree.families_N, usable & tree.grounded_N
        ranking = pairing.rank(prompts, scores, usable)
        if systems is not None:
            better, worse = (ranking.rows_M[side] for side in families.across(ranking, systems[ranking.rows_M]))
        else:
            better, worse = self._compare(table, ranking, scores)
        standing = self._standing(table, scores, better, worse)
        picked = self._pick(table, prompts, scores, better, worse, standing)
        standing[picked] = PICKED
        reasons = self._prompt_reasons(table, prompts, scores, ranking)
        if systems is not None:
            reasons[(systems == families.NONE) & (reasons == SINGLE)] = NO_SYSTEM
            reasons[ranking.rows_M[ranking.size_M > 1]] = ONE_SYSTEM
        if tree is not None:
            reasons[~tree.grounded_N] = NO_PARENT
        for side in (better, worse):
            np.maximum.at(reasons, side, standing)
        picked = picked[np.lexsort((worse[picked], better[picked]))]
        dropped = reasons != PICKED
        texts = pa.array([*REASONS, None]).take(pa.array(reasons))
        told = np.full(len(scores), np.nan, np.float32) if self.by is None else scores
        flags = tables.add_flags(table, dropped, by=self.name, reason=texts, value=told)
        rows = pair_rows(table, told, better[picked], worse[picked])
        if self.by is None or self.with_system or tree is not None:
            grown = _grown(table, better[picked], tree, self.with_system)
            rows = rows.set_column(rows.column_names.index("prompt"), "prompt", grown)
        return Made(rows, flags)

    def _compare(self, table: pa.Table, ranking: pairing.Ranking, scores: np.ndarray) -> pairing.Comparisons:
        """Every comparison the policy may make, as row numbers of the better and the worse side."""
        if self.how in ("best_worst", "best_random", "best_vs_k"):
            better, worse = pairing.best_against_others(ranking)
        elif self.how == "adjacent":
            better, worse = pairing.neighbours(ranking)
        elif self.how in ("correct_incorrect", "tree"):
            draws = _draws(table, self.seed)[ranking.rows_M]
            better, worse = pairing.right_against_wrong(ranking, scores[ranking.rows_M] >= RIGHT, draws)
        else:
            better, worse = pairing.every_two(ranking)
        return ranking.rows_M[better], ranking.rows_M[worse]

    def _standing(self, table: pa.Table, scores: np.ndarray, better: np.ndarray, worse: np.ndarray) -> np.ndarray:
        """For each comparison the first guard it breaks, or NOT_PICKED where it breaks none."""
        gaps = _gaps(scores, better, worse)
        standing = np.full(len(better), NOT_PICKED, dtype=np.int8)
        if self.max_length_ratio is not None:
            standing[~_similar_length(table["response"], better, worse, self.max_length_ratio)] = LENGTH_RATIO
        if self.floor is not None:
            standing[~at_least(scores[better], self.floor)] = BELOW_FLOOR
        if self.min_gap > 0:
            standing[~at_least(gaps, self.min_gap)] = SMALL_GAP
        if self.levels is not None:
            level = np.searchsorted(np.asarray(self.levels, dtype=np.float32), scores, side="right")
            standing[level[better] == level[worse]] = TIE
        elif self.ties == "drop" and self.by is not None:
            standing[gaps == 0] = TIE
        standing[_identical(table, better, worse)] = IDENTICAL
        return standing

    def _pick(
        self,
        table: pa.Table,
        prompts: np.ndarray,
        scores: np.ndarray,
        better: np.ndarray,
        worse: np.ndarray,
        standing: np.ndarray,
    ) -> np.ndarray:
        """The numbers of the comparisons that become pairs."""
        able = np.flatnonzero(standing == NOT_PICKED)
        if self.how in ("best_random", "random_gap", "cross_system"):
            draws = _draws(table, self.seed)
            able = able[pairing.sort_within(prompts[better[able]], chance.combine(draws[better[able]], draws[worse[able]]))]
        elif self.how in ("all_gap", "levels") and self.per_prompt is not None:
            able = able[pairing.sort_within(prompts[better[able]], -_gaps(scores, better[able], worse[able]))]
        picked: np.ndarray = able[pairing.first_of_each(prompts[better[able]], self.most_per_prompt)]
        return picked

    @property
    def most_per_prompt(self) -> int | None:
        """Pairs that a prompt gives at most; None for as many as the policy finds."""
        if self.how == "best_worst":
            return 1
        if self.how == "best_vs_k":
            return min(self.k or CURRY_K, self.per_prompt or self.k or CURRY_K)
        return self.per_prompt or (1 if self.how in ("best_random", "random_gap", "cross_system") else None)

    def _prompt_reasons(self, table: pa.Table, prompts: np.ndarray, scores: np.ndarray, ranking: pairing.Ranking) -> np.ndarray:
        """For each row the reason it would be in no pair even without guards; every comparison's outcome outranks it."""
        reasons = np.full(len(scores), SINGLE, dtype=np.int8)
        lonely = np.bincount(prompts, minlength=1)[prompts] < 2
        reasons[np.isnan(scores) & ~lonely] = NO_SCORE
        reasons[~_answered(table) & ~lonely] = NO_RESPONSE
        if self.how in ("correct_incorrect", "tree"):
            several = ranking.rows_M[ranking.size_M > 1]
            reasons[several] = np.where(scores[several] >= RIGHT, ALL_RIGHT, ALL_WRONG)
        return reasons


def _grown(table: pa.Table, chosen: np.ndarray, tree: families.Tree | None, with_system: bool = False) -> pa.Array:
    """The prompts of pairs, with the system message or the steps that the chosen side was written after."""
    prompts = [prompt or [] for prompt in _take(table["prompt"], chosen).to_pylist()]
    if tree is None or with_system:
        metas = _take(table["meta"], chosen).to_pylist()
        prompts = [families.under_system(*each) for each in zip(prompts, metas, strict=True)]
    if tree is None:
        return families.prompts_of(prompts)
    steps = families.messages_of(table)
    rows = zip(chosen.tolist(), prompts, strict=True)
    return families.prompts_of([families.told_so_far(row, tree.parents_N, prompt, steps) for row, prompt in rows])


def pair_rows(table: pa.Table, scores: np.ndarray, chosen: np.ndarray, rejected: np.ndarray) -> pa.Table:
    """A pairs table without `row`, from row numbers of `responses`; prompt columns come from the chosen side."""
    columns: dict[str, Any] = {name: _take(table[name], chosen) for name in CARRIED}
    for side, rows in (("chosen", chosen), ("rejected", rejected)):
        columns |= {side + suffix: _take(table[name], rows) for suffix, name in SIDES.items()}
    sides = zip(columns["chosen_id"].to_pylist(), columns["rejected_id"].to_pylist(), strict=True)
    columns["pair_id"] = pa.array([ids.pair_id(first, second) for first, second in sides], pa.string())
    gaps = _gaps(scores, chosen, rejected)
    columns["margin"] = pa.array(gaps, pa.float32(), mask=np.isnan(gaps))
    columns["origin"] = pa.repeat(pa.scalar("observed"), len(chosen))
    return tables.conform(pa.table(columns), "pairs").drop_columns(["row"])


def _take(column: pa.ChunkedArray, rows: np.ndarray) -> pa.ChunkedArray:
    parts = [pa.array(rows[start : start + BATCH]) for start in range(0, len(rows), BATCH)]
    return column.take(pa.chunked_array(parts, pa.int64()))


def _codes(column: pa.ChunkedArray) -> np.ndarray:
    codes: np.ndarray = column.combine_chunks().dictionary_encode(null_encoding="encode").indices.to_numpy(zero_copy_only=False)
    return codes.astype(np.int64)


def _answered(table: pa.Table) -> np.ndarray:
    answered: np.ndarray = pc.or_(table["response"].is_valid(), table["turns"].is_valid()).to_numpy()
    return answered


def _gaps(scores: np.ndarray, better: np.ndarray, worse: np.ndarray) -> np.ndarray:
    gaps: np.ndarray = scores[better].astype(np.float64) - scores[worse]
    return gaps


def _draws(table: pa.Table, seed: int) -> np.ndarray:
    """A random number for each response, from the seed and the ids of prompt and response."""
    return chance.combine(chance.hash_texts(table["prompt_id"], seed), chance.hash_texts(table["response_id"], seed))


def _similar_length(texts: pa.ChunkedArray, better: np.ndarray, worse: np.ndarray, ratio: float) -> np.ndarray:
    characters = pc.fill_null(pc.utf8_length(texts), 0).to_numpy().astype(np.float64)
    first, second = characters[better], characters[worse]
    similar: np.ndarray = np.maximum(first, second) <= ratio * np.minimum(first, second)
    return similar


def _identical(table: pa.Table, better: np.ndarray, worse: np.ndarray) -> np.ndarray:
    """Whether both sides are the same text, and the same turns where there are any."""
    size = pc.fill_null(pc.binary_length(table["response"]), 0).to_numpy()
    same: np.ndarray = size[better] == size[worse]
    suspects = np.flatnonzero(same)  # only texts of one size need reading
    texts = [pc.fill_null(_take(table["response"], rows[suspects]), "") for rows in (better, worse)]
    same[suspects] = pc.equal(*texts).to_numpy()
    if table["turns"].null_count < table.num_rows:
        suspects = np.flatnonzero(same)
        first, second = (_take(table["turns"], rows[suspects]).to_pylist() for rows in (better, worse))
        same[suspects] = [one == other for one, other in zip(first, second, strict=True)]
    return same
