"""Which samples are taken: the same ones whether the process remembers or has read the table, and however they come."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.stream.ingest import earlier
from recdistill.stream.ingest.admission import AdmissionFilter
from recdistill.stream.ingest.dedupe import Recent
from recdistill.stream.ingest.earlier import Earlier
from recdistill.tables.schema import EventSchema
from tests.support.tables import events, make_events

DAY = 86_400


def test_what_the_table_holds_within_the_bound_is_known_after_a_restart(tmp_path: Path) -> None:
    admission = AdmissionFilter(make_events(tmp_path / "t", [range(15), range(15, 35)]), 2 * DAY, 0)
    taken, reasons, dropped = admission.split(events([15, 18, 34, 35, 3]))
    assert taken.tolist() == [False, False, False, True, False]
    assert dropped == {"invalid": 0, "late": 1, "again": 0, "relabelled": 0, "duplicate": 3}
    assert reasons.null_count() == 4 and "stream.late_s" in reasons[4]


@pytest.mark.parametrize("restarted", [False, True])
def test_an_id_of_before_the_bound_is_not_taken_again(tmp_path: Path, restarted: bool) -> None:
    """As of a producer that counts from 0, as the rows of the batch phase were counted."""
    log = make_events(tmp_path / "t", [range(15), range(15, 35)])
    admission = AdmissionFilter(log, 2 * DAY, 0)
    later = events(range(60, 64))
    assert admission.split(later)[0].all()
    log.append(later, writer="w", sequence=2)
    if restarted:
        admission = AdmissionFilter(log, 2 * DAY, 0)
    taken, reasons, dropped = admission.split(events([64, 65, 66]).with_columns(sample_id=pl.Series([3, 1000, 3])))
    assert taken.tolist() == [False, True, False] and dropped["again"] == 2
    assert [reason is not None and "each sample have an id of its own" in reason for reason in reasons] == [
        True,
        False,
        True,
    ]


def test_of_ids_that_lie_far_apart_nothing_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = events(range(15)).with_columns(sample_id=pl.int_range(15) * 10**6)
    log = make_events(tmp_path / "t")
    log.append(hashes, writer="w", sequence=0)
    admission = AdmissionFilter(log, 2 * DAY, 0)
    monkeypatch.setattr(earlier, "read_parts", None)
    assert admission.split(events([60]))[0].all() and admission.split(events([61]))[0].all()


def test_memory_is_bounded_by_event_time(tmp_path: Path) -> None:
    admission = AdmissionFilter(make_events(tmp_path / "t"), 2 * DAY, 0)
    for first in range(0, 2000, 50):
        assert admission.split(events(range(first, first + 50)))[0].all()
    assert 20 <= len(admission.recent) <= 80  # ten samples a day


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 60), st.booleans()), max_size=60),
    st.lists(st.integers(1, 20), min_size=1, max_size=60),
)
def test_the_same_rows_are_taken_however_they_are_cut(drawn: list[tuple[int, bool]], cuts: list[int]) -> None:
    rows = pl.concat([events([]), *(events([k], label=float(label)) for k, label in drawn)])
    want, met, newest = [], dict[int, float](), -(10**20)
    for k, time, label in zip(rows["sample_id"], rows["time"].to_physical(), rows["label_click"], strict=True):
        late = time < newest - 2 * DAY * 1_000_000
        newest = max(newest, time)
        want.append("late" if late else "taken" if k not in met else "duplicate" if met[k] == label else "relabelled")
        if not late:
            met.setdefault(k, label)
    admission, counted, taken = _empty_filter(), dict[str, int](), list[bool]()
    for cut in [*cuts, len(rows)]:
        part, _, dropped = (
            admission.split(rows[len(taken) : len(taken) + cut]) if len(taken) < len(rows) else (np.zeros(0), None, {})
        )
        taken += [bool(one) for one in part]
        counted = {cause: counted.get(cause, 0) + dropped.get(cause, 0) for cause in {**counted, **dropped}}
    assert taken == [what == "taken" for what in want]
    assert {cause: counted.get(cause, 0) for cause in ("late", "duplicate", "relabelled")} == {
        cause: want.count(cause) for cause in ("late", "duplicate", "relabelled")
    }


def _empty_filter() -> AdmissionFilter:
    admission = AdmissionFilter.__new__(AdmissionFilter)
    admission.earlier = Earlier.__new__(Earlier)
    admission.earlier._bound, admission.earlier._width, admission.earlier._span = 2**62, 1, 0
    admission.earlier._ranges = np.zeros((0, 2), np.int64)
    admission.schema = EventSchema(tasks=("click",))
    admission.tasks, admission.late, admission.recent, admission.watermark = (
        ("click",),
        2 * DAY * 1_000_000,
        Recent(2 * DAY * 1_000_000),
        -(2**62),
    )
    return admission
