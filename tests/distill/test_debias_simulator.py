"""Teacher and students that were sampled differently, trained by the real loop: the figure of benchmarks/debias.py,
small.

The tolerance is three deviations of what the draws of negatives and labels bring at this size, about 5 %.
"""

import math

import pytest

from recdistill.data.readers.simulator import SimulatorConfig
from recdistill.runs.folder import RunFolder
from tests.support.paths import ROOT


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        from debias import measure
    return measure(
        RunFolder(tmp_path_factory.mktemp("run")), SimulatorConfig(rows=40_000, users=300, items=300, seed=1)
    )


@pytest.mark.parametrize("space", ["posterior", "student", "paper-outside", "paper-inside"])
def test_what_is_served_is_calibrated_once_its_own_sampling_is_taken_out(measured, space):
    window, towers = measured
    main = towers[f"{space}: main"]
    assert main.log_odds_offset == pytest.approx(math.log(1 / 0.5))
    assert abs(window.observed(main, corrected=True) - 1) < 3 * window.noise(main) < 0.06
    assert window.observed(main, corrected=False) > 1.5


def test_the_posterior_is_the_space_in_which_the_auxiliary_tower_learns_the_truth(measured):
    window, towers = measured
    right, wrong = (window.off(towers[f"{space}: aux"]) for space in ("posterior", "student"))
    assert abs(right) < 0.1
    assert 0.5 < wrong < math.log(0.5 / 0.1)  # between its labels' rate and that of the teacher's raw logits


def test_the_teacher_is_further_off_before_and_calibrated_after(measured):
    window, towers = measured
    teacher = towers["teacher: main"]
    assert teacher.log_odds_offset == pytest.approx(math.log(1 / 0.1))
    assert window.observed(teacher, corrected=False) > 3
    assert abs(window.observed(teacher, corrected=True) - 1) < 3 * window.noise(teacher)
