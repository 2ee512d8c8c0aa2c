"""Recorded verdicts of judges beside the gold labels: each judge alone, and ways to make one verdict of all.

    CURATE_TEST_DATA=... python -m tests.benchmarks.verdicts

Accuracy is the share of gold pairs that come out right, ties and silence half; of a judge alone over the mean of both orders.
No weight sees a label. `natural` and `adversarial` are the two halves of LLMBar; weights are fitted to each table by itself.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.score.aggregate import Aggregate
from curate.score.prefer import Prefer
from tests.recipes.test_llmbar import CHOICE, PLAIN, Case, beside_the_record, imported

PANELS = [((strategy,), "choice") for strategy in (*PLAIN, *CHOICE[:3])] + [(("CoT",), "conclusion"), (PLAIN, "choice")]
WAYS = ("mean", "stability", "dawid_skene")


def accuracy(pairs: pa.Table, by: str) -> float:
    p = Prefer(by=by, smoothing=0)(pairs)["label_prob"].to_numpy()
    return float(np.where(np.isnan(p) | (p == 0.5), 0.5, p > 0.5).mean())


def aggregated(pairs: pa.Table, raters: list[str], how: str) -> float:
    step = Aggregate.model_validate({"name": "panel", "from": raters, "of": "votes", "how": how, "require": "any"})
    return accuracy(pairs.set_column(pairs.column_names.index("votes"), "votes", step(pairs)["votes"]), "panel")


def halves(pairs: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    natural = pc.match_substring(pairs["pair_id"], "Natural")
    yield from (("all", pairs), ("natural", pairs.filter(natural)), ("adversarial", pairs.filter(pc.invert(natural))))


def report(case: Case, title: str) -> None:
    found = beside_the_record(case)
    print(f"\n{title}: {found.share:.2%} of {found.same + len(found.rest):,} verdicts as recorded, else {dict(found.kinds)}")
    for half, pairs in halves(case.pairs):
        alone = {rater: accuracy(pairs, rater) for rater in case.raters}
        best = max(alone, key=alone.__getitem__)
        ways = "  ".join(f"{how} {aggregated(pairs, case.raters, how):.3f}" for how in WAYS)
        print(f"  {half:<12} {pairs.num_rows:>3} pairs  {ways}  best single {alone[best]:.3f} ({best})")
        if half == "all":
            print("   ", "  ".join(f"{rater} {alone[rater]:.3f}" for rater in sorted(alone, key=alone.__getitem__, reverse=True)))


def main() -> int:
    if "CURATE_TEST_DATA" not in os.environ:
        print("CURATE_TEST_DATA is not set: the recorded verdicts are not part of this repository", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        for strategies, layout in PANELS:
            report(imported(Path(os.environ["CURATE_TEST_DATA"]), Path(folder), strategies, layout), " + ".join(strategies))
    return 0


if __name__ == "__main__":
    sys.exit(main())
