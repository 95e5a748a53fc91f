"""Make examples/movielens-100k.yaml's Parquet file: python examples/prepare/movielens.py FOLDER OUT

FOLDER is GroupLens' ml-100k, unpacked (u.data, u.item, u.user). OUT gets `movielens_100k.parquet`: a row per rating in
time order, ties by user and item.
"""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl

GENRES = (
    "unknown|Action|Adventure|Animation|Children's|Comedy|Crime|Documentary|Drama|Fantasy|Film-Noir|Horror|Musical|"
    "Mystery|Romance|Sci-Fi|Thriller|War|Western"
).split("|")


def read_fields(path: Path, columns: list[str], separator: str) -> pl.DataFrame:
    """Return a Latin-1 file without header as columns of strings."""
    lines = path.read_text(encoding="latin-1").splitlines()
    rows = [line.split(separator)[: len(columns)] for line in lines]
    return pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String), orient="row")


def read_items(folder: Path) -> pl.DataFrame:
    """Return item_id, movie_title, release_year and class, the genres with spaces between."""
    items = read_fields(folder / "u.item", ["item_id", "title", "date", "video", "url", *GENRES], "|")
    flags = [pl.when(pl.col(genre) == "1").then(pl.lit(genre)) for genre in GENRES]
    return items.select(
        pl.col("item_id").cast(pl.Int64),
        movie_title=pl.col("title").str.replace(r"\s*\(\d{4}\)\s*$", ""),
        release_year=pl.col("title").str.extract(r"\((\d{4})\)\s*$").fill_null("unknown"),
        **{"class": pl.concat_str(flags, separator=" ", ignore_nulls=True)},
    )


def read_ratings(folder: Path) -> pl.DataFrame:
    """Return the log: event_id, timestamp (s), user_id, item_id, label (rating of 4 or more), rating, features."""
    ratings = read_fields(folder / "u.data", ["user_id", "item_id", "rating", "timestamp"], "\t")
    users = read_fields(folder / "u.user", ["user_id", "age", "gender", "occupation", "zip_code"], "|")
    users = users.cast({"user_id": pl.Int64, "age": pl.Int64})
    rows = ratings.cast({"user_id": pl.Int64, "item_id": pl.Int64, "rating": pl.Float32, "timestamp": pl.Int64})
    rows = rows.sort("timestamp", "user_id", "item_id").with_row_index("event_id")
    rows = rows.with_columns(pl.col("event_id").cast(pl.Int64), label=(pl.col("rating") >= 4).cast(pl.Int8))
    joined = rows.join(users, on="user_id", how="left", maintain_order="left")
    joined = joined.join(read_items(folder), on="item_id", how="left", maintain_order="left")
    about = ["age", "gender", "occupation", "zip_code", "movie_title", "release_year", "class"]
    return joined.select("event_id", "timestamp", "user_id", "item_id", "label", "rating", *about)


def main(folder: Path, out: Path) -> None:
    """Write the file."""
    out.mkdir(parents=True, exist_ok=True)
    rows = read_ratings(folder)
    rows.write_parquet(out / "movielens_100k.parquet")
    print(f"{len(rows):,} ratings of {rows['user_id'].n_unique():,} users in {out}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
