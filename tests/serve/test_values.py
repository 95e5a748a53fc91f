"""Values read all at once are those read one by one, whatever a caller gives."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recdistill.data.readers.columns import Kind
from recdistill.data.readers.ids import id_column
from recdistill.errors import UserError
from recdistill.serve.id_map import REMEMBERED, SHORT, IdMap, write_id_map
from recdistill.serve.values import id_of, known_ids, microseconds, numbers_of_values, times_of

ODD: st.SearchStrategy[object] = st.sampled_from(
    [
        True,
        None,
        1.0,
        1.5,
        "1",
        "1_0",
        " 1",
        "007",
        "+7",
        "7.0",
        "",
        10**20,
        10**400,
        float("nan"),
        float("inf"),
        -1,
        [],
    ]
)
IDS = [*range(-3, 9), 2**63 - 1, -(2**63)]


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, IdMap]:
    folder = tmp_path_factory.mktemp("ids")
    write_id_map(folder, "int64", IDS)
    write_id_map(folder, "string", [str(one) for one in IDS] + ["x" * SHORT * 2])
    return {kind: IdMap(folder, kind) for kind in ("int64", "string")}


def or_line(work: object, *given_: object) -> object:
    """Return what a reader makes of values, or the line with which it refuses them."""
    try:
        return np.asarray(work(*given_)).tolist()  # type: ignore[operator]
    except UserError as error:
        return str(error)


@given(
    st.lists(st.one_of(st.integers(-4, 12), ODD), max_size=5), st.lists(st.integers(-4, 12) | st.just("x"), max_size=4)
)
@pytest.mark.parametrize("kind", ["int64", "string"])
def test_ids_are_those_of_one_by_one(
    known: dict[str, IdMap], kind: str, first: list[object], rest: list[object]
) -> None:
    def one_by_one() -> list[int]:
        read = [id_of(one, kind, name) for name, part in (("a", first), ("b", rest)) for one in part]
        places = {id_of(one, kind, ""): at for at, one in enumerate(IDS, 1)}
        return [places.get(one, 0) for one in read]

    assert or_line(known_ids, [("a", first), ("b", rest)], kind, known[kind]) == or_line(one_by_one)


@pytest.mark.parametrize("text", ["7", "-7", "0", "7.0", "7.00", "007", "+7", "-0", "7.", "7.5", "\uff17"])
def test_whole_numbers_in_text_are_those_of_a_log(text: str) -> None:
    column = id_column("user", Kind(pl.String(), pl.Int64()), "int64", "user")
    wanted = pl.DataFrame({"user": [text]}).select(column.value).item()
    assert or_line(id_of, text, "int64", "user") == (
        f"user: a whole number was expected; got {text!r}" if wanted is None else wanted
    )


@given(st.lists(st.one_of(st.integers(0, 10**9), st.floats(0, 1e9), ODD), max_size=5))
def test_times_are_those_of_one_by_one(values: list[object]) -> None:
    assert or_line(times_of, values, "t") == or_line(lambda: [microseconds(one, "t") for one in values])


@given(st.lists(st.one_of(st.none(), st.integers(), st.floats(allow_infinity=False)), max_size=5))
def test_numbers_have_seven_digits_and_nan_where_one_is_missing(values: list[int | float | None]) -> None:
    with np.errstate(over="ignore"):
        wanted = [np.float64(np.float32(np.nan if one is None else float(one))) for one in values]
    np.testing.assert_array_equal(numbers_of_values(values, "n"), wanted)


@pytest.mark.parametrize("value", [True, "1", float("inf"), 10**400, []])
def test_what_is_no_number_is_refused_among_numbers(value: object) -> None:
    with pytest.raises(UserError, match=r"n: a (finite )?number .*was expected"):
        numbers_of_values([1.0, value], "n")


def test_long_texts_are_found_and_not_remembered(known: dict[str, IdMap]) -> None:
    """What is remembered is bounded in number and in length."""
    found, texts = known["string"], ["x" * SHORT * 2, "x" * SHORT * 3]
    assert found.places(texts).tolist() == [len(IDS) + 1, 0]
    before = found._remembered.cache_info()
    assert found.places(texts).tolist() == [len(IDS) + 1, 0] and found._remembered.cache_info() == before
    assert before.maxsize == REMEMBERED
