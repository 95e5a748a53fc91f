"""Make examples/trivago.yaml's Parquet files: python examples/prepare/trivago.py FILE OUT [FROM TO]

FILE is train.csv of the RecSys Challenge 2019, or a part of it, as CSV or Parquet with the same columns. OUT gets
`trivago_hotels.parquet`, a row per hotel of every result list that was clicked, and `trivago_actions.parquet`, every
action. FROM and TO keep the actions of that time, in seconds since 1970, TO left out.
"""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl

CLICKOUT = pl.col("action_type") == "clickout item"
ABOUT = ["platform", "city", "device", "current_filters"]
LISTS = ["impressions", "prices"]


def read_log(file: Path, start: int | None = None, end: int | None = None) -> pl.DataFrame:
    """Return every action in time order, ties by session and step, with event_id, item_id and label."""
    raw = pl.read_parquet(file) if file.suffix == ".parquet" else pl.read_csv(file, infer_schema_length=None)
    log = raw.cast({"timestamp": pl.Int64, "step": pl.Int64, "reference": pl.String, **dict.fromkeys(LISTS, pl.String)})
    if start is not None and end is not None:
        log = log.filter(pl.col("timestamp").is_between(start, end, closed="left"))
    log = log.sort("timestamp", "user_id", "session_id", "step").with_row_index("event_id")
    return log.with_columns(
        pl.col("event_id").cast(pl.Int64),
        item_id=pl.col("reference").cast(pl.Int64, strict=False),
        label=CLICKOUT.cast(pl.Int8),
    )


def hotels(log: pl.DataFrame) -> pl.DataFrame:
    """Return a row per hotel shown: label 1 for the one that was clicked; request_id counts the lists."""
    lists = log.filter(CLICKOUT & pl.col("impressions").is_not_null()).drop("event_id", "item_id", "label")
    lists = lists.with_row_index("request_id").with_columns(
        pl.col("request_id").cast(pl.Int64), *(pl.col(name).str.split("|") for name in LISTS)
    )
    lists = lists.with_columns(
        position=pl.int_ranges(pl.col("impressions").list.len().cast(pl.Int64)),
        n_impressions=pl.col("impressions").list.len().cast(pl.Int16),
    )
    shown = lists.explode("impressions", "prices", "position").with_columns(price=pl.col("prices").cast(pl.Int32))
    rows = shown.with_columns(
        pl.col("position").cast(pl.Int16),
        item_id=pl.col("impressions").cast(pl.Int64),
        label=(pl.col("impressions") == pl.col("reference")).cast(pl.Int8),
        price_rank=pl.col("price").rank("min").over("request_id").cast(pl.Int16),
    ).with_row_index("event_id")
    ids = ["timestamp", "user_id", "item_id", "label", "request_id", "session_id", "step"]
    shape = ["position", "price", "price_rank", "n_impressions"]
    return rows.select(pl.col("event_id").cast(pl.Int64), *ids, *shape, *ABOUT)


def main(file: Path, out: Path, start: int | None = None, end: int | None = None) -> None:
    """Write both files."""
    out.mkdir(parents=True, exist_ok=True)
    log = read_log(file, start, end)
    ids = ["event_id", "user_id", "session_id", "timestamp", "step", "action_type", "reference"]
    log.select(*ids, *ABOUT, "item_id", "label").write_parquet(out / "trivago_actions.parquet")
    rows = hotels(log)
    rows.write_parquet(out / "trivago_hotels.parquet")
    print(f"{len(log):,} actions, {len(rows):,} hotels shown in {rows['request_id'].n_unique():,} lists in {out}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:5]))
