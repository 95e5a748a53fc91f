"""The few operations that a run needs of its place: the same in a folder and at three servers of object stores."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from recdistill.errors import UserError
from recdistill.storage.location import (
    Location,
    create,
    local_path,
    location,
    names,
    new_file,
    of_this_machine,
    remove,
    write,
)
from recdistill.storage.objects import ObjectPath
from tests.support.object_stores import BUCKET, EVERYWHERE, SECRET, bucket_url, environment, everywhere, free_port

WRITERS = 16


@pytest.fixture(params=["folder", *EVERYWHERE])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    return tmp_path / "place" if request.param == "folder" else request.getfixturevalue("bucket_of")(request.param)


def test_what_is_written_is_read_listed_and_deleted(place: Location) -> None:
    assert not place.exists() and names(place) == set()
    write(place / "a.json", b"old")
    write(place / "a.json", b"new")
    write(place / "folder" / "b", b"")
    assert (place / "a.json").read_bytes() == b"new" and (place / "a.json").read_text() == "new"
    assert (place / "a.json").stat().st_size == 3 and (place / "folder" / "b").stat().st_size == 0
    assert place.is_dir() and (place / "folder").is_dir() and not (place / "a.json").is_dir()
    assert (place / "a.json").is_file() and not (place / "folder").is_file()
    assert names(place) == {"a.json", "folder"} and names(place / "folder") == {"b"}
    remove(place / "folder")
    assert names(place) == {"a.json"}
    remove(place / "absent")
    remove(place)
    assert not place.exists()


def test_a_name_that_begins_like_another_is_another(place: Location) -> None:
    write(place / "run" / "a", b"1")
    write(place / "run2" / "a", b"2")
    remove(place / "run")
    assert not (place / "run").exists() and names(place) == {"run2"}


def test_what_is_not_there_is_a_missing_file(place: Location) -> None:
    for look in ("read_bytes", "read_text", "stat"):
        with pytest.raises(FileNotFoundError):
            getattr(place / "absent", look)()


def test_of_several_writers_one_creates_an_object(place: Location) -> None:
    with ThreadPoolExecutor(WRITERS) as pool:
        for round_ in range(4):
            path = place / f"race-{round_}"
            won = list(pool.map(lambda n, path=path: create(path, b"%d" % n), range(WRITERS)))
            assert won.count(True) == 1 and path.read_bytes() == b"%d" % won.index(True)
    assert len(names(place)) == 4


def test_a_new_file_is_there_once_it_is_written_and_not_at_all_when_that_fails(place: Location) -> None:
    with new_file(place / "deep" / "file") as file:
        file.write(b"x" * (7 << 20))  # more than one request takes
    assert (place / "deep" / "file").read_bytes() == b"x" * (7 << 20)
    with pytest.raises(OSError, match="full"), new_file(place / "other") as file:
        file.write(b"half")
        raise OSError("full")
    assert not (place / "other").exists()


@everywhere
def test_of_several_writers_one_swaps_an_object(bucket: ObjectPath) -> None:
    tag = bucket.write_bytes(b"first")
    with ThreadPoolExecutor(WRITERS) as pool:
        tags = list(pool.map(lambda n: bucket.swap(b"%d" % n, tag), range(WRITERS)))
    won = [n for n, new in enumerate(tags) if new is not None]
    assert len(won) == 1 and bucket.read_bytes() == b"%d" % won[0]
    assert bucket.stat().tag == tags[won[0]] and bucket.swap(b"late", tag) is None


@everywhere
def test_an_object_of_ones_own_is_no_other_writers(bucket: ObjectPath) -> None:
    assert bucket.create(b"mine")
    assert bucket.create(b"mine") and bucket.create(b"other") is None  # an answer that was lost is asked for again


def test_a_file_comes_down_as_it_went_up(bucket: ObjectPath, tmp_path: Path) -> None:
    bucket.write_bytes(bytes(range(256)) * 50_000)
    bucket.download(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == bucket.read_bytes()


@everywhere
def test_a_bucket_that_is_not_there_is_refused_by_its_name(bucket: ObjectPath) -> None:
    nowhere = ObjectPath(f"{bucket.bucket.partition(':')[0]}://no-such-bucket", "run")
    for act in (
        lambda: nowhere.write_bytes(b""),
        lambda: nowhere.create(b""),
        lambda: list(nowhere.iterdir()),
        nowhere.unlink,
    ):
        with pytest.raises(UserError, match="no-such-bucket.*no such bucket"):
            act()


@pytest.mark.needs("obstore")
def test_without_credentials_a_line_says_which_variables_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("recdistill.storage.objects.RETRIES", 0)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9/169.254.169.254")
    with pytest.raises(UserError, match="no credentials; set AWS_ACCESS_KEY_ID"):
        ObjectPath.parse("s3://bucket/run").write_bytes(b"")


@pytest.mark.needs("obstore")
@pytest.mark.parametrize("name", ["moto", "azurite"])
def test_a_store_that_does_not_answer_is_one_line_without_the_secret(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in environment(name, f"http://127.0.0.1:{free_port()}").items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr("recdistill.storage.objects.RETRIES", 0)
    with pytest.raises(UserError, match=f"{bucket_url(name)}/run: the store fails") as caught:
        ObjectPath.parse(f"{bucket_url(name)}/run").write_bytes(b"")
    assert SECRET not in str(caught.value) and "\n" not in str(caught.value)


AZURE: dict[str, str | None] = {"account_name": "an", "account_key": SECRET, "endpoint": "http://127.0.0.1:9/an"}


@pytest.mark.needs("obstore")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"account_name": None}, "no account; set AZURE_STORAGE_ACCOUNT_NAME"),
        ({"account_key": "with blanks"}, "the key of the account is not whole; see AZURE_STORAGE_ACCOUNT_KEY"),
        ({"account_key": None, "sas_token": "junk"}, "the token is not whole; see AZURE_STORAGE_SAS_TOKEN"),
        ({}, "its address is http; where that is meant, set AWS_ALLOW_HTTP"),
        ({"endpoint": "https://an.invalid"}, "there is no such host; see the account's name"),
    ],
)
def test_what_azure_needs_is_named(options: dict[str, str | None], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_ALLOW_HTTP", raising=False)
    for name, value in (AZURE | options).items():
        variable = f"AZURE_STORAGE_{name.upper()}"
        monkeypatch.setenv(variable, value) if value else monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("recdistill.storage.objects.RETRIES", 0)
    with pytest.raises(UserError, match=words):
        ObjectPath.parse("az://bucket/run").write_bytes(b"")


@pytest.mark.needs("obstore", "azurite-blob")
def test_a_key_that_is_not_the_accounts_is_named(
    bucket_of: Callable[[str], ObjectPath], monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = bucket_of("azurite")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", SECRET[::-1])
    with pytest.raises(UserError, match="the store does not accept the key or token; see AZURE_STORAGE_ACCOUNT_KEY"):
        bucket.write_bytes(b"")
    with pytest.raises(UserError, match="access denied; see its key or token"):  # the store answers with no code
        bucket.exists()


@pytest.mark.parametrize(
    "text", ["s3://bucket", "s3://bucket/", "s3:///run", "http://host/run", "s3://bucket/a//b", "s3://bucket/../b",
             "s3://bucket/a b", "s3://Bucket/run", "s3://bucket/run?x=1", "s4://bucket/run", "s4:/bucket/run", "S3://bucket/run",
             "s3:/bucket/run", "file:///tmp/run"],
)  # fmt: skip
def test_an_address_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="no address of a run"):
        location(text)


def test_an_address_is_taken_apart_and_put_together() -> None:
    place = location("s3://bucket/a/run.1/")
    assert isinstance(place, ObjectPath) and str(place) == "s3://bucket/a/run.1" and place.name == "run.1"
    assert str(place / "tables" / "events") == "s3://bucket/a/run.1/tables/events" and place.parent.name == "a"
    assert location("runs/mine") == Path("runs/mine")
    with pytest.raises(UserError, match="works on local folders only"):
        local_path(place)


@pytest.mark.parametrize("given", ["s3://bucket/run", Path("s3://bucket/run"), "s3:/bucket/run"])
def test_where_a_path_is_taken_an_address_is_refused_as_it_was_written(given: str | Path) -> None:
    with pytest.raises(UserError, match="^s3://bucket/run: this takes a path of this machine, not an address"):
        of_this_machine(given)
    assert of_this_machine("runs/mine") == of_this_machine(Path("runs/mine")) == Path("runs/mine")


@pytest.mark.parametrize(
    ("scheme", "variable"),
    [("s3", "AWS_ENDPOINT_URL"), ("gs", "GOOGLE_BASE_URL"), ("az", "AZURE_STORAGE_ACCOUNT_NAME")],
)
def test_stores_with_the_same_names_have_caches_of_their_own(
    scheme: str, variable: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RECDISTILL_CACHE", str(tmp_path))
    place = ObjectPath.parse(f"{scheme}://{BUCKET}/run")
    monkeypatch.setenv(variable, "http://one")
    one = place.local
    monkeypatch.setenv(variable, "http://other")
    assert tmp_path in one.parents and one != place.local and one.name == "run"


def test_without_its_package_an_address_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("obstore", "obstore.exceptions", "obstore.store"):
        monkeypatch.setitem(sys.modules, module, None)  # as where it is not installed
    place = ObjectPath.parse("s3://bucket/run")
    for asked in (place.read_bytes, place.exists, lambda: list(place.iterdir()), lambda: place.create(b"")):
        with pytest.raises(UserError, match=r"pip install 'recdistill\[objects\]'"):
            asked()
