"""Vectors and sequences in an artefact: what a request says of them, how it is read, what is refused of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recdistill.errors import UserError
from recdistill.export.write import export
from recdistill.serve.artefact import Manifest, digest, open_artefact
from recdistill.serve.bodies import asked
from recdistill.serve.limits import Limits
from recdistill.serve.refusal import RefusedError
from recdistill.serve.request import Past, Request
from recdistill.serve.scorer import Scorer
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
