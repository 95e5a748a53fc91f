"""Tensors of a request: as JSON and as bytes they are the same, and whatever else is refused by its name."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from recdistill.serve.refusal import RefusedError
from recdistill.serve.tensors import HEADER, TEXT, TYPES, InferBody, split, tensors, with_binary
from recdistill.serve.values import listed

TEXTS = st.lists(st.text(st.characters(codec="utf-8"), max_size=5), max_size=6)


def body(**changes: Any) -> InferBody:
    one = {"name": "items", "shape": [2], "datatype": "INT64", "data": [1, 2], **changes}
    return InferBody.model_validate({"inputs": [{key: value for key, value in one.items() if value is not None}]})


def packed(texts: list[str]) -> bytes:
    return b"".join(len(one.encode()).to_bytes(4, "little") + one.encode() for one in texts)


@given(st.sampled_from(sorted(TYPES)), st.lists(st.integers(0, 100), max_size=6))
def test_numbers_of_bytes_are_those_of_json(kind: str, values: list[int]) -> None:
    data = np.array(values, TYPES[kind]).tobytes()
    size = {"binary_data_size": len(data)}
    binary = body(datatype=kind, shape=[len(values)], data=None, parameters=size)
    plain = body(datatype=kind, shape=[len(values)], data=values)
    found = tensors(binary.inputs, memoryview(data))["items"]
    wanted = tensors(plain.inputs, memoryview(b""))["items"]
    assert (found.shape, listed(found.values)) == (wanted.shape, wanted.values)
    assert not values or (found.first(), type(found.first())) in ((values[0], int), (values[0], float))


@given(TEXTS)
def test_texts_of_bytes_are_those_of_json(texts: list[str]) -> None:
    data = packed(texts)
    binary = body(datatype=TEXT, shape=[len(texts)], data=None, parameters={"binary_data_size": len(data)})
    plain = body(datatype=TEXT, shape=[len(texts)], data=texts)
    assert tensors(binary.inputs, memoryview(data)) == tensors(plain.inputs, memoryview(b""))


@given(st.binary(max_size=40), st.integers(0, 10))
def test_any_bytes_are_texts_or_refused(data: bytes, count: int) -> None:
    read = body(datatype=TEXT, shape=[count], data=None, parameters={"binary_data_size": len(data)})
    try:
        found = tensors(read.inputs, memoryview(data))["items"].values
    except RefusedError as error:
        assert str(error).startswith("inputs.items: ")
    else:
        assert packed(found) == data and len(found) == count


def test_rows_are_flat_or_nested() -> None:
    flat, nested = body(shape=[2, 2], data=[1, 2, 3, 4]), body(shape=[2, 2], data=[[1, 2], [3, 4]])
    found = [tensors(one.inputs, memoryview(b""))["items"] for one in (flat, nested)]
    assert found[0] == found[1] and found[0].rows() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("changes", "binary", "line"),
    [
        ({"shape": [3]}, b"", "inputs.items: shape [3] was expected; got 2 values"),
        ({"datatype": "BOOL"}, b"", "inputs.items.datatype: one of INT8"),
        ({"data": [True, 1]}, b"", "inputs.items.data: values of INT64"),
        ({"data": ["1", "2"]}, b"", "inputs.items.data: values of INT64"),
        ({"data": [[1], 2]}, b"", "inputs.items.data: values of INT64"),
        ({"data": None}, b"", "inputs.items: data, or binary_data_size"),
        ({"data": None, "parameters": {"binary_data_size": 16}}, b"1234", "inputs.items: 16 bytes of data"),
        ({"data": None, "parameters": {"binary_data_size": 4}}, b"1234", "inputs.items: INT64 has 8 bytes a value"),
        ({}, b"1234", "body: 4 bytes are of no input"),
        (
            {"data": None, "datatype": TEXT, "parameters": {"binary_data_size": 5}},
            b"\x01\0\0\0\xff",
            "inputs.items: text in UTF-8",
        ),
        ({"name": "n" * 500, "shape": [1]}, b"", f"inputs.{'n' * 40}: shape"),
    ],
)
def test_what_is_no_tensor_is_refused_by_its_name(changes: dict[str, Any], binary: bytes, line: str) -> None:
    with pytest.raises(RefusedError) as found:
        tensors(body(**changes).inputs, memoryview(binary))
    assert str(found.value).startswith(line)


def test_one_that_is_there_twice_is_refused() -> None:
    with pytest.raises(RefusedError, match=r"inputs\.items: it is there twice"):
        tensors(body().inputs * 2, memoryview(b""))


@pytest.mark.parametrize("shape", [[-1], [], [1, 1, 1], [1.5], ["1"]])
def test_a_shape_is_one_or_two_whole_numbers(shape: list[Any]) -> None:
    with pytest.raises(ValidationError):
        body(shape=shape)


@pytest.mark.parametrize("length", ["4", "-1", "1.0", "x", "", "9" * 400, "²"])
def test_a_length_that_is_not_within_the_body_is_refused(length: str) -> None:
    with pytest.raises(RefusedError, match=f"{HEADER}: a number of at most 3"):
        split(b"abc", length)


def test_a_body_is_json_and_what_stands_behind() -> None:
    assert split(b"{}abc", "2") == (b"{}", b"abc") and split(b"{}", None) == (b"{}", b"")


def test_outputs_are_json_or_bytes() -> None:
    values = np.array([0.5, 0.25], np.float32)
    tree, tail = with_binary([("click", values, True), ("like", values, False)])
    assert json.loads(json.dumps(tree)) == [
        {"name": "click", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": 8}},
        {"name": "like", "datatype": "FP32", "shape": [2], "data": [0.5, 0.25]},
    ]
    assert tail == values.tobytes()
