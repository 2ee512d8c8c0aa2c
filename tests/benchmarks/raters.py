"""Raters aggregated beside crowd-kit: CPU seconds, accuracy against planted truth, and how far the two agree.

    python -m tests.benchmarks.raters simulated 100000 1000000
    python -m tests.benchmarks.raters five
    python -m tests.benchmarks.raters real

CURATE_BENCH_PYTHON: the interpreter of an environment with crowd-kit, which is left out without it. CURATE_TEST_DATA: real votes.
One thread each, each method in its own process; times leave out making the data and building crowd-kit's frame. Simulated: five
votes a pair by raters whose accuracy is drawn from Beta(6, 2), a tenth of the pairs guessed by all. A method that crowd-kit needs
more than --most seconds for is stopped and reported as such.
"""

import argparse
import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

FIVE = (0.95, 0.90, 0.80, 0.70, 0.55)
SIDES = {"a1": 1.0, "equal": 0.5, "a2": 0.0}
BUSY = 20
THEIRS = {
    "majority": "MajorityVote",
    "agreement": "Wawa",
    "dawid_skene": "DawidSkene",
    "one_coin": "OneCoinDawidSkene",
    "glad": "GLAD",
}


class Crowd(NamedTuple):
    """Votes and, where they were planted, the truth and how often each rater is right."""

    pair_V: np.ndarray
    rater_V: np.ndarray
    p_V: np.ndarray
    truth_N: np.ndarray
    accuracy_R: np.ndarray


class Found(NamedTuple):
    """What a method made of the votes."""

    seconds: float
    better_N: np.ndarray
    right_R: np.ndarray


# -- votes


def simulated(votes: int, seed: int = 0, per: int = 5) -> Crowd:
    """Raters of every quality, each with about 1,000 votes."""
    draw = np.random.default_rng(seed)
    pairs, raters = votes // per, max(votes // 1000, 20)
    accuracy = draw.beta(6, 2, raters)
    truth, clear = draw.random(pairs) < 0.5, draw.random(pairs) < 0.9
    pair = np.repeat(np.arange(pairs), per)
    rater = (draw.integers(0, raters, pairs)[:, None] + np.arange(per) * (1 + raters // 7)).ravel() % raters
    right = draw.random(len(pair)) < np.where(clear[pair], accuracy[rater], 0.5)
    return Crowd(pair, rater, (truth[pair] == right).astype(float), truth, accuracy)


def convincing() -> Crowd:
    """Votes on which of two arguments convinces more; no truth."""
    path = Path(os.environ["CURATE_TEST_DATA"]) / "ukp_convarg" / "pairs.dev.jsonl.gz"
    pairs = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    told = [(n, vote["workerID"], SIDES[vote["value"]]) for n, pair in enumerate(pairs) for vote in pair["mTurkAssignments"]]
    pair, worker, p = (np.array(column) for column in zip(*told, strict=True))
    return Crowd(pair, np.unique(worker, return_inverse=True)[1], p, np.zeros(len(pairs)), np.zeros(0))


# -- ours


def ours(crowd: Crowd, how: str) -> Found:
    """What this project makes of the votes."""
    from curate.maths import votes as ballots
    from curate.maths.dawid_skene import one_coin, reliability
    from curate.maths.glad import glad
    from curate.maths.raters import weighed

    votes = ballots.Votes(
        crowd.pair_V, crowd.rater_V, crowd.p_V, np.zeros(len(crowd.p_V), bool), len(crowd.truth_N), int(crowd.rater_V.max()) + 1
    )

    def agreement() -> tuple[np.ndarray, np.ndarray]:
        weights = ballots.agreement_with_majority(votes)
        return ballots.weighted_vote(votes, weights), weights

    def dawid_skene() -> tuple[np.ndarray, np.ndarray]:
        habits = reliability(votes)
        return weighed(votes, habits), habits.accuracy_R

    def single() -> tuple[np.ndarray, np.ndarray]:
        found = one_coin(votes)
        return weighed(votes, found.habits), found.right_R

    def able() -> tuple[np.ndarray, np.ndarray]:
        found = glad(votes)
        return found.better_N, found.ability_R

    methods: Mapping[str, Callable[[], tuple[np.ndarray, np.ndarray]]] = {
        "majority": lambda: (ballots.majority(votes), np.zeros(0)),
        "agreement": agreement,
        "dawid_skene": dawid_skene,
        "one_coin": single,
        "glad": able,
    }
    before = time.process_time()
    better, right = methods[how]()
    return Found(time.process_time() - before, better, right)


# -- crowd-kit, in its own process


def theirs(crowd: Crowd, how: str, most: float) -> Found | str:
    """What crowd-kit makes of the votes, or why there is nothing."""
    interpreter = os.environ.get("CURATE_BENCH_PYTHON")
    if not interpreter:
        return "no CURATE_BENCH_PYTHON"
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "votes.npz", Path(folder) / "found.npz"
        np.savez(given, **crowd._asdict())
        words = [interpreter, "-W", "ignore", __file__, "crowdkit", how, str(given), str(made)]
        try:
            subprocess.run(words, check=True, timeout=most, capture_output=True, text=True)
        except subprocess.TimeoutExpired:
            return f"stopped after {most:.0f} s"
        except subprocess.CalledProcessError as error:
            return str(error.stderr).strip().splitlines()[-1][:80]
        with np.load(made) as found:
            return Found(float(found["seconds"]), found["better_N"], found["right_R"])


def crowdkit(how: str, given: str, made: str) -> None:
    """Run one of crowd-kit's methods: called in the interpreter that has it."""
    pandas, aggregation = import_module("pandas"), import_module("crowdkit.aggregation")
    with np.load(given) as told:
        decided = told["p_V"] != 0.5
        columns = {"task": told["pair_V"][decided], "worker": told["rater_V"][decided], "label": told["p_V"][decided].astype(int)}
        pairs, raters = len(told["truth_N"]), int(told["rater_V"].max()) + 1
    frame = pandas.DataFrame(columns)
    method = getattr(aggregation, THEIRS[how])()
    before = time.process_time()
    fitted = method.fit(frame)
    if how == "majority":
        better = method.fit_predict_proba(frame)[1]
    elif how == "agreement":
        better = None  # its probabilities fail with this scikit-learn
    else:
        better = fitted.probas_[1]
    seconds = time.process_time() - before
    name = {"agreement": "skills_", "one_coin": "skills_", "glad": "alphas_"}.get(how)
    if name:
        right = getattr(fitted, name).reindex(range(raters)).to_numpy()
    elif how == "dawid_skene":
        errors = fitted.errors_.stack().unstack("label")
        diagonal = [errors.xs(label, level=1)[label] for label in (0, 1)]
        right = ((diagonal[0] + diagonal[1]) / 2).reindex(range(raters)).to_numpy()
    else:
        right = np.zeros(0)
    found = np.full(pairs, np.nan) if better is None else better.reindex(range(pairs), fill_value=0.5).to_numpy()
    np.savez(made, seconds=seconds, better_N=found, right_R=right)


# -- tables


def right(better_N: np.ndarray, truth_N: np.ndarray) -> float:
    """Share of pairs whose better side is named; 0.5 for a tie."""
    return float(np.where(better_N == 0.5, 0.5, (better_N > 0.5) == truth_N).mean())


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's."""
    from curate.maths.agreement import spearman_of

    known = np.isfinite(one) & np.isfinite(other)
    return float(spearman_of(one[known][None], other[known][None])[0])


def line(*cells: Any) -> None:
    print(*(f"{cell:>15}" if place else f"{cell:<13}" for place, cell in enumerate(cells)))


def compare(crowd: Crowd, most: float) -> None:
    """Every method beside crowd-kit's."""
    line("method", "CPU s", "crowd-kit", "ratio", "right", "crowd-kit", "raters (rho)", "crowd-kit", "same side")
    for how in THEIRS:
        mine, other = ours(crowd, how), theirs(crowd, how, most)
        told = [f"{mine.seconds:.3f}"]
        if isinstance(other, str):
            told += [other, "", f"{right(mine.better_N, crowd.truth_N):.4f}", ""]
            told += [f"{correlation(mine.right_R, crowd.accuracy_R):.3f}" if len(mine.right_R) else "", "", ""]
        else:
            sides = np.isfinite(other.better_N).all()
            same = f"{((mine.better_N > 0.5) == (other.better_N > 0.5)).mean():.4f}" if sides else ""
            told += [f"{other.seconds:.2f}", f"{other.seconds / mine.seconds:.1f}x", f"{right(mine.better_N, crowd.truth_N):.4f}"]
            told += [f"{right(other.better_N, crowd.truth_N):.4f}" if sides else ""]
            told += [
                f"{correlation(found.right_R, crowd.accuracy_R):.3f}" if len(found.right_R) else "" for found in (mine, other)
            ]
            told += [same]
        line(how, *told)


def five() -> None:
    """Five planted annotators, by votes and by labels."""
    from curate.maths.label_em import label_em
    from curate.maths.noise_frame import comparisons
    from curate.maths.peer_review import Settings

    line("found by", *FIVE, "largest error")
    for seed in range(3):
        draw = np.random.default_rng(seed)
        truth = draw.random(2000) < 0.5
        p = np.where(draw.random((2000, 5)) < np.array(FIVE), truth[:, None], ~truth[:, None]).astype(float)
        pair, rater = np.nonzero(np.ones_like(p))
        crowd = Crowd(pair, rater, p.ravel(), truth, np.array(FIVE))
        labels = draw.random(4000) < np.array(FIVE)[np.arange(4000) % 5]
        differences = draw.normal(size=(4000, 8)) + 0.0
        teacher = np.array([2.0, -1.5, 1.0, 0.5, 0, 0, 0, 0])
        differences *= np.where((differences @ teacher > 0) == labels, 1, -1)[:, None]
        sides = np.arange(8000).reshape(2, -1)
        given = comparisons(differences.astype(np.float32), np.arange(4000) // 5, sides[0], sides[1], [1] * 8)
        by_labels = label_em(given, np.arange(4000) % 5, Settings()).reliability
        for name, found in (("one_coin", ours(crowd, "one_coin").right_R), ("dawid_skene", ours(crowd, "dawid_skene").right_R)):
            line(name, *found.round(3), f"{np.abs(found - FIVE).max():.3f}")
        line("label_em", *by_labels.round(3), f"{np.abs(by_labels - FIVE).max():.3f}")


def real(most: float) -> None:
    """Reliability of crowd workers beside their agreement with the others, and the sides beside the majority's."""
    from curate.maths import votes as ballots

    crowd = convincing()
    size = (len(crowd.truth_N), int(crowd.rater_V.max()) + 1)
    votes = ballots.Votes(crowd.pair_V, crowd.rater_V, crowd.p_V, np.zeros(len(crowd.p_V), bool), *size)
    busy = votes.by_rater() >= BUSY
    agreed, seen = ballots.agreement_with_others(votes)
    others = np.where(busy, agreed / np.maximum(seen, 1), np.nan)
    majority = ballots.majority(votes)
    clear = majority != 0.5
    print(
        f"ukp_convarg: {len(crowd.p_V):,} votes, {size[0]:,} pairs, {size[1]:,} workers, {busy.sum()} with {BUSY} votes or more"
    )
    line("method", "CPU s", "crowd-kit", "rho others", "crowd-kit", "as majority", "same side")
    for how in THEIRS:
        mine, other = ours(crowd, how), theirs(crowd, how, most)
        told = [f"{mine.seconds:.3f}", other if isinstance(other, str) else f"{other.seconds:.2f}"]
        for found in (mine, other):
            rated = not isinstance(found, str) and len(found.right_R)
            told.append(f"{correlation(found.right_R, others):.3f}" if rated else "")  # type: ignore[union-attr]
        told.append(f"{((mine.better_N > 0.5) == (majority > 0.5))[clear].mean():.4f}")
        if not isinstance(other, str) and np.isfinite(other.better_N).all():
            told.append(f"{((mine.better_N > 0.5) == (other.better_N > 0.5))[clear].mean():.4f}")
        line(how, *told)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("simulated", "five", "real"))
    parser.add_argument("votes", nargs="*", type=int, help="simulated: how many votes")
    parser.add_argument("--most", type=float, default=900, help="seconds that crowd-kit may take for one method")
    asked = parser.parse_args()
    if asked.what == "five":
        five()
    elif asked.what == "real":
        real(asked.most)
    for count in (asked.votes or [100_000]) if asked.what == "simulated" else ():
        print(f"\n{count:,} votes")
        compare(simulated(count), asked.most)


if __name__ == "__main__":
    if sys.argv[1:2] == ["crowdkit"]:
        crowdkit(*sys.argv[2:5])
    else:
        main()
