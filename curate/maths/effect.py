"""How far two groups of numbers lie apart, and how much of a label that explains."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Spread:
    """Some numbers, by what can be added up: their count, mean and sum of squared deviations from the mean."""

    n: int = 0
    mean: float = 0.0
    squares: float = 0.0

    @staticmethod
    def of(values: np.ndarray) -> "Spread":
        """The finite ones of (N,) numbers."""
        present = values[np.isfinite(values)].astype(np.float64)
        if not len(present):
            return Spread()
        mean = float(present.mean())
        return Spread(len(present), mean, float(((present - mean) ** 2).sum()))

    def __add__(self, other: "Spread") -> "Spread":
        """Both together. Source: Chan, Golub and LeVeque, Updating formulae, 1979, equation 2.1."""
        n = self.n + other.n
        if not n:
            return Spread()
        gap = other.mean - self.mean
        squares = self.squares + other.squares + gap**2 * self.n * other.n / n
        return Spread(n, self.mean + gap * other.n / n, squares)


def pooled_sd(first: Spread, second: Spread) -> float | None:
    """The standard deviation that two groups have in common; None for groups of less than two, or without spread."""
    if first.n < 2 or second.n < 2:
        return None
    pooled = (first.squares + second.squares) / (first.n + second.n - 2)
    return float(np.sqrt(pooled)) if pooled > 0 else None


def cohens_d(first: Spread, second: Spread) -> float | None:
    """Cohen's d for two groups: difference of means over the pooled standard deviation. None without spread.

    Source: Cohen, Statistical Power Analysis for the Behavioral Sciences, 2nd edition, 1988, equation 2.2.1 and 2.5.1.
    """
    sd = pooled_sd(first, second)
    return None if sd is None else (first.mean - second.mean) / sd


def explained(first: Spread, second: Spread) -> float | None:
    """Share, in [0, 1], of the variance of the numbers that the group they are in explains; None without spread.

    It is the square of their point-biserial correlation with the group. Source: Cohen, 1988, equation 2.2.6.
    """
    d = cohens_d(first, second)
    if d is None:
        return None
    n = first.n + second.n
    return d**2 / (d**2 + n * (n - 2) / (first.n * second.n))
