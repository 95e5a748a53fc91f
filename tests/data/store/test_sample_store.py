"""The store against brute force over random logs: what a batch holds is what the user had done, and what
was known of it.
"""

from collections import Counter
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.data.batch.builder import BatchBuilder
from recdistill.data.batch.numbers import SPAN
from recdistill.data.scales import scaled
from recdistill.data.store import sample_store, shards
from recdistill.data.store.encoder import MAX_ACTIONS
from recdistill.data.store.grouped import shares
from recdistill.data.store.memmap import open_column
from recdistill.data.store.piles import in_order
from recdistill.data.store.sample_store import SampleStore, build_store
from recdistill.defaults import LIST_LENGTH
from recdistill.errors import RecdistillError, UserError
from recdistill.tables.events import BehaviorLog, EventLog
from recdistill.tables.schema import EventSchema
from recdistill.workers.parts import ALONE, Workers

START = 1_700_000_000_000_000  # us
SECOND = 1_000_000
STAMP = pl.Datetime("us", "UTC")
DELAYED = EventSchema(
    ("click", "buy"),
    {"n": "float32", "kind": "string", "tags": "list<string>"},
    user_id="string",
    label_times=("click",),
    edges={"n": (-1.0, 0.0, 0.5)},
    scales={"n": (0.0, 0.25, 2.0)},
)
BEHAVED = EventSchema(("click",), has_request=True)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(sample_store, "CHUNK", 7)  # so that every log here crosses the edges of many
    monkeypatch.setattr(shards, "CHUNK", 7)
    monkeypatch.setattr(sample_store, "in_order", partial(in_order, limit=20))  # and is sorted on disk


def samples(draw, n):
    """Return a log of few users, with ties in time; some labels or their times are missing, some are early
    by a bad clock.
    """
    time = np.sort(draw.integers(0, 40, n)) * 900 * SECOND
    known = [None if draw.random() < 0.1 else int(t + draw.integers(-1, 5) * 900 * SECOND) for t in time]
    label = [None if draw.random() < 0.15 else float(draw.integers(0, 2)) for _ in range(n)]
    kind = [None if k == 0 else "k" * k for k in draw.integers(0, 3, n).tolist()]
    number = draw.choice([0.0, 0.5, -3.0, 1e30, np.nan, np.inf, -np.inf], n)
    tags = [[str(tag) for tag in draw.integers(0, 5, draw.integers(0, 11))] for _ in range(n)]
    return pl.DataFrame(
        {
            "sample_id": draw.permutation(10 * n)[:n],
            "time": pl.Series(START + time).cast(STAMP),
            "user_id": [f"u{u}" for u in draw.integers(0, 4, n)],
            "item_id": draw.integers(0, 6, n),
            "feature_n": pl.Series(number, dtype=pl.Float32),
            "feature_kind": pl.Series(kind, dtype=pl.String),
            "feature_tags": pl.Series(tags, dtype=pl.List(pl.String)),
            "label_click": pl.Series(label, dtype=pl.Float32),
            "label_buy": pl.Series([0.0] * n, dtype=pl.Float32),
            "label_time_click": pl.Series([k if k is None else START + k for k in known], dtype=pl.Int64).cast(STAMP),
        }
    )


def log_of(folder, rows, schema, commits=1):
    log = EventLog.create(folder, schema)
    for k, part in enumerate(np.array_split(np.arange(len(rows)), commits)):
        log.append(rows[part.tolist()], writer="t", sequence=k)
    return log


def histories(batch):
    """Return, per sample, its history as (item index, us ago, action), oldest first."""
    of, offsets = batch.history.of.tolist(), batch.history.offsets.tolist()
    events = list(
        zip(
            batch.history.unique[batch.history.index].tolist(),
            batch.history.ago.tolist(),
            batch.history.action.tolist(),
            strict=True,
        )
    )
    return [events[offsets[r] : offsets[r + 1]] for r in of]


def index_of(*columns):
    """Return id -> 1, 2, ... in the order of first meeting."""
    return {value: 1 + k for k, value in enumerate(dict.fromkeys(value for column in columns for value in column))}


def expected(asked, events, length):
    """Return the histories of asked (user, time): events (user, item, time, known, action) known strictly before."""
    out = []
    for user, now in asked:
        mine = sorted((known, at) for at, (who, _, _, known, _) in enumerate(events) if who == user and known < now)
        newest = [events[at] for _, at in mine[max(0, len(mine) - length) :]]
        out.append([(item, now - time, action) for _, item, time, _, action in newest])
    return out


def micros(series):
    return series.dt.epoch("us").to_list()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(1, 3), st.integers(1, 12))
def test_a_batch_holds_exactly_the_users_known_past(seed, n, commits, length):
    draw = np.random.default_rng(seed)
    rows = samples(draw, n)
    with TemporaryDirectory() as folder:
        built = build_store(Path(folder) / "s", log_of(Path(folder) / "e", rows, DELAYED, min(commits, n)), None)
        asked = draw.permutation(n)
        batch = BatchBuilder(built, length).build(asked)
        assert built.positions(rows["sample_id"].to_numpy()).tolist() == list(range(n))
        assert built.positions(np.array([-5, 10 * n + 3])).tolist() == [-1, -1]
    item, time = index_of(rows["item_id"]), micros(rows["time"])
    events = [
        (user, item[i], t, max(t, known), int(label))
        for user, i, t, known, label in zip(
            rows["user_id"], rows["item_id"], time, micros(rows["label_time_click"]), rows["label_click"], strict=True
        )
        if label is not None and known is not None
    ]
    assert histories(batch) == expected([(rows["user_id"][int(a)], time[a]) for a in asked], events, length)
    assert batch.sample_id.tolist() == rows["sample_id"].to_numpy()[asked].tolist()
    for at, a in enumerate(asked.tolist()):
        for side, (who, whose) in enumerate(((rows["user_id"][a], 0), (item[rows["item_id"][a]], 1))):
            earlier = [event for event in events if event[whose] == who and event[3] < time[a]]
            counts = [len(earlier), sum(event[4] for event in earlier)]
            assert built.counts[a, 2 * side : 2 * side + 2].tolist() == counts
            assert batch.numbers[at, 2 * side + 1] == pytest.approx(np.log1p(counts[0]) / SPAN)
    assert batch.item.ids().tolist() == [item[rows["item_id"][int(a)]] for a in asked]
    user = index_of(rows["user_id"])
    assert batch.user.ids().tolist() == [user[rows["user_id"][int(a)]] for a in asked]
    np.testing.assert_array_equal(
        batch.labels, rows.select("label_click", "label_buy").to_numpy()[asked].astype(np.float32)
    )
    assert batch.signals.isnan().all() and built.request.tolist() == [-1] * n


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 30), st.integers(1, 50), st.integers(1, 12))
def test_histories_come_from_the_behaviors_where_there_are_any(seed, n, m, length):
    draw = np.random.default_rng(seed)
    rows = samples(draw, n).select(
        "sample_id",
        "time",
        "item_id",
        user_id=draw.integers(0, 4, n),
        request_id=np.arange(n),
        label_click=pl.lit(1.0, pl.Float32),
    )
    did = pl.DataFrame(
        {
            "user_id": draw.integers(2, 7, m),
            "item_id": draw.integers(3, 12, m),
            "time": pl.Series(START + np.sort(draw.integers(0, 40, m)) * 900 * SECOND).cast(STAMP),
            "action": draw.choice(["see", "like", "buy"], m),
        }
    )
    with TemporaryDirectory() as folder:
        behaviors = BehaviorLog.create(Path(folder) / "b", BEHAVED)
        behaviors.append(did, writer="t", sequence=0)
        built = build_store(Path(folder) / "s", log_of(Path(folder) / "e", rows, BEHAVED), behaviors)
        batch = BatchBuilder(built, length).build(np.arange(n))
    item, action, time = index_of(rows["item_id"], did["item_id"]), index_of(did["action"]), micros(did["time"])
    events = [
        (u, item[i], t, t, action[a] - 1)
        for u, i, t, a in zip(did["user_id"], did["item_id"], time, did["action"], strict=True)
    ]
    assert histories(batch) == expected(list(zip(rows["user_id"], micros(rows["time"]), strict=True)), events, length)
    assert built.users == 1 + len({*rows["user_id"], *did["user_id"]}) and built.items == 1 + len(item)
    assert built.actions == len(action) and built.request.tolist() == list(range(n))


def bucket(value):
    """Return how many edges are at most the value."""
    return sum(edge <= value for edge in DELAYED.edges["n"]) if np.isfinite(value) else "not a number"


def test_fields_and_lists_have_one_code_per_value(tmp_path):
    rows = samples(np.random.default_rng(1), 80)
    built = build_store(tmp_path / "s", log_of(tmp_path / "e", rows, DELAYED, 3), None)
    numbers = [bucket(x) for x in rows["feature_n"].to_list()]
    keys = [rows["time"].dt.hour().to_list(), [k or "" for k in rows["feature_kind"].to_list()], numbers]
    codes: dict[object, int] = {}
    for field, values in enumerate(keys):
        for value, code in zip(values, built.context[:, field].tolist(), strict=True):
            assert codes.setdefault((field, value), code) == code
    for tags, slots in zip(rows["feature_tags"].to_list(), built.lists.tolist(), strict=True):
        tails = tags[-LIST_LENGTH:]
        assert [slot > 0 for slot in slots] == [True] * len(tails) + [False] * (LIST_LENGTH - len(tails))
        for tag, code in zip(tails, slots, strict=False):
            assert codes.setdefault(("tag", tag), code) == code
    assert len(set(codes.values())) == len(codes) == built.contexts - 1 and max(codes.values()) < built.contexts
    assert Counter(numbers)["not a number"] > 10
    raw = rows["feature_n"].cast(pl.Float64).to_numpy()
    np.testing.assert_array_equal(built.values, scaled(raw, DELAYED.scales["n"]))
    assert len(np.unique(built.values[:, 0])) > 3 and built.numeric_fields == [2]


def test_a_store_is_reopened_while_the_tables_stand_and_rebuilt_when_they_moved_on(tmp_path):
    rows = samples(np.random.default_rng(2), 40)
    log = log_of(tmp_path / "e", rows[:30], DELAYED)
    build_store(tmp_path / "s", log, None)
    made = (tmp_path / "s" / "store.json").stat().st_ino
    assert len(build_store(tmp_path / "s", log, None)) == 30 and (tmp_path / "s" / "store.json").stat().st_ino == made
    log.append(rows[30:], writer="t", sequence=9)
    (tmp_path / "s.part").mkdir()
    (tmp_path / "s.part" / "killed.npy").touch()
    assert build_store(tmp_path / "s", log, None).sample_id.tolist() == rows["sample_id"].to_list()
    assert (
        sorted(path.name for path in tmp_path.iterdir()) == ["e", "s"] and not (tmp_path / "s" / "killed.npy").exists()
    )


def test_a_store_is_of_one_version_though_others_write_meanwhile(tmp_path, monkeypatch):
    rows = samples(np.random.default_rng(3), 40)
    log = log_of(tmp_path / "e", rows[:30], DELAYED)
    count = EventLog.rows

    def rows_then_a_commit(self, version=None):
        found = count(self, version)
        self.append(rows[30:], writer="other", sequence=0)
        return found

    monkeypatch.setattr(EventLog, "rows", rows_then_a_commit)
    assert build_store(tmp_path / "s", log, None).sample_id.tolist() == rows["sample_id"][:30].to_list()
    monkeypatch.undo()
    assert len(build_store(tmp_path / "s", log, None)) == 40


def test_a_log_without_rows_makes_an_empty_store(tmp_path):
    built = build_store(tmp_path / "s", EventLog.create(tmp_path / "e", DELAYED), None)
    assert len(built) == 0 and built.positions(np.array([1, 2])).tolist() == [-1, -1]
    assert len(BatchBuilder(built, 3).build(np.zeros(0, np.int64))) == 0


def actions(folder, count):
    behaviors = BehaviorLog.create(folder / "b", BEHAVED)
    behaviors.append(
        pl.DataFrame(
            {
                "user_id": [1] * count,
                "item_id": [1] * count,
                "action": [f"a{k}" for k in range(count)],
                "time": pl.Series(START + np.arange(count) * SECOND).cast(STAMP),
            }
        ),
        writer="t",
        sequence=0,
    )
    rows = pl.DataFrame(
        {
            "sample_id": [1],
            "time": pl.Series([START + 10_000 * SECOND]).cast(STAMP),
            "user_id": [1],
            "item_id": [1],
            "request_id": [1],
            "label_click": pl.Series([1.0], dtype=pl.Float32),
        }
    )
    return log_of(folder / "e", rows, BEHAVED), behaviors


def test_as_many_action_types_as_a_byte_holds_and_no_more(tmp_path):
    built = build_store(tmp_path / "most" / "s", *actions(tmp_path / "most", MAX_ACTIONS))
    assert built.actions == MAX_ACTIONS
    assert BatchBuilder(built, 1000).build(np.array([0])).history.action.tolist() == list(range(MAX_ACTIONS))
    with pytest.raises(UserError, match="column 'action' has more than 255 types"):
        build_store(tmp_path / "more" / "s", *actions(tmp_path / "more", MAX_ACTIONS + 1))
    assert sorted(path.name for path in (tmp_path / "more").iterdir()) == ["b", "e"]


def test_a_store_with_a_missing_column_says_which(tmp_path):
    build_store(tmp_path / "s", log_of(tmp_path / "e", samples(np.random.default_rng(0), 5), DELAYED), None)
    (tmp_path / "s" / "labels.npy").unlink()
    with pytest.raises(RecdistillError, match=r"labels.npy: column missing.*delete the folder"):
        SampleStore(tmp_path / "s")
    with pytest.raises(RecdistillError, match="column missing"):
        open_column(tmp_path, "nothing")


def test_a_store_is_the_same_to_the_bit_by_several_workers(tmp_path: Path) -> None:
    rows = samples(np.random.default_rng(3), 300)
    log = log_of(tmp_path / "e", rows, DELAYED, 4)
    for name, workers in (("one", ALONE), ("two", Workers(2))):
        build_store(tmp_path / name, log, None, workers=workers)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert {"history_item.npy", "user_counts_sums.npy", "item_counts_known.npy", "history_end.npy"} < set(files)
    assert files == sorted(path.name for path in (tmp_path / "two").iterdir())
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


@given(st.lists(st.integers(0, 3), min_size=1, max_size=9), st.integers(1, 5))
def test_shares_hold_every_key_once(entries: list[int], count: int) -> None:
    found = shares(np.r_[0, np.cumsum(entries)], count)
    assert [key for low, high in found for key in range(low, high)] == list(range(len(entries)))
    assert 1 <= len(found) <= count
