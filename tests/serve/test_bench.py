"""The measuring of servers: what is sent, when, and what is counted; the verb from its line to its page."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recdistill.errors import UserError
from recdistill.serve import bench, bench_load
from recdistill.serve.artefact import open_artefact
from recdistill.serve.bench import Step, at_budget, step
from recdistill.serve.bench_load import Measured, arrivals, closed_loop, measured, open_loop
from recdistill.serve.bench_requests import drawn_requests, http_bytes, read_requests, request_of
from recdistill.serve.bench_run import Plan, run
from recdistill.serve.bench_server import started
from recdistill.serve.client import Address
from recdistill.serve.id_map import IdMap, write_id_map
from recdistill.serve.scorer import Scorer
from tests.support.artefacts import exported

FEATURES = ("data.columns.categorical=[topic]", "data.columns.numeric=[age_days]")


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory.mktemp("bench"))


@given(st.one_of(st.lists(st.integers(-(2**63), 2**63 - 1), unique=True), st.lists(st.text(), unique=True)))
def test_a_map_gives_back_its_ids(tmp_path_factory: pytest.TempPathFactory, ids: list[int] | list[str]) -> None:
    folder = tmp_path_factory.mktemp("map")
    write_id_map(folder, "ids", ids)
    known = IdMap(folder, "ids")
    found = known.ids(np.arange(len(known)))
    assert set(found) == set(ids) and all(known.places(found))


def test_drawn_requests_are_of_known_ids_and_values(artefact: Path) -> None:
    opened = open_artefact(artefact)
    for body in drawn_requests(opened, 7, 4, 3):
        assert opened.users.places([body["user"]]).all() and opened.items.places(body["items"]).all()
        assert len(body["items"]) == 7 and len(body["history"]["times"]) == 4
        assert set(body["item_features"]) == set(opened.schema.features)
        assert all(len(values) == 7 and None not in values for values in body["item_features"].values())
        assert np.isfinite(Scorer.open(artefact).rank(request_of(body))).all()
    assert drawn_requests(opened, 7, 4, 2) == drawn_requests(opened, 7, 4, 3)[:2]


@pytest.mark.parametrize(
    ("text", "line"), [("", "no requests"), ('{"items": [1]}\n[1]\n', ":2: a JSON object"), ("{", ":1: a")]
)
def test_a_file_of_requests_is_refused_by_its_line(tmp_path: Path, text: str, line: str) -> None:
    (tmp_path / "requests.jsonl").write_text(text)
    with pytest.raises(UserError, match=line):
        read_requests(tmp_path / "requests.jsonl")
    with pytest.raises(UserError, match="no such file"):
        read_requests(tmp_path / "nope.jsonl")


@given(st.floats(1, 1e4), st.floats(0.1, 5), st.integers(0, 9))
def test_arrivals_have_the_rate_and_are_in_order(rate: float, seconds: float, seed: int) -> None:
    due = arrivals(rate, seconds, seed)
    assert len(due) == max(2, round(rate * seconds)) and due[-1] == pytest.approx(seconds)
    assert (due > 0).all() and (np.diff(due) >= 0).all()


class Script(asyncio.Protocol):
    """A server that answers its n-th request by what `answers` makes of n; None ends the connection."""

    count = 0

    def __init__(self, answers: Callable[[int], bytes | None]) -> None:
        self.answers = answers

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        Script.count += 1
        answer = self.answers(Script.count)
        if answer is None:
            self.transport.abort()
        for at in range(0, len(answer or b""), 7):  # in pieces
            self.transport.write((answer or b"")[at : at + 7])


def against(answers: Callable[[int], bytes | None], work: Callable[[Address], Any]) -> Measured:
    async def both() -> Measured:
        server = await asyncio.get_running_loop().create_server(lambda: Script(answers), "127.0.0.1", 0)
        async with server:
            return await work(Address("127.0.0.1", server.sockets[0].getsockname()[1], False, "/"))

    Script.count = 0
    return measured(both())


def http(status: int, body: bytes = b"{}") -> bytes:
    return b"HTTP/1.1 %d x\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body


CHUNKED = b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"


def test_every_request_is_counted_by_what_became_of_it() -> None:
    kinds = (http(200), http(429), None, CHUNKED, http(503))
    found = against(lambda n: kinds[n % 5], lambda to: open_loop(to, [b"{}"], arrivals(2000, 0.1)))
    assert found.failures == {"429": 40, "503": 40, bench_load.LOST: 40}
    assert np.isfinite(found.latency).sum() == 80 and np.isfinite(found.lag).all()


def test_a_server_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_load, "PATIENCE", 0.05)
    found = against(lambda n: http(200) if n % 2 else b"", lambda to: open_loop(to, [b"{}"], arrivals(500, 0.02)))
    assert found.failures == {bench_load.LATE: 5} and np.isfinite(found.latency).sum() == 5


def test_a_latency_counts_from_the_time_a_request_was_due() -> None:
    """A request that could not be sent when it was due waited, whoever is to blame: no coordinated omission."""
    found = against(lambda n: http(200), lambda to: open_loop(to, [b"{}"], np.full(20, -0.5)))
    assert (found.latency >= 0.5).all() and (found.lag >= 0.5).all()


def test_with_every_connection_taken_requests_wait_and_none_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_load, "READY", 1)
    monkeypatch.setattr(bench_load, "CONNECTIONS", 2)
    found = against(lambda n: None if n == 3 else http(200), lambda to: open_loop(to, [b"{}"], arrivals(1e5, 1e-3)))
    assert found.failures == {bench_load.LOST: 1} and np.isfinite(found.latency).sum() == 99


def test_a_closed_loop_asks_again_when_it_is_answered() -> None:
    found = against(lambda n: http(200), lambda to: closed_loop(to, [b"{}"], 4, 0.1))
    assert len(found.latency) == Script.count > 4 and not found.failures


def made(rate: float, n: int, ms: float, lag: float = 0.0, failed: int = 0) -> Step:
    latency = np.r_[np.full(n - failed, ms / 1e3), np.full(failed, np.nan)]
    return step(rate, Measured(latency, np.full(n, lag / 1e3), {"429": failed}, n / rate + ms / 1e3), 10)


def test_a_rate_counts_when_it_was_kept_up_with_in_time_by_a_sender_in_time() -> None:
    assert made(100, 1000, 5).kept_up and not made(100, 1000, 5).late
    assert not made(100, 1000, 5, failed=2).kept_up and made(100, 1000, 5, lag=3).late
    assert made(100, 999, 5).latency[2:] == (pytest.approx(5), None)
    rates = [made(100, 1000, 5), made(200, 1000, 9), made(300, 1000, 11), made(400, 1000, 5, lag=3)]
    assert at_budget(rates, 10) is rates[1] and at_budget(rates, 4) is None


def test_steps_end_at_the_first_rate_that_is_not_kept_up_with(monkeypatch: pytest.MonkeyPatch) -> None:
    found = iter([Measured(np.full(n, 0.001), np.zeros(n), {}, s) for n, s in ((100, 1.0), (200, 2.0), (300, 1.0))])
    monkeypatch.setattr(bench, "measured", lambda work: work.close() or next(found))
    steps = list(bench.steps(Address("x", 1, False, "/"), [b"{}"], [100, 200, 300], 1.0, 10))
    assert [one.rate for one in steps] == [100, 200] and [one.kept_up for one in steps] == [True, False]


def plan(target: object, **changes: Any) -> Plan:
    given: dict[str, Any] = {"server": (), "candidates": 3, "events": None, "ids": None, "requests": None}
    return Plan(str(target), **{**given, "rates": (40.0,), "seconds": 0.5, "p99": 1e4, **changes})


def test_an_artefact_is_served_and_measured(artefact: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found = run(plan(artefact, server=("--threads", "1")))
    assert found.model == "teacher version 1" and found.candidates == 3
    assert found.steps[0].sent == 20 and found.steps[0].failures == {}
    printed = capfd.readouterr().out
    assert "3 candidates and 5 events a request" in printed and "too few requests for a p99" in printed


def test_a_server_that_runs_is_measured_by_its_address(artefact: Path, tmp_path: Path) -> None:
    (tmp_path / "requests.jsonl").write_text(json.dumps({"items": [1, 2]}) + "\n")
    with started(artefact) as server:
        assert run(plan(server.url, ids=artefact)).candidates == 3
        assert run(plan(server.url, requests=tmp_path / "requests.jsonl", rates=())).most
        with pytest.raises(UserError, match="give --ids ARTEFACT or --requests FILE"):
            run(plan(server.url))
        with pytest.raises(UserError, match="this one runs already"):
            run(plan(server.url, ids=artefact, server=("--threads", "1")))
        (tmp_path / "requests.jsonl").write_text('{"items": []}')
        with pytest.raises(UserError, match="422: items: "):
            run(plan(server.url, requests=tmp_path / "requests.jsonl"))
    with pytest.raises(UserError, match="connection refused"):
        run(plan(server.url, ids=artefact))


def test_the_head_of_a_request_is_whole(artefact: Path) -> None:
    (found,) = http_bytes(Address.of("http://h:1/x"), "secret", [{"items": ["ü"]}])
    head, _, body = found.partition(b"\r\n\r\n")
    assert b"POST /x/v1/rank HTTP/1.1" in head and b"Bearer secret" in head
    assert f"Content-Length: {len(body)}".encode() in head and json.loads(body) == {"items": ["ü"]}
