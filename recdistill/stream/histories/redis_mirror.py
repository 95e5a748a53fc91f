"""The file of histories, mirrored into Redis: whole records, so that one written twice does no harm.

Redis says up to which revision of the file it has everything; what changed after that is sent. A Redis that lost its
data says nothing, and gets everything.
"""

from __future__ import annotations

import json

from redis.exceptions import RedisError

from recdistill.errors import UserError
from recdistill.serve.histories_file import FORMAT
from recdistill.serve.histories_redis import ABOUT, PAST, connect, place_of
from recdistill.stream.event_log import Journal
from recdistill.stream.histories.store import HistoriesStore
from recdistill.stream.sources.base import Patience

__all__ = ["RedisMirror"]

TIMEOUT = 5.0  # seconds


class RedisMirror:
    """Redis at `url`, waited for up to `patience_s` where it does not answer. Raises UserError where it holds the
    histories of other tables.
    """

    def __init__(self, url: str, store: HistoriesStore, journal: Journal, patience_s: float) -> None:
        self.store, self.client, self.place = store, connect(url, TIMEOUT), place_of(url)
        self.patience = Patience(journal, self.place, patience_s)

    def push(self) -> int:
        """Send what Redis does not have yet; return how many users that were."""
        while True:
            try:
                sent = self._push()
            except (RedisError, OSError) as error:
                self.patience.failed(str(error) or type(error).__name__)
                continue
            self.patience.worked()
            return sent

    def _push(self) -> int:
        about, mine, sent = self._about(), self.store.about, 0
        for rows in self.store.changed(about.get("revision", -1)):
            self.client.mset({PAST + user: record for user, record in rows})
            sent += len(rows)
        kept = {name: mine[name] for name in ("table", "length", "revision", "looked", "newest", "made")}
        self.client.set(ABOUT, json.dumps({"format": FORMAT, **kept}))
        return sent

    def _about(self) -> dict[str, int]:
        """Return what Redis says it has; nothing where the file was filled anew since."""
        try:
            found = json.loads(self.client.get(ABOUT) or "{}")
        except ValueError:
            found = {}
        mine = self.store.about
        if found and found.get("table") != mine["table"]:
            raise UserError(
                f"{self.place}: holds the histories of another run; choose another number of a database, as /1, or "
                "empty that one (redis-cli FLUSHDB)"
            )
        return found if found.get("made") == mine["made"] else {}
