"""Times are those that were written, by the unit that fits, and a label that is never known is never known at once."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recdistill.config.load import load_text
from recdistill.data.store.sample_store import build_store
from recdistill.errors import UserError
from recdistill.runs.batch_ingest import ingest
from recdistill.runs.folder import RunFolder
from recdistill.tables.events import BehaviorLog, EventLog
from tests.support.written import START, log_with, opened, read, refusal, write

FORMS = pytest.mark.parametrize("form", ["parquet", "csv"])
AT = datetime.fromtimestamp(START, UTC)


@FORMS
@pytest.mark.parametrize(
    ("unit", "values", "found"),
    [
        ("%y%m%d%H", [14102100, 14102123], [datetime(2014, 10, 21), datetime(2014, 10, 21, 23)]),
        ("%y%m%d%H", [9010100, 9010101], [datetime(2009, 1, 1), datetime(2009, 1, 1, 1)]),
        ("%Y%m%d", [20141021, 20141022], [datetime(2014, 10, 21), datetime(2014, 10, 22)]),
        ("%d/%b/%Y:%H", ["21/Oct/2014:05", "21/Oct/2014:06"], [datetime(2014, 10, 21, 5), datetime(2014, 10, 21, 6)]),
        ("%Y-%m-%d %H:%M:%S %z", ["2014-10-21 02:00:00 +0200"] * 2, [datetime(2014, 10, 21)] * 2),
        ("iso", ["2014-10-21", "2014-10-21 10:00"], [datetime(2014, 10, 21), datetime(2014, 10, 21, 10)]),
        ("iso", ["2014-10-21 10:00:00.1 UTC", "2014-10-21T10:00:00.123456789Z"],
         [datetime(2014, 10, 21, 10, 0, 0, 100_000), datetime(2014, 10, 21, 10, 0, 0, 123_456)]),
        ("ns", [START * 10**9 + 1_999, START * 10**9 + 2_001], [AT + timedelta(microseconds=k) for k in (1, 2)]),
        ("us", [START * 10**6 + 1, START * 10**6 + 2], [AT + timedelta(microseconds=k) for k in (1, 2)]),
        ("s", [START + 0.5, START + 0.25 + 1], [AT + timedelta(seconds=k) for k in (0.5, 1.25)]),
        ("s", [Decimal(f"{START}.{k}") for k in ("900000", "900001")],
         [AT + timedelta(microseconds=k) for k in (900_000, 900_001)]),
    ],
)  # fmt: skip
def test_every_unit_and_pattern(unit: str, values: list, found: list[datetime], form: str, tmp_path: Path) -> None:
    rows = read(log_with(2, time=values), tmp_path, form, time_unit=unit)
    assert [one.replace(tzinfo=None) for one in rows["time"]] == [one.replace(tzinfo=None) for one in found]


@FORMS
@pytest.mark.parametrize(
    ("unit", "scale", "fits"),
    [("s", 10**3, "ms"), ("s", 10**6, "us"), ("s", 10**9, "ns"), ("ms", 1, "s"), ("us", 1, "s"), ("us", 10**3, "ms"),
     ("iso", 1, "s"), ("%Y-%m-%d", 10**3, "ms"), ("ns", 1, "s")],
)  # fmt: skip
def test_a_unit_that_does_not_fit_is_refused_by_the_one_that_does(
    unit: str, scale: int, fits: str, form: str, tmp_path: Path
) -> None:
    at = (START + pl.int_range(4, eager=True)) * scale
    refusal(log_with(time=at), tmp_path, ["column 'time'", f"by time_unit '{unit}'", f"set time_unit: '{fits}'",
                                          "2023-11-14"], form, time_unit=unit)  # fmt: skip
    assert read(log_with(time=at), tmp_path, form, time_unit=fits)["time"][0] == AT


@pytest.mark.parametrize(
    ("values", "fits"),
    [([14102100, 14102101], "%y%m%d%H"), ([20141021, 20141022], "%Y%m%d"), ([2014102100, 2014102101], "%Y%m%d%H"),
     ([20141021000000, 20141021000001], "%Y%m%d%H%M%S"), ([141021, 141022], "%y%m%d")],
)  # fmt: skip
def test_dates_written_as_numbers_are_no_seconds(values: list[int], fits: str, tmp_path: Path) -> None:
    refusal(log_with(2, time=values), tmp_path, [f"set time_unit: '{fits}', by which they lie around 2014-10-21"])


def test_times_from_a_logs_own_start_pass_and_missing_ones_among_real_ones_do_not(tmp_path: Path) -> None:
    assert read(log_with(time=[0, 5, 10, 700]), tmp_path)["time"][3] == datetime(1970, 1, 1, 0, 11, 40, tzinfo=UTC)
    refusal(log_with(time=[0, 0, START, START]), tmp_path, ["row 2, column 'time': the rows before it lie in 1970"])
    for missing in (-1, -1000, None):
        frame = log_with(time=[missing, START, START + 1, START + 2])
        refusal(frame, tmp_path, ["row 0, column 'time'", "data.drop_missing: true leaves such rows out"])


@FORMS
def test_rows_without_a_time_user_or_item_are_left_out_on_request(form: str, tmp_path: Path) -> None:
    frame = log_with(5, time=[START, None, -1, START + 1, START + 2], user_id=[1, 2, 3, None, 5])
    log = opened(frame, tmp_path, form, more={"drop_missing": True})
    rows = pl.concat(log.batches())
    assert rows["user_id"].to_list() == [1, 5] and rows["sample_id"].to_list() == [0, 1]
    assert log.notes() == ["drop_missing: 3 rows without user, item or usable time left out"]


@pytest.mark.parametrize("unit", ["sec", "seconds", "%Q%", "%Z %Y-%m-%d", "%Y"])
def test_a_unit_that_is_none_is_a_clear_line(unit: str, tmp_path: Path) -> None:
    refusal(log_with(time=["x"] * 4), tmp_path, ["time_unit"], time_unit=unit)


NEVER = {
    "us": ([datetime(9999, 12, 31, 23, 59, 59)] * 2, "s"),
    "far": ([datetime(2099, 12, 31)] * 2, "s"),
    "date": ([date(9999, 12, 31)] * 2, "s"),
    "minus": ([-1, -1], "s"),
    "minus ms": ([-1.0, float("nan")], "ms"),
    "text": (["9999-12-31", ""], "iso"),
    "mysql": (["0000-00-00 00:00:00", "1969-12-31 23:59:59"], "iso"),
    "int96": ("int96", "s"),
    "huge": ([2**62, 10**17], "us"),
}


@pytest.mark.parametrize("name", NEVER)
@pytest.mark.parametrize("window", [None, 3600])
def test_a_label_that_is_never_known_is_refused_or_waited_for(name: str, window: int | None, tmp_path: Path) -> None:
    """Taken as known at once, the negatives' outcomes would be in the histories before their time."""
    values, unit = NEVER[name]
    frame = log_with(2, label=[0, 0], time=[AT.replace(tzinfo=None)] * 2)
    if values == "int96":
        whole = pa.table({"known": pa.array([datetime(9999, 12, 31)] * 2, pa.timestamp("us"))})
        pq.write_table(whole, tmp_path / "k.parquet", use_deprecated_int96_timestamps=True, store_schema=False)
        values = pl.read_parquet(tmp_path / "k.parquet")["known"]
    write(frame.with_columns(known=pl.Series(values, strict=False)), tmp_path, "parquet")
    experiment = load_text(f"""
        name: t
        data: {{path: log.parquet, columns: {{time_unit: {unit}, label_times: {{click: known}}}}}}
        labels: {{window_s: {"null" if window is None else window}}}
        students: {{light: {{kind: pooled-mlp}}}}
    """)
    lines: list[str] = []
    if window is None:
        with pytest.raises(UserError, match="row 0, column 'known': is empty, before 1970 or in the future .*window_s"):
            ingest(RunFolder(tmp_path / "run"), experiment, tmp_path, lambda rows: None, lines.append)
        return
    ingest(RunFolder(tmp_path / "run"), experiment, tmp_path, lambda rows: None, lines.append)
    rows = pl.concat(EventLog.open(tmp_path / "run" / "tables" / "events").batches())
    assert rows["label_time_click"].to_list() == [None, None]
    assert lines and lines[0].startswith("'known': ")


def test_a_label_time_long_before_its_row_is_refused(tmp_path: Path) -> None:
    write(log_with(2, label=[0, 0], known=[0, 0]), tmp_path, "parquet")
    experiment = load_text("""
        name: t
        data: {path: log.parquet, columns: {label_times: {click: known}}}
        students: {light: {kind: pooled-mlp}}
    """)
    with pytest.raises(UserError, match="row 0, column 'known': lies more than a day before its row"):
        ingest(RunFolder(tmp_path / "run"), experiment, tmp_path, lambda rows: None, lambda line: None)


@pytest.mark.parametrize(
    ("known", "unit"), [([date(2023, 11, 14)], "s"), (["2023-11-14"], "iso"), (["2023-11-14"], "%Y-%m-%d")]
)
def test_a_label_known_on_a_day_is_known_when_it_is_over(known: list[object], unit: str, tmp_path: Path) -> None:
    frame = log_with(1, time=[AT.replace(tzinfo=None)], known=known)
    rows = read(frame, tmp_path, time_unit=unit, label_times={"click": "known"})
    assert rows["label_time_click"].to_list() == [datetime(2023, 11, 15, tzinfo=UTC)]


def test_a_behavior_of_a_day_is_known_to_the_next_days_samples_alone(tmp_path: Path) -> None:
    frame = log_with(2, time=[AT.replace(tzinfo=None), datetime(2023, 11, 15)], user_id=[0, 0])
    acted = pl.DataFrame({"time": [date(2023, 11, 14)], "user_id": [0], "item_id": [0]})
    log = opened(frame, tmp_path, behaviors=(acted, "parquet"))
    events = EventLog.create(tmp_path / "events", log.schema)
    behaviors = BehaviorLog.create(tmp_path / "behaviors", log.schema)
    assert log.behaviors is not None
    events.append(pl.concat(log.batches()), writer="w", sequence=0)
    behaviors.append(pl.concat(log.behaviors()), writer="w", sequence=0)
    store = build_store(tmp_path / "store", events, behaviors)
    assert store.history_lengths(np.arange(2)).tolist() == [0, 1]
