"""Vectors and sequences in an artefact: what a request says of them, how it is read, what is refused of it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from recdistill.errors import UserError
from recdistill.export.write import NAMES, export
from recdistill.serve.artefact import Manifest, digest, open_artefact
from recdistill.serve.bodies import asked
from recdistill.serve.impressions import events_of
from recdistill.serve.limits import Limits
from recdistill.serve.refusal import RefusedError
from recdistill.serve.request import Past, Request
from recdistill.serve.scorer import Scorer
from recdistill.serve.service import Served
from recdistill.stream.ingest.row_checks import row_faults
from recdistill.tables.events import EventLog
from tests.export.test_random_schemas import trained
from tests.support.artefacts import changed
from tests.support.random_logs import START, RandomLog

LOG = RandomLog(
    seed=1,
    user=True,
    time=True,
    text=(False, True),
    features=("int64",),
    history="samples",
    sequences=(True, False),
    vectors=("item", "user", "row-item"),
    tasks="one",
    length=3,
    numeric_as="both",
    numbers=(),
)
MOMENT = START + 10**6


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("extras")
    predictor = trained(LOG, "din", {}, folder)
    return export(predictor, folder / "artefact", {})[0]


def request(**changes: Any) -> Request:
    return Request(**{"user": 10, "items": ["item-1", "item-2"], "time": MOMENT, **changes})


def test_vectors_lie_in_files_of_their_own_and_are_found_by_id(artefact: Path) -> None:
    opened = open_artefact(artefact)
    ids, values = opened.vectors["item"]
    assert sorted(opened.vectors) == ["item", "user"]
    found = Scorer.open(artefact).reader.arrays(request())
    wanted = values[ids.places(["item-1", "item-2"])]
    assert np.array_equal(found["vectors_item"][found["item_vector"]], wanted)
    assert found["vectors_user"].shape == (1, 4) and found["user_vector"].tolist() == [0, 0]


def test_a_vector_of_a_row_comes_scaled_with_the_request(artefact: Path) -> None:
    scorer = Scorer.open(artefact)
    scale = scorer.artefact.schema.row_vectors["row_item"][2]
    given = request(item_features={"row_item": [[1, 2.0, -3], None]})
    row = scorer.reader.arrays(given)["vectors_row"]
    np.testing.assert_allclose(row, [[scale, 2 * scale, -3 * scale, 0], [0, 0, 0, 1]], rtol=1e-6)
    of_all = scorer.reader.arrays(request(features={"row_item": [1, 2, 3]}))
    assert of_all["vectors_row"].shape == (1, 4) and of_all["row_vector"].tolist() == [0, 0]


def test_a_sequence_of_a_request_counts(artefact: Path) -> None:
    scorer = Scorer.open(artefact)
    nothing, some = scorer.rank(request()), scorer.rank(request(sequences={"s1": Past(["item-3", "item-4"])}))
    assert not np.array_equal(nothing, some)
    longer = request(sequences={"s1": Past(["item-9", *["item-3", "item-4", "item-5"]])})
    newest = request(sequences={"s1": Past(["item-3", "item-4", "item-5"])})
    assert np.array_equal(scorer.rank(longer), scorer.rank(newest))


def test_a_body_brings_them_and_its_sequences_are_bounded_as_histories_are() -> None:
    vectors, items = [[1, 2.5, 3], None], ["item-3", "item-4"]
    body = {"items": ["item-1", "item-2"], "item_features": {"v": vectors}, "sequences": {"s1": {"items": items}}}
    read = asked(json.dumps(body).encode(), Limits())
    assert read.sequences == {"s1": Past(items, [], [], [])} and read.item_features == {"v": vectors}
    with pytest.raises(RefusedError, match="sequences.s1.items: at most 1 events; got 2"):
        asked(json.dumps(body).encode(), Limits(history=1))


def test_the_request_log_has_what_rows_of_the_log_bring(artefact: Path) -> None:
    """As a file of such rows would be read: entries before the row's time, the newest last; nothing that is empty."""
    opened, events = open_artefact(artefact), EventLog.open(artefact.parents[1] / "run" / "tables" / "events")
    given = {"history": True, **events.schema.sequences}
    schema = replace(events.schema, has_weight=True, sequences=given, features={"tags": "list<string>"})
    columns = {name: NAMES[kind] for name, kind in schema.columns().items()}
    manifest = replace(opened.manifest, events=columns, actions=["event"])
    opened = replace(opened, manifest=manifest, schema=replace(opened.schema, features=schema.features))
    past = Past(["item-9", "item-1", "item-2"], [MOMENT + 1, MOMENT - 1, MOMENT - 2.5])
    asked_for = request(
        features={"tags": ["a", "", None]},
        item_features={"row_item": [[1, 2.5, -3], None]},
        history=past,
        sequences={"s0": past, "s1": Past(["item-4", "item-3"])},
    )
    scores = np.array([[1.0], [0.0]], np.float32)
    rows = pl.DataFrame(events_of(Served(asked_for, 1, "m", scores, 0.0, "r"), opened, None))
    assert row_faults(rows, "events", schema).to_list() == [None, None]
    first, second = rows.drop("sample_id", "time", "label_click").rows(named=True)
    times = [datetime.fromtimestamp(MOMENT - ago, UTC) for ago in (2.5, 1)]
    assert first == {
        "user_id": 10,
        "item_id": "item-1",
        "feature_tags": ["a"],
        "vector_row_item": [1, 2.5, -3],
        **{name: ["item-2", "item-1"] for name in ("sequence_history", "sequence_s0")},
        **{name: times for name in ("times_history", "times_s0")},
        "sequence_s1": ["item-4", "item-3"],
        "weight": 1,
    }
    assert second == {**first, "item_id": "item-2", "vector_row_item": None}
    nothing = pl.DataFrame(events_of(Served(request(), 1, "m", scores, 0.0, "r"), opened, None))
    assert row_faults(nothing, "events", schema).to_list() == [None, None]
    assert nothing["sequence_s0"].to_list() == [[], []] == nothing["times_history"].to_list()


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"features": {"row_item": [1, 2]}}, r"features.row_item: a list of 3 finite numbers .* got \[1, 2\]"),
        ({"features": {"row_item": "abc"}}, "features.row_item: a list of 3 finite numbers was expected; got 'abc'"),
        ({"features": {"row_item": [1, 2, float("nan")]}}, "features.row_item: a list of 3 finite numbers"),
        ({"features": {"row_item": [1, 2, 1e300]}}, "features.row_item: a list of 3 finite numbers"),
        ({"features": {"row_item": [1, True, 3]}}, "features.row_item: a list of 3 finite numbers"),
        ({"item_features": {"row_item": [[1, 2, 3], ["1", 2, 3]]}}, "features.row_item: a list of 3 finite numbers"),
        ({"features": {"row_itm": [1, 2, 3]}}, "there is no feature 'row_itm'; did you mean 'row_item'"),
        ({"sequences": {"s2": Past()}}, "sequences: there is no sequence 's2'"),
        ({"sequences": {"s0": Past(["item-1"])}}, "sequences.s0.times: a time per item was expected, 1; got 0"),
        ({"sequences": {"s1": Past([1.5])}}, "sequences.s1.items: an id of text was expected; got 1.5"),
    ],
)
def test_what_cannot_be_read_names_its_field(artefact: Path, changes: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line):
        Scorer.open(artefact).rank(request(**changes))


def test_vectors_of_another_number_than_their_ids_are_refused(artefact: Path, tmp_path: Path) -> None:
    shutil.copytree(artefact, folder := tmp_path / "1")
    path = folder / "vectors_item.npy"
    np.save(path, np.load(path)[:-1])
    changed(folder, files=Manifest.read(folder).files | {path.name: digest(path)})
    with pytest.raises(UserError, match=r"vectors_item.npy: float32 \[\d+, numbers\] was expected; export again"):
        open_artefact(folder)
