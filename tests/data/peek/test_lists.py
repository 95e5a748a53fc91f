"""Lists in an unknown log: sequences of items with their times, vectors, and lists that are neither."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recdistill.config.data import SequenceColumns
from recdistill.config.load import load_text
from recdistill.data.peek.guess import peek_text

N, START = 300, 1_700_000_000


def log(seed: int = 0) -> pl.DataFrame:
    """Return rows with the user's last items, their times, a vector, tags and fractions of several lengths."""
    draw = np.random.default_rng(seed)
    at = np.arange(N)
    lengths = draw.integers(0, 6, N)
    return pl.DataFrame(
        {
            "ts": START + 60 * at,
            "user": at % 7,
            "item": draw.integers(1000, 1040, N),
            "click": draw.integers(0, 2, N),
            "hist_items": [draw.integers(1000, 1040, k).tolist() for k in lengths],
            "hist_ts": [
                [START + 60 * int(t) - 9 * (k - j) for j in range(k)] for t, k in zip(at, lengths, strict=True)
            ],
            "emb": [draw.normal(size=4).tolist() for _ in at],
            "tags": [draw.integers(0, 9, 3).tolist() for _ in at],
            "odd": [draw.normal(size=1 + k).tolist() for k in lengths],
        }
    )


def peeked(rows: pl.DataFrame, folder: Path) -> tuple[str, dict[str, SequenceColumns], dict[str, str]]:
    """Return (the draft, its sequences, the columns of its vectors by name)."""
    rows.write_parquet(folder / "log.parquet")
    text = peek_text(folder / "log.parquet")
    data = load_text(text).data
    assert f"Tried: {N} of these {N} rows are read by it" in text
    return text, data.columns.sequences, {name: one.column for name, one in data.vectors.items()}


def test_lists_of_items_are_sequences_with_the_times_as_long_as_they_are(tmp_path: Path) -> None:
    text, sequences, vectors = peeked(log(), tmp_path)
    assert sequences == {"hist_items": SequenceColumns(items="hist_items", times="hist_ts")}
    assert vectors == {"emb": "emb"} and "were all entries known before the row?" in text
    assert load_text(text).data.columns.lists == {"tags": ","}  # of other entries than items
    assert "odd: lists of Float64" in text


@pytest.mark.parametrize("change", ["shorter", "no times"])
def test_times_that_do_not_fit_are_none(change: str, tmp_path: Path) -> None:
    cut = pl.col("hist_ts").list.head(2) if change == "shorter" else pl.col("hist_ts").list.eval(pl.element() % 50)
    text, sequences, _ = peeked(log().with_columns(hist_ts=cut), tmp_path)
    assert sequences == {"hist_items": SequenceColumns(items="hist_items")}
    assert "without times nobody can check" in text


def test_a_log_without_times_or_items_in_its_lists_has_no_sequences(tmp_path: Path) -> None:
    _, sequences, _ = peeked(log().drop("ts", "hist_ts"), tmp_path)
    assert sequences == {}
    strangers = log().with_columns(hist_items=pl.col("hist_items").list.eval(pl.element() + 500))
    _, sequences, _ = peeked(strangers, tmp_path)
    assert sequences == {}


def test_text_ids_and_names_that_yaml_or_the_product_reserve(tmp_path: Path) -> None:
    rows = log().with_columns(pl.col("item").cast(pl.String), pl.col("hist_items").cast(pl.List(pl.String)))
    _, sequences, _ = peeked(rows.rename({"hist_items": "history"}), tmp_path)
    assert sequences == {"of-history": SequenceColumns(items="history", times="hist_ts")}


def test_columns_whose_names_are_alike_or_long_are_all_there(tmp_path: Path) -> None:
    vectors = ["my-emb-2", "my emb", "my-emb", "e" * 90, "é"]
    rows = log().drop("emb").with_columns(**{name: log(at)["emb"] for at, name in enumerate(vectors)})
    _, _, found = peeked(rows, tmp_path)
    assert sorted(found.values()) == sorted(vectors) and len(found) == len(vectors)
