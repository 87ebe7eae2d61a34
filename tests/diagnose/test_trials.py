"""When an intervention explains a difference: figures in, a stated cause out."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillsnap.config.optimizers import OPTIMIZERS, in_words
from pillsnap.config.runtime import Runtime
from pillsnap.core.errors import EngineError
from pillsnap.diagnose.distance import Figures
from pillsnap.diagnose.optimizers import fewest, optimizer_trial
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


@given(st.integers(1, 40), st.data())
def test_the_fewest_that_pass_together_are_found(count: int, data: st.DataObject) -> None:
    guilty = data.draw(st.sets(st.integers(0, count - 1), max_size=4))
    asked = []

    def passes(items: object) -> bool:
        asked.append(items)
        return guilty.issubset(items)  # type: ignore[arg-type]

    found = fewest(range(count), passes)
    assert guilty <= set(found)
    assert len(found) == max(1, len(guilty))
    assert len(guilty) != 1 or len(asked) <= 2 * count.bit_length() + 1
    assert fewest(range(count), lambda items: False) == ()


def test_where_optimisation_is_the_cause_the_optimizer_is() -> None:
    runtime = Runtime(disabled_optimizers=("ConvBNFusion",))

    def under(how: Runtime) -> Figures:
        off = {"ConvBNFusion", "Pad_Fusion"} <= set(how.disabled_optimizers)
        return {"prob_err_max": 0.0 if off else 0.5}

    def whole(narrower: object) -> Causes:
        trial = Trial("runtime", "off", "all of them", lambda: {"prob_err_max": 0.0}, "level: none")
        return run_trials({"prob_err_max": 0.5}, 0.05, [replace(trial, narrow=narrower)])

    causes = whole(lambda vanishes: optimizer_trial(runtime, under, vanishes))
    assert causes.stated is not None
    assert causes.stated.cause == "optimizer Pad fusion"
    wanted = "runtime.disabled_optimizers: [ConvBNFusion, Pad_Fusion, PadFusion]"
    assert causes.stated.hint == causes.as_dict()["hint"] == wanted
    assert [tried.name for tried in causes.tried] == ["off", "without Pad_Fusion, PadFusion"]
    # Where none that is known does it, what was found stands.
    causes = whole(lambda vanishes: optimizer_trial(runtime, lambda how: refused(), vanishes))
    assert causes.as_dict()["stated"] == "all of them"
    assert causes.as_dict()["hint"] == "level: none"


def test_optimizers_have_words_of_their_own() -> None:
    words = [in_words(names) for names in OPTIMIZERS]
    assert len(set(words)) == len(words)
    assert {"Pad fusion", "Conv BN fusion", "Gelu fusion L1"} < set(words)
