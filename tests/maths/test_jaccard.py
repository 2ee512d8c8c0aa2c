"""The search for alike sets against comparing all pairs."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.maths.jaccard import Edges, Join, alike, jaccard, set_digests
from curate.maths.shingles import Sets, starts_of

members = st.lists(st.frozensets(st.integers(0, 30), max_size=12), max_size=40)


def sets_of(given_sets: list[frozenset[int]]) -> Sets:
    spread = [sorted(value * 0x9E3779B1 % 2**32 for value in one) for one in given_sets]
    return Sets(
        np.array([value for one in spread for value in one], np.uint32), starts_of(np.array([len(one) for one in spread]))
    )


def all_pairs(given_sets: list[frozenset[int]], floor: float, scopes: list[int] | None = None) -> dict[tuple[int, int], float]:
    found = {}
    for j, b in enumerate(given_sets):
        for i, a in enumerate(given_sets[:j]):
            if (a or b) and (scopes is None or scopes[i] == scopes[j]):
                likeness = np.float32(len(a & b) / len(a | b))
                if likeness >= np.float32(floor):
                    found[i, j] = float(likeness)
    return found


def as_dict(edges: Edges) -> dict[tuple[int, int], float]:
    return {(i, j): v for i, j, v in zip(edges.left.tolist(), edges.right.tolist(), edges.likeness.tolist(), strict=True)}


@settings(max_examples=200, deadline=None)
@given(members, st.sampled_from([0.1, 0.25, 0.5, 2 / 3, 0.7, 0.9, 1.0]))
def test_every_alike_pair_is_found_and_no_other(given_sets: list[frozenset[int]], floor: float) -> None:
    assert as_dict(alike(sets_of(given_sets), floor)) == all_pairs(given_sets, floor)


@settings(max_examples=50, deadline=None)
@given(members, st.integers(0, 40))
def test_pairs_of_known_sets_are_left_out_and_scopes_hold(given_sets: list[frozenset[int]], known: int) -> None:
    scopes = [number % 3 for number in range(len(given_sets))]
    wanted = {pair: v for pair, v in all_pairs(given_sets, 0.5, scopes).items() if pair[1] >= known}
    assert as_dict(alike(sets_of(given_sets), 0.5, np.array(scopes, np.int64), known)) == wanted


def test_a_crowd_is_compared_whole_when_asked() -> None:
    """450 sets share one rare element: not all are compared at first; of the chosen ones all are."""
    given_sets = [frozenset([1, 2, 3, 4, 100 + n // 2]) for n in range(450)]
    join = Join(sets_of(given_sets), 0.6)
    found, everything = as_dict(join.edges()), all_pairs(given_sets, 0.6)
    assert join.crowded and set(found) < set(everything)
    assert as_dict(join.among(np.ones(450, bool))) == everything
    assert set(as_dict(join.among(np.arange(450) < 5))) == {pair for pair in everything if pair[1] < 5}


def test_portions_change_nothing() -> None:
    random = np.random.default_rng(1)
    sets = sets_of([frozenset([*range(8 * (n % 1500), 8 * (n % 1500) + 8), int(random.integers(9**9))]) for n in range(5000)])
    last = np.arange(2000, 5000)
    whole = {(i - 2000, j - 2000): v for (i, j), v in as_dict(alike(sets, 0.5)).items() if i >= 2000}
    assert whole and whole == as_dict(alike(sets.only(last), 0.5))


def test_equal_sets_have_one_digest_and_others_another() -> None:
    given_sets = [frozenset({1, 2}), frozenset(), frozenset({1, 2}), frozenset({2}), frozenset({1}), frozenset({1, 2, 3})]
    digests = set_digests(sets_of(given_sets)).tolist()
    assert digests[0] == digests[2] and len(set(digests)) == 5


def test_similarity_is_that_of_the_sets() -> None:
    sets = sets_of([frozenset({1, 2, 3}), frozenset({2, 3, 4}), frozenset()])
    assert jaccard(sets, np.array([0, 0, 2]), np.array([1, 2, 2])).tolist() == [0.5, 0.0, 0.0]
