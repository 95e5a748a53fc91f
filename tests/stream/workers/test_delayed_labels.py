"""Labels that come later: each is learned once, whatever comes when; and a model that learns so does the
same again after a kill.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.config.data import LabelsConfig
from recdistill.data.store.live_store import LiveStore
from recdistill.runs.jobs import Job
from recdistill.stream.progress import ModelProgress, read_progress
from recdistill.stream.workers.delayed_labels import DelayedLabels
from recdistill.tables.predictions import PredictionLog
from recdistill.tables.schema import EventSchema
from tests.support.stream_runs import ROWS, StreamRun, experiment_of, models_of, same_weights
from tests.support.sweeps import swept

SECOND = 1_000_000
WINDOW, LATE = 10.0, 20.0  # seconds
SCHEMA = EventSchema(("click",))


def rows_at(first: int, times: np.ndarray, labels: np.ndarray) -> pl.DataFrame:
    n = len(times)
    return pl.DataFrame(
        {
            "sample_id": np.arange(first, first + n),
            "time": pl.Series(times * SECOND).cast(pl.Datetime("us", "UTC")),
            "user_id": np.zeros(n, np.int64),
            "item_id": np.ones(n, np.int64),
            "label_click": pl.Series(labels, dtype=pl.Float32, nan_to_null=True),
        }
    ).cast({"sample_id": pl.Int64})


def outcomes_of(ids: list[int], labels: list[float], times: list[int], tasks: list[int] | None = None) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "sample_id": pl.Series(ids, dtype=pl.Int64),
            "task": pl.Series(tasks or [0] * len(ids), dtype=pl.Int8),
            "label": pl.Series(labels, dtype=pl.Float32),
            "time": pl.Series([t * SECOND for t in times], dtype=pl.Int64),
        }
    )


class Stream:
    """A live store and the delayed labels of its samples; `learned` are (sample, label, again) in order."""

    def __init__(self, folder: Path, late: str = "update", schema: EventSchema = SCHEMA) -> None:
        self.store = LiveStore(folder, schema, None, behaviors=False)
        # type: ignore[arg-type]
        self.delayed = DelayedLabels(LabelsConfig(window_s=WINDOW, late=late), LATE, len(schema.tasks))
        self.learned: list[tuple[int, float, bool]] = []
        self.count = 0

    def step(self, times: list[int], labels: list[float], outcomes: pl.DataFrame) -> None:
        rows = rows_at(self.count, np.array(times, np.int64), np.array(labels, np.float32))
        rows = rows.with_columns(
            pl.lit(None, pl.Float32).alias(f"label_{task}") for task in self.store.encoder.schema.tasks[1:]
        )
        self.count += len(rows)
        if len(rows):
            self.store.add(rows, label_status=np.zeros((len(rows), self.delayed.tasks), np.int8))
        self.delayed.arrived(self.store, len(rows))
        self.delayed.decide(self.store, outcomes)
        taken = self.delayed.take(10**6)
        ids = self.store.rows["sample_id"][taken["position"] - self.store.rows.first] if len(taken["position"]) else []
        labels = taken["labels"][:, 0] if self.delayed.tasks == 1 else map(tuple, taken["labels"].astype("O"))
        self.learned += sorted(zip(map(int, ids), labels, taken["again"].tolist(), strict=True))
        self.store.drop(self.delayed.spent(self.store))


NONE = outcomes_of([], [], [])


def test_every_task_has_outcomes_of_its_own_and_a_late_one_corrects_that_task_alone(tmp_path: Path) -> None:
    stream = Stream(tmp_path, schema=EventSchema(("click", "buy")))
    stream.step([0, 1], [np.nan, np.nan], outcomes_of([0, 1, 1], [1.0, 1.0, 0.0], [4, 4, 4], [0, 1, 0]))
    stream.step([12], [np.nan], NONE)
    assert stream.learned == [(0, (1.0, 0.0), False), (1, (0.0, 1.0), False)]
    stream.step([13], [np.nan], outcomes_of([0, 1, 1], [1.0, 1.0, 1.0], [13, 13, 13], [1, 0, 1]))
    late = {sample: labels for sample, labels, again in stream.learned[2:] if again}
    assert late == {0: pytest.approx((np.nan, 1.0), nan_ok=True), 1: pytest.approx((1.0, np.nan), nan_ok=True)}
    assert stream.delayed.dropped["outcome twice"] == 1
    assert stream.delayed.late_share.tolist() == [0.5, 0.5]


def test_samples_are_learned_when_their_windows_end_with_the_outcomes_known_by_then(tmp_path: Path) -> None:
    stream = Stream(tmp_path)
    stream.step([0, 1, 2], [np.nan, np.nan, 1.0], NONE)
    stream.step([5], [np.nan], outcomes_of([1, 0], [1.0, 0.0], [4, 5]))
    assert stream.learned == []
    stream.step([12], [np.nan], NONE)
    assert stream.learned == [(0, 0.0, False), (1, 1.0, False)]
    stream.step([20], [np.nan], NONE)
    assert stream.learned[2:] == [(2, 1.0, False), (3, 0.0, False)]  # sample 3 had no outcome


def test_in_its_window_a_positive_replaces_a_negative_and_stays(tmp_path: Path) -> None:
    stream = Stream(tmp_path)
    stream.step([0, 0], [np.nan, np.nan], outcomes_of([0, 1], [0.0, 1.0], [1, 1]))
    stream.step([2], [np.nan], outcomes_of([0, 1, 0], [1.0, 0.0, 1.0], [2, 2, 2]))
    stream.step([11], [np.nan], NONE)
    assert stream.learned == [(0, 1.0, False), (1, 1.0, False)]
    assert +stream.delayed.dropped == {"outcome twice": 2}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from([0.0, 1.0]), st.integers(0, 14)), max_size=10))
def test_outcomes_that_come_together_are_taken_as_one_by_one(outcomes: list[tuple[int, float, int]]) -> None:
    together = sorted(outcomes, key=lambda one: one[2])
    found = []
    for batches in ([together], [[one] for one in together]):
        with TemporaryDirectory() as folder:
            stream = Stream(Path(folder))
            stream.step([0, 0, 1], [np.nan] * 3, NONE)
            for batch in batches:
                ids, labels, times = map(list, zip(*batch, strict=True)) if batch else ([], [], [])
                stream.step([], [], outcomes_of(ids, labels, times))
            stream.step([40], [np.nan], NONE)
            stream.step([41], [np.nan], NONE)
            user, now = stream.store.rows["user"][-1:], np.array([40 * SECOND])
            counts = stream.store.outcomes["user"].before(user, now)
            found.append((stream.learned, +stream.delayed.dropped, counts.tolist()))
    assert found[0][2][0][0] == 3  # a label of each sample whose window is over
    assert found[0] == found[1]


def test_a_late_positive_corrects_its_negative_once(tmp_path: Path) -> None:
    stream = Stream(tmp_path)
    stream.step([0], [np.nan], NONE)
    stream.step([11], [np.nan], NONE)
    assert stream.learned == [(0, 0.0, False)]
    stream.step([12], [np.nan], outcomes_of([0, 0, 0], [0.0, 1.0, 1.0], [12, 12, 12]))
    assert stream.learned[1:] == [(0, 1.0, True)]
    assert +stream.delayed.dropped == {"outcome twice": 2} and stream.delayed.late_share == 1.0


def test_a_positive_that_comes_too_late_is_dropped_and_counted(tmp_path: Path) -> None:
    stream = Stream(tmp_path)
    stream.step([0], [np.nan], NONE)
    stream.step([31], [np.nan], NONE)
    assert len(stream.store) == 1 and stream.learned == [(0, 0.0, False)]
    stream.step([70], [np.nan], outcomes_of([0], [1.0], [32]))
    assert (0, 1.0, True) not in stream.learned and stream.delayed.dropped["outcome of no sample"] == 1


def test_an_outcome_that_comes_before_its_sample_waits_for_it(tmp_path: Path) -> None:
    stream = Stream(tmp_path)
    stream.step([0], [np.nan], outcomes_of([1], [1.0], [3]))
    stream.step([2], [np.nan], NONE)
    stream.step([13], [np.nan], NONE)
    assert stream.learned == [(0, 0.0, False), (1, 1.0, False)]


def test_late_positives_may_be_ignored(tmp_path: Path) -> None:
    stream = Stream(tmp_path, "ignore")
    stream.step([0], [np.nan], NONE)
    stream.step([11], [np.nan], NONE)
    stream.step([12], [np.nan], outcomes_of([0], [1.0], [12]))
    assert (0, 1.0, True) not in stream.learned and stream.delayed.dropped["outcome late"] == 1


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 8))
def test_every_sample_is_learned_once_and_corrected_at_most_once(seed: int, n: int, steps: int) -> None:
    draw = np.random.default_rng(seed)
    times = np.sort(draw.integers(0, 60, n))
    labels = np.where(draw.random(n) < 0.3, draw.integers(0, 2, n), np.nan)
    outcomes = sorted(
        (int(times[k] + draw.integers(0, 40)), k, float(draw.integers(0, 2))) for k in draw.integers(0, n, 2 * n)
    )
    with TemporaryDirectory() as folder:
        stream, at = Stream(Path(folder)), 0
        for cut in np.array_split(np.arange(n), steps):
            now = int(times[cut[-1]]) if len(cut) else 0
            due = [o for o in outcomes[at:] if o[0] <= now]
            at += len(due)
            stream.step(
                times[cut].tolist(),
                labels[cut].tolist(),
                outcomes_of([k for _, k, _ in due], [y for *_, y in due], [t for t, *_ in due]),
            )
        stream.step([200], [np.nan], NONE)
    learned = [(k, y) for k, y, again in stream.learned if not again]
    again = [k for k, y, again in stream.learned if again]
    assert sorted(k for k, _ in learned) == list(range(n)) and len(again) == len(set(again))
    first = dict(learned)
    assert all(first[k] >= labels[k] for k in range(n) if not np.isnan(labels[k]))
    assert all(
        first[k] == 0.0 and stream.learned.index((k, 0.0, False)) < stream.learned.index((k, 1.0, True)) for k in again
    )


def delayed_run(root: Path, late: str) -> StreamRun:
    """Return a stream whose labels come 60 to 7,260 s after their samples, against a window of an hour; all
    of the second task are 1.
    """
    experiment = experiment_of("labels.window_s=3600", f"labels.late={late}", "stream.late_s=86400")
    run = StreamRun(root, experiment, 1500)
    draw = np.random.default_rng(3)
    later = pl.Series(draw.integers(60, 7260, ROWS - 1500) * SECOND).cast(pl.Duration("us"))
    nothing = {f"label_{task}": pl.lit(None, pl.Float32) for task in run.log.schema.tasks}
    blank = run.rows.with_columns(**nothing, label_time_click=pl.lit(None, run.rows.schema["time"]))
    by_task = [
        run.rows[1500:].select("sample_id", task=pl.lit(task), label=label, time=pl.col("time") + later)
        for task, label in (("click", pl.col("label_click")), ("finish", pl.lit(1.0, pl.Float32)))
    ]
    outcomes = pl.concat(by_task).sort("time", maintain_order=True)
    sent = 0
    for number, cut in enumerate([1700, 2100, 2101, 2600, ROWS]):
        stop = int((outcomes["time"] <= run.rows["time"][cut - 1]).sum())
        run.outcomes.append(outcomes[sent:stop], writer="ingest", sequence=number)
        sent = stop
        run.feed(cut, end=cut == ROWS, seen={"outcomes": run.outcomes.version}, rows=blank[run.fed : cut])
    run.approve(range(3, 6))
    return run


def of_second_task(run: StreamRun, job: Job) -> float:
    """Return the mean logit of the second task over the last samples that a model predicted."""
    last = run.predictions().filter(pl.col("model") == job.name).tail(200)
    return float(last["logit_finish"].mean())  # type: ignore[arg-type]


@pytest.mark.parametrize("late", swept(["update", "weight", "ignore"]))
def test_models_learn_labels_that_come_later_and_do_the_same_after_a_kill(tmp_path: Path, late: str) -> None:
    torch.set_num_threads(1)
    whole, killed = delayed_run(tmp_path / "whole", late), delayed_run(tmp_path / "killed", late)
    teacher, _, distilled = models_of(whole.experiment)
    for job in (teacher, distilled):
        want = whole.run(job)
        assert killed.process(job, "checkpoint.published:1") == -9
        assert same_weights(want, killed.run(job))
    assert whole.predictions().equals(killed.predictions())
    predictions = whole.predictions().filter(pl.col("model") == teacher.name)
    assert sorted(predictions["sample_id"]) == sorted(whole.rows["sample_id"])
    reported = [
        read_progress(ModelProgress, commit.metadata)
        for commit in PredictionLog.open(whole.folder.predictions).commits(-1)
    ]
    last = [progress for progress in reported if progress is not None and progress.end][0]
    assert 0 < last.sums.labels < 1500 and last.rows == 1500
    assert (last.missing.get("outcome late", 0) > 0) == (late == "ignore")
    assert of_second_task(whole, teacher) > -1  # -3 after the batch phase


def test_a_commit_without_samples_changes_nothing(tmp_path: Path) -> None:
    stream = Stream(tmp_path)
    stream.step([], [], outcomes_of([0], [1.0], [0]))
    stream.step([1], [np.nan], NONE)
    stream.step([12], [np.nan], NONE)
    assert stream.learned == [(0, 1.0, False)]


def test_a_sample_that_is_unlabelled_for_ever_is_predicted_and_never_learned(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    run = StreamRun(tmp_path / "run", experiment_of("labels.window_s=1.0e+9"), 1500)
    run.feed(ROWS, end=True, rows=run.rows[1500:].with_columns(label_click=pl.lit(None, pl.Float32)))
    state = run.run(models_of(run.experiment)[0]).state
    assert state["rows"] == 1500 and state["sums"].get("learned", 0) == 0
