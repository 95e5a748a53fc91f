"""One Delta table with atomic, idempotent appends.

    prepare (checks) -> last_sequence(writer) on a fresh handle -> write through that same handle
                                 |                                        |
                     already there: nothing to do          another process with this id: refused

The library records a writer's transaction number but accepts the same one again, so the writer reads it first; the
commit then conflicts if anyone else used the id in between.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from recdistill.errors import UserError
from recdistill.tables.follow import added_files, read_files

__all__ = ["DeltaLog"]

RETRIES = 15  # optimistic conflicts with other writers; appends never truly conflict
KEY = "recdistill.schema"


class DeltaLog:
    """An append-only Delta table at `path`, partitioned by `partitions`, with our schema as JSON in its metadata."""

    partitions: tuple[str, ...] = ("date",)

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        try:
            self.about = str(DeltaTable(str(path)).metadata().configuration.get(KEY, ""))
        except TableNotFoundError:
            raise UserError(f"{path}: no table there") from None
        except (DeltaError, OSError) as error:
            raise UserError(f"{path}: the table cannot be read: {_first_line(error)}") from None
        if not self.about:
            raise UserError(f"{path}: a Delta table, but not one of recdistill")

    @classmethod
    def _create(cls, path: Path, columns: dict[str, pl.DataType], about: str) -> None:
        """Make an empty table, or leave an equal one; UserError when the one there has another schema."""
        if DeltaTable.is_deltatable(str(path)):
            found = cls(path).about
            if found != about:
                raise UserError(f"{path}: holds a table of another schema; choose another folder or delete it")
            return
        try:
            DeltaTable.create(str(path), schema=_arrow(pl.DataFrame(schema={**columns, **cls._partition_types()})).schema,
                              partition_by=list(cls.partitions), configuration={KEY: about}, raise_if_key_not_exists=False)  # fmt: skip
        except (DeltaError, OSError) as error:
            raise UserError(f"{path}: the table cannot be made: {_first_line(error)}") from None

    @classmethod
    def _partition_types(cls) -> dict[str, pl.DataType]:
        return {"date": pl.Date()}

    @property
    def version(self) -> int:
        """Return the newest Delta version."""
        return int(DeltaTable(str(self.path)).version())

    def last_sequence(self, writer: str) -> int:
        """Return the last sequence number that `writer` committed, -1 when none."""
        found = DeltaTable(str(self.path)).transaction_version(writer)
        return -1 if found is None else int(found)

    def _append(self, rows: pl.DataFrame, writer: str, sequence: int, metadata: dict[str, str]) -> int:
        """Commit `rows` once as (writer, sequence); return the table's version. A replay writes nothing."""
        try:
            table = DeltaTable(str(self.path))
            done = table.transaction_version(writer)
            if done is None or done < sequence:
                write_deltalake(
                    table, _arrow(rows), mode="append",
                    commit_properties=CommitProperties(custom_metadata=metadata, max_commit_retries=RETRIES,
                                                       app_transactions=[Transaction(writer, sequence)]),
                )  # fmt: skip
            return int(table.version())
        except CommitFailedError as error:
            raise UserError(
                f"{self.path}: writer '{writer}' is in use by another process: {_first_line(error)}"
            ) from None
        except (DeltaError, OSError) as error:
            raise UserError(f"{self.path}: cannot write: {_first_line(error)}") from None

    def scan(self, version: int | None = None, columns: list[str] | None = None) -> pl.LazyFrame:
        """Return a lazy frame of the table pinned at `version` (default: the newest)."""
        frame = pl.scan_delta(DeltaTable(str(self.path), version=version))
        return frame.select(columns) if columns else frame

    def rows(self, version: int | None = None) -> int:
        """Return the number of rows, from the table's statistics."""
        return int(self.scan(version).select(pl.len()).collect().item())

    def follow(self, from_version: int, to_version: int | None = None) -> Iterator[tuple[int, pl.DataFrame]]:
        """Yield (version, rows) of the commits after `from_version` up to `to_version`, each row once.

        Commits that only rearrange files (compaction) are skipped. Raises UserError when vacuum removed a file.
        """
        for version, files in added_files(self.path, from_version, self.version if to_version is None else to_version):
            for rows in read_files(self.path, files, None, None):
                yield version, rows

    def batches(
        self, version: int | None = None, columns: list[str] | None = None, rows: int = 65_536
    ) -> Iterator[pl.DataFrame]:
        """Yield the rows up to `version` in commit order, at most `rows` at a time; memory O(batch)."""
        for _, files in added_files(self.path, -1, self.version if version is None else version):
            yield from read_files(self.path, files, columns, rows)

    def compact(self) -> None:
        """Merge small files; readers and followers see no change."""
        DeltaTable(str(self.path)).optimize.compact()

    def vacuum(self, retain_hours: int = 168) -> list[str]:
        """Remove files that no version of the last `retain_hours` needs; return their names.

        A follower that lags further behind than that can no longer read what was compacted away, and is told so.
        """
        removed: list[str] = DeltaTable(str(self.path)).vacuum(
            retain_hours, dry_run=False, enforce_retention_duration=False
        )
        return removed


def _arrow(rows: pl.DataFrame) -> pa.Table:
    return rows.to_arrow(compat_level=pl.CompatLevel.oldest())


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
