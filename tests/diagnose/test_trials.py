"""When an intervention explains a difference: figures in, a stated cause out."""

from __future__ import annotations

import pytest

from pillsnap.core.errors import EngineError
from pillsnap.diagnose.distance import Figures
from pillsnap.diagnose.trials import Causes, Trial, run_trials


def leaves(error: float) -> Trial:
    return Trial("weights", f"to {error}", "weights", lambda: {"prob_err_max": error})


def refused() -> Figures:
    raise EngineError("no such provider")


def run(before: float, *after: float, noise: float = 0.05) -> Causes:
    return run_trials({"prob_err_max": before}, noise, map(leaves, after))


def test_the_first_that_leaves_noise_is_stated_and_the_last_tried() -> None:
    causes = run(1e-3, 9e-4, 1e-6, 1e-7)
    assert causes.stated is not None
    assert causes.stated.name == "to 1e-06"
    assert [tried.vanishes for tried in causes.tried] == [False, True]
    assert causes.in_words().startswith("weights (to 1e-06: prob_err_max 0.001 -> ")


def test_a_small_difference_is_not_explained_by_what_leaves_a_part_of_it() -> None:
    # 5e-5 is within what healthy exports of some model may have, but not of this one.
    causes = run(2.3e-4, 5e-5)
    assert causes.stated is None
    assert causes.in_words() == "not explained: none of 1 interventions makes it vanish"


def test_what_rounding_leaves_of_a_large_difference_is_no_difference() -> None:
    assert run(0.9, 9e-5).stated is not None
    assert run(0.9, 2e-4).stated is None


def test_a_difference_within_the_models_noise_is_none() -> None:
    causes = run(4e-6, 0.0)
    assert causes.tried == ()
    assert causes.in_words().startswith("nothing differs beyond rounding on these")
    assert run(4e-6, 0.0, noise=0.01).stated is not None


@pytest.mark.parametrize("noise", [0.05, 1.0])
def test_what_cannot_be_tried_is_noted(noise: float) -> None:
    trial = Trial("runtime", "another provider", "the provider", refused)
    causes = run_trials({"prob_err_max": 0.5}, noise, [trial, leaves(0.0)])
    assert [tried.problem for tried in causes.tried] == ["no such provider", None]
    assert causes.tried[0].after is None
    assert causes.stated is not None
