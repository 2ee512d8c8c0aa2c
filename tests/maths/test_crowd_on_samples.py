"""Reliability of real crowd workers, from their votes alone."""

import gzip
import json

import numpy as np
import pytest

from curate.maths import votes as ballots
from curate.maths.agreement import spearman_of
from curate.maths.dawid_skene import one_coin, reliability
from curate.maths.raters import weighed
from curate.maths.votes import Votes

FEWEST = 20
SIDES = {"a1": 1.0, "equal": 0.5, "a2": 0.0}


@pytest.fixture(scope="module")
def convincing(real_data):
    """Votes on which argument is more convincing, a1 as the chosen side."""
    path = real_data / "ukp_convarg" / "pairs.dev.jsonl.gz"
    pairs = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    told = [(n, vote["workerID"], SIDES[vote["value"]]) for n, pair in enumerate(pairs) for vote in pair["mTurkAssignments"]]
    pair, worker, p = (np.array(column) for column in zip(*told, strict=True))
    _, rater = np.unique(worker, return_inverse=True)
    return Votes(pair, rater, p, np.zeros(len(p), bool), len(pairs), int(rater.max()) + 1)


def test_reliability_of_workers_goes_with_their_agreement_with_the_others(convincing):
    busy = convincing.by_rater() >= FEWEST
    agreed, seen = ballots.agreement_with_others(convincing)
    assert busy.sum() > 100 and (seen[busy] > 0).all()
    others, found = (agreed / np.maximum(seen, 1))[busy][None], one_coin(convincing)
    assert spearman_of(found.right_R[busy][None], others)[0] >= 0.8
    assert spearman_of(reliability(convincing).accuracy_R[busy][None], others)[0] >= 0.8
    assert ((found.low_R < found.right_R) & (found.right_R < found.high_R)).all()


def test_the_sides_found_are_mostly_the_majoritys(convincing):
    majority, found = ballots.majority(convincing), weighed(convincing, one_coin(convincing).habits)
    clear = majority != 0.5
    assert ((found > 0.5) == (majority > 0.5))[clear].mean() > 0.93
