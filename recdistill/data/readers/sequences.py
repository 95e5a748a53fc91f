"""Sequences in a user's rows on their way into ours: entries are ids like any other, oldest first, each of before.

left out, and counted    entries that are null or empty; those whose time is the row's own or later
refused                  as many times as items there must be; an entry that is no id, or no time
made                     where there are times, their order; without, the entries' own, the newest last
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from recdistill.config.data import ColumnsConfig, SequenceColumns
from recdistill.data.readers.columns import Column, Counts, Kind, Kinds, convert, text_of
from recdistill.data.readers.files import ROW
from recdistill.data.readers.ids import id_column
from recdistill.data.readers.times import past_time_column
from recdistill.data.readers.values import BRACKETS
from recdistill.tables.schema import EventSchema
from recdistill.tables.sequences import sequence_column, sequence_columns, times_column
from recdistill.tables.validation import Origin

__all__ = ["SequenceReader", "sequence_sources"]

PIECE = 16_384  # rows whose entries are in memory together
AT = "\0at"  # column with the place of an entry's row; no user's can be called so


def sequence_sources(columns: ColumnsConfig) -> list[str]:
    """Return the user's columns that hold sequences."""
    return [name for one in columns.sequences.values() for name in (one.items, one.times) if name is not None]


@dataclass(frozen=True)
class SequenceReader:
    """Makes the table's sequences of a raw chunk; kinds: of the user's columns; path: for messages."""

    columns: ColumnsConfig
    kinds: Kinds
    schema: EventSchema
    path: Path

    def added(self, chunk: pl.DataFrame, rows: pl.DataFrame, counts: Counts) -> pl.DataFrame:
        """Return `rows`, which were made of `chunk`, with their sequences; adds to `counts` what was left out.

        UserError at the first entry that does not fit.
        """
        if not self.columns.sequences:
            return rows
        parts = []
        for at in range(0, max(len(rows), 1), PIECE):
            raw, own = chunk[at : at + PIECE], rows[at : at + PIECE]
            made = [self._made(name, one, raw, own["time"], counts) for name, one in self.columns.sequences.items()]
            parts.append(pl.concat(made, how="horizontal"))
        return pl.concat([rows, pl.concat(parts)], how="horizontal")

    def _made(
        self, name: str, one: SequenceColumns, raw: pl.DataFrame, time: pl.Series, counts: Counts
    ) -> pl.DataFrame:
        """Return the table's columns of one sequence."""
        flat = self._entries(raw, one.items, one.separator)
        ids = id_column(one.items, self._kind(one.items), self.schema.item_id, "item")
        flat = flat.with_columns(item_id=self._converted(flat, "item_id", ids))
        there = pl.col("item_id").is_not_null()
        if one.times is not None:
            times = self._entries(raw, one.times, one.separator)
            self._refuse_uneven(raw, flat, times, one)
            made = past_time_column(one.times, self.columns.time_unit, self._kind(one.times))
            flat = flat.with_columns(time=self._converted(times, "time", made))
            there &= pl.col("time").is_not_null()
        kept = flat.filter(there)
        _count(counts, f"'{one.items}': empty entries of sequences left out", len(flat) - len(kept))
        if one.times is not None:
            before = kept.filter((pl.col("time") < time.gather(kept[AT])).fill_null(True))
            _count(
                counts, f"'{one.times}': entries of sequences not before their row left out", len(kept) - len(before)
            )
            kept = before.sort(AT, "time", maintain_order=True)
        return self._lists(name, kept, len(raw))

    def _kind(self, column: str) -> Kind:
        """Return the kind of a column's entries."""
        inner = getattr(self.kinds[column].stored, "inner", pl.String())
        return Kind(inner, inner)

    def _entries(self, raw: pl.DataFrame, column: str, separator: str) -> pl.DataFrame:
        """Return (ROW, AT, the entry under the column's name) of every entry of a column of lists."""
        lists, kind = pl.col(column), self.kinds[column]
        if isinstance(kind.stored, pl.Array):
            lists = lists.arr.to_list()
        elif not isinstance(kind.stored, pl.List):
            text = text_of(lists, kind)
            written = raw.select(text.str.contains(BRACKETS).fill_null(False)).to_series().arg_true()
            if len(written):
                problem = "a list written as text; store it as one, or join its entries by the separator"
                raise Origin(str(self.path), raw[ROW]).refuse(int(written[0]), column, problem)
            lists = text.str.split(separator)
        places = pl.int_range(len(raw), dtype=pl.UInt32, eager=True).alias(AT)
        held = raw.select(ROW, places, lists.alias(column)).filter(pl.col(column).list.len() > 0)
        return held.explode(column)

    def _converted(self, flat: pl.DataFrame, name: str, column: Column) -> pl.Series:
        """Return what `column` makes of every entry."""
        return convert(flat, {name: column}, self.path)[0][name]

    def _refuse_uneven(self, raw: pl.DataFrame, items: pl.DataFrame, times: pl.DataFrame, one: SequenceColumns) -> None:
        """Raise UserError for the first row with more or fewer times than items."""
        rows = pl.DataFrame({AT: pl.int_range(len(raw), dtype=pl.UInt32, eager=True)})
        counts = [
            rows.join(flat.group_by(AT).len(), on=AT, how="left", maintain_order="left")["len"].fill_null(0)
            for flat in (items, times)
        ]
        uneven = (counts[0] != counts[1]).arg_true()
        if len(uneven):
            at = int(uneven[0])
            problem = f"must have a time for each entry of '{one.items}'; got {counts[1][at]} for {counts[0][at]}"
            raise Origin(str(self.path), raw[ROW]).refuse(at, str(one.times), problem)

    def _lists(self, name: str, flat: pl.DataFrame, rows: int) -> pl.DataFrame:
        """Return the table's columns of entries in order, a list for each of `rows` rows."""
        timed = self.schema.sequences[name]
        named = {"item_id": sequence_column(name)} | ({"time": times_column(name)} if timed else {})
        types = sequence_columns({name: timed}, self.schema.columns()["item_id"])
        grouped = flat.group_by(AT, maintain_order=True).agg(pl.col(one).alias(new) for one, new in named.items())
        whole = pl.DataFrame({AT: pl.int_range(rows, dtype=pl.UInt32, eager=True)})
        found = whole.join(grouped, on=AT, how="left", maintain_order="left")
        return found.select(pl.col(one).fill_null([]).cast(kind) for one, kind in types.items())


def _count(counts: Counts, what: str, found: int) -> None:
    if found:
        counts[what] += found
