"""The end of a log, each row marked by what stood before it: whether its user and its item were met before the end
began, and how many rows its user had.

Memory: the end, and a number per distinct user and item before it, however long the log is.
"""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

__all__ = ["marked"]

MERGED = 262_144  # ids counted anew, at least, before they are added to those counted earlier


class _Counts:
    """How often each id of a column stood in the rows so far."""

    def __init__(self, column: str) -> None:
        self.column = column
        self._parts: list[pl.DataFrame] = []  # the first one has most ids

    def add(self, rows: pl.DataFrame) -> None:
        self._parts.append(rows.group_by(self.column).agg(before=pl.len().cast(pl.Int64)))
        if sum(map(len, self._parts[1:])) > max(len(self._parts[0]), MERGED):
            self._parts = [self.all()]

    def all(self) -> pl.DataFrame:
        """Return (the id, `before`: its rows), each id once."""
        return pl.concat(self._parts).group_by(self.column).agg(pl.col("before").sum())

    def of(self, rows: pl.DataFrame) -> pl.Expr:
        """Return int64 per row how often its id was counted, 0 for one that was not met; an empty id is one too."""
        found = rows.select(self.column).join(
            self.all(), on=self.column, how="left", maintain_order="left", nulls_equal=True
        )
        return pl.lit(found["before"].fill_null(0))


def marked(chunks: Iterable[pl.DataFrame], cut: int) -> pl.DataFrame:
    """Return the rows of a log from number `cut` on, with their number as `row`, and `seen`, how many rows the user had
    before each; new_user and new_item: whether no row before `cut` has the same.

    chunks: of the log in order, one at least, with user_id and item_id.
    """
    users, items, held, done = _Counts("user_id"), _Counts("item_id"), list[pl.DataFrame](), 0
    for rows in chunks:
        early = max(cut - done, 0)
        users.add(rows.head(early))
        items.add(rows.head(early))
        held.append(rows.slice(early).with_row_index("row", offset=done + min(early, len(rows))))
        done += len(rows)
    end = pl.concat(held)
    before = users.of(end)
    return end.with_columns(
        seen=before + pl.int_range(pl.len()).over("user_id"),
        new_user=before == 0,
        new_item=items.of(end) == 0,
    )
