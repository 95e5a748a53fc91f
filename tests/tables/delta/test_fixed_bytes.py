"""Rows of bytes go into a binary column and come back as they were."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from recdistill.errors import UserError
from recdistill.tables.delta.fixed_bytes import from_bytes, to_bytes


@given(arrays.arrays(np.float16, st.tuples(st.integers(1, 20), st.integers(1, 3), st.integers(1, 2))), st.data())
def test_bytes_come_back_and_empty_rows_stay_empty(values, data):
    keep = data.draw(arrays.arrays(np.bool_, len(values)))
    column = pl.select(pl.when(pl.Series(keep)).then(to_bytes(values))).to_series()
    has, held = from_bytes(column, values[0].nbytes)
    np.testing.assert_array_equal(has, keep)
    assert held.tobytes() == values[keep].tobytes()


def test_a_row_of_another_length_is_refused():
    with pytest.raises(UserError, match="'state' holds rows that are not 4 bytes long"):
        from_bytes(pl.Series("state", [b"1234", b"123"]), 4)
