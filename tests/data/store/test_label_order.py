"""When labels count: against brute force, sample by sample, and against what the stream decides of the same log."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.config.data import LabelsConfig
from recdistill.data.store import label_order
from recdistill.data.store.label_order import NEVER, SHARE_ROWS, LabelClock, LabelOrder, write_order
from recdistill.data.store.live_store import LiveStore
from recdistill.data.store.piles import in_order
from recdistill.stream.workers.delayed_labels import DelayedLabels
from recdistill.tables.schema import EventSchema

SECOND, WINDOW = 1_000_000, 10
TASKS = ("click", "buy")
Found = tuple[np.ndarray, np.ndarray, np.ndarray]


@st.composite
def logs(draw: st.DrawFn) -> Found:
    """Return (time [N] us, labels [N, 2], known [N, 2] us): some labels missing, some known at no time."""
    rows = draw(st.integers(1, 30))
    time = np.cumsum(draw(st.lists(st.integers(0, 4), min_size=rows, max_size=rows)))
    cells = draw(
        st.lists(
            st.tuples(st.sampled_from([0.0, 1.0, np.nan]), st.integers(0, 40)), min_size=2 * rows, max_size=2 * rows
        )
    )
    labels = np.array([label for label, _ in cells], np.float32).reshape(rows, 2)
    delay = np.array([delay for _, delay in cells]).reshape(rows, 2)
    known = np.where(delay == 40, NEVER, (time[:, None] + delay) * SECOND)
    return time * SECOND, labels, known


def order_of(clock: LabelClock, log: Found) -> LabelOrder | None:
    with TemporaryDirectory() as folder:
        write_order(Path(folder), clock, *log)
        return LabelOrder.open(Path(folder))


@given(logs())
def test_a_sample_is_learned_once_when_the_last_of_its_labels_was_known(log: Found) -> None:
    time, labels, known = log
    order = order_of(LabelClock(), log)
    want = [max([t, *(k[~np.isnan(y)])]) for t, y, k in zip(time, labels, known, strict=True)]
    if order is None:
        assert want == time.tolist()
        return
    assert sorted(order.rows.tolist()) == list(range(len(time))) and (order.late == -1).all()
    assert [want[row] for row in order.rows] == order.at.tolist() == sorted(want)


@given(logs(), st.integers(0, 200))
def test_what_a_sample_teaches_is_what_was_known_before(log: Found, second: int) -> None:
    time, labels, known = log
    now = second * SECOND
    for late in ("update", "ignore"):
        found, may = LabelClock(WINDOW * SECOND, late).as_of(time, labels, known, now)
        for k in range(len(time)):
            end = time[k] + WINDOW * SECOND
            assert may[k] == (end < now)
            until = min(end, now - 1) if late == "ignore" else now - 1
            assert not may[k] or found[k].tolist() == [
                float(y == 1 and t <= until) for y, t in zip(labels[k], known[k], strict=True)
            ]


class Stream:
    """The stream's own decisions: samples come one by one, outcomes once they are known."""

    def __init__(self, folder: Path, late: str) -> None:
        self.store = LiveStore(folder, EventSchema(TASKS), None, behaviors=False)
        self.delayed = DelayedLabels(LabelsConfig(window_s=WINDOW, late=late), 1e6, len(TASKS))  # type: ignore[arg-type]

    def arrives(self, row: int, time: int, outcomes: pl.DataFrame) -> list[tuple[int, tuple[float, ...], bool]]:
        sample = {
            "sample_id": [row],
            "time": [time],
            "user_id": [0],
            "item_id": [1],
            "label_click": [None],
            "label_buy": [None],
        }
        frame = pl.DataFrame(sample).with_columns(
            pl.col("time").cast(pl.Datetime("us", "UTC")), pl.col("label_click", "label_buy").cast(pl.Float32)
        )
        self.store.add(frame, label_status=np.zeros((1, len(TASKS)), np.int8))
        self.delayed.arrived(self.store, 1)
        self.delayed.decide(self.store, outcomes)
        taken = self.delayed.take(10**6)
        return sorted(
            (int(at), tuple(np.nan_to_num(labels, nan=-1).tolist()), bool(again))
            for at, labels, again in zip(*taken.values(), strict=True)
        )

    def counts(self) -> list[list[int]]:
        """Return [labels, positives] of the user and of the item, as the next sample of the same time will see them."""
        store, found = self.store, []
        for side, counts in store.outcomes.items():
            counts.release(store.newest)
            found.append(counts.before(store.rows[side][-1:], store.time[-1:])[0].tolist())
        return found


def outcomes_of(log: Found) -> pl.DataFrame:
    """Return the positives that are known at some time, in order of it."""
    _, labels, known = log
    of, task = np.nonzero((labels == 1) & (known < NEVER))
    columns = {
        "sample_id": of,
        "task": task.astype(np.int8),
        "label": np.ones(len(of), np.float32),
        "time": known[of, task],
    }
    return pl.DataFrame(columns).sort("time", maintain_order=True)


def learned_of(
    clock: LabelClock, log: Found, order: LabelOrder, low: int, high: int
) -> list[tuple[int, tuple[float, ...], bool]]:
    """Return what the batch phase learns of the order's entries [low, high)."""
    time, labels, known = log
    out = []
    for row, at, task in zip(order.rows[low:high], order.at[low:high], order.late[low:high], strict=True):
        (taught,), _ = clock.as_of(time[[row]], labels[[row]], known[[row]], at + 1)
        alone = np.where(np.arange(len(taught)) == task, taught, -1) if task >= 0 else taught
        out.append((int(row), tuple(alone.tolist()), bool(task >= 0)))
    return sorted(out)


def counts_of(clock: LabelClock, log: Found) -> np.ndarray:
    """Return [N, 2]: labels and positives of the first task known before each sample, all of one user and one item."""
    time, labels, known = log
    _, since, added = clock.counted(time, labels[:, 0], known[:, 0])
    return np.array([added[since < now].sum(0) for now in time])


@settings(deadline=None)
@given(logs(), st.sampled_from(["update", "ignore"]))
def test_the_batch_phase_learns_what_the_stream_learns_of_the_same_log(log: Found, late: str) -> None:
    clock = LabelClock(WINDOW * SECOND, late)  # type: ignore[arg-type]
    order, outcomes, sent, done = order_of(clock, log), outcomes_of(log), 0, 0
    counts = counts_of(clock, log)
    assert order is not None
    with TemporaryDirectory() as folder:
        stream = Stream(Path(folder), late)
        for row, time in enumerate(log[0].tolist()):
            known = int((outcomes["time"] < time).sum())
            found = stream.arrives(row, time, outcomes[sent:known])
            ready = order.known_before(time)
            assert found == learned_of(clock, log, order, done, ready)
            assert stream.counts() == 2 * [counts[row].tolist()]
            sent, done = known, ready


@given(logs())
def test_histories_show_an_outcome_when_it_was_known(log: Found) -> None:
    time, labels, known = log
    of, since, action = LabelClock(WINDOW * SECOND).history_events(time, labels[:, 0], known[:, 0])
    want = []
    for k in range(len(time)):
        end, positive = time[k] + WINDOW * SECOND, labels[k, 0] == 1 and known[k, 0] < NEVER
        want += [(k, min(known[k, 0], end), 1)] if positive and known[k, 0] <= end else [(k, end, 0)]
        want += [(k, known[k, 0], 1)] if positive and known[k, 0] > end else []
    assert sorted(zip(of.tolist(), since.tolist(), action.tolist(), strict=True)) == sorted(want)


def test_labels_that_come_with_their_samples_need_no_order() -> None:
    time = np.arange(5) * SECOND
    assert order_of(LabelClock(), (time, np.zeros((5, 2), np.float32), np.repeat(time[:, None], 2, 1))) is None


def test_late_positives_have_the_share_of_those_before_them() -> None:
    draw, rows = np.random.default_rng(0), 3 * SHARE_ROWS
    time = np.arange(rows) * SECOND
    labels = (draw.random((rows, 2)) < 0.5).astype(np.float32)
    known = time[:, None] + draw.integers(0, 2 * WINDOW, (rows, 2)) * SECOND
    clock = LabelClock(WINDOW * SECOND, "weight")
    order = order_of(clock, (time, labels, known))
    assert order is not None and order.late_share_at(SHARE_ROWS - 1).tolist() == [0, 0]  # type: ignore[union-attr]
    before = 2 * SHARE_ROWS
    first = clock.as_of(*(part[order.rows[:before]] for part in (time, labels, known)), order.at[:before] + 1)[0]
    for task in (0, 1):
        late = int((order.late[:before] == task).sum())
        want = late / (late + int((first[order.late[:before] < 0, task] == 1).sum()))
        assert abs(order.late_share_at(before)[task] - want) < 1e-6  # type: ignore[index]


@pytest.mark.parametrize("late", ["update", "weight"])
@pytest.mark.parametrize("window", [None, WINDOW * SECOND])
def test_the_order_is_the_same_to_the_bit_where_it_is_sorted_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: Literal["update", "weight"], window: int | None
) -> None:
    draw, rows = np.random.default_rng(0), 3 * SHARE_ROWS
    time = np.sort(draw.integers(0, 500, rows)) * SECOND
    labels = draw.integers(0, 2, (rows, 2)).astype(np.float32)
    known = time[:, None] + draw.integers(0, 3 * WINDOW, (rows, 2)) * SECOND
    for name, most in (("memory", 10 * rows), ("disk", 700)):
        monkeypatch.setattr(label_order, "in_order", partial(in_order, limit=most))
        monkeypatch.setattr(label_order, "CHUNK", most)
        write_order(tmp_path / name, LabelClock(window, late), time, labels, known)
    files = sorted(path.name for path in (tmp_path / "memory").iterdir())
    assert len(files) == 4
    for name in files:
        assert (tmp_path / "memory" / name).read_bytes() == (tmp_path / "disk" / name).read_bytes()
    order = LabelOrder.open(tmp_path / "disk")
    assert order is not None and (len(order.late_share) > 1) == (late == "weight")
