"""Read the one score series a step asks for, and refuse a request that several would answer."""

import numpy as np
import pyarrow as pa

from curate import tables

FORGIVEN = 1e-6  # share of a threshold below which a miss is float32 rounding: 0.9 - 0.6 must reach 0.3


def one_series(table: pa.Table, by: str, column: str = "scores", value: str = "value", round: int | None = None) -> np.ndarray:
    """Each row's finite value by `rater` or `rater:aspect`, (N,) float32; NaN where there is none.

    Rounds are averaged, unless one is asked for.

    A bare rater that used several aspects is an error: which one is meant is not for us to guess.
    """
    rater, aspect = tables.split_rater(by)
    if aspect is None:
        aspects = [found for name, found in tables.raters(table[column]) if name == rater]
        if len(aspects) > 1:
            raise ValueError(
                f"{rater} has several aspects in {column} ({', '.join(aspects)}): aggregate first, or say {rater}:{aspects[0]}"
            )
    values = tables.value_of(table[column], value, round, rater=rater, aspect=aspect)
    return np.where(np.isfinite(values), values, np.float32(np.nan)).astype(np.float32)


def series_field(by: str, column: str) -> str:
    """The series as an entry of `reads`: column.rater.aspect, with * for any aspect."""
    rater, aspect = tables.split_rater(by)
    return f"{column}.{rater}.{aspect or '*'}"


def at_least(values: np.ndarray, threshold: float) -> np.ndarray:
    """Whether (N,) values reach a threshold, float32 rounding forgiven; False for NaN."""
    reached: np.ndarray = values.astype(np.float64) >= threshold - FORGIVEN * max(1.0, abs(threshold))
    return reached
