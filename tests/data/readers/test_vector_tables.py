"""Tables of vectors: one length, finite numbers, an id once; anything else is one line with file and row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recdistill.config.data import ColumnsConfig, DataConfig, VectorConfig
from recdistill.data.readers.factory import open_log
from recdistill.data.readers.vector_tables import VectorTable
from recdistill.errors import UserError
from tests.support.written import log_with, opened, write

NAN, INFINITE = float("nan"), float("inf")


def table_of(
    folder: Path, vectors: object, keys: object = (3, 0, 1), dtype: pl.DataType | None = None, **config: object
) -> VectorTable:
    """Return the table of a log's vectors, read from a file."""
    frame = pl.DataFrame({"sku": list(keys), "embedding": pl.Series(vectors, dtype=dtype)})  # type: ignore[call-overload]
    given = VectorConfig.model_validate({"path": write(frame, folder, "parquet", "v"), "key": "sku", **config})
    return opened(log_with(), folder, more={"vectors": {"image": given}}).vectors[0]


@pytest.mark.parametrize(
    "dtype", [pl.List(pl.Float64()), pl.List(pl.Float32()), pl.Array(pl.Float32(), 2), pl.List(pl.Int8())]
)
def test_vectors_are_read_in_the_order_of_the_table(dtype: pl.DataType, tmp_path: Path) -> None:
    table = table_of(tmp_path, [[1, 2], [3, 4], [5, 6]], dtype=dtype)
    assert table.schema.features == {} and table.width == 2
    ((ids, vectors),) = table.chunks()
    assert ids.to_list() == table.ids.to_list() == [3, 0, 1]
    np.testing.assert_allclose(vectors / table.scale, [[1, 2], [3, 4], [5, 6]], rtol=1e-6)
    assert np.square(vectors).mean() == pytest.approx(1, rel=1e-5)


def test_a_row_without_a_vector_is_an_id_without_one(tmp_path: Path) -> None:
    assert table_of(tmp_path, [[1.0], None, [3.0]]).ids.to_list() == [3, 1]


def test_vectors_that_are_all_zero_stay_so(tmp_path: Path) -> None:
    table = table_of(tmp_path, [[0.0], [0.0], [0.0]])
    assert table.scale == 1 and not next(table.chunks())[1].any()


@pytest.mark.parametrize(
    ("vectors", "keys", "parts"),
    [
        (
            [[1.0, 2.0], [3.0], [5.0, 6.0]],
            (3, 0, 1),
            ["row 1, column 'embedding': a vector of 1 entries", "the others have 2"],
        ),
        (
            [[1.0, 2.0], [3.0, 4.0], [5.0, NAN]],
            (3, 0, 1),
            ["row 2, column 'embedding': a vector with an entry that is missing"],
        ),
        ([[1.0, 2.0], None, [INFINITE, 1.0]], (3, 0, 1), ["row 2, column 'embedding'"]),
        ([[1.0, None], [3.0, 4.0], [5.0, 6.0]], (3, 0, 1), ["row 0, column 'embedding'"]),
        ([[1.0], [2.0], [3.0]], (3, 0, 3), ["row 2, column 'sku': stands twice; keep one row of it; got 3"]),
        ([[1.0], [2.0], [3.0]], (3, None, 1), ["row 1, column 'sku': is empty"]),
        ([[1.0], [2.0], [3.0]], ("a", "b", "c"), ["row 0, column 'sku': not a whole number", "{item: text}"]),
        (
            [1.0, 2.0, 3.0],
            (3, 0, 1),
            ["column 'embedding' (data.vectors.image.column) holds Float64, not lists of numbers"],
        ),
        ([["a"], ["b"], ["c"]], (3, 0, 1), ["(data.vectors.image.column) holds List(String), not lists of numbers"]),
        ([[], [], []], (3, 0, 1), ["not lists of numbers"]),
        ([None, None, None], (3, 0, 1), ["column 'embedding'"]),
    ],
)
def test_what_is_no_vector_is_refused_with_its_row(
    vectors: object, keys: object, parts: list[str], tmp_path: Path
) -> None:
    with pytest.raises(UserError) as caught:
        table = table_of(tmp_path, vectors, keys)
        list(table.ids), list(table.chunks())
    for part in [str(tmp_path / "v.parquet"), *parts]:
        assert part in str(caught.value)


def test_a_missing_column_is_named_with_its_key(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no column 'embeding' .data.vectors.image.column.; did you mean 'embedding'"):
        table_of(tmp_path, [[1.0], [2.0], [3.0]], column="embeding")
    with pytest.raises(UserError, match=r"no column 'id' .data.vectors.image.key."):
        table_of(tmp_path, [[1.0], [2.0], [3.0]], key="id")


def test_vectors_of_users_need_users(tmp_path: Path) -> None:
    pl.DataFrame({"u": [1], "embedding": [[1.0]]}).write_parquet(tmp_path / "v.parquet")
    vectors = {"taste": VectorConfig(path="v.parquet", key="u", of="user")}
    columns = ColumnsConfig().model_copy(update={"user": None})
    config = DataConfig(path=write(log_with(), tmp_path, "parquet"), columns=columns, vectors=vectors)
    with pytest.raises(UserError, match="data.vectors.taste: the log has no users"):
        open_log(config, tmp_path)
