"""Feasible orders by enumeration, the ledger, and the review calendar."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inventory_cases import make_state, make_terms

from cluster.errors import InfeasibleOrderError
from cluster.panel import SeriesIndex
from rl.constraints import Reason, check_orderable, feasible_quantity_S, feasible_steps, is_review_period_S


def feasible(wish, *, state=None, **terms):
    rows = np.size(wish)
    given = np.atleast_1d(np.asarray(wish, dtype=np.float32))
    return feasible_quantity_S(given, state=state or make_state(rows), terms=make_terms(rows, **terms)).tolist()


def test_rounds_as_a_buyer_expects():
    assert feasible([0, 1, 13, 15, 15.2, 16], minimum=15, pack=3) == [0, 15, 15, 15, 18, 18]


@pytest.mark.parametrize(
    ("wish", "terms", "quantity"),
    [
        (7, {"minimum": 10, "pack": 6}, 12),
        (50, {"pack": 6, "cap": 20}, 18),
        (50, {"pack": 6, "storage": 20}, 18),
        (50, {"minimum": 15, "cap": 12}, 0),
        (50, {"minimum": 15, "pack": 6, "cap": 17}, 0),
        (5, {"storage": 0}, 0),
        (12.00004, {"pack": 12}, 12),
        (0.3, {"pack": 0.1}, 0.3),
    ],
)
def test_rules_together(wish, terms, quantity):
    assert feasible(wish, **terms) == pytest.approx([quantity])


def test_storage_counts_what_is_on_hand_and_on_order():
    state = make_state(2, on_hand=np.array([4, 30]), on_order=np.array([[3, 2], [0, 0]]))
    assert feasible([10, 10], state=state, storage=15) == [6, 0]


def random_case(seed, rows):
    rng = np.random.default_rng(seed)
    terms = make_terms(
        rows,
        minimum=rng.integers(0, 20, rows),
        pack=rng.choice([1, 2, 3, 6, 12], rows),
        cap=rng.choice([*range(1, 40), np.inf], rows),
        storage=rng.choice([*range(1, 60), np.inf], rows),
        review=rng.integers(1, 4, rows),
    )
    state = make_state(rows, on_hand=rng.integers(0, 20, rows), on_order=rng.integers(0, 9, (rows, 2)))
    # In hundredths: none within rounding of the tolerance.
    wish_S = rng.choice([0.0, 1.0], rows) * rng.uniform(0, 50, rows).round(2)
    return wish_S.astype(np.float32), state, terms


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_no_constraint_ever_breaks(seed):
    wish_S, state, terms = random_case(seed, 1_000)
    quantity_S = feasible_quantity_S(wish_S, state=state, terms=terms)
    ordered = quantity_S > 0
    assert (quantity_S % terms.pack_size_S == 0).all()
    assert (quantity_S[ordered] >= terms.min_order_qty_S[ordered]).all()
    assert (quantity_S <= terms.order_cap_S).all()
    held_S = state.on_hand_S + state.on_order_SL.sum(axis=1) + quantity_S
    assert (held_S[ordered] <= terms.storage_capacity_S[ordered]).all()
    assert not ordered[wish_S == 0].any()


def test_no_constraint_breaks_in_a_million_random_states():
    rng = np.random.default_rng(0)
    rows = 1_000_000
    pack_S, minimum_S = rng.choice([1.0, 3.0, 6.0, 12.0], rows), rng.choice([0.0, 5.0, 8.0, 15.0], rows)
    cap_S, storage_S = rng.choice([20.0, 50.0, np.inf], rows), rng.choice([40.0, 100.0, np.inf], rows)
    terms = make_terms(rows, pack=pack_S, minimum=minimum_S, cap=cap_S, storage=storage_S)
    state = make_state(rows, on_hand=rng.integers(0, 60, rows), on_order=rng.integers(0, 20, (rows, 3)))
    is_review_S = rng.random(rows) < 0.8
    wish_S = np.maximum(rng.normal(5, 20, rows), 0).astype(np.float32)
    order_S = feasible_quantity_S(wish_S, state=state, terms=terms, is_review_S=is_review_S)
    ordered = order_S > 0
    assert 0.2 < ordered.mean() < 0.8
    assert (order_S % pack_S == 0).all()
    assert (order_S[ordered] >= minimum_S[ordered]).all()
    assert (order_S <= cap_S).all()
    assert (order_S + state.on_hand_S + state.on_order_SL.sum(axis=1) <= storage_S)[ordered].all()
    assert not ordered[~is_review_S].any()
    assert not ordered[wish_S == 0].any()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_is_the_smallest_feasible_order_not_below_the_wish_else_the_largest(seed):
    wish_S, state, terms = random_case(seed, 60)
    quantity_S = feasible_quantity_S(wish_S, state=state, terms=terms)
    held_S = state.on_hand_S + state.on_order_SL.sum(axis=1)
    for row, wish in enumerate(wish_S):
        most = min(terms.order_cap_S[row], terms.storage_capacity_S[row] - held_S[row], 200)
        options = [q for q in np.arange(1, most + 1) if q % terms.pack_size_S[row] == 0]
        options = [q for q in options if q >= terms.min_order_qty_S[row]]
        # A pack is not opened for less than a ten-thousandth of it: wishes are differences of float32.
        enough = [q for q in options if q >= wish - 1e-4 * terms.pack_size_S[row]]
        is_nothing = wish <= 1e-4 * terms.pack_size_S[row]
        best = 0 if is_nothing or not options else (min(enough) if enough else max(options))
        assert quantity_S[row] == best


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32), period=st.integers(0, 20))
def test_ledger_sums_to_the_quantity_exactly(seed, period):
    wish_S, state, terms = random_case(seed, 300)
    is_review_S = is_review_period_S(terms, period=period)
    steps = feasible_steps(wish_S, state=state, terms=terms, is_review_S=is_review_S)
    plain_S = feasible_quantity_S(wish_S, state=state, terms=terms, is_review_S=is_review_S)
    np.testing.assert_array_equal(steps.quantity_S, plain_S)
    for changes, quantity in zip(steps.change_SR.tolist(), plain_S.tolist(), strict=True):
        assert sum(changes) == quantity
    wish_column = steps.change_SR[:, list(Reason).index(Reason.WISH)]
    np.testing.assert_allclose(wish_column, wish_S, atol=0.126)
    assert (steps.change_SR[:, list(Reason).index(Reason.CAP)] <= 0).all()
    assert (steps.change_SR[:, list(Reason).index(Reason.CONFLICT)] <= 0).all()


@pytest.mark.parametrize(
    ("wish", "terms", "changes"),
    [
        (13, {"minimum": 15, "pack": 3}, {"wish": 13, "minimum": 2}),
        (16, {"minimum": 15, "pack": 3}, {"wish": 16, "pack": 2}),
        (50, {"pack": 6, "cap": 20}, {"wish": 50, "pack": 4, "cap": -36}),
        (50, {"pack": 6, "storage": 20}, {"wish": 50, "pack": 4, "storage": -36}),
        (5, {"minimum": 15, "cap": 12}, {"wish": 5, "minimum": 10, "cap": -3, "conflict": -12}),
        (5, {"review": 2, "phase": 1}, {"wish": 5, "calendar": -5}),
        (1.3, {}, {"wish": 1.375, "pack": 0.625}),
        (0, {"minimum": 15}, {}),
    ],
)
def test_ledger_names_what_changed_the_wish(wish, terms, changes):
    terms = make_terms(**terms)
    steps = feasible_steps(
        np.float32([wish]), state=make_state(), terms=terms, is_review_S=is_review_period_S(terms, period=4)
    )
    found = {str(reason): change for reason, change in zip(Reason, steps.change_SR[0], strict=True) if change}
    assert found == changes


def test_nothing_is_ordered_between_reviews():
    terms = make_terms(3, review=np.array([1, 2, 7]), phase=np.array([0, 1, 3]))
    ordered = [
        feasible_quantity_S(
            np.full(3, 2, dtype=np.float32),
            state=make_state(3),
            terms=terms,
            is_review_S=is_review_period_S(terms, period=period),
        )
        > 0
        for period in range(14)
    ]
    assert [np.flatnonzero(column).tolist() for column in np.array(ordered).T] == [
        list(range(14)),
        list(range(1, 14, 2)),
        [3, 10],
    ]


def test_review_periods_of_rows_that_replay_different_stretches():
    terms = make_terms(3, review=2, phase=0)
    assert is_review_period_S(terms, period=np.array([4, 5, 6])).tolist() == [True, False, True]


def test_terms_that_can_never_be_met_are_refused():
    index = SeriesIndex(
        item_ids_S=np.array(["a", "b"]), location_ids_S=np.array(["x", "x"]), category_ids_S=np.array(["c", "c"])
    )
    check_orderable(make_terms(2, minimum=12, pack=6, cap=12), index=index)
    with pytest.raises(InfeasibleOrderError, match=r"item b at x: the smallest order is 18 .* cap is 17"):
        check_orderable(make_terms(2, minimum=15, pack=6, cap=np.array([18, 17])), index=index)
