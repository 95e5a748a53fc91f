"""Servers that are started once, and a place in one per test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import pytest

from recdistill.storage.objects import ObjectPath
from tests.support.object_stores import STORES, bucket_url, environment, object_store

Bucket = Callable[[str], ObjectPath]


@pytest.fixture(scope="session")
def address() -> Iterator[Callable[[str], str]]:
    """Give the address of a server by its name, started when it is first asked for."""
    with ExitStack() as servers:
        yield cache(lambda name: servers.enter_context(object_store(name)))


@pytest.fixture
def bucket_of(address: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """Give a place of the test's own in a server's bucket, with its cache in the test's folder."""

    def place(name: str) -> ObjectPath:
        for variable, value in environment(name, address(name)).items():
            monkeypatch.setenv(variable, value)
        monkeypatch.setenv("RECDISTILL_CACHE", str(tmp_path / "cache"))
        return ObjectPath.parse(f"{bucket_url(name)}/{tmp_path.name}")

    return place


@pytest.fixture(params=STORES)
def bucket(request: pytest.FixtureRequest, bucket_of: Bucket) -> ObjectPath:
    """A place in each of the servers."""
    return bucket_of(request.param)
