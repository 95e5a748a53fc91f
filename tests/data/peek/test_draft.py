"""A draft's text: every name survives as it is, comments hold one line each, and long lists are cut with a count."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from recdistill.config.load import load_text
from recdistill.data.peek.draft import SHOWN, Draft, Feature, Guess, Task, name_of

TASK = Task("click", "label", "label", "a\nreason", "a\x1b[31mdoubt")


@example("\n")
@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20))
def test_any_name_is_read_as_it_was_written(name: str) -> None:
    features = (Feature(name, "categorical", name, name), Feature(name + "2", "lists", "", "", "|"))
    draft = Draft(name, "all", {"time": Guess(name, name, name)}, (TASK,), features=features, left_out=((name, name),))
    data = load_text(draft.text(name)).data
    assert (data.path, data.columns.time, data.columns.categorical) == (name, name, [name])
    assert data.columns.lists == {name + "2": "|"}


def test_comments_hold_nothing_that_a_terminal_obeys() -> None:
    text = Draft("log.csv", "all", tasks=(TASK,), hints=("one\ntwo",), missing=("three",)).text()
    assert "      # a reason\n      # ? a\\x1b[31mdoubt\n      click: label\n" in text
    assert "# hint: one two\n" in text and "# missing: three\n" in text


def test_further_columns_are_counted() -> None:
    many = tuple(Feature(f"f{k}", "numeric", "numbers") for k in range(SHOWN + 2))
    left = tuple((f"x{k}", "constant") for k in range(SHOWN + 3))
    text = Draft("log.csv", "all", tasks=(TASK,), features=many, left_out=left).text()
    assert len(load_text(text).data.columns.numeric) == SHOWN
    assert "# ? 2 further columns look numeric" in text and "#   and 3 others" in text


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a/impressions.2024.csv.gz", "impressions"),
        ("logs/*.parquet", "my-log"),
        ("x/day=2024-01-01/", "day_2024-01-01"),
        ("..", "my-log"),
        ("C:\\logs\\mine.csv", "mine"),
        ("on.csv", "on"),
        ("12.csv", "12"),
    ],
)
def test_names_of_experiments(path: str, name: str) -> None:
    assert name_of(path) == name
    assert load_text(Draft(path, "all", tasks=(TASK,)).text()).name == name
