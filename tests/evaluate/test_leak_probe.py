"""The leak probe against a loop over every row, and on logs that give the label away."""

from __future__ import annotations

import math
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.config.data import NegativesConfig
from recdistill.data.readers.base import Log
from recdistill.data.readers.negatives import with_negatives
from recdistill.data.store.label_order import LabelClock
from recdistill.data.store.sample_store import build_store
from recdistill.evaluate import leak_probe
from recdistill.evaluate.leak_probe import PLACES, LeakProbe, probe
from recdistill.evaluate.leaks import Leaks
from recdistill.tables.events import BehaviorLog, EventLog
from recdistill.tables.schema import EventSchema
from tests.support.logs import HOUR, log_of

TIME = pl.Datetime("us", "UTC")
START = datetime(2024, 5, 1, tzinfo=UTC)
MINUTE = HOUR // 60
SCHEMA = EventSchema(("click",), {"position": "float32", "brand": "string"}, has_request=True, label_times=("click",))
ROW = st.tuples(
    st.integers(0, 200),  # 10 minutes
    st.integers(0, 3),  # user
    st.integers(0, 3),  # item
    st.sampled_from([0.0, 1.0, None]),
    st.integers(0, 60),  # 10 minutes until the label is known
    st.sampled_from([0, 1, None]),  # request
    st.sampled_from([1.0, 2.0, None]),  # position
    st.sampled_from(["a", None]),
)
BEHAVIOR = st.tuples(st.integers(0, 200), st.integers(0, 3), st.integers(0, 4))


def tables(folder: Path, rows: list[tuple], behaviors: list[tuple] | None) -> tuple[EventLog, BehaviorLog | None]:
    """Write sorted rows and behaviors as tables."""
    at = [START + timedelta(minutes=10 * row[0]) for row in rows]
    known = [START + timedelta(minutes=10 * (row[0] + row[4])) for row in rows]
    columns = dict(
        zip(("user_id", "item_id", "label_click"), zip(*(row[1:4] for row in rows), strict=True), strict=True)
    )
    columns |= dict(
        zip(
            ("request_id", "feature_position", "feature_brand"),
            zip(*(row[5:8] for row in rows), strict=True),
            strict=True,
        )
    )
    frame = pl.DataFrame(
        {"sample_id": range(len(rows)), "time": at, "label_time_click": known, **columns},
        schema_overrides={name: kind for name, kind in SCHEMA.columns().items()},
    )
    events = EventLog.create(folder / "events", SCHEMA)
    events.append(frame.select(list(SCHEMA.columns())), writer="test", sequence=0)
    if behaviors is None:
        return events, None
    log = BehaviorLog.create(folder / "behaviors", SCHEMA)
    if behaviors:
        times = pl.Series([START + timedelta(minutes=10 * one[0]) for one in behaviors], dtype=TIME)
        users, items = ([one[k] for one in behaviors] for k in (1, 2))
        acts = pl.DataFrame({"user_id": users, "item_id": items, "time": times}).with_columns(action=pl.lit("click"))
        log.append(acts, writer="test", sequence=0)
    return events, log


class Brute:
    """Every rule's key and rate by loops, times in units of 10 minutes."""

    def __init__(self, rows: list[tuple], behaviors: list[tuple] | None, window: int | None) -> None:
        self.rows = rows
        self.outcomes: list[tuple[int, float, int]] = []  # row, known, outcome
        for number, (time, *_, label, delay) in enumerate(row[:5] for row in rows):
            if window is None:
                self.outcomes += [] if label is None else [(number, time + delay, int(label))]
            elif label == 1 and delay <= window:
                self.outcomes.append((number, time + delay, 1))
            else:
                self.outcomes.append((number, time + window, 0))
                self.outcomes += [(number, time + delay, 1)] if label == 1 else []
        chosen = [(known, rows[row][1], rows[row][2]) for row, known, outcome in self.outcomes if outcome]
        self.choices = chosen if behaviors is None else [(time, user, item) for time, user, item in behaviors]
        self.stood = [(row[0], row[2]) for row in rows] + [(time, item) for time, _, item in behaviors or ()]

    def key(self, rule: str, at: int) -> object:
        time, user, item, _, _, request, position, brand = self.rows[at]
        lists = [
            number
            for number, row in enumerate(self.rows)
            if row[1] == user and row[5] == request and (request is not None or row[0] == time)
        ]
        first = min((t for t, i in self.stood if i == item and t < time), default=None)
        lately = [t for t, _, i in self.choices if i == item and t < time]
        return {
            "pair": (user, item),
            "seen": any((u, i) == (user, item) and t < time for t, u, i in self.choices),
            "age": None if first is None else math.floor(2 * math.log2(1 + 600 * (time - first))),
            "popularity_hour": math.floor(2 * math.log2(1 + sum(t >= time - 6 for t in lately))),
            "popularity_day": math.floor(2 * math.log2(1 + sum(t >= time - 144 for t in lately))),
            "user_mean": user,
            "item_mean": item,
            "position": position,
            "order": (min(lists.index(at), PLACES - 1), min(len(lists), PLACES)),
            "nulls": (position is None, brand is None),
        }[rule]

    def earlier(self, rule: str, at: int) -> list[int]:
        """Return the outcomes of a row's key that were known before its time."""
        own, time = self.key(rule, at), self.rows[at][0]
        return [out for row, known, out in self.outcomes if known < time and self.key(rule, row) == own]


LOGS = st.lists(ROW, min_size=2, max_size=25).map(lambda rows: sorted(rows, key=lambda row: row[0]))
ACTIONS = st.none() | st.lists(BEHAVIOR, max_size=15).map(sorted)


@settings(max_examples=30, deadline=None)
@given(LOGS, ACTIONS, st.none() | st.integers(0, 30), st.sampled_from([0.0, 0.3, 0.5]), st.sampled_from([3, 1000]))
def test_every_rule_is_that_of_a_loop(
    rows: list[tuple], behaviors: list[tuple] | None, window: int | None, start: float, chunk: int
) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(leak_probe, "CHUNK", chunk)
        events, actions = tables(Path(folder), rows, behaviors)
        clock = LabelClock(None if window is None else window * 10 * MINUTE)
        looked = LeakProbe(
            build_store(Path(folder) / "store", events, actions, clock=clock), events, actions, start, 99
        )
        brute = Brute(rows, behaviors, window)
        scored = [n for n in range(len(rows)) if n >= int(len(rows) * start) and rows[n][3] is not None]
        assert np.flatnonzero(looked.scored).tolist() == scored
        if not scored:
            return
        before = [out for _, known, out in brute.outcomes if known < rows[scored[0]][0]]
        prior = sum(before) / len(before) if before else 0.5
        names = set()
        for rule in looked.rules():
            names.add(rule.name)
            rate = looked.earlier_rate(rule)
            for at in scored:
                earlier = brute.earlier(rule.name, at)
                assert rate[at] == pytest.approx((sum(earlier) + prior) / (len(earlier) + 1)), (rule.name, at)
        assert ("position" in names) == any(row[6] is not None for row in rows)
        assert ("nulls" in names) == any(row[6] is None or row[7] is None for row in rows)
        check_groups(looked, brute, scored)
        codes, requests = (
            looked.request_codes(),
            [(row[1], row[5], n if row[5] is None else 0) for n, row in enumerate(rows)],
        )
        assert ((codes[:, None] == codes) == [[one == other for other in requests] for one in requests]).all()


def check_groups(looked: LeakProbe, brute: Brute, scored: list[int]) -> None:
    """Compare the groups that a rule's key tells."""
    found = {group.text: group.rows for group in looked.groups()}
    for at in scored:
        pair = brute.earlier("pair", at)
        place, size = brute.key("order", at)
        assert found["Pairs of user and item met before, only as negatives"][at] == (bool(pair) and not sum(pair))
        assert found["Pairs of user and item met before as positives"][at] == (sum(pair) > 0)
        assert found["Items that the user chose before"][at] == brute.key("seen", at)
        assert found["Items that never stood in the log before"][at] == (brute.key("age", at) is None)
        assert found["Items that nobody chose in the hour before"][at] == (brute.key("popularity_hour", at) == 0)
        assert found["First rows of a list"][at] == (size > 1 and place == 0)
        assert found["Last rows of a list"][at] == (size > 1 and place == size - 1)
        if "Rows without 'brand'" in found:
            assert found["Rows without 'brand'"][at] == (brute.rows[at][7] is None)


def test_a_share_of_the_users_is_looked_at_whole(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    rows = [
        (k // 20, int(draw.integers(0, 60)), int(draw.integers(0, 9)), float(draw.integers(0, 2)), 0, None, 1.0, "a")
        for k in range(3_000)
    ]
    events, _ = tables(tmp_path, rows, None)
    store = build_store(tmp_path / "store", events, None)
    whole, part = LeakProbe(store, events, None, 0.5, 3_000), LeakProbe(store, events, None, 0.5, 1_000)
    assert whole.share == 1 and len(whole.row) == 3_000
    assert 400 < len(part.row) < 1_600
    assert np.isin(whole.user, part.user).sum() == len(part.row)  # users are there whole or not at all
    rates = {rule.name: rule for rule in part.rules()}
    for rule in whole.rules():  # what is counted of a user is of that user's rows, of an item of all
        if rule.name in ("pair", "user_mean", "item_mean"):
            mine = whole.earlier_rate(rule)[part.row] - whole.prior / (whole._earlier(rule.key)[part.row, 0] + 1)
            theirs = part.earlier_rate(rates[rule.name])
            theirs -= part.prior / (whole._earlier(rule.key)[part.row, 0] + 1)
            assert theirs[part.scored] == pytest.approx(mine[part.scored])


# logs that are made of choices alone, as the withdrawn one and as they should be


def choices(rows: int = 12_000) -> Log:
    """Return a log of positives: users with tastes, items that come and go, some chosen again and again."""
    draw = np.random.default_rng(1)
    time = np.sort(draw.integers(0, 48 * HOUR, rows))
    user = draw.integers(0, 60, rows)
    own = (user * 7 + draw.integers(0, 6, rows) ** 2) % 60
    item = np.where(draw.random(rows) < 0.5, own, time // (HOUR // 2) + draw.integers(0, 30, rows))
    return log_of(time, user, item, np.ones(rows))


def probed(log: Log, folder: Path) -> Leaks:
    """Return the probe of a log's second half."""
    events = EventLog.create(folder / "events", log.schema)
    for number, chunk in enumerate(log.batches()):
        events.append(chunk.select(list(log.schema.columns())), writer="test", sequence=number)
    behaviors = None
    if log.behaviors:
        behaviors = BehaviorLog.create(folder / "behaviors", log.schema)
        for number, chunk in enumerate(log.behaviors()):
            behaviors.append(chunk, writer="test", sequence=number)
    store = build_store(folder / "store", events, behaviors)
    return probe(store, events, behaviors, 0.5, "request")


def looking_ahead() -> Log:
    """Return the withdrawn construction: three negatives that the user chooses at no time, the positive first."""
    log, draw = choices(), np.random.default_rng(2)
    rows = pl.concat(list(log.batches()))
    user, item = rows["user_id"].to_numpy(), rows["item_id"].to_numpy()
    ever = set(zip(user.tolist(), item.tolist(), strict=True))
    drawn = item[draw.integers(0, len(item), (len(rows), 3))]
    good = np.array([[(u, i) not in ever for i in row] for u, row in zip(user.tolist(), drawn.tolist(), strict=True)])
    parts = [rows.with_columns(request_id=pl.int_range(len(rows)), place=0)]
    for place in range(3):
        negative = rows.with_columns(
            item_id=pl.Series(drawn[:, place]),
            label_click=pl.lit(0.0, pl.Float32),
            sample_id=-1 - place - 3 * pl.int_range(len(rows)),
            request_id=pl.int_range(len(rows)),
            place=1 + place,
        )
        parts.append(negative.filter(pl.Series(good[:, place])))
    both = pl.concat(parts).sort("time", "request_id", "place").drop("place")
    schema = EventSchema(log.schema.tasks, log.schema.features, has_request=True)
    return Log(schema, lambda: iter([both.select(list(schema.columns()))]), None, "ahead")


def rule_scores(leaks: Leaks) -> dict[str, float]:
    return {rule.rule: rule.gauc for rule in leaks.rules if rule.gauc is not None}


def warned(leaks: Leaks) -> set[str]:
    """Return the names of the groups that the probe warns of."""
    assert len(leaks.warnings) == sum(one.one_sided(leaks.base_rate) is not None for one in leaks.groups)
    return {one.group for one in leaks.groups if one.one_sided(leaks.base_rate) is not None}


def test_negatives_that_know_the_future_are_caught(tmp_path: Path) -> None:
    leaks = probed(looking_ahead(), tmp_path)
    assert {"met_negative", "met_positive", "first"} <= warned(leaks)
    scores = rule_scores(leaks)
    assert scores["pair"] > 0.65 and scores["order"] > 0.99
    text = next(line for line in leaks.warnings if "only as negatives" in line)
    assert "0 of " in text and "never chooses at any time" in text


def test_a_log_made_of_the_past_alone_is_clean(tmp_path: Path) -> None:
    leaks = probed(with_negatives(choices(), NegativesConfig()), tmp_path)
    assert leaks.warnings == [] and leaks.base_rate == pytest.approx(0.25, abs=1e-3)
    group = next(one for one in leaks.groups if one.group == "met_negative")
    assert group.rows > 3_000 and 0.05 < group.positives / group.rows < 0.4
    scores = rule_scores(leaks)
    assert abs(scores["order"] - 0.5) < 0.02 and abs(scores["age"] - 0.5) < 0.1


@pytest.mark.parametrize(
    ("positives", "exclude", "group"), [("all", "nothing", "popularity_hour"), ("pool", "chosen", "seen")]
)
def test_what_the_settings_give_away_is_caught(positives: str, exclude: str, group: str, tmp_path: Path) -> None:
    config = NegativesConfig(positives=positives, exclude=exclude)
    assert group in warned(probed(with_negatives(choices(), config), tmp_path))


def nulled(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(pl.when(pl.col("label_click") == 1).then("feature_device").alias("feature_device"))


def test_a_feature_that_is_filled_in_afterwards_is_caught(tmp_path: Path) -> None:
    log = with_negatives(choices(3_000), NegativesConfig())
    after = Log(log.schema, lambda: map(nulled, log.batches()), log.behaviors, "nulls")
    leaks = probed(after, tmp_path)
    assert warned(leaks) == {"nulls"} and rule_scores(leaks)["nulls"] > 0.99
    assert "Rows without 'device': 0 of " in leaks.warnings[0]


def test_labels_that_are_known_after_the_end_teach_no_rule(tmp_path: Path) -> None:
    draw = np.random.default_rng(3)
    rows = [
        (k // 20, int(draw.integers(0, 30)), int(i := draw.integers(0, 9)), float(i < 4), 10**4, k // 4, float(i), "a")
        for k in range(2_000)
    ]
    events, _ = tables(tmp_path, rows, None)
    leaks = probe(build_store(tmp_path / "store", events, None), events, None, 0.5, "user")
    assert {round(rule.auc or 0, 6) for rule in leaks.rules} == {0.5}
