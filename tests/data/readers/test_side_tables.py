"""Side tables: each row has what its item's and its user's newest row said by its time, and nothing of later."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.config.data import ColumnsConfig, DataConfig, SideConfig
from recdistill.config.load import load_text
from recdistill.data.batch.builder import BatchBuilder
from recdistill.data.batch.candidates import Candidates
from recdistill.data.readers.factory import open_log
from recdistill.data.readers.files import RawTable
from recdistill.data.readers.side_tables import SideTable
from recdistill.data.store.encoder import context_fields
from recdistill.data.store.sample_store import build_store
from recdistill.errors import UserError
from recdistill.runs.folder import RunFolder
from recdistill.tables.delta.types import TIME
from recdistill.tables.events import EventLog
from recdistill.tables.schema import EventSchema
from tests.support.commands import typed
from tests.support.written import START, log_with, opened, write

ITEMS = SideConfig(path="items.parquet", key="sku", categorical=["brand"], numeric=["price"], lists={"tags": "|"})
DAY = 86_400


def items(**changed: object) -> pl.DataFrame:
    """Return a table of four items; `changed` replaces or adds columns."""
    plain = {"sku": [3, 0, 1, 2], "brand": ["d", "a", "b", "c"], "price": [3.5, 0.5, 1.5, 2.5], "tags": ["x|y"] * 4}
    return pl.DataFrame(plain | changed)


def joined(
    folder: Path, table: pl.DataFrame, form: str = "parquet", log: pl.DataFrame | None = None, **keys: object
) -> tuple[pl.DataFrame, list[str]]:
    """Return the events of a log of four rows with a table of items, and the notes."""
    name = write(table, folder, form, "items")
    side = ITEMS.model_copy(update={"path": name, **keys})
    made = opened(log_with() if log is None else log, folder, more={"items": side})
    return pl.concat(made.batches()), made.notes()


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_rows_have_the_features_of_their_items(form: str, tmp_path: Path) -> None:
    rows, notes = joined(tmp_path, items(), form)
    assert rows["feature_brand"].to_list() == ["a", "b", "c", "d"]
    assert rows["feature_price"].to_list() == [0.5, 1.5, 2.5, 3.5]
    assert rows["feature_tags"].to_list() == [["x", "y"]] * 4
    assert notes == [
        f"items: items.{form} has no valid_from, so its values count as known always, also what was learned of later"
    ]


def test_ids_match_as_they_are_written_whatever_their_types(tmp_path: Path) -> None:
    rows, _ = joined(tmp_path, items(sku=["3", "0", "1.0", "2"]), "csv")
    assert rows["feature_brand"].to_list() == ["a", "b", "c", "d"]
    rows, _ = joined(tmp_path, items(), log=log_with(item_id=["0", "01", "2", "x"]))
    assert rows["feature_brand"].to_list() == ["a", None, "c", None]


def test_of_several_rows_of_an_item_the_newest_of_the_rows_time_counts(tmp_path: Path) -> None:
    """Rows of the log at START, 60, 120, 180 s; a version from a row's own second counts for it."""
    since = [START + 180, START, START + 60, START - 5, START + 121]
    table = pl.DataFrame({"sku": [7] * 5, "brand": ["e", "b", "c", "a", "d"], "since": since})
    rows, notes = joined(tmp_path, table, log=log_with(item_id=[7] * 4), valid_from="since", numeric=[], lists={})
    assert rows["feature_brand"].to_list() == ["b", "c", "c", "e"]
    assert notes == []


def test_what_is_missing_is_counted_by_rows_and_ids(tmp_path: Path) -> None:
    table = pl.DataFrame({"sku": [0, 1], "brand": ["a", "b"], "since": [START + 1, START]})
    log = log_with(item_id=[0, 1, 9, 9])
    rows, notes = joined(tmp_path, table, log=log, valid_from="since", numeric=[], lists={})
    assert rows["feature_brand"].to_list() == [None, "b", None, None]
    assert notes == [
        "items: 2 rows of ids that items.parquet does not have: their features are empty",
        "items: 1 rows before the first valid_from of their id: their features are empty",
        "items: 1 ids are not in items.parquet",
    ]


def test_a_date_counts_when_it_is_over(tmp_path: Path) -> None:
    day = pl.from_epoch(pl.Series([START]), time_unit="s").cast(pl.Date)
    at = START // DAY * DAY + DAY
    table = pl.DataFrame({"sku": [5], "brand": ["a"], "since": day})
    log = log_with(2, item_id=[5, 5], time=[at - 1, at])
    rows, _ = joined(tmp_path, table, log=log, valid_from="since", numeric=[], lists={})
    assert rows["feature_brand"].to_list() == [None, "a"]


@pytest.mark.parametrize(
    ("table", "keys", "parts"),
    [
        (items(sku=[3, 0, 1, 3]), {}, ["items.parquet: row 3, column 'sku': stands twice", "valid_from", "got 3"]),
        (items(sku=[3, 0, None, 2]), {}, ["row 2, column 'sku': is empty"]),
        (items(since=[START, None, START, START]), {"valid_from": "since"}, ["row 1, column 'since': is empty"]),
        (items(sku=[3, 3, 1, 2], since=START), {"valid_from": "since"}, ["row 1", "stands twice with one valid_from"]),
        (items(price=["1", "2", "dear", "3"]), {}, ["row 2, column 'price': not a number"]),
        (items(since=START * 1000), {"valid_from": "since"}, ["column 'since'", "set time_unit: 'ms'"]),
        (items(), {"key": "skuu"}, ["no column 'skuu' (data.items.key)", "did you mean 'sku'"]),
        (items(), {"numeric": ["cost"]}, ["no column 'cost' (data.items.numeric: cost)"]),
        (items(), {"numeric": ["price", "price"]}, ["'price' is named as a feature twice"]),
        (items(brand=[[1]] * 4), {}, ["data.items.categorical: brand", "name it under lists"]),
        (items(sku=["a", "b", "c", "d"]), {}, ["row 0, column 'sku': not a whole number", "dtypes: {item: text}"]),
    ],
)
def test_a_table_that_does_not_fit_is_refused_by_file_row_and_key(
    table: pl.DataFrame, keys: dict[str, object], parts: list[str], tmp_path: Path
) -> None:
    with pytest.raises(UserError) as caught:
        joined(tmp_path, table, **keys)
    for part in [str(tmp_path), *parts]:
        assert part in str(caught.value)


def test_a_feature_of_the_same_name_is_refused(tmp_path: Path) -> None:
    write(items(), tmp_path, "parquet", "items")
    config = DataConfig(
        path=write(log_with(brand="z"), tmp_path, "parquet"), columns=ColumnsConfig(categorical=["brand"]), items=ITEMS
    )
    with pytest.raises(UserError, match="feature 'brand' .data.items. is a feature of the log or of another table too"):
        open_log(config, tmp_path)


@pytest.mark.parametrize(
    ("lacks", "key", "message"),
    [
        ("user", "users", "data.users: the log has no users"),
        ("time", "items", "data.items.valid_from: the log has no times"),
    ],
)
def test_what_a_log_cannot_be_joined_with_is_refused(lacks: str, key: str, message: str, tmp_path: Path) -> None:
    write(items(since=START), tmp_path, "parquet", "items")
    side = ITEMS.model_copy(update={"valid_from": "since"})
    columns = ColumnsConfig().model_copy(update={lacks: None})
    config = DataConfig(path=write(log_with(), tmp_path, "parquet"), columns=columns).model_copy(update={key: side})
    with pytest.raises(UserError, match=message):
        open_log(config, tmp_path)


@pytest.mark.parametrize(
    ("side", "message"),
    [
        ("{path: x, key: y}", "names no feature"),
        ("{path: x, key: y, numeric: [a], time_unit: ms}", "is of valid_from"),
        ("{path: x, key: y, categorical: [color], dtypes: {colour: text}}", "did you mean 'color'"),
    ],
)
def test_a_mapping_that_says_nothing_is_refused(side: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_text(f"name: x\ndata: {{path: y, items: {side}}}")


def test_sampled_negatives_have_the_features_of_their_own_items(tmp_path: Path) -> None:
    log = log_with(
        300, item_id=pl.Series(np.random.default_rng(0).integers(0, 4, 300)), user_id=pl.int_range(300, eager=True)
    )
    write(items(), tmp_path, "parquet", "items")
    mapping = {"tasks": {"click": 1}}
    made = opened(log, tmp_path, more={"items": ITEMS, "negatives": {"per_positive": 2}}, **mapping)
    rows = pl.concat(made.batches())
    assert rows["label_click"].n_unique() == 2
    assert rows["feature_price"].to_list() == [item + 0.5 for item in rows["item_id"]]


def test_a_drawn_candidate_brings_its_items_features(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    log = log_with(200, item_id=pl.Series(draw.integers(0, 4, 200)), device=pl.Series(draw.integers(0, 9, 200)))
    write(items(), tmp_path, "parquet", "items")
    made = opened(log, tmp_path, more={"items": ITEMS}, categorical=["device"])
    events = EventLog.create(tmp_path / "events", made.schema)
    for sequence, chunk in enumerate(made.batches()):
        events.append(chunk, writer="t", sequence=sequence)
    store = build_store(tmp_path / "store", events, None)
    asked = load_text("name: x\ndata: {path: y}\ncandidates: {count: 2, window: 50}").candidates
    schema = events.schema
    batch = BatchBuilder(store, 3).candidates(np.arange(100, 200), Candidates.of(asked, schema))
    fields, names = batch.context.ids().numpy(), context_fields(schema)
    for name, column in zip(names, fields.T, strict=True):
        pairs = len(np.unique(np.stack([batch.item.ids().numpy(), column]), axis=1).T)
        assert (pairs == 4) == (name in ("brand", "price"))  # one value to an item
    own = np.repeat(store.context[100:, names.index("device")], 2)
    assert (fields[:, names.index("device")] == own).all()


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 30)), max_size=30),
    versions=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 30)), unique=True, max_size=30),
)
def test_every_row_has_the_newest_version_that_was_known(
    rows: list[tuple[int, int]], versions: list[tuple[int, int]]
) -> None:
    """In any order of rows, as new rows to predict have."""
    table = pl.DataFrame(
        {
            "sku": [id for id, _ in versions],
            "at": [at for _, at in versions],
            "price": [float(at) for _, at in versions],
        },
        schema={"sku": pl.Int64, "at": pl.Int64, "price": pl.Float64},
    )
    config = SideConfig(path="x", key="sku", valid_from="at", numeric=["price"])
    source = RawTable(Path("x"), table.lazy(), dict(table.schema), slices=True)
    chunk = pl.DataFrame(
        {"item_id": [id for id, _ in rows], "time": [at * 10**6 for _, at in rows]},
        schema={"item_id": pl.Int64, "time": pl.Int64},
    ).with_columns(pl.col("time").cast(TIME))
    found = SideTable("items", config, source, EventSchema(("click",))).joined(chunk)
    want = [max((v for of, v in versions if of == id and v <= at), default=None) for id, at in rows]
    assert found["feature_price"].to_list() == want
    assert found.select("item_id", "time").equals(chunk)


RUN = """
name: sides
data:
  path: log.parquet
  items: {path: items.parquet, key: sku, categorical: [brand], numeric: [price]}
  users: {path: users.parquet, key: who, categorical: [country], valid_from: since}
teacher: {kind: pooled-mlp, width: 4, history: 5, batch: 100}
students: {light: {kind: din, width: 4, history: 5, batch: 100}}
evaluate: {seeds: [0], bootstrap: 20}
processes: 1
"""


def test_a_run_trains_predicts_and_notices_a_changed_table(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    log = log_with(600, item_id=pl.Series(draw.integers(0, 5, 600)), user_id=pl.Series(draw.integers(0, 9, 600)))
    write(log.with_columns(label=pl.Series(draw.integers(0, 2, 600))), tmp_path, "parquet")
    write(items(), tmp_path, "parquet", "items")
    users = pl.DataFrame({"who": list(range(9)), "country": ["de"] * 9, "since": [START + 60 * 300] * 9})
    write(users, tmp_path, "parquet", "users")
    (tmp_path / "x.yaml").write_text(RUN)
    out = tmp_path / "run"
    words = ("run", tmp_path / "x.yaml", "--data", tmp_path, "--out", out)
    code, printed = typed(*words)
    assert code == 0, printed
    for line in (
        "rows of ids that items.parquet does not have",
        "items: 1 ids are not in",
        "before the first valid_from",
    ):
        assert line in printed.replace("\n", " "), printed
    events = pl.concat(EventLog.open(RunFolder(out).tables / "events").batches())
    assert events["feature_country"].null_count() == 300
    write(log.drop("label").sample(20, seed=0), tmp_path, "parquet", "new")
    code, printed = typed(
        "predict", out, "light.raw.s0", "--data", tmp_path / "new.parquet", "--out", tmp_path / "out.parquet"
    )
    assert code == 0, printed
    assert "items: items.parquet has no valid_from" in printed.replace("\n", " ")
    write(items(price=9.0), tmp_path, "parquet", "items")
    code, printed = typed(*words)
    assert code == 2 and "items.parquet" in printed
