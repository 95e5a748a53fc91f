"""Histories in a real Redis: what the file has is there, whatever either of them went through; away is no delay."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import redis

from recdistill.errors import UserError
from recdistill.serve import histories_redis
from recdistill.serve.histories_file import FILE, HistoriesFile
from recdistill.serve.histories_redis import RedisHistories, place_of
from recdistill.stream.event_log import Journal
from recdistill.stream.histories.process import run_histories
from recdistill.stream.histories.redis_mirror import RedisMirror
from recdistill.stream.histories.store import HistoriesStore
from tests.stream.histories.test_follower import follower_of, run_of
from tests.support.programs import needs
from tests.support.redis_server import free_port, redis_server
from tests.support.runs import tiny
from tests.support.tables import events

pytestmark = needs("redis-server")


def test_redis_has_what_the_file_has_and_follows_it(tmp_path: Path) -> None:
    folder, log = run_of(tmp_path / "run", 30)
    with redis_server(tmp_path) as url:
        run_histories(folder, tiny(), url, 4, once=True)
        kept = RedisHistories(url)
        assert kept.length() == 4 and 0 <= kept.age() < 600
        log.append(events([30]), writer="ingest", sequence=1)
        run_histories(folder, tiny(), url, 4, once=True)
        file = HistoriesFile(folder.root)
        for user in ("0", "1", "2"):
            assert kept.of(user) == file.of(user) is not None
        assert kept.of("nobody") is None


def test_a_redis_that_lost_its_data_gets_all_of_it_again(tmp_path: Path) -> None:
    run_of(tmp_path / "run", 30)
    follower = follower_of(tmp_path / "run", tiny(), 4)
    with redis_server(tmp_path) as url:
        mirror = RedisMirror(url, follower.store, Journal(tmp_path / "logs", "t"), 0)
        assert mirror.push() == 3 and mirror.push() == 0
        mirror.client.flushall()
        assert mirror.push() == 3
        follower.length = 9
        follower.begin()
        assert mirror.push() == 3 and RedisHistories(url).length() == 9


def test_histories_of_another_run_are_not_written_over(tmp_path: Path) -> None:
    with redis_server(tmp_path) as url:
        for name in ("one", "other"):
            folder, _ = run_of(tmp_path / name, 9)
            if name == "one":
                run_histories(folder, tiny(), url, 4, once=True)
                continue
            with pytest.raises(UserError, match="holds the histories of another run; choose another number"):
                run_histories(folder, tiny(), url, 4, once=True)


def test_away_costs_one_time_out_and_then_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    kept = RedisHistories(f"redis://127.0.0.1:{port}/0")  # a server starts without it
    asked: list[str] = []
    monkeypatch.setattr(kept.client, "get", lambda key: asked.append(key))
    for _ in range(5):
        with pytest.raises(ConnectionError, match="did not answer a moment ago"):
            kept.of("1")
    assert asked == [] and kept.age() == float("inf")
    monkeypatch.undo()
    folder, _ = run_of(tmp_path / "run", 9)
    with redis_server(tmp_path, port) as url:
        run_histories(folder, tiny(), url, 4, once=True)
        monkeypatch.setattr(kept, "_rests_until", 0.0)
        assert kept.of("1") == HistoriesFile(folder.root).of("1")


def test_what_is_no_history_in_redis(tmp_path: Path) -> None:
    with redis_server(tmp_path) as url:
        with pytest.raises(UserError, match="no histories there; fill it with: recdistill histories RUN --to URL"):
            RedisHistories(url)
        client = redis.Redis.from_url(url)
        client.set(histories_redis.ABOUT, json.dumps({"format": 1, "length": 3, "looked": time.time()}))
        client.set(histories_redis.PAST + "1", "nothing")
        client.set(histories_redis.ABOUT + "", json.dumps({"format": 1}))
        with pytest.raises(UserError, match="recdistill:about: its length, a whole number, was expected"):
            RedisHistories(url).length()
        kept = RedisHistories(url)
        assert kept.of("2") is None
        with pytest.raises(ConnectionError, match="recdistill:past:1 is no history"):
            kept.of("1")


def test_an_address_is_shown_without_its_password() -> None:
    assert place_of("redis://me:secret@host:1/2") == "redis://host:1/2"
    with pytest.raises(UserError, match="ftp://host: no address of Redis"):
        RedisHistories("ftp://me:secret@host")


def test_a_mirror_waits_no_longer_than_it_may(tmp_path: Path) -> None:
    run_of(tmp_path / "run", 3)
    store = HistoriesStore(tmp_path / "run" / FILE)
    follower_of(tmp_path / "run", tiny(), 4)
    store.about = store._read_about()
    mirror = RedisMirror(f"redis://127.0.0.1:{free_port()}/0", store, Journal(tmp_path / "logs", "t"), 0)
    with pytest.raises(UserError, match="the broker does not answer"):
        mirror.push()
