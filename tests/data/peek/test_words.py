"""What names suggest, however their words are written."""

from __future__ import annotations

import pytest

from recdistill.data.peek.labels import label_word
from recdistill.data.peek.words import ITEM, USER, has_word, rank, words_of


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("userId", ["user", "id"]),
        ("USER_ID", ["user", "id"]),
        ("user-id 2", ["user", "id", "2"]),
        ("isHTTPClick", ["is", "http", "click"]),
        ("\x85", []),
    ],
)
def test_words(name: str, words: list[str]) -> None:
    assert words_of(name) == words


def test_rank() -> None:
    assert rank("userId", USER) == rank("userid", USER) == rank("USER-ID", USER) == 0
    assert rank("", USER) is None and rank("user_name", USER) is None and rank("parentAsin", ITEM) is not None
    assert has_word("play_time", {"play"}) == "play" and has_word("display", {"play"}) is None


@pytest.mark.parametrize(
    ("name", "word"),
    [("is_click", "click"), ("clicked_flag", "clicked"), ("long_view", "view"), ("click_region", None), ("", None)]
    + [("like_count", None), ("num_click", None), ("click_time", None)],
)
def test_label_words(name: str, word: str | None) -> None:
    assert label_word(name) == word
