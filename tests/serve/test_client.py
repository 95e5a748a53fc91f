"""The clients against a server in a process of its own; busy and broken servers answer from a script."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from recdistill.errors import UserError
from recdistill.serve.bench_server import started
from recdistill.serve.client import Address, AsyncClient, Client, RankError
from recdistill.serve.limits import TOKEN
from recdistill.serve.request import Past, Request
from recdistill.serve.scorer import Scorer
from tests.support.artefacts import exported

PAST = {"items": [1, 2], "times": [1e8, 2e8], "actions": ["positive", "negative"]}


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory.mktemp("client"))


@pytest.fixture(scope="module")
def url(artefact: Path) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch, started_with_token(artefact, patch) as found:
        yield found


@contextmanager
def started_with_token(artefact: Path, patch: pytest.MonkeyPatch) -> Iterator[str]:
    patch.setenv(TOKEN, "open sesame")
    with started(artefact) as server:
        yield server.url


def test_a_client_gets_the_scorers_numbers(url: str, artefact: Path) -> None:
    past = Past(PAST["items"], PAST["times"], PAST["actions"])  # type: ignore[arg-type]
    scorer = Scorer.open(artefact)
    wanted = scorer.rank(Request(3, [1, 2, 3], 1e9, history=past))
    with Client(url, "open sesame") as client:
        for items in ([1, 2, 3], np.array([1, 2, 3])):  # the second over the connection of the first
            answer = client.rank(items, user=3, time=1e9, history=PAST)
            assert (answer.model, answer.version) == ("teacher", 1)
            assert answer.scores == {t: wanted[:, k].tolist() for k, t in enumerate(scorer.artefact.manifest.tasks)}


def test_many_tasks_share_an_asynchronous_client(url: str) -> None:
    async def ask() -> list[list[float]]:
        async with AsyncClient(url, "open sesame", seconds=60) as client:
            answers = await asyncio.gather(*(client.rank([1 + n % 3], user=n % 2, time=1e9) for n in range(40)))
        return [next(iter(one.scores.values())) for one in answers]

    found = asyncio.run(ask())
    assert all(len(one) == 1 for one in found) and found[:6] == found[6:12] and found[0] != found[1]


@pytest.mark.parametrize(
    ("token", "items", "line"),
    [
        ("wrong", [1], "401: give the token"),
        ("open sesame", [], "422: items: "),
        ("open sesame", ["x"], "422: items: "),
    ],
)
def test_a_refusal_is_the_servers_own_line(url: str, token: str, items: list[object], line: str) -> None:
    with Client(url, token) as client, pytest.raises(RankError, match=line) as caught:
        client.rank(items)
    assert caught.value.status == int(line[:3])


@contextmanager
def scripted(*answers: bytes) -> Iterator[str]:
    """Listen, and give each request the next answer; an empty one ends the connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def work() -> None:
            left = list(answers)
            while left:
                with server.accept()[0] as link:
                    while left and _read(link):
                        answer = left.pop(0)
                        if not answer:
                            break
                        link.sendall(answer)
                    else:
                        _read(link)  # until the client has done with it

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def _read(link: socket.socket) -> bool:
    """Read one request; False where the connection ended."""
    got = b""
    while not got.endswith(b"}"):
        part = link.recv(1 << 16)
        if not part:
            return False
        got += part
    return True


def http(status: int, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} x", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


GOOD = http(200, b'{"model": "m", "version": 2, "scores": {"click": [0.5]}}')
BUSY = http(429, b'{"error": "too many"}', "Retry-After: 0")


@pytest.mark.parametrize(
    "answers",
    [(BUSY, http(503, b"{}", "Retry-After: 0"), GOOD), (BUSY, b"", GOOD)],
    ids=["busy", "busy, and the connection was closed meanwhile"],
)
def test_a_busy_server_is_asked_again(answers: tuple[bytes, ...]) -> None:
    with scripted(*answers) as url, Client(url) as client:
        assert client.rank([1]).version == 2


@pytest.mark.parametrize(
    ("answer", "status", "line"),
    [
        (http(429, b'{"error": "too many"}', "Retry-After: 3600"), 429, "429: too many"),
        (http(200, b"<html>"), 200, "not one of recdistill serve"),
        (http(200, b"[]"), 200, "not one of recdistill serve"),
        (b"", None, "the connection ended without an answer"),
        (b"HTTP/1.1 200 x\r\nContent-Length: 5\r\n\r\nab", None, "no answer in time"),
        (b"nonsense\r\n\r\n", None, "the connection ended"),
    ],
    ids=["busy for longer than there is time", "a page", "a list", "ends", "half an answer", "no HTTP"],
)
def test_what_is_no_answer_is_one_error(answer: bytes, status: int | None, line: str) -> None:
    with scripted(answer) as url, Client(url, seconds=0.5) as client:
        with pytest.raises(RankError, match=line) as caught:
            client.rank([1])
    assert caught.value.status == status


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with Client(f"http://127.0.0.1:{port}") as client, pytest.raises(RankError, match="connection refused"):
        client.rank([1])


def test_what_is_no_json_is_refused_before_it_is_sent() -> None:
    for items in ([float("nan")], [object()]):
        with pytest.raises(UserError, match="what JSON can hold"):
            Client("http://127.0.0.1:1").rank(items)


def test_addresses() -> None:
    assert Address.of("https://ranker.example/eu/") == ("ranker.example", 443, True, "/eu/v1/rank")
    assert Address.of("http://[::1]:80") == ("::1", 80, False, "/v1/rank")
    for wrong in ("ranker:8378", "ftp://x", "http://", "http://x:y", "http://[::1"):
        with pytest.raises(UserError, match="an address such as"):
            Address.of(wrong)
