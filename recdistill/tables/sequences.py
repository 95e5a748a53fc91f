"""Sequences that rows bring: their columns in the events table, and what may stand in them.

    sequence_NAME   list of item ids, oldest first
    times_NAME      list of as many times, ascending, each before the row's own; where the sequence has times

A row without a list has an empty one.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from recdistill.tables.delta.types import TIME

__all__ = ["sequence_column", "sequence_columns", "sequence_faults", "times_column"]

Fault = tuple[str, str, pl.Expr]  # column, what is wrong, where


def sequence_column(name: str) -> str:
    """Return the table's column of a sequence's items."""
    return f"sequence_{name}"


def times_column(name: str) -> str:
    """Return the table's column of a sequence's times."""
    return f"times_{name}"


def sequence_columns(sequences: Mapping[str, bool], item: pl.DataType) -> dict[str, pl.DataType]:
    """Return the table's columns of `sequences` (name -> whether it has times), whose items are of type `item`."""
    found: dict[str, pl.DataType] = {}
    for name, timed in sequences.items():
        found |= {sequence_column(name): pl.List(item)} | ({times_column(name): pl.List(TIME)} if timed else {})
    return found


def sequence_faults(sequences: Mapping[str, bool]) -> list[Fault]:
    """Return what may be wrong with a row's sequences."""
    return [fault for name, timed in sequences.items() for fault in _faults(name, timed)]


def _faults(name: str, timed: bool) -> list[Fault]:
    items, column = pl.col(sequence_column(name)).list, times_column(name)
    found = [(sequence_column(name), "an entry must not be empty", items.len() > items.drop_nulls().list.len())]
    if timed:
        times = pl.col(column).list
        count = times.len().fill_null(0)
        steps = times.eval(pl.element().diff().dt.total_microseconds().min()).list.first()
        found += [
            (column, "must have a time for each item", count != items.len().fill_null(0)),
            (column, "an entry must not be empty", times.len() > times.drop_nulls().list.len()),
            (column, "must hold times before the row's own", times.max() >= pl.col("time")),
            (column, "must ascend, the newest last", steps < 0),
        ]
    return found
