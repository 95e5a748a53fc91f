"""Logs without users or times: rows in the order given, alone or without histories, and nothing that needs them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recdistill.config.data import ColumnsConfig
from recdistill.config.load import load_text
from recdistill.data.readers.factory import open_log
from recdistill.data.store.sample_store import SampleStore, build_store
from recdistill.errors import UserError
from recdistill.evaluate.leak_probe import probe
from recdistill.tables.events import EventLog
from tests.data.readers.test_tabular import START, table, write
from tests.support.commands import typed

MODELS = """
teacher: {kind: pooled-mlp, width: 4, history: 5, batch: 100}
students: {light: {kind: pooled-mlp, width: 4, history: 5, batch: 100}}
evaluate: {seeds: [0], bootstrap: 20}
processes: 1
"""


def rows(count: int = 600) -> pl.DataFrame:
    """Return a log in no order of time, whose users and items stand in many rows."""
    draw = np.random.default_rng(0)
    return table(
        count,
        time=pl.Series(draw.permutation(count)),
        user_id=pl.Series(draw.integers(0, 9, count)),
        item_id=pl.Series(draw.integers(0, 5, count)),
        label=pl.Series(draw.integers(0, 2, count)),
        tags=pl.Series(["a"] * count),
    )


def stored(folder: Path, columns: ColumnsConfig, frame: pl.DataFrame) -> tuple[pl.DataFrame, SampleStore]:
    """Return the events of a log in chunks and its store."""
    config = load_text(f"name: x\ndata: {{path: {write(frame, folder)}}}").data
    log = open_log(config.model_copy(update={"columns": columns}), folder)
    events, chunks = EventLog.create(folder / "events", log.schema), list(log.batches())
    for sequence, chunk in enumerate(chunks):
        events.append(chunk, writer="t", sequence=sequence)
    return pl.concat(chunks), build_store(folder / "store", events, None)


@pytest.mark.parametrize("lacks", [("time",), ("user", "time")])
def test_rows_keep_their_order_and_have_no_histories(lacks: tuple[str, ...], tmp_path: Path) -> None:
    columns = ColumnsConfig(categorical=["device"]).model_copy(update=dict.fromkeys(lacks))
    found, store = stored(tmp_path, columns, rows())
    assert found["item_id"].to_list() == rows()["item_id"].to_list()
    assert found["time"].to_physical().diff().drop_nulls().unique().to_list() == [1]
    assert found["time"][0].isoformat() == "2000-01-01T00:00:00+00:00"
    users = list(range(600)) if "user" in lacks else rows()["user_id"].to_list()
    assert found["user_id"].to_list() == users
    assert len(store.histories.item) == 0
    assert store.users == (1 if "user" in lacks else 10)
    earlier = rows().select(pl.int_range(pl.len()).over("item_id")).to_series().to_list()
    assert store.counts[:, 2].tolist() == earlier
    assert store.counts[:, 0].any() == ("user" not in lacks)


def test_users_that_are_lacking_have_no_history_though_there_are_times(tmp_path: Path) -> None:
    columns = ColumnsConfig().model_copy(update={"user": None})
    found, store = stored(tmp_path, columns, rows().with_columns(time=START + pl.int_range(600)))
    assert found["user_id"].to_list() == list(range(600))
    assert len(store.histories.item) == 0 and not store.user.any() and not store.counts[:, :2].any()
    assert store.counts[:, 2].any()
    leaks = probe(store, EventLog.open(tmp_path / "events"), None, 0.5, "user", max_rows=200)
    assert 50 < leaks.rows < 150 and {rule.gauc for rule in leaks.rules} == {None}


@pytest.mark.parametrize("name", ["both", "time"])
def test_such_a_log_runs_to_its_report_and_says_what_is_withheld(name: str, tmp_path: Path) -> None:
    rows().write_csv(tmp_path / "log.csv")
    lacks = "user: null, time: null" if name == "both" else "time: null"
    text = f"name: x\ndata: {{path: log.csv, columns: {{{lacks}, categorical: [device]}}}}{MODELS}"
    (tmp_path / "x.yaml").write_text(text)
    code, printed = typed("run", tmp_path / "x.yaml", "--data", tmp_path, "--out", tmp_path / "run")
    assert code == 0, printed
    assert "warning: The log has no times: rows count in the order given" in printed
    assert ("warning: The log has no users: every row is alone" in printed) == (name == "both")
    assert ("eta (gauc) the log has no users" in printed) == (name == "both")
    assert "2000-01-01 to" not in printed
    report = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "the log has no times: rows count in the order given" in report
    rows().drop("label").write_parquet(tmp_path / "new.parquet")
    out = tmp_path / "p.csv"
    code, printed = typed("predict", tmp_path / "run", "light", "--data", tmp_path / "new.parquet", "--out", out)
    assert code == 0 and len(pl.read_csv(out)) == 600, printed
    code, printed = typed("stream", tmp_path / "x.yaml", "--data", tmp_path, "--out", tmp_path / "live")
    assert (code, printed.count("\n")) == (2, 1) and f"{lacks}: a stream needs users and times" in printed


@pytest.mark.parametrize(
    ("data", "more", "fault"),
    [
        ("columns: {time: null, label_times: {click: at}}", "", "label_times, time_unit: need the rows' times"),
        ("columns: {time: null, time_unit: ms}", "", "label_times, time_unit: need the rows' times"),
        ("columns: {user: null, request: list}", "", "user: list"),
        ("columns: {user: null}, behaviors: {path: b.csv}", "", "behaviors: needs users and times"),
        ("columns: {time: null}, negatives: {}", "", "negatives: needs users and times"),
        ("columns: {time: null}, sort: true", "", "sort: sorts by time"),
        ("columns: {time: null}", "labels: {window_s: 60}", "labels.window_s: needs what the log does not have"),
        ("columns: {time: null}", "teacher_hidden: {width: 8}", "teacher_hidden.width: needs what the log"),
        (
            "columns: {time: null, sequences: {carts: {items: cart, times: at}}}",
            "",
            "sequences: times are held against the rows' own",
        ),
        (
            "columns: {sequences: {history: {items: cart}}}",
            "teacher: {kind: hstu, pretrain: {at: 0.5}}",
            "pretrain: learns from what users did over the log, and rows bring their own histories",
        ),
        ("columns: {user: null}", "crossfit: {by: user}", "crossfit.by: needs what the log does not have"),
    ],
)
def test_what_needs_users_or_times_is_refused_in_one_line(data: str, more: str, fault: str) -> None:
    with pytest.raises(UserError) as caught:
        load_text(f"name: x\ndata: {{path: log.csv, {data}}}\n{more}")
    assert fault in str(caught.value) and "\n" not in str(caught.value)
