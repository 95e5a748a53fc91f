"""MovieLens as GroupLens publishes it (https://grouplens.org/datasets/movielens, README of each); which one, the
folder's files show.

100K: u.data (tabs), u.item and u.user ('|', Latin-1), genres as 19 flags. 1M: ratings.dat, movies.dat, users.dat ('::',
Latin-1). 10M: ratings.dat, movies.dat ('::', UTF-8). 20M, 25M, 32M: ratings.csv, movies.csv. Times are seconds since
1970.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from recdistill.config.data import ColumnsConfig, DataConfig, TaskColumn
from recdistill.data.readers.base import Log
from recdistill.data.readers.files import RawTable, read_latin1, scan_csv, scan_text
from recdistill.data.readers.options import read_options
from recdistill.data.readers.published import PublishedFolder
from recdistill.data.readers.rows import EventReader

__all__ = ["MovieLensOptions", "read_movielens"]

INTEGER, NUMBER = pl.Int64(), pl.Float64()
RATINGS: dict[str, pl.DataType] = {"userId": INTEGER, "movieId": INTEGER, "rating": NUMBER, "timestamp": INTEGER}
GENRES = (
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)
YEAR = pl.col("title").str.extract(r"\((\d{4})\)\s*$").alias("year")


@dataclass(frozen=True)
class MovieLensOptions:
    """at_least: ratings from here on are liked (label 1), the others not."""

    at_least: float = 4.0


def read_movielens(config: DataConfig, folder: PublishedFolder) -> Log:
    """Return the ratings in time order, with year and genres, and age, gender, occupation where they are given.

    Sorting needs all ratings in memory (25 million: about 3 GB). Raises UserError for a folder that is no MovieLens.
    """
    options = read_options(config, MovieLensOptions)
    ratings, movies, users = _tables(folder)
    movies = movies.select("movieId", YEAR, "genres")
    people = [] if users is None else ["age", "gender", "occupation"]

    def prepare(chunk: pl.DataFrame) -> pl.DataFrame:
        joined = chunk.join(movies, on="movieId", how="left", maintain_order="left")
        return joined if users is None else joined.join(users, on="userId", how="left", maintain_order="left")

    columns = ColumnsConfig(
        time="timestamp",
        user="userId",
        item="movieId",
        tasks={"like": TaskColumn(column="rating", at_least=options.at_least)},
        categorical=["year", *people],
        lists={"genres": "|"},
    )
    events = EventReader(ratings, columns, sort=True, prepare=prepare, needs=tuple(RATINGS))
    return Log(events.mapped()[0], events.chunks, None, str(ratings.path), ("year", "genres"))


def _tables(folder: PublishedFolder) -> tuple[RawTable, pl.DataFrame, pl.DataFrame | None]:
    """Return (ratings, movies, users or None), every value as text."""
    path, films = folder.file("ratings"), folder.file("films")
    if path.suffix == ".csv":
        return scan_csv([path]), scan_csv([films]).frame.collect(), None
    if path.suffix == ".dat":
        names = ["userId", "gender", "age", "occupation", "zip"]
        users = read_latin1(folder.file("users"), names, "::") if folder.has("users") else None  # not in 10M
        return scan_text(path, RATINGS, "::"), read_latin1(films, ["movieId", "title", "genres"], "::"), users
    items = read_latin1(films, ["movieId", "title", "date", "video", "url", *GENRES], "|")
    flags = [pl.when(pl.col(genre) == "1").then(pl.lit(genre)) for genre in GENRES]
    movies = items.with_columns(genres=pl.concat_str(flags, separator="|", ignore_nulls=True))
    users = read_latin1(folder.file("users"), ["userId", "age", "gender", "occupation", "zip"], "|")
    return scan_text(path, RATINGS, "\t"), movies, users
