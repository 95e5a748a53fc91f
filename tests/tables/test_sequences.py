"""What a service of its own may write of sequences into the events table, and what is refused."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from recdistill.errors import UserError
from recdistill.tables.events import EventLog
from recdistill.tables.schema import EventSchema

SCHEMA = EventSchema(("click",), sequences={"carts": True, "seen": False})
HOUR = 3_600_000_000


def rows(**changed: object) -> pl.DataFrame:
    columns = {
        "sample_id": [1, 2],
        "time": [10 * HOUR, 11 * HOUR],
        "user_id": [1, 2],
        "item_id": [3, 4],
        "sequence_carts": [[5, 6], None],
        "times_carts": [[HOUR, HOUR], None],
        "sequence_seen": [[], [7]],
        "label_click": [1.0, None],
        **changed,
    }
    return pl.DataFrame(columns, strict=False).cast(dict(SCHEMA.columns()))


def test_they_are_read_as_they_were_written(tmp_path: Path) -> None:
    log = EventLog.create(tmp_path / "e", SCHEMA)
    log.append(rows(), writer="t", sequence=0)
    assert EventLog.open(tmp_path / "e").schema == SCHEMA
    assert pl.concat(log.batches()).select(rows().columns).equals(rows(), null_equal=True)


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"times_carts": [[HOUR], None]}, "column 'times_carts': must have a time for each item"),
        ({"times_carts": [None, None]}, "column 'times_carts': must have a time for each item"),
        ({"times_carts": [[HOUR, 10 * HOUR], None]}, "column 'times_carts': must hold times before the row's own"),
        ({"times_carts": [[HOUR, HOUR - 1], None]}, "column 'times_carts': must ascend, the newest last"),
        ({"times_carts": [[HOUR, None], None]}, "column 'times_carts': an entry must not be empty"),
        ({"sequence_seen": [[], [None]]}, "column 'sequence_seen': an entry must not be empty"),
    ],
)
def test_what_is_wrong_is_refused_by_name(tmp_path: Path, changed: dict, problem: str) -> None:
    log = EventLog.create(tmp_path / "e", SCHEMA)
    with pytest.raises(UserError) as refused:
        log.append(rows(**changed), writer="t", sequence=0)
    assert problem in str(refused.value) and log.rows() == 0
