"""A teacher that was trained elsewhere: its prediction of each sample, taken from a Parquet file into the predictions
table.

    check the whole file -> commit it, a part per commit -> a last commit marks that it is all there

Nothing is written for a file with a fault; one whose import was killed is taken up where it was.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from recdistill.checkpoint.store import checksum
from recdistill.config.experiment import Experiment
from recdistill.data.readers.columns import Kind
from recdistill.data.readers.ids import id_column
from recdistill.data.store.memmap import create_column
from recdistill.data.store.piles import KeyRepeatsError, joined
from recdistill.data.store.sample_store import SampleStore
from recdistill.errors import UserError
from recdistill.runs.folder import RunFolder
from recdistill.runs.jobs import jobs_of
from recdistill.runs.names import TEACHER
from recdistill.signals.keep_rates import learned_rates
from recdistill.tables.events import EventLog
from recdistill.tables.predictions import PredictionLog
from recdistill.tables.regression import Regression
from recdistill.tables.schema import EventSchema
from recdistill.typing import Array

__all__ = ["Imported", "import_predictions", "imported"]

ROWS = 1 << 20  # of a part
NO_SAMPLE = -(2**63)  # the number of what the log does not have
KEY = "imported"  # of the last commit's metadata: the file's name


@dataclass(frozen=True)
class Imported:
    """rows: taken. unknown: left out, for the log has no such sample. coverage: share of the log's samples."""

    rows: int
    unknown: int
    coverage: float


def imported(predictions: PredictionLog) -> str | None:
    """Return the name of the file that all predictions of a run's teacher were imported from; None when
    there is no such file.
    """
    return (predictions.newest_metadata(TEACHER) or {}).get(KEY)


def import_predictions(folder: RunFolder, experiment: Experiment, path: Path) -> Imported:
    """Take `path` as the predictions of the run's teacher: columns sample_id, as the log has it, and per task
    logit_TASK or probability_TASK, of a regression logit_TASK as models record it or value_TASK in the label's unit.
    Memory O(part): samples named by text are looked up on disk, where they are many.

    With one task, `logit` or `probability` will do. What the teacher learned from is `teacher.sampling` of the
    experiment. Raises UserError, and writes nothing, when the file is no such table, a value is missing, infinite or no
    probability, a sample stands there twice, a scored sample is missing, or the run has a teacher already.
    """
    store, predictions = SampleStore(folder.store), PredictionLog.open(folder.predictions)
    events = EventLog.open(folder.tables / "events")
    file = _File(path, events.schema)
    writer = f"{TEACHER}@import-{file.checksum:08x}"
    newest = predictions.newest_metadata(TEACHER)
    if newest is not None and newest.get("file") != writer:
        raise UserError(
            f"{folder.root}: the run has a teacher already ({newest.get(KEY, 'trained here')}); import into another "
            "--out"
        )
    with TemporaryDirectory(dir=folder.local) as place:
        if events.schema.sample_key:
            file.look_up(events.batches(columns=["sample_key", "sample_id"]), Path(place))
        found = _check(file, store, experiment.evaluate.start)
        rates = learned_rates(events.schema, store.labels, jobs_of(experiment)[0])
        about = {"keep_rates": json.dumps(rates), "file": writer}
        sequence = _record(file, store, predictions, writer, about)
    predictions.mark(writer, sequence, {"model": TEACHER, "model_version": "0", KEY: path.name, **about})
    return found


def _record(file: _File, store: SampleStore, predictions: PredictionLog, writer: str, about: dict[str, str]) -> int:
    """Commit the file's predictions of samples of the log, a part per commit; return how many parts it has."""
    sequence = 0
    for rows in file.parts():
        at = store.positions(rows["sample_id"].to_numpy())
        rows = rows.with_columns(time=pl.Series(store.time[at.clip(0)]).cast(pl.Datetime("us", "UTC"))).filter(
            pl.Series(at >= 0)
        )
        if len(rows):
            predictions.append(
                rows,
                model=TEACHER,
                version=0,
                kind="imported",
                writer=writer,
                sequence=sequence,
                metadata=about,
                new_samples=True,
            )
        sequence += 1
    return sequence


def _check(file: _File, store: SampleStore, start: float) -> Imported:
    """Read the whole file, and return what is in it."""
    present, unknown = np.zeros(len(store), bool), 0
    for rows in file.parts():
        at = store.positions(rows["sample_id"].to_numpy())
        mine = at[at >= 0]
        twice = mine[present[mine] | pl.Series(mine).is_duplicated().to_numpy()]
        if len(twice):
            raise UserError(f"{file.path}: column 'sample_id': {store.sample_id[twice[0]]} stands there twice")
        present[mine] = True
        unknown += int((at < 0).sum())
    if not present.any():
        raise UserError(f"{file.path}: none of its {unknown:,} sample ids is in the log")
    first = int(start * len(store))
    scored = ~np.isnan(store.labels[first:]).all(1) & (np.asarray(store.weight[first:]) > 0)
    missing = int((scored & ~present[first:]).sum())
    if missing:
        raise UserError(
            f"{file.path}: has no prediction for {missing:,} of the {int(scored.sum()):,} samples that are scored, "
            f"those after the first {start:.0%} of the log; add them, or raise evaluate.start"
        )
    return Imported(int(present.sum()), unknown, float(present.mean()))


class _File:
    """The Parquet file `path`, read a part at a time as sample_id and logit_TASK."""

    def __init__(self, path: Path, schema: EventSchema) -> None:
        self.path, self.text, tasks = path, schema.sample_key, schema.tasks
        self.numbers: Array | None = None  # of the rows' samples, where those are named by text
        self.rules = {f"logit_{task}": schema.rule(task) for task in tasks}
        try:
            self.checksum = checksum(path)
            names = pq.read_schema(path).names
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror or str(error).splitlines()[0]}") from None
        except pa.ArrowException as error:
            raise UserError(f"{path}: is no Parquet file: {str(error).splitlines()[0]}") from None
        self.columns = {
            f"logit_{task}": _column(path, task, names, len(tasks) == 1, task in schema.regression) for task in tasks
        }
        if "sample_id" not in names:
            raise UserError(f"{path}: column 'sample_id' is missing")

    def look_up(self, known: Iterable[pl.DataFrame], folder: Path) -> None:
        """Find the numbers of samples named by text; known: (sample_key, sample_id) of the log, folder: for what lies
        on disk meanwhile and as long as the file is read. UserError as `parts`.
        """
        with pq.ParquetFile(self.path) as file:
            rows = file.metadata.num_rows
        numbers = create_column(folder, "numbers", (rows,), "int64")
        numbers[:] = NO_SAMPLE
        keys = (part.drop_nulls("sample_key") for part in known)
        try:
            for mine, theirs in joined(self._keys(), keys, "sample_key", folder):
                found = mine.join(theirs, on="sample_key")
                numbers[found["row"].to_numpy()] = found["sample_id"].to_numpy()
        except KeyRepeatsError as error:  # the log has each once
            raise UserError(f"{self.path}: column 'sample_id': {error}; a sample may stand there once") from None
        self.numbers = numbers

    def _keys(self) -> Iterator[pl.DataFrame]:
        """Yield (sample_key, row) of the whole file."""
        done = 0
        for rows in self._batches(["sample_id"]):
            yield pl.DataFrame({"sample_key": self._named(rows)}).with_row_index("row", done)
            done += len(rows)

    def parts(self) -> Iterator[pl.DataFrame]:
        """Yield checked rows; UserError for a value that cannot be taken."""
        done = 0
        for rows in self._batches(["sample_id", *self.columns.values()]):
            named = self._named(rows)
            ids = named if self.numbers is None else pl.Series(self.numbers[done : done + len(rows)])
            logits = {name: self._logit(rows[column], ids, self.rules[name]) for name, column in self.columns.items()}
            yield pl.DataFrame({"sample_id": ids, **logits})
            done += len(rows)

    def _batches(self, columns: list[str]) -> Iterator[pl.DataFrame]:
        try:
            with pq.ParquetFile(self.path, page_checksum_verification=True) as file:
                for batch in file.iter_batches(ROWS, columns=columns):
                    yield pl.DataFrame(batch)
        except (OSError, pa.ArrowException) as error:
            raise UserError(f"{self.path}: cannot be read: {str(error).splitlines()[0]}") from None

    def _named(self, rows: pl.DataFrame) -> pl.Series:
        """Return the sample ids as the log has them, numbers or text."""
        kind = Kind(rows.schema["sample_id"], rows.schema["sample_id"])
        wanted = "string" if self.text else "int64"
        made = id_column("sample_id", kind, wanted, "sample_id").value if kind.single else pl.lit(None, pl.String)
        ids = rows.select(sample_id=made)["sample_id"]
        if ids.null_count():
            what = "what the log's sample ids hold" if self.text else "whole numbers"
            raise UserError(f"{self.path}: column 'sample_id' must hold {what}, none empty; it is {kind.stored}")
        return ids

    def _logit(self, values: pl.Series, ids: pl.Series, rule: Regression | None) -> pl.Series:
        if not values.dtype.is_numeric():
            raise UserError(f"{self.path}: column '{values.name}' must hold numbers; it is {values.dtype}")
        x = values.cast(pl.Float64).fill_null(np.nan).to_numpy()
        probability = values.name.startswith("probability")
        good = (x > 0) & (x < 1) if probability else np.isfinite(x)
        if rule is not None and values.name.startswith("value"):
            with np.errstate(divide="ignore", invalid="ignore"):
                x = rule.learned(x)
            good = np.isfinite(x)
        if not good.all():
            bad = int(np.argmin(good))
            wanted = "lie between 0 and 1, both excluded" if probability else "be finite"
            wanted += ", and above -scale" * (rule is not None and rule.loss == "log")
            raise UserError(f"{self.path}: column '{values.name}' must {wanted}; sample {ids[bad]} has {values[bad]}")
        return pl.Series((np.log(x) - np.log1p(-x) if probability else x).astype(np.float32))


def _column(path: Path, task: str, names: list[str], alone: bool, regression: bool) -> str:
    """Return the column of the file that holds a task's predictions; UserError for none, and for several."""
    kinds = ["logit", "value" if regression else "probability"]
    wanted = [*(f"{kind}_{task}" for kind in kinds), *(kinds if alone else [])]
    here = [name for name in wanted if name in names]
    if len(here) != 1:
        what = f"has both '{here[0]}' and '{here[1]}'; drop one" if here else f"has none of {', '.join(wanted)}"
        raise UserError(f"{path}: of task '{task}' the file {what}")
    return here[0]
