"""Least edges to give up, beside every order tried by hand, and laws that hold at any size."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.maths import cycles
from curate.maths.tangles import Edges, packed, sifted


def graph(*edges):
    """Edges as (tail, head, weight)."""
    tail, head, weight = zip(*edges, strict=True) if edges else ((), (), ())
    return np.array(tail, np.int64), np.array(head, np.int64), np.array(weight, np.float64)


def solved(*edges, items=None, **more):
    tail, head, weight = graph(*edges)
    return cycles.untangled(tail, head, weight, items or int(max(tail.max(initial=-1), head.max(initial=-1))) + 1, **more)


def slow_least(edges, items):
    """Least weight, and of those the fewest edges, that run backward in any order of the items."""
    places = (dict(zip(order, range(items), strict=True)) for order in permutations(range(items)))
    backward = ([w for t, h, w in edges if place[h] < place[t]] for place in places)
    return min((sum(weights), len(weights)) for weights in backward)


def acyclic(edges, given_up):
    """Whether taking away items that nobody is preferred to, one after the other, takes all away."""
    left = {(t, h) for (t, h, _), gone in zip(edges, given_up, strict=True) if not gone}
    while left:
        free = {t for t, _ in left} - {h for _, h in left}
        if not free:
            return False
        left = {(t, h) for t, h in left if t not in free}
    return True


ITEMS = 6
GRAPHS = st.dictionaries(
    st.tuples(st.integers(0, ITEMS - 1), st.integers(0, ITEMS - 1)).filter(lambda ends: ends[0] != ends[1]),
    st.integers(0, 4),
    max_size=18,
).map(lambda found: [(*ends, float(weight)) for ends, weight in found.items()])


def test_the_weakest_of_a_circle_is_given_up_and_names_it():
    found = solved((0, 1, 3), (1, 2, 1), (2, 0, 2), (2, 3, 1))
    assert found.given_up_E.tolist() == [False, True, False, False]
    assert found.cycles == {1: [1, 2, 0]}
    assert found.knot_E.tolist() == [0, 0, 0, -1]
    assert (found.removed.tolist(), found.bound.tolist()) == ([1.0], [1.0])


def test_one_strong_edge_in_two_circles_may_go_for_two_weak_ones():
    two_circles = [(1, 2, 4), (2, 0, 4), (2, 3, 4), (3, 0, 4)]
    assert solved((0, 1, 3), *two_circles).given_up_E.tolist() == [True, False, False, False, False]
    assert solved((0, 1, 9), *two_circles).removed.tolist() == [4.0]


def test_two_that_contradict_each_other_are_a_circle():
    assert solved((0, 1, 2), (1, 0, 3)).given_up_E.tolist() == [True, False]


def test_each_knot_is_solved_by_itself():
    found = solved((0, 1, 1), (1, 0, 2), (1, 2, 9), (2, 3, 5), (3, 2, 4))
    assert found.given_up_E.tolist() == [True, False, False, False, True]
    assert found.removed.tolist() == [1.0, 4.0]


def test_of_two_edges_that_only_together_close_a_circle_the_lighter_goes():
    """In the order 0 2 1 3 the edges 1 -> 2 and 3 -> 0 run backward; either alone closes nothing."""
    for heavy, light in (((1, 2, 3.0), (3, 0, 2.0)), ((3, 0, 3.0), (1, 2, 2.0))):
        tail, head, weight = graph((0, 1, 9), (2, 3, 9), light, heavy)
        gone = list(cycles.closing(Edges(tail, head, weight, 4), np.array([0, 2, 1, 3])))
        assert [edge for edge, _ in gone] == [2]


def test_no_edges_and_no_circles():
    assert solved(items=0).given_up_E.tolist() == []
    assert solved((0, 1, 1), (1, 2, 1)).cycles == {}


@settings(max_examples=150, deadline=None)
@given(GRAPHS)
def test_small_knots_are_solved_exactly_with_fewest_edges(edges):
    found = solved(*edges, items=ITEMS)
    given_up = [w for (_, _, w), gone in zip(edges, found.given_up_E, strict=True) if gone]
    assert (sum(given_up), len(given_up)) == slow_least(edges, ITEMS)
    assert found.bound == pytest.approx(found.removed)


@settings(max_examples=150, deadline=None)
@given(GRAPHS, st.sampled_from([1, cycles.EXACT]))
def test_what_is_left_has_no_circle_and_nothing_is_given_up_in_vain(edges, exact):
    found = solved(*edges, items=ITEMS, exact=exact)
    assert acyclic(edges, found.given_up_E)
    for edge in np.flatnonzero(found.given_up_E):
        without = found.given_up_E.copy()
        without[edge] = False
        assert not acyclic(edges, without)


@settings(max_examples=150, deadline=None)
@given(GRAPHS, st.sampled_from([1, cycles.EXACT]))
def test_each_given_up_edge_names_a_circle_of_edges_that_stay(edges, exact):
    found = solved(*edges, items=ITEMS, exact=exact)
    assert set(found.cycles) == set(np.flatnonzero(found.given_up_E).tolist())
    for edge, cycle in found.cycles.items():
        assert cycle[0] == edge and not found.given_up_E[cycle[1:]].any()
        assert all(edges[one][1] == edges[other][0] for one, other in zip(cycle, [*cycle[1:], edge], strict=True))


@settings(max_examples=150, deadline=None)
@given(GRAPHS)
def test_the_bound_of_large_knots_is_one(edges):
    found = solved(*edges, items=ITEMS, exact=1)
    least = solved(*edges, items=ITEMS)
    assert (found.bound <= least.removed + 1e-9).all() and (found.removed >= least.removed - 1e-9).all()
    assert ((found.bound > 0) | (least.removed == 0)).all()


@settings(max_examples=100, deadline=None)
@given(GRAPHS, st.randoms(), st.sampled_from([1, cycles.EXACT]))
def test_the_order_of_edges_does_not_matter(edges, random, exact):
    mixed = edges[:]
    random.shuffle(mixed)
    gone = [
        {edge[:2] for edge, up in zip(each, solved(*each, items=ITEMS, exact=exact).given_up_E, strict=True) if up}
        for each in (edges, mixed)
    ]
    assert exact == 1 or gone[0] == gone[1]


def planted(items, turned, seed=0):
    """All pairs of items in order, some of them weakly the other way round."""
    draw = np.random.default_rng(seed)
    edges = [(i, j, 3.0) for i in range(items) for j in range(i + 1, items) if draw.random() < 0.3 or j == i + 1]
    at = draw.choice(len(edges), turned, replace=False)
    for place in at:
        i, j, _ = edges[place]
        edges[place] = (j, i, 1.0)
    return edges, at


def test_a_large_tangle_is_undone_near_its_bound():
    edges, turned = planted(200, 120)
    found = solved(*edges)
    assert acyclic(edges, found.given_up_E)
    assert 0.7 * found.removed.sum() <= found.bound.sum() <= found.removed.sum() <= 120
    assert np.isin(np.flatnonzero(found.given_up_E), turned).mean() > 0.95


def test_sifting_never_makes_an_order_worse():
    edges, _ = planted(40, 60, seed=1)
    knot = Edges(*graph(*edges), 40)

    def backward(order):
        place = np.argsort(order)
        return knot.weight_E[place[knot.head_E] < place[knot.tail_E]].sum()

    for seed in range(5):
        order = np.random.default_rng(seed).permutation(40)
        assert backward(sifted(knot, order)) < backward(order)
    least, order = packed(knot)
    assert least <= backward(sifted(knot, order)) <= backward(order)
