"""`summary.json`: every result of a run, in one versioned file for people, scripts and the report.

A number that does not exist is null, with its reason beside it; NaN and infinities never reach the file.
"""

from __future__ import annotations

import json
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from recdistill.config.experiment import ControlName
from recdistill.errors import UserError
from recdistill.evaluate.data_summary import DataSummary
from recdistill.evaluate.label_lag import LabelLag
from recdistill.evaluate.leaks import Leaks
from recdistill.evaluate.transfers import (
    ALL_METRICS,
    ETAS,
    LABELS,
    METRICS,
    VALUE_ETAS,
    VALUE_METRICS,
    Number,
    Part,
    Transfer,
    Transferability,
    Transfers,
    ValueTransferability,
    finite_or_none,
)
from recdistill.storage.location import Location, write

__all__ = [
    "ALL_METRICS",
    "ETAS",
    "LABELS",
    "METRICS",
    "SCHEMA_VERSION",
    "VALUE_ETAS",
    "VALUE_METRICS",
    "Bin",
    "Control",
    "Curve",
    "Details",
    "LeftOut",
    "ModelSummary",
    "Models",
    "Shadow",
    "Slice",
    "StudentSummary",
    "Summary",
    "TaskSummary",
    "Transfer",
    "Transferability",
    "Transfers",
    "ValueTransferability",
    "Versions",
    "ScoredWindow",
    "load",
    "summarise",
    "write_atomic",
    "write_summary",
]

SCHEMA_VERSION = 6


def _in_utc(time: datetime) -> datetime:
    """Return `time` in UTC; one without a zone is taken to be in UTC, as everywhere in the tables."""
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


Moment = Annotated[datetime, AfterValidator(_in_utc)]
Share = Annotated[float | None, Field(ge=0.0, le=1.0), BeforeValidator(finite_or_none)]
Count = Annotated[int, Field(ge=0)]


class ModelSummary(Part):
    """One model on the window and one task. Each metric is the mean over `seeds`; null is explained in `why`.

    A regression has `xauc`, `mae`, `rmse` and `calibration`, any other task the others; those of the other kind are
    null.
    `calibration` is sum of predictions / sum of labels (1 is perfect), `rows_per_second` is measured in the loop
    (predict, record, learn), `std` holds the standard deviation over seeds of any metric above. `gauc` is that of the
    summary's `group`; `gauc_by` holds it by user and, where the log has requests, by request. `rows_learned`, `steps`,
    `seconds` and `flops` are those of all its training, means over `seeds`; a sample with 8 candidates is 9 rows.
    `serving_flops` are those of ranking 200 candidates for one full history. `settings` are the experiment file's.
    """

    auc: Number = None
    gauc: Number = None
    logloss: Number = None
    ne: Number = None
    calibration: Number = None
    ece: Number = None
    xauc: Number = None
    mae: Number = None
    rmse: Number = None
    gauc_by: dict[str, Number] = {}
    dense_parameters: Count | None = None
    sparse_parameters: Count | None = None
    rows_per_second: Number = None
    rows_learned: Number = None
    steps: Number = None
    seconds: Number = None
    flops: Number = None
    serving_flops: Number = None
    seeds: list[int] = []
    std: dict[str, Number] = {}
    why: dict[str, str] = {}
    settings: dict[str, str | int | float] = {}

    def metric(self, name: str) -> float | None:
        """Return the metric called `name`, one of ALL_METRICS; KeyError for any other name."""
        if name not in ALL_METRICS:
            raise KeyError(name)
        value: float | None = getattr(self, name)
        return value

    @property
    def is_regression(self) -> bool:
        """Return whether it predicts values, not outcomes."""
        return self.mae is not None or "mae" in self.why

    @property
    def metrics(self) -> tuple[str, ...]:
        """Return the metrics that its task has."""
        return VALUE_METRICS if self.is_regression else METRICS

    @property
    def etas(self) -> tuple[str, ...]:
        """Return those of them that order models, the headline's first."""
        return VALUE_ETAS if self.is_regression else ETAS


class Models(Part):
    """The three models of the claim; the students are the run's first."""

    teacher: ModelSummary
    raw: ModelSummary
    distilled: ModelSummary


class Versions(Part):
    """What the numbers were computed from: Delta versions of the two tables, and the packages' versions."""

    events: int | None = None
    predictions: int | None = None
    packages: dict[str, str] = {}


class ScoredWindow(Part):
    """The rows that were scored: event times from `start` to `end`, after the first `share` of the log."""

    start: Moment | None = None
    end: Moment | None = None
    share: Share = None


class Curve(Part):
    """A model's progressive metrics: `metrics[name][i]` is of the rows in the bucket that starts at `time[i]`."""

    time: list[Moment]
    metrics: dict[str, list[Number]]

    @model_validator(mode="after")
    def _equally_long(self) -> Curve:
        for name, values in self.metrics.items():
            if len(values) != len(self.time):
                raise ValueError(f"{name} has {len(values)} values for {len(self.time)} time buckets")
        return self


class Bin(Part):
    """One calibration bin: mean predicted probability, observed rate, rows."""

    predicted: Annotated[float, Field(ge=0.0, le=1.0)]
    observed: Annotated[float, Field(ge=0.0, le=1.0)]
    count: Count


class Slice(Part):
    """The metrics of one part of the window: where `slice` (say `hour`) has `value`.

    `eta` is on GAUC, from `low` to `high` at the summary's `confidence`; null is explained in `why`.
    """

    slice: str
    value: str
    rows: Count
    metrics: dict[str, dict[str, Number]]  # model -> metric -> value
    eta: Number = None
    low: Number = None
    high: Number = None
    why: str | None = None


class Details(Part):
    """What the report draws of one student, models keyed `teacher`, `raw`, `distilled`."""

    curves: dict[str, Curve] = {}
    calibration: dict[str, list[Bin]] = {}
    slices: list[Slice] = []


class Control(Part):
    """A further student that shows what part of eta is the teacher's. `beyond`: how much of the teacher's gain the
    distilled student has beyond it, (P_distilled - P_control) / (P_teacher - P_raw).

    self: the same student distilled by a raw student of its own kind, from another seed. compute: the raw student, with
    as many rows to learn as the distilled one.
    """

    model: ModelSummary
    beyond: Transfers


class LeftOut(Part):
    """A seed that diverged: the `ne` of its `variant` is far above the `median` over seeds."""

    seed: int
    variant: Literal["raw", "distilled"]
    ne: Number
    median: Number


class StudentSummary(Part):
    """One student of the run on one task: trained raw and distilled, equal in everything else.

    `coverage`: share of samples that had a usable signal when the distilled one learned from them. A student of a
    `domain` (feature: value) is scored on its `rows` alone, and against the `teacher` there; the three are empty for
    a student of all samples. `left_out`: the seeds that diverged on the first task, of which both twins are left out of
    every figure.
    """

    raw: ModelSummary
    distilled: ModelSummary
    transferability: Transfers
    coverage: Share = None
    details: Details = Details()
    controls: dict[ControlName, Control] = {}
    domain: dict[str, int | str] = {}
    rows: Count | None = None
    teacher: ModelSummary | None = None
    left_out: list[LeftOut] = []


class TaskSummary(Part):
    """One task: the rows of the window whose label is known, and every model on them."""

    rows: Count
    teacher: ModelSummary
    students: dict[str, StudentSummary]


class Shadow(Part):
    """A version that scored what another one answered, on the `rows` that both predicted and whose label of `task` is
    known. `shadow` and `served`: the models' names in the predictions table; `models`: what they score; `gains`: metric
    -> (gain of the shadow, low, high), positive where the shadow is better, over users at the summary's `confidence`.
    """

    task: str
    rows: Count
    shadow: str
    served: str
    models: dict[Literal["shadow", "served"], ModelSummary]
    gains: dict[str, tuple[Number, Number, Number]]


class Summary(Part):
    """The whole of `summary.json`; `docs/summary.md` describes it key by key.

    Everything outside `further_tasks` is about the first task. The first entry of `students` is the one in `models` and
    `transferability`. `rows` counts the scored rows. `label_lag` is empty where labels are known with their samples.
    `graded`: label with several levels -> model -> NDCG by `group`.
    `baselines` are simple models on the same rows; `warnings` say in one sentence each what a reader of the scores must
    know; `leaks` holds what simple rules score, `data` what the log holds, of a batch run. `shadows` are versions that
    scored the live traffic.
    """

    schema_version: Literal[6] = 6
    name: str
    created: Moment
    tasks: Annotated[list[str], Field(min_length=1)]
    group: str = "user"
    confidence: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.95
    rows: Count
    window: ScoredWindow = ScoredWindow()
    label_lag: list[LabelLag] | None = None
    leaks: Leaks | None = None
    data: DataSummary | None = None
    coverage: Share = None
    versions: Versions = Versions()
    models: Models
    transferability: Transfers
    students: Annotated[dict[str, StudentSummary], Field(min_length=1)]
    further_tasks: dict[str, TaskSummary] = {}
    baselines: dict[str, ModelSummary] = {}
    graded: dict[str, dict[str, Number]] = {}
    shadows: list[Shadow] = []
    warnings: list[str] = []

    @model_validator(mode="after")
    def _tasks_are_known(self) -> Summary:
        unknown = self.further_tasks.keys() - set(self.tasks[1:])
        if unknown:
            raise ValueError(f"further_tasks holds '{min(unknown)}', which is none of the tasks after the first")
        return self

    @model_validator(mode="after")
    def _first_student_is_shown(self) -> Summary:
        name, first = next(iter(self.students.items()))
        shown = (self.models.raw, self.models.distilled, self.transferability)
        if shown != (first.raw, first.distilled, first.transferability):
            raise ValueError(f"models and transferability must repeat the first student, '{name}'")
        return self


def summarise(*, teacher: ModelSummary, students: dict[str, StudentSummary], **rest: Any) -> Summary:
    """Return the Summary whose `models`, `transferability` and `coverage` are taken from the first of `students`.

    `rest` holds the other fields of Summary. Raises pydantic's ValidationError when a field is wrong or missing.
    """
    if not students:
        raise ValueError("a summary needs at least one student")
    first = next(iter(students.values()))
    models = Models(teacher=teacher, raw=first.raw, distilled=first.distilled)
    fields = {"coverage": first.coverage, **rest}
    return Summary(models=models, transferability=first.transferability, students=students, **fields)


def write_atomic(text: str, path: Location) -> None:
    """Write UTF-8 `text` to `path` so that a reader sees the old file or the new one, never a part.

    Makes the folder if needed; raises UserError when the file cannot be written, and then leaves nothing behind.
    """
    if not isinstance(path, Path):
        write(path, text.encode())
        return
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, prefix=f".{path.name}.", delete=False, encoding="utf-8"
        ) as file:
            temporary = Path(file.name)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)  # a temporary file is private, a report is made to be read
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from None


def write_summary(summary: Summary, path: Location) -> None:
    """Write `summary` as indented JSON, atomically; raises UserError when `path` cannot be written."""
    write_atomic(summary.model_dump_json(indent=2) + "\n", path)


def load(path: Location) -> Summary:
    """Read a summary.json; raises UserError that names the file and the first wrong key."""
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValueError:
        raise UserError(f"{path}: not JSON; expected the summary.json that a run writes") from None
    version = tree.get("schema_version") if isinstance(tree, dict) else None
    if version != SCHEMA_VERSION:
        raise UserError(
            f"{path}: schema_version is {version!r}, this release reads {SCHEMA_VERSION}; use the release that wrote it"
        )
    try:
        return Summary.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the file"
        raise UserError(f"{path}: '{key}': {first['msg']}") from None
