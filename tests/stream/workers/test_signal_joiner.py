"""The joiner: signals before, after, twice, never; each joined by id and version, used only when approved,
counted otherwise.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recdistill.data.store.live_store import LiveStore
from recdistill.stream.progress import ModelProgress, to_metadata
from recdistill.stream.workers import signal_joiner
from recdistill.stream.workers.signal_joiner import SignalJoiner, empty_columns
from recdistill.tables.predictions import PredictionLog
from recdistill.tables.verdicts import VerdictLog
from tests.support.tables import SCHEMA, events, logit, said

WAIT = 5.0  # seconds; ids are a second apart within a day


class Table:
    """A predictions and a verdicts table, a live store and the joiner between them."""

    def __init__(self, root: Path, wait: float = WAIT) -> None:
        self.predictions = PredictionLog.create(root / "p", SCHEMA.tasks)
        self.verdicts = VerdictLog.create(root / "v")
        self.store = LiveStore(root / "live", SCHEMA, None, behaviors=False)
        self.joiner = SignalJoiner(root / "p", root / "v", 1, wait, "teacher")
        self.sequence = 0

    def samples(self, ids: list[int]) -> None:
        self.store.add(events(ids), **empty_columns(len(ids), 1, 0))
        self.joiner.arrived(self.store, len(ids))

    def predict(
        self, ids: list[int], version: int = 1, model: str = "teacher", kind: str = "prequential", end: bool = False
    ) -> None:
        self.sequence += 1
        rows = said(ids).with_columns((pl.col("logit_click") + 1000 * version).cast(pl.Float32))
        self.predictions.append(
            rows,
            model=model,
            version=version,
            kind=kind,
            writer=model,
            sequence=self.sequence,  # type: ignore[arg-type]
            metadata=to_metadata(ModelProgress(end=end)),
            new_samples=True,
        )

    def verdict(
        self, verdict: str, version: int = 1, rows: int = 10**6, model: str = "teacher", **more: object
    ) -> None:
        self.sequence += 1
        row = VerdictLog.row(model, version, verdict, rows=rows, **more)  # type: ignore[arg-type]
        self.verdicts.append(row, writer="gate", sequence=self.sequence)

    def ready(self, newest: int = 0) -> int:
        self.joiner.update()
        while self.joiner.read(self.store):
            continue
        self.joiner.decide(self.store)
        return self.joiner.ready(self.store, newest)

    def signals(self) -> list[float | None]:
        values = self.store.rows["signals"][:, 0].tolist()
        return [None if value != value else value for value in values]


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(tmp_path)


def of(ids: list[int], version: int = 1) -> list[float]:
    return (logit(pl.Series(ids)) + 1000 * version).to_list()


def test_samples_wait_for_their_signals_and_signals_for_their_samples(table: Table) -> None:
    table.verdict("approved")
    table.samples([0, 1, 2])
    assert table.ready() == 0
    table.predict([2, 0])
    assert table.ready() == 1  # sample 1 holds up the ones after it
    table.predict([5, 1, 4])
    assert table.ready() == 3 and table.signals() == of([0, 1, 2])
    table.samples([3, 4, 5])
    assert table.ready() == 3 and table.signals()[4:] == of([4, 5])
    table.predict([3])
    assert table.ready() == 6 and table.signals() == of(list(range(6)))


def test_no_signal_is_used_before_the_gate_has_approved_it(table: Table) -> None:
    table.samples([0, 1, 2])
    table.predict([0, 1, 2])
    assert table.ready() == 0
    table.verdict("approved", rows=2)
    assert table.ready() == 2
    table.verdict("quarantined")
    assert table.ready() == 3 and table.signals() == [None] * 3
    counted = table.joiner.count(table.store, np.arange(3))
    assert not counted and table.joiner.missing["quarantined"] == 3


def test_a_sample_is_given_up_when_its_teacher_has_gone_on_without_it(table: Table) -> None:
    table.verdict("approved")
    table.samples([0, 1, 2, 3, 9])
    table.predict([9])
    assert table.ready() == 5 and table.signals() == [None] * 4 + of([9])  # samples 0 to 3 are more than WAIT older


def test_a_teacher_that_is_only_behind_is_waited_for(table: Table) -> None:
    table.samples([0, 1])
    assert table.ready(int(table.store.rows["time"][0]) + 10**12) == 0


def test_a_silent_teacher_is_waited_for_and_its_signal_counted_as_late(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signal_joiner, "SILENT", -1.0)
    table.verdict("approved")
    table.samples([0, 1, 2, 3])
    start = int(table.store.rows["time"][0])
    assert table.ready(start + 5_000_000) == 0
    assert table.ready(start + 6_500_000) == 2
    table.joiner.count(table.store, np.arange(2))
    table.joiner.forget(table.store, 2)
    table.store.drop(2)
    table.predict([1])
    assert table.ready() == 0
    assert table.joiner.missing["absent"] == 2 and table.joiner.missing["signal late"] == 1


def test_a_signal_that_no_sample_claims_is_forgotten_and_counted(table: Table) -> None:
    table.verdict("approved")
    table.predict([1])
    table.samples([0])
    table.ready()
    assert len(table.joiner.early["sample_id"]) == 1
    table.samples([9])
    table.joiner.forget(table.store, 1)
    assert table.joiner.missing["signal unknown"] == 1 and len(table.joiner.early["sample_id"]) == 0


def test_when_the_teachers_have_ended_nobody_waits_for_them(table: Table) -> None:
    table.verdict("approved")
    table.samples([0, 1])
    table.predict([1], end=True)
    assert table.ready() == 2 and table.signals() == [None, *of([1])]


def test_a_new_teacher_takes_over_from_its_time_on(table: Table) -> None:
    times = events([3])["time"]
    for model in ("teacher", "teacher-two"):
        table.verdict("approved", model=model)
        table.verdict("approved", 2, model=model)
    table.verdict("active", 2, model="teacher-two", from_time=times[0])
    table.samples([0, 1, 2, 3, 4])
    table.predict([0, 1, 2, 3, 4])
    table.predict([0, 1, 2, 3, 4], version=2, model="teacher-two")
    assert table.ready() == 5 and table.signals() == [*of([0, 1, 2]), *of([3, 4], 2)]
    assert dict(table.joiner.count(table.store, np.arange(5))) == {("teacher", "1"): 3, ("teacher-two", "2"): 2}


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**32), st.integers(1, 30), st.integers(0, 3))
def test_whatever_comes_when_every_signal_is_its_samples(
    tmp_path_factory: pytest.TempPathFactory, seed: int, n: int, steps: int
) -> None:
    draw = np.random.default_rng(seed)
    table = Table(tmp_path_factory.mktemp("t"), 1e9)
    table.verdict("approved")
    samples, signals = np.sort(draw.permutation(60)[:n]), draw.permutation(60)[:n]
    for mine, theirs in zip(np.array_split(samples, steps + 1), np.array_split(signals, steps + 1), strict=True):
        first = draw.random() < 0.5
        if first and len(mine):
            table.samples(mine.tolist())
        if len(theirs):
            table.predict(theirs.tolist())
        if not first and len(mine):
            table.samples(mine.tolist())
        table.ready()
    got = dict(zip(table.store.rows["sample_id"].tolist(), table.signals(), strict=True))
    both = sorted(set(got) & set(signals.tolist()))
    assert [got[k] for k in both] == of(both)
    assert all(got[k] is None for k in set(got) - set(both))
