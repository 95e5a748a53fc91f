"""What the events, behaviors and outcomes tables take beyond the contract of every table."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from recdistill.errors import UserError
from recdistill.tables.events import BehaviorLog, EventLog, OutcomeLog
from recdistill.tables.schema import EventSchema
from tests.support.tables import SCHEMA, events, ids_of, make_events, outcomes


def test_a_table_knows_the_schema_it_was_made_with(tmp_path: Path) -> None:
    schema = EventSchema(("click",), keep_rates={"click": (1.0, 0.25)})
    EventLog.create(tmp_path / "t", schema)
    assert EventLog.open(tmp_path / "t").schema == schema


def test_an_id_is_looked_for_unless_the_caller_has_made_sure(tmp_path: Path) -> None:
    log = make_events(tmp_path / "t", [range(5)])
    with pytest.raises(UserError, match="3 is in the table already"):
        log.append(events([3]), writer="w", sequence=1)
    log.append(events([3]), writer="w", sequence=1, new_ids=True)
    assert ids_of(log.batches()) == [0, 1, 2, 3, 4, 3]


def test_a_sample_may_have_several_outcomes_of_known_tasks(tmp_path: Path) -> None:
    log = OutcomeLog.create(tmp_path / "t", SCHEMA)
    assert log.tasks == ("click",)
    log.append(outcomes([7, 7]).with_columns(label=pl.Series([0.0, 1.0], dtype=pl.Float32)), writer="w", sequence=0)
    assert [row["label"] for row in pl.concat(log.batches()).to_dicts()] == [0.0, 1.0]
    for change, message in (
        (pl.lit("buy").alias("task"), "column 'task': must be one of click; got 'buy'"),
        (pl.lit(0.5, pl.Float32).alias("label"), "column 'label': must be 0 or 1; got 0.5"),
    ):
        with pytest.raises(UserError, match=f"^late.csv: row 0, {message}"):
            log.append(outcomes([8]).with_columns(change), writer="w", sequence=1, source="late.csv")


def test_behaviors_have_the_samples_id_types(tmp_path: Path) -> None:
    log = BehaviorLog.create(tmp_path / "t", EventSchema(("click",), user_id="string"))
    assert log.types["user_id"] == pl.String and log.types["item_id"] == pl.Int64
