"""What a teacher says of candidates: before it learns, recorded with its logit, heard by those who ask for
it, resumed bit for bit.
"""

import numpy as np
import pytest
import torch

from recdistill.checkpoint.store import Checkpoints
from recdistill.data.store.sample_store import SampleStore
from recdistill.errors import UserError
from recdistill.runs.folder import RunFolder
from recdistill.runs.names import TEACHER
from recdistill.signals.columns import CANDIDATES, join_candidates
from recdistill.tables.delta.fixed_bytes import from_bytes
from recdistill.tables.predictions import PredictionLog
from tests.support.runs import finish, same_bits, tiny, trainer

ASKED = (
    "candidates.count=3",
    "candidates.window=100",
    "candidates.item_features=[topic, age_days]",
    "students.light.distill.candidates=2",
)
STUDENT = "light.distilled.s0"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    root = tmp_path_factory.mktemp("run")
    finish(root, tiny(*ASKED), TEACHER, "light.raw.s0", STUDENT)
    return RunFolder(root)


def test_the_teacher_says_it_before_it_learns_the_batch(tmp_path, run):
    finish(tmp_path, tiny(*ASKED))
    fresh = trainer(tmp_path, tiny(*ASKED), TEACHER)
    rows = np.arange(fresh.plan.batch)
    first = fresh.learner.predict(fresh.builder.candidates(rows, fresh.candidates))
    store, log = SampleStore(run.store), PredictionLog.open(run.predictions)
    said = join_candidates(tmp_path / "joined", store, log, TEACHER)
    np.testing.assert_array_equal(said[rows], first.view(len(rows), 3, -1).numpy().astype(np.float16))
    assert not np.isnan(said).any()


def test_only_the_teacher_speaks_on_the_channel(run):
    log, tasks = PredictionLog.open(run.predictions), 2
    for model, speaks in ((TEACHER, True), ("light.raw.s0", False), (STUDENT, False)):
        for rows in log.of(model):
            has, _ = from_bytes(rows[CANDIDATES], 2 * 3 * tasks)
            assert has.all() if speaks else not has.any()


def test_what_it_learns_from_them_is_the_signal_alone(run):
    """The same batch without the candidates' signals has the labels' gradient, and none of the candidates'."""
    student = trainer(run.root, tiny(*ASKED), STUDENT)
    batch = student.builder.build(np.arange(200, 250))
    silent = student.learner.network
    assert batch.rows_per_sample == 3
    batch.signals[:] = torch.nan
    before = {name: value.clone() for name, value in silent.state_dict().items()}
    student.learner.learn(batch, torch.ones(50, dtype=torch.bool))
    plain = trainer(run.root, tiny(*ASKED), STUDENT)
    plain.builder.candidate_signals = None
    alone = plain.builder.build(np.arange(200, 250))
    alone.signals[:] = torch.nan
    said = plain.learner.learn(alone, torch.ones(50, dtype=torch.bool))
    assert said.coverage == 0.0 and len(said.logits) == 50
    for name, value in plain.learner.network.state_dict().items():
        torch.testing.assert_close(student.learner.network.state_dict()[name], value, atol=2e-6, rtol=1e-5)
    assert any(not torch.equal(before[name], value) for name, value in silent.state_dict().items())


def test_raw_students_do_not_change_by_candidates(tmp_path, run):
    finish(tmp_path, tiny(), TEACHER, "light.raw.s0", STUDENT)
    one, other = (
        Checkpoints(RunFolder(root).model("light.raw.s0")).latest()[1].tensors for root in (tmp_path, run.root)
    )
    assert same_bits(one, other)
    one, other = (Checkpoints(RunFolder(root).model(STUDENT)).latest()[1].tensors for root in (tmp_path, run.root))
    assert not same_bits(one, other)


def test_asking_for_more_than_there_are_is_refused():
    with pytest.raises(UserError, match="students.light.distill.candidates 4: the teacher scores candidates.count 3"):
        tiny(*ASKED, "students.light.distill.candidates=4")


def test_asking_changes_nothing_of_the_teacher(tmp_path, run):
    finish(tmp_path, tiny(), TEACHER)
    one, other = (Checkpoints(RunFolder(root).model(TEACHER)).latest()[1].tensors for root in (tmp_path, run.root))
    learned = [name for name in one if name.startswith(("network/", "optimiser/")) or name.endswith("/first")]
    assert learned and all(
        torch.equal(one[name], other[name]) for name in learned if one[name].shape == other[name].shape
    )
    plain, asked = (PredictionLog.open(RunFolder(root).predictions) for root in (tmp_path, run.root))
    said = [[row for rows in log.of(TEACHER) for row in rows["logit_click"].to_list()] for log in (plain, asked)]
    assert said[0] == said[1]
