"""The files of a published log: their names stand in one place, and what was looked at is the log's source."""

from __future__ import annotations

from pathlib import Path

import pytest

from recdistill.config.data import DataConfig
from recdistill.data.readers.factory import open_log
from recdistill.data.readers.published import PUBLISHED, PublishedFolder
from recdistill.errors import UserError
from tests.data.readers.test_public import put

RATINGS = "userId,movieId,rating,timestamp\n1,17,4.0,944249077\n"
FILMS = "movieId,title,genres\n17,Sense and Sensibility (1995),Drama|Romance\n"


def test_several_logs_in_one_folder_are_refused(tmp_path: Path) -> None:
    for size in ("ml-25m", "ml-32m"):
        put(tmp_path / "set" / size, {"ratings.csv": RATINGS, "movies.csv": FILMS})
    with pytest.raises(UserError, match=r"set: holds several: ml-25m/ratings.csv, ml-32m/ratings.csv; name the folder"):
        open_log(DataConfig(reader="movielens", path="set"), tmp_path)
    assert open_log(DataConfig(reader="movielens", path="set/ml-32m"), tmp_path).schema.tasks == ("like",)


def test_the_source_is_what_was_looked_at(tmp_path: Path) -> None:
    put(tmp_path / "set", {"ratings.csv": RATINGS, "movies.csv": FILMS, "links.csv": "movieId\n"})
    (source,) = open_log(DataConfig(reader="movielens", path="set"), tmp_path).sources
    assert source.path == tmp_path / "set" and {path.name for path in source.files} == {"ratings.csv", "movies.csv"}


def test_options_choose_among_the_files_of_a_part(tmp_path: Path) -> None:
    names = ("log_standard_a.csv", "log_random_a.csv", "log_other_a.csv")
    put(tmp_path, dict.fromkeys(names, "x\n"))
    folder = PublishedFolder("kuairand", tmp_path)
    assert [path.name for path in folder.files("standard", "random")] == sorted(names[:2])
    assert folder.file("random").name == names[1] and not folder.has("users")
    with pytest.raises(UserError, match=r"holds no user_features_\*.csv"):
        folder.files("users")


@pytest.mark.parametrize("reader", sorted(PUBLISHED))
def test_an_option_that_a_reader_does_not_have_is_refused(reader: str, tmp_path: Path) -> None:
    for name in {name for names in PUBLISHED[reader].files.values() for name in names}:
        put(tmp_path / "set", {name.replace("*", "x").replace("[A-Z]", "A"): "a,b\n1,2\n"})
    with pytest.raises(UserError, match=rf"data.options: the {reader} has no 'colour'"):
        open_log(DataConfig(reader=reader, path="set", options={"colour": "red"}), tmp_path)


def test_every_part_has_files_and_every_log_its_rows() -> None:
    for one in PUBLISHED.values():
        assert all(one.files.values()) and one.logs and all(one.logs.values())
        assert len(one.patterns) == sum(map(len, one.files.values()))
