"""Dead letters can be read back, and come once."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from recdistill.errors import UserError
from recdistill.tables.dead_letters import COLUMNS, MAX_PAYLOAD, DeadLetters


def letters(*payloads: bytes) -> pl.DataFrame:
    """Return one letter per payload."""
    return pl.DataFrame(
        [(datetime(2024, 1, 1, tzinfo=UTC), "s", "events", k, "why", 1, payload) for k, payload in enumerate(payloads)],
        schema=COLUMNS,
        orient="row",
    )


def test_payloads_come_back_and_are_cut_where_they_are_too_large(tmp_path: Path) -> None:
    log = DeadLetters.create(tmp_path / "dead")
    log.append(letters(b"\x00\xff poison", b"", bytes(MAX_PAYLOAD + 5)), writer="w", sequence=0)
    back = pl.concat(DeadLetters.open(log.path).batches())
    assert back["payload"].to_list() == [b"\x00\xff poison", b"", bytes(MAX_PAYLOAD)]
    assert back.drop("payload").equals(letters(b"", b"", b"").drop("payload"))
    assert log.collect(log.scan())["payload"].to_list() == back["payload"].to_list()


def test_letters_come_once_also_after_compaction(tmp_path: Path) -> None:
    log = DeadLetters.create(tmp_path / "dead")
    for sequence in (0, 1, 1, 0):
        log.append(letters(str(sequence).encode()), writer="w", sequence=sequence)
    log.compact()
    assert pl.concat(log.batches())["payload"].to_list() == [b"0", b"1"]


def test_other_columns_are_refused(tmp_path: Path) -> None:
    log = DeadLetters.create(tmp_path / "dead")
    with pytest.raises(UserError, match="dead letters: column 'reason' is missing"):
        log.append(letters(b"x").drop("reason"), writer="w", sequence=0)
