"""The leak probe: what the simplest rules score on the scored window, before any model is trained.

A rule turns a row into a key (its user and item, the half-octave of its item's age, its place in its list ...) and
scores it by the mean outcome of the rows with that key whose outcome was known strictly before the row's time, one row
of the base rate added. So a rule uses only what stood before, or the row's own form; a rule that scores well knows
something that a log should not tell so cheaply.

Of a log with more than MAX_ROWS rows the probe looks at a share of the users, whole; what it counts of items is of all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from recdistill.data.sampling import uniform
from recdistill.data.store.label_order import NEVER
from recdistill.data.store.sample_store import CHUNK, SampleStore
from recdistill.data.store.vocabulary import Vocabulary
from recdistill.evaluate import metrics
from recdistill.evaluate.earlier import first_times, sums_before
from recdistill.evaluate.leaks import GroupRate, Leaks, RuleScore, one_sided
from recdistill.tables.events import BehaviorLog, EventLog
from recdistill.tables.schema import feature_column
from recdistill.typing import Array

__all__ = ["MAX_ROWS", "LeakProbe", "probe"]

MAX_ROWS = 1_000_000
PLACES = 32  # places of a list that are distinguished, the last for all beyond
HOUR = 3_600_000_000  # us
Outcomes = Iterator[tuple[Array, Array, Array]]  # time at which they became known, key, values


@dataclass(frozen=True)
class Rule:
    """key: int64 [rows looked at], equal for rows that the rule treats alike."""

    name: str
    text: str
    key: Array


@dataclass(frozen=True)
class Group:
    """rows: bool [rows looked at] that are alike."""

    name: str
    text: str
    rows: Array


def probe(
    store: SampleStore,
    events: EventLog,
    behaviors: BehaviorLog | None,
    start: float,
    group: str,
    max_rows: int = MAX_ROWS,
) -> Leaks:
    """Return what the rules score on the first task's known outcomes after the first `start` share of the log.

    Nothing of a regression. store: made of the newest versions of `events` and `behaviors`; group: of GAUC, user or
    request. Memory O(max_rows + items), and a few numbers per row where outcomes become known later than their rows.
    """
    if store.tasks[0] in events.schema.regression:
        about = {"task": store.tasks[0], "group": group, "start": start, "version": events.version, "users": 1.0}
        return Leaks(**about, rows=0, base_rate=0.0, rules=[], groups=[], warnings=[])  # type: ignore[arg-type]
    looked = LeakProbe(store, events, behaviors, start, max_rows)
    rules, groups = looked.rules(), looked.groups()
    scored = looked.scored
    label = looked.label[scored]
    codes = (looked.user if group == "user" else looked.request_codes())[scored]
    found = [_score(rule, looked.earlier_rate(rule)[scored], label, codes) for rule in rules]
    rates = [_rate(one, looked.label, scored) for one in groups]
    base = float(label.mean()) if len(label) else 0.0
    return Leaks(
        task=store.tasks[0],
        group=group,
        start=start,
        version=events.version,
        users=looked.share,
        rows=len(label),
        base_rate=base,
        rules=found,
        groups=rates,
        warnings=one_sided(rates, base),
    )


def _score(rule: Rule, rate: Array, label: Array, codes: Array) -> RuleScore:
    logit = rate.astype(np.float32)
    auc, gauc = metrics.auc(label, logit), metrics.gauc(label, logit, codes)
    return RuleScore(rule=rule.name, text=rule.text, auc=_finite(auc), gauc=_finite(gauc))


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _rate(group: Group, label: Array, scored: Array) -> GroupRate:
    own = label[scored & group.rows]
    return GroupRate(group=group.name, text=group.text, rows=len(own), positives=int(own.sum()))


def half_octave(values: Array) -> Array:
    """Return int64 floor(2 log2(1 + |x|)) with the sign of x: the keys of rules about counts and ages in seconds."""
    return np.asarray(np.sign(values) * np.floor(2 * np.log2(1 + np.abs(values))), np.int64)


class LeakProbe:
    """The rows that are looked at, as arrays in the order of the log, and what is known of each before its time."""

    def __init__(
        self, store: SampleStore, events: EventLog, behaviors: BehaviorLog | None, start: float, max_rows: int
    ) -> None:
        self.store, self.events, self.behaviors = store, events, behaviors
        self.share = min(1.0, max_rows / max(len(store), 1))
        self.chosen_users = uniform(np.arange(store.users), 0) < self.share
        self.row = np.concatenate([np.zeros(0, np.int64), *self._rows()])
        owner = store.user[self.row].astype(np.int64)
        self.user, self.item = owner if events.schema.has_user else self.row, store.item[self.row].astype(np.int64)
        self.time, self.request = store.time[self.row], store.request[self.row]
        self.label = store.labels[self.row, 0].astype(np.float64)
        self.scored = (self.row >= int(len(store) * start)) & ~np.isnan(self.label)
        self.pair = self.user * store.items + self.item
        of, self.since, self.outcome = store.clock.history_events(self.time, self.label, store.known[self.row, 0])
        order = np.argsort(self.since, kind="stable")
        self.of, self.since, self.outcome = of[order], self.since[order], self.outcome[order]
        early = self.outcome[self.since < self.time[self.scored].min(initial=NEVER)]
        self.prior = float(early.mean()) if len(early) else 0.5
        self._look()

    def _rows(self) -> Iterator[Array]:
        for at in range(0, len(self.store), CHUNK):
            if self.events.schema.has_user:
                yield at + np.flatnonzero(self.chosen_users[self.store.user[at : at + CHUNK]])
            else:
                yield at + np.flatnonzero(uniform(np.arange(at, min(at + CHUNK, len(self.store))), 0) < self.share)

    def rules(self) -> list[Rule]:
        """Return every rule that this log can have."""
        shown = [
            Rule("pair", "what became of this user and this item before", self.pair),
            Rule("seen", "whether the user chose the item before", self.seen.astype(np.int64)),
            Rule("age", "the time since the item first stood in the log", half_octave(self.age)),
            Rule("popularity_hour", "how often the item was chosen in the hour before", half_octave(self.chosen_hour)),
            Rule("popularity_day", "how often the item was chosen in the day before", half_octave(self.chosen_day)),
            Rule("user_mean", "the user's earlier rate", self.user),
            Rule("item_mean", "the item's earlier rate", self.item),
        ]
        if self.position is not None:
            shown.append(Rule("position", "the feature 'position'", self.position))
        if self.size.max(initial=1) > 1:
            key = self.place.clip(max=PLACES - 1) * (PLACES + 1) + self.size.clip(max=PLACES)
            shown.append(Rule("order", "the place of the row in its list, as the rows come", key))
        if self.null_columns:
            shown.append(Rule("nulls", "which features are empty", self.nulls))
        return shown

    def groups(self) -> list[Group]:
        """Return the groups of rows whose rates are looked at."""
        lists, (rows, positives) = self.size > 1, self.earlier_pair.T
        found = [
            Group(
                "met_negative", "Pairs of user and item met before, only as negatives", (rows > 0) & (positives == 0)
            ),
            Group("met_positive", "Pairs of user and item met before as positives", positives > 0),
            Group("seen", "Items that the user chose before", self.seen),
            Group("new", "Items that never stood in the log before", self.age < 0),
            Group("popularity_hour", "Items that nobody chose in the hour before", self.chosen_hour == 0),
            Group("popularity_day", "Items that nobody chose in the day before", self.chosen_day == 0),
            Group("first", "First rows of a list", lists & (self.place == 0)),
            Group("last", "Last rows of a list", lists & (self.place == self.size - 1)),
        ]
        for name, empty in self.null_columns.items():
            found.append(Group("nulls", f"Rows without '{name}'", empty[self.nulls]))
        return found

    def earlier_rate(self, rule: Rule) -> Array:
        """Return float64 [n]: the rule's score of each row, the base rate where it is not scored."""
        found = self.earlier_pair if rule.name == "pair" else self._earlier(rule.key, rule.name == "item_mean")
        return np.asarray((found[:, 1] + self.prior) / (found[:, 0] + 1))

    def _earlier(self, key: Array, of_items: bool = False) -> Array:
        """Return float64 [n, 2]: rows and positives of each scored row's key whose outcome was known before its time;
        `of_items`: of all users.
        """
        out, asked = np.zeros((len(key), 2)), self.scored
        outcomes = self._item_outcomes() if of_items and self.share < 1 else self._outcomes(key)
        (out[asked],) = sums_before(outcomes, key[asked], [self.time[asked]], 2)
        return out

    def _outcomes(self, key: Array) -> Outcomes:
        """Yield the outcomes of the rows looked at, by key, in the order in which they became known."""
        for at in range(0, len(self.of), CHUNK):
            part = slice(at, at + CHUNK)
            yield self.since[part], key[self.of[part]], _counted(self.outcome[part])

    def _item_outcomes(self) -> Outcomes:
        """Yield every outcome of the log, by item, in the order in which they became known."""
        found = self._since()
        if self.store.label_order is not None:
            parts = [np.concatenate(column) for column in zip(*found, strict=True)]
            order = np.argsort(parts[0], kind="stable")
            found = ([column[order[at : at + CHUNK]] for column in parts] for at in range(0, len(order), CHUNK))
        for since, item, outcome in found:
            yield since, item, _counted(outcome)

    def _since(self) -> Iterator[Sequence[Array]]:
        """Yield (known time, item, outcome) of every row in the order of the log."""
        store = self.store
        for at in range(0, len(store), CHUNK):
            part = slice(at, at + CHUNK)
            of, since, outcome = store.clock.history_events(
                store.time[part], store.labels[part, 0], store.known[part, 0]
            )
            yield since, store.item[part][of].astype(np.int64), outcome

    def _look(self) -> None:
        """Gather what the rules look at of every row."""
        self.earlier_pair = self._earlier(self.pair)
        self.seen = first_times(self._chosen_pairs(), self.pair) < self.time
        first = first_times(self._appearances(), self.item)
        self.age = np.where(first < self.time, (self.time - first) / 1e6, -1.0)
        bounds = [self.time, self.time - HOUR, self.time - 24 * HOUR]
        now, hour, day = (found[:, 0] for found in sums_before(self._choices(), self.item, bounds))
        self.chosen_hour, self.chosen_day = now - hour, now - day
        self.place, self.size = _places(self.user, self.request, self.time)
        self._read_features()

    def _histories(self) -> Iterator[tuple[Array, Array, Array, Array]]:
        """Yield (user, item, known, action) of every history event, a chunk at a time."""
        histories = self.store.histories
        for at in range(0, len(histories.item), CHUNK):
            part = slice(at, at + CHUNK)
            item = histories.item[part].astype(np.int64)
            user = np.searchsorted(histories.first, np.arange(at, at + len(item)), side="right") - 1
            yield user, item, histories.known[part], histories.action[part]

    def _chosen_pairs(self) -> Iterator[tuple[Array, Array]]:
        """Yield (known time, pair) of what the users chose: behaviors, or positives where there are none."""
        for user, item, known, action in self._histories():
            chose = self.chosen_users[user] & ((action == 1) | (self.behaviors is not None))
            yield known[chose], user[chose] * self.store.items + item[chose]

    def _appearances(self) -> Iterator[tuple[Array, Array]]:
        """Yield (time, item) of every row and every history event."""
        for at in range(0, len(self.store), CHUNK):
            yield self.store.time[at : at + CHUNK], self.store.item[at : at + CHUNK].astype(np.int64)
        times = self.store.histories.time
        for number, (_, item, _, _) in enumerate(self._histories()):
            yield times[number * CHUNK : number * CHUNK + len(item)], item

    def _choices(self) -> Outcomes:
        """Yield (time, item, 1) of every choice in order: behaviors, or positives once known where there are none."""
        if self.behaviors is None:
            yield from ((time, item, values[:, 1:]) for time, item, values in self._item_outcomes())
            return
        items = Vocabulary.load(self.store.folder / "items.parquet")
        for rows in self.behaviors.batches(columns=["time", "item_id"], rows=CHUNK):
            item = items.encode(rows["item_id"], grow=False).astype(np.int64)
            yield rows["time"].dt.epoch("us").to_numpy(), item, np.ones((len(item), 1))

    def _read_features(self) -> None:
        """Read the pattern of empty features and, where the log has it, the position."""
        names = list(self.events.schema.features)
        columns = [feature_column(name) for name in names]
        patterns: dict[bytes, int] = {}
        self.nulls, places = np.zeros(len(self.row), np.int64), []
        done = at = 0
        for rows in self.events.batches(columns=columns, rows=CHUNK) if names else ():
            end = int(np.searchsorted(self.row, at + len(rows)))
            own = rows[self.row[done:end] - at]
            empty = np.stack([_empty(own[column]) for column in columns], 1)
            distinct, code = np.unique(np.packbits(empty, 1), axis=0, return_inverse=True)
            codes = [patterns.setdefault(pattern.tobytes(), len(patterns)) for pattern in distinct]
            self.nulls[done:end] = np.array(codes, np.int64)[code.ravel()]
            places += [own[feature_column("position")].cast(pl.Float64, strict=False)] if "position" in names else []
            done, at = end, at + len(rows)
        self.null_columns = _null_columns(list(patterns), names)
        self.position = _position(places)

    def request_codes(self) -> Array:
        """Return int64 [n]: one code per user's request, a row without a request id on its own."""
        own = np.where(self.request < 0, self.row, -1)
        order = np.lexsort((own, self.request, self.user))
        codes = np.empty(len(order), np.int64)
        codes[order] = np.cumsum(_starts(order, self.user, self.request, own)) - 1
        return codes


def _counted(outcome: Array) -> Array:
    """Return float64 [n, 2]: 1 for the row, and its outcome."""
    return np.stack([np.ones(len(outcome)), outcome], 1)


def _empty(values: pl.Series) -> Array:
    missing = values.is_null() | values.is_nan() if values.dtype.is_float() else values.is_null()
    return np.asarray(missing.fill_null(True).to_numpy())


def _null_columns(patterns: list[bytes], names: list[str]) -> dict[str, Array]:
    """Return for each feature that is empty in some rows bool [patterns]: in which patterns it is."""
    if not patterns:
        return {}
    bits = np.unpackbits(np.array([list(one) for one in patterns], np.uint8), axis=1)[:, : len(names)].astype(bool)
    return {name: bits[:, place] for place, name in enumerate(names) if bits[:, place].any()}


def _position(parts: list[pl.Series]) -> Array | None:
    """Return int64 codes of the values of 'position', None where there is no such number."""
    if not parts or not (values := pl.concat(parts)).is_not_null().any():
        return None
    return np.asarray(np.unique(values.fill_null(np.nan).to_numpy(), return_inverse=True)[1], np.int64)


def _starts(order: Array, *columns: Array) -> Array:
    """Return bool [n]: whether a row, in that order, differs in a column from the one before."""
    first = np.zeros(len(order), bool)
    first[:1] = True
    for column in columns:
        first[1:] |= column[order][1:] != column[order][:-1]
    return first


def _places(user: Array, request: Array, time: Array) -> tuple[Array, Array]:
    """Return int64 [n] (place of each row in its list, rows of the list); without requests a user's rows of one instant
    are a list.
    """
    instant = np.where(request < 0, time, 0)
    order = np.lexsort((instant, request, user))
    starts = np.flatnonzero(_starts(order, user, request, instant))
    sizes = np.diff(np.r_[starts, len(order)])
    place, size = np.empty(len(order), np.int64), np.empty(len(order), np.int64)
    place[order] = np.arange(len(order)) - np.repeat(starts, sizes)
    size[order] = np.repeat(sizes, sizes)
    return place, size
