"""Rounds of a loop: users come, a server ranks what they may be shown, they click, and the outcomes are sent back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from recdistill.data.readers.simulated_users import Clicks, SimulatedUsers, Visits
from recdistill.data.readers.simulator import LIST
from recdistill.defaults import SECOND
from recdistill.errors import UserError
from recdistill.evaluate.closed_loop import LoopPoint, expected_gauc
from recdistill.serve.histories_file import HistoriesFile
from recdistill.serve.request import Request
from recdistill.serve.scorer import Scorer
from recdistill.typing import Array

__all__ = ["Rounds", "Server"]

MAX_OUTCOMES = 500  # of one call
Answer = tuple[list[float], int, str]  # scores of the first task, version, whose history


class Server:
    """A server's routes, over one connection. seconds: of an answer."""

    def __init__(self, address: str, seconds: float = 30.0) -> None:
        self._link = HTTPConnection(urlsplit(address).netloc, timeout=seconds)

    def rank(self, number: str, body: dict[str, Any], task: str) -> Answer:
        """Return an answer to the request `number`; UserError for a refusal."""
        found = self._post("/v1/rank", body, {"x-request-id": number})
        return found["scores"][task], found["version"], found["history"]

    def feedback(self, outcomes: Sequence[dict[str, Any]]) -> None:
        """Tell how what was served has ended."""
        for at in range(0, len(outcomes), MAX_OUTCOMES):
            self._post("/v1/feedback", {"outcomes": outcomes[at : at + MAX_OUTCOMES]}, {})

    def version(self) -> int:
        """Return the version that is served."""
        return int(self._asked("GET", "/readyz", "", {})["version"])

    def _post(self, path: str, body: dict[str, Any], headers: dict[str, str]) -> dict[str, Any]:
        return self._asked("POST", path, json.dumps(body), {"content-type": "application/json", **headers})

    def _asked(self, *request: Any) -> dict[str, Any]:
        """Return the answer to a request: method, path, body, headers."""
        try:
            status, answer = self._exchange(*request)
        except ConnectionError:  # a server closes a connection that stood idle; what is sent twice counts once
            self._link.close()
            status, answer = self._exchange(*request)
        found: dict[str, Any] = json.loads(answer)
        if status != 200:
            raise UserError(f"{request[1]}: {status}: {found.get('error')}")
        return found

    def _exchange(self, *request: Any) -> tuple[int, bytes]:
        self._link.request(*request)
        answer = self._link.getresponse()
        return answer.status, answer.read()


class Rounds:
    """Plays rounds against a server. frozen: the first version, which never learns, with the same kept histories."""

    def __init__(self, users: SimulatedUsers, server: Server, frozen: Scorer, kept: HistoriesFile) -> None:
        self.users, self.server, self.frozen, self.kept = users, server, frozen, kept
        self.task = frozen.artefact.manifest.tasks[0]
        self._waiting: list[tuple[int, dict[str, Any]]] = []  # outcomes, and when they are known
        self.done = self.sent = 0  # visits, and outcomes that the server was given

    def play(self, first: int, count: int) -> LoopPoint:
        """Let the visits from `first` on happen, and return how good their lists were."""
        visits = self.users.visits(first, count)
        bodies = [_body(visits, r) for r in range(len(visits.number))]
        asked = list(zip(visits.number, bodies, strict=True))
        answers = [self.server.rank(f"visit-{number}", body, self.task) for number, body in asked]
        orders: dict[str, Array] = {
            "student": np.array([scores for scores, _, _ in answers]),
            "frozen": np.array([self._frozen(body) for body in bodies]),
            "random": np.asarray(np.random.default_rng(first).random(visits.items.shape)),
            "best": self.users.probability(visits, visits.items, np.zeros(1, np.int64)),
        }
        lists = {whose: _best(visits.items, scores) for whose, scores in orders.items()}
        places = np.arange(LIST)
        clicks = {
            whose: float(self.users.probability(visits, items, places).sum(1).mean()) for whose, items in lists.items()
        }
        gauc = {whose: expected_gauc(orders[whose], orders["best"]) for whose in ("student", "frozen")}
        happened = self.users.click(visits, lists["student"])
        self._waiting += _outcomes(visits, lists["student"], happened)
        self.done += len(answers)
        away = sum(history == "away" for _, _, history in answers)
        versions = sorted({version for _, version, _ in answers})
        return LoopPoint(self.done, versions, clicks, float(happened.clicked.sum(1).mean()), gauc, away)

    def _frozen(self, body: dict[str, Any]) -> Array:
        past = self.kept.of(str(body["user"]))
        request = Request(body["user"], body["items"], body["time"], body["features"], body["item_features"], past)
        return self.frozen.rank(request)[:, 0]

    def send(self, first: int) -> None:
        """Send the outcomes that are known when visit `first` begins."""
        self._send(int(self.users.visits(first, 1).time[0]))

    def finish(self) -> None:
        """Send the outcomes that are left."""
        self._send(1 << 62)

    def _send(self, now: int) -> None:
        due = sorted((one for one in self._waiting if one[0] <= now), key=lambda one: one[0])
        self._waiting = [one for one in self._waiting if one[0] > now]
        self.server.feedback([outcome for _, outcome in due])
        self.sent += len(due)


def _body(visits: Visits, r: int) -> dict[str, Any]:
    """Return a visit as a request. Nobody knows yet where an item will stand: all stand first."""
    return {
        "user": int(visits.user[r]),
        "items": visits.items[r].tolist(),
        "time": int(visits.time[r]) / SECOND,
        "features": {"device": int(visits.device[r]), "position": 0},
        "item_features": {"topic": visits.topic[r].tolist(), "age_days": visits.age_days[r].tolist()},
    }


def _best(items: Array, scores: Array) -> Array:
    """Return int64 [R, LIST], the items of the highest scores, the best first."""
    return np.take_along_axis(items, np.argsort(-scores, axis=1, kind="stable")[:, :LIST], 1)


def _outcomes(visits: Visits, items: Array, clicks: Clicks) -> list[tuple[int, dict[str, Any]]]:
    """Return the positives as (when they are known, us; the body's outcome)."""
    found = []
    of_task = (("click", clicks.clicked, clicks.click_known), ("finish", clicks.finished, clicks.finish_known))
    for task, happened, known in of_task:
        for r, k in zip(*np.nonzero(happened), strict=True):
            at = int(known[r, k])
            one = {"request": f"visit-{visits.number[r]}", "item": int(items[r, k]), "task": task, "label": 1}
            found.append((at, {**one, "time": at / SECOND}))
    return found
