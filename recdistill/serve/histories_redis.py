"""Histories in Redis: one look-up per request, and none at all for a while after one that failed.

recdistill:past:USER    the record of a user (histories_record.py), USER the id as text
recdistill:about        JSON: format, length (events kept of a user), looked (when they were last brought up to date)

`recdistill histories RUN --to URL` writes them; any other program may, in the same words.
"""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import urlsplit

from recdistill.errors import UserError
from recdistill.serve.histories_file import FORMAT, past_of
from recdistill.serve.request import Past

__all__ = ["ABOUT", "PAST", "RedisHistories", "connect", "place_of"]

ABOUT, PAST = "recdistill:about", "recdistill:past:"
TIMEOUT = 0.05  # seconds that a look-up may take
REST = 1.0  # seconds without look-ups after one that failed


def place_of(url: str) -> str:
    """Return a Redis address as it may be shown: without user and password."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def connect(url: str, seconds: float) -> Any:
    """Return a client of redis://HOST:PORT/NUMBER, unconnected; seconds: until an answer. Raises UserError where the
    library is missing, or for what is no address.
    """
    try:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ModuleNotFoundError:
        raise UserError("histories in Redis need its library; install it: pip install 'recdistill[redis]'") from None
    try:
        return redis.Redis.from_url(
            url, socket_timeout=seconds, socket_connect_timeout=seconds, retry=Retry(NoBackoff(), 0)
        )
    except ValueError as error:
        raise UserError(f"{place_of(url)}: no address of Redis, as redis://HOST:6379/0: {error}") from None


class RedisHistories:
    """The histories at a Redis address. Raises UserError where it answers and holds none of this format; one that does
    not answer may come back.
    """

    def __init__(self, url: str) -> None:
        self.place, self.client = place_of(url), connect(url, TIMEOUT)
        self._rests_until = 0.0
        try:
            about = self.about()
        except ConnectionError:
            return
        if about.get("format") != FORMAT:
            raise UserError(f"{self.place}: no histories there; fill it with: recdistill histories RUN --to URL")

    def _get(self, key: str) -> bytes | None:
        """Return a value; ConnectionError where Redis does not give it, or did not a moment ago."""
        from redis.exceptions import RedisError

        if time.monotonic() < self._rests_until:
            raise ConnectionError(f"{self.place}: did not answer a moment ago")
        try:
            found: bytes | None = self.client.get(key)
            return found
        except (RedisError, OSError) as error:
            self._rests_until = time.monotonic() + REST
            raise ConnectionError(f"{self.place}: {error}") from None

    def about(self) -> dict[str, Any]:
        """Return what is known of the histories, nothing where there are none; ConnectionError as `of`."""
        found = self._get(ABOUT)
        try:
            tree = json.loads(found or b"{}")
        except ValueError:
            tree = None
        return tree if isinstance(tree, dict) else {}

    def of(self, user: str) -> Past | None:
        """Return a user's kept events, None for one without; ConnectionError where Redis does not give them."""
        record = self._get(PAST + user)
        try:
            return past_of(record)
        except (ValueError, KeyError, TypeError):
            raise ConnectionError(f"{self.place}: {PAST}{user} is no history") from None

    def length(self) -> int:
        """Return how many known events are kept of a user; ConnectionError as `of`, UserError where nobody wrote it."""
        found = self.about().get("length")
        if type(found) is not int:
            raise UserError(f"{self.place}: {ABOUT}: its length, a whole number, was expected")
        return found

    def age(self) -> float:
        """Return the seconds since they were last brought up to date; infinity where Redis does not answer."""
        try:
            return max(0.0, time.time() - float(self.about()["looked"]))
        except (ConnectionError, KeyError, TypeError, ValueError):
            return float("inf")
