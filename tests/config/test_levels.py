"""A task with levels is a task for each, wherever tasks are named."""

from __future__ import annotations

from typing import Any

import pytest

from recdistill.config.data import TaskColumn
from recdistill.config.load import load_text
from recdistill.errors import UserError


def columns_of(columns: str) -> Any:
    return load_text(f"name: x\ndata: {{path: log.csv, columns: {columns}}}").data.columns


def test_each_level_is_a_task_that_is_positive_from_it_on() -> None:
    found = columns_of("{tasks: {click: label, like: {column: rating, levels: [3, 4.5]}}, label_times: {like: at}}")
    assert found.tasks == {
        "click": "label",
        "like_3": TaskColumn(column="rating", at_least=3),
        "like_4.5": TaskColumn(column="rating", at_least=4.5),
    }
    assert found.label_times == {"like_3": "at", "like_4.5": "at"}
    assert type(found).model_validate(found.model_dump()) == found
    assert found.levels == {"like": ("like_3", "like_4.5")}
    assert (
        columns_of("{tasks: {like_3: {column: rating, at_least: 4}, x_3: {column: rating, at_least: 3}}}").levels == {}
    )


@pytest.mark.parametrize(
    ("tasks", "fault"),
    [
        ("{like: {column: rating, levels: [4, 3]}}", "tasks.like.levels: must ascend, each once; got [4, 3]"),
        ("{like: {column: rating, levels: [3, 3]}}", "must ascend, each once"),
        ("{like: {column: rating, levels: []}}", "tasks.like.levels: give numbers, as [3, 4, 5]; got []"),
        ("{like: {column: rating, levels: 3}}", "give numbers"),
        ("{like: {column: rating, levels: [high]}}", "give numbers"),
        ("{like: {column: rating, levels: [3], at_least: 3}}", "levels goes with column alone"),
        ("{like_3: label, like: {column: rating, levels: [3]}}", "'like_3' stands there twice"),
    ],
)
def test_what_are_no_levels_is_refused_in_one_line(tasks: str, fault: str) -> None:
    with pytest.raises(UserError) as caught:
        columns_of(f"{{tasks: {tasks}}}")
    assert fault in str(caught.value) and "\n" not in str(caught.value)
