"""Shares of stages in a difference: the laws of Shapley values, on arithmetic."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from pillsnap.diagnose.budget import Stage, share_difference


def gap(reference: float, candidate: float) -> float:
    return abs(candidate - reference)


def same(state: float) -> float:
    return state


def plus(amount: float, name: str) -> Stage:
    return Stage(name, same, lambda state: state + amount)


def test_the_one_stage_that_differs_has_all_of_it() -> None:
    budget = share_difference([Stage("a", same, same), plus(2, "b")], 1.0, gap)
    assert budget.total == 2
    assert budget.percent == {"a": 0, "b": 100}


def test_what_adds_up_is_shared_in_proportion() -> None:
    budget = share_difference([plus(3, "a"), plus(1, "b"), Stage("c", same, same)], 0.0, gap)
    assert budget.percent == {"a": 75, "b": 25, "c": 0}


def test_what_only_two_together_do_is_shared_evenly_in_any_order() -> None:
    double = Stage("b", same, lambda state: state * 2)
    # By themselves a adds 1 and b does nothing to 0; together they make 2.
    assert share_difference([plus(1, "a"), double], 0.0, gap).percent == {"a": 75, "b": 25}


def test_interactions_of_three_are_weighted_by_every_order() -> None:
    def times(factor: float, name: str) -> Stage:
        return Stage(name, same, lambda state: state * factor)

    # a alone 1, with b 2, with c 3, all 6, anything without a 0: worked out over the six orders.
    percent = share_difference([plus(1, "a"), times(2, "b"), times(3, "c")], 0.0, gap).percent
    assert percent == {"a": 52.78, "b": 19.44, "c": 27.78}


def test_a_stage_that_takes_back_what_another_adds_is_negative() -> None:
    halve = Stage("b", same, lambda state: state / 2)
    assert share_difference([plus(2, "a"), halve], 0.0, gap).percent == {"a": 150, "b": -50}


def test_without_a_difference_there_is_nothing_to_share() -> None:
    assert share_difference([plus(0, "a")], 0.0, gap).percent is None
    cancelled = share_difference([plus(1, "a"), plus(-1, "b")], 0.0, gap)
    assert (cancelled.total, cancelled.percent) == (0, None)


def test_an_infinite_difference_still_has_an_owner() -> None:
    broken = Stage("b", same, lambda state: math.inf)
    percent = share_difference([plus(1, "a"), broken], 0.0, gap).percent
    assert percent is not None
    assert percent["b"] > percent["a"]


def test_stages_before_the_first_difference_run_once() -> None:
    calls: Counter[str] = Counter()

    def counted(name: str, amount: float) -> Stage:
        def run(side: str, added: float, state: float) -> float:
            calls[f"{name} {side}"] += 1
            return state + added

        return Stage(name, lambda s: run("ref", 0, s), lambda s: run("cand", amount, s))

    share_difference([counted("a", 1), counted("b", 1)], 0.0, gap)
    assert calls == {"a ref": 1, "a cand": 1, "b ref": 2, "b cand": 2}


@pytest.mark.parametrize("amounts", [(1, 2, 3), (5, -1, 2)])
def test_shares_add_up_to_a_hundred(amounts: tuple[int, ...]) -> None:
    stages = [plus(amount, str(amount)) for amount in amounts]
    percent = share_difference(stages, 0.0, gap).percent
    assert percent is not None
    assert math.fsum(percent.values()) == pytest.approx(100, abs=0.02)
