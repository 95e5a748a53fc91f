"""A user's columns may have any name: none meets a column of the tables, and one column may serve twice."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from recdistill.config.data import ColumnsConfig, DataConfig
from recdistill.data.batch.domain import rows_of_domain
from recdistill.data.readers.factory import open_log
from recdistill.data.store.sample_store import SampleStore, build_store
from recdistill.data.store.vocabulary import Vocabulary
from recdistill.errors import UserError
from recdistill.tables.events import EventLog
from recdistill.tables.schema import EventSchema, feature_column

OWN = ["date", "time", "user_id", "item_id", "sample_id", "request_id", "label_click", "label_time_click", "version"]
BUILT_IN = ["hour", "history", "user", "item", "row", "row number", "index", "v", "feature_date", "a", "a=b", '"']


def stored(folder: Path, rows: pl.DataFrame, **columns: object) -> tuple[pl.DataFrame, EventSchema, SampleStore]:
    """Return the events, schema and store of a log whose own columns are ts, who, what and y."""
    rows.write_parquet(folder / "log.parquet")
    mapping = ColumnsConfig(time="ts", user="who", item="what", tasks={"click": "y"}, **columns)
    log = open_log(DataConfig(path="log.parquet", columns=mapping), folder)
    events = EventLog.create(folder / "events", log.schema)
    for sequence, chunk in enumerate(log.batches()):
        events.append(chunk, writer="test", sequence=sequence)
    return pl.concat(events.batches()), log.schema, build_store(folder / "store", events, None)


def log_with(**more: list[object]) -> pl.DataFrame:
    return pl.DataFrame({"ts": [1_700_000_000 + k for k in range(4)], "who": [3, 4] * 2, "what": [7] * 4, **more})


@pytest.mark.parametrize("group", ["categorical", "numeric", "lists"])
def test_a_feature_of_any_name_has_the_users_own_values(group: str, tmp_path: Path) -> None:
    names = [*OWN, *BUILT_IN]
    own = {name: [f"{place}", "8", "9", "8"] for place, name in enumerate(names)}
    given = dict.fromkeys(names, ",") if group == "lists" else names
    rows, schema, store = stored(tmp_path, log_with(**own, y=[0, 1, 0, 1]), **{group: given})
    for name, values in own.items():
        wanted = {"categorical": values, "numeric": list(map(float, values)), "lists": [[v] for v in values]}[group]
        assert rows[feature_column(name)].to_list() == wanted, name
    assert rows["label_click"].to_list() == [0, 1, 0, 1] and rows["user_id"].to_list() == [3, 4] * 2
    assert store.user.tolist() == [1, 2] * 2 and store.labels[:, 0].tolist() == [0, 1] * 2


def test_features_whose_names_and_values_join_to_the_same_text_share_no_code(tmp_path: Path) -> None:
    features = {"a": ["b=c", "x", "x", "x"], "a=b": ["c", "y", "y", "y"], "hour": ["22", "0", "0", "0"]}
    _, schema, store = stored(tmp_path, log_with(**features, y=[0, 1, 0, 1]), categorical=list(features))
    assert len(set(store.context[0].tolist())) == 4  # the hour of the day, at 22 hours, too
    assert len(Vocabulary.load(store.folder / "context.parquet")) == 7
    assert rows_of_domain(store, schema, {"hour": "0"}).tolist() == [
        False,
        True,
        True,
        True,
    ]  # the feature, not the clock


def test_one_column_serves_as_id_and_as_feature(tmp_path: Path) -> None:
    rows, _, _ = stored(tmp_path, log_with(y=[0, 1, 0, 1]), categorical=["who", "what"], numeric=["ts"])
    assert rows["feature_who"].to_list() == rows["user_id"].to_list() == [3, 4] * 2
    assert rows["feature_what"].to_list() == rows["item_id"].to_list() == [7] * 4


def test_a_feature_that_stands_twice_and_tasks_of_one_column_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="column 'who' is named as a feature twice"):
        stored(tmp_path, log_with(y=[0, 1, 0, 1]), categorical=["who"], numeric=["who"])
    with pytest.raises(UserError, match="tasks 'click' with a label time and 'time_click' share a column"):
        EventSchema(("click", "time_click"), label_times=("click",))
