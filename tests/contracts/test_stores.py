"""What every table promises. A new one is tested by being listed in STORES."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from recdistill.errors import UserError
from recdistill.tables.dead_letters import DeadLetters
from recdistill.tables.delta.log import DeltaLog
from recdistill.tables.events import BehaviorLog, EventLog, OutcomeLog
from recdistill.tables.predictions import PredictionLog
from recdistill.tables.verdicts import VerdictLog
from tests.support.tables import SCHEMA, actions, dead_letters, events, followed, ids_of, outcomes, predicted, verdicts


@dataclass(frozen=True)
class Store:
    """How to make a table at a path, rows of it by number, and append them."""

    create: Callable[[Path], EventLog | BehaviorLog | OutcomeLog | PredictionLog | VerdictLog | DeadLetters]
    rows: Callable[[Iterable[int]], pl.DataFrame]
    more: dict[str, object]


STORES = {
    "EventLog": Store(lambda path: EventLog.create(path, SCHEMA), events, {}),
    "BehaviorLog": Store(lambda path: BehaviorLog.create(path, SCHEMA), actions, {}),
    "OutcomeLog": Store(lambda path: OutcomeLog.create(path, SCHEMA), outcomes, {}),
    "VerdictLog": Store(lambda path: VerdictLog.create(path), verdicts, {}),
    "DeadLetters": Store(lambda path: DeadLetters.create(path), dead_letters, {}),
    "PredictionLog": Store(
        lambda path: PredictionLog.create(path, SCHEMA.tasks),
        predicted,
        {"model": "light/raw 0", "version": 1, "kind": "prequential"},
    ),
}


class Case:
    """A table with three commits of five rows each, over two dates."""

    def __init__(self, store: Store, path: Path) -> None:
        self.store, self.path, self.log = store, path, store.create(path)
        for sequence in range(3):
            self.append(range(5 * sequence, 5 * sequence + 5), sequence)

    def append(
        self, ids: Iterable[int], sequence: int, change: Callable[[pl.DataFrame], pl.DataFrame] = lambda rows: rows
    ) -> int:
        # type: ignore[arg-type]
        return self.log.append(change(self.store.rows(ids)), writer="w", sequence=sequence, **self.store.more)


@pytest.fixture(params=STORES)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    return Case(STORES[request.param], tmp_path / "table")


def test_every_store_is_listed() -> None:
    assert set(STORES) == {kind.__name__ for kind in DeltaLog.__subclasses__()}


def test_rows_come_back_whole_in_commit_order(case: Case) -> None:
    whole = pl.concat(case.log.batches(rows=4))
    rows = case.store.rows(range(15))
    assert whole.select(rows.columns).equals(rows)
    assert case.log.rows() == 15


def test_a_replay_writes_nothing(case: Case) -> None:
    version = case.log.version
    assert case.append(range(10, 15), 2) == version
    assert case.append(range(5), 0) == version
    assert (case.log.version, case.log.rows(), case.log.last_sequence("w")) == (version, 15, 2)


def test_a_reader_pins_its_version(case: Case) -> None:
    assert ids_of(case.log.batches(version=2)) == list(range(10))
    assert (case.log.rows(2), case.log.rows(0)) == (10, 0)
    with pytest.raises(UserError, match="version 9"):
        case.log.rows(9)


def test_each_row_is_followed_once_and_in_order(case: Case) -> None:
    case.log.compact()
    case.append(range(15, 20), 3)
    assert ids_of(followed(case.log, 1)) == list(range(5, 20))
    assert [commit.version for commit in case.log.commits(1) if commit.parts] == [2, 3, 5]


def test_pinned_and_followed_rows_are_all_rows(case: Case) -> None:
    pinned = case.log.version - 1
    whole = [*case.log.batches(version=pinned), *followed(case.log, pinned)]
    assert ids_of(whole) == list(range(15))


@pytest.mark.parametrize(
    ("fault", "change"),
    [
        ("column 'nonsense' is not in the table's schema", lambda rows: rows.with_columns(nonsense=1)),
        ("column 'time' is missing", lambda rows: rows.drop("time")),
        (
            "column 'time' has type Int64, the table has Datetime",
            lambda rows: rows.with_columns(pl.col("time").cast(pl.Int64)),
        ),
        (
            "row 3, column 'time': must not be empty",
            lambda rows: rows.with_columns(pl.when(pl.int_range(pl.len()) != 3).then(pl.col("time")).alias("time")),
        ),
    ],
)
def test_a_refusal_writes_nothing(case: Case, fault: str, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    before = (case.log.version, sorted(case.path.rglob("*")))
    with pytest.raises(UserError, match=fault):
        case.append(range(15, 20), 3, change)
    assert (case.log.version, sorted(case.path.rglob("*"))) == before
    assert case.append(range(15, 20), 3) == 4


def test_no_row_can_be_changed_by_another_tool(case: Case) -> None:
    with pytest.raises(DeltaError, match="append-only"):
        DeltaTable(str(case.path)).delete("time is not null")
    assert case.log.rows() == 15


def test_an_empty_append_is_a_commit(case: Case) -> None:
    case.append([], 3)
    assert (case.log.rows(), case.log.last_sequence("w")) == (15, 3)
    assert ids_of(case.log.batches()) == list(range(15))
