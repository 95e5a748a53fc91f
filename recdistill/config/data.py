"""Where the log comes from."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from recdistill.config.base import Name, Positive, Rate, Strict
from recdistill.errors import did_you_mean

__all__ = [
    "BehaviorsConfig",
    "ColumnsConfig",
    "DataConfig",
    "LabelsConfig",
    "NegativesConfig",
    "SamplingConfig",
    "TaskColumn",
]


class TaskColumn(Strict):
    """A label made of a column: 1 where the column is at least `at_least`, else 0."""

    column: str
    at_least: float


class ColumnsConfig(Strict):
    """Which columns of the user's table are what; everything not named is ignored."""

    sample_id: str | None = None
    time: str = "time"
    time_unit: str = "s"  # s, ms, us, iso, or a strptime format
    user: str = "user_id"
    item: str = "item_id"
    request: str | None = None
    tasks: dict[Name, str | TaskColumn | Literal[1]] = Field(
        default={"click": "label"}, min_length=1
    )  # 1: every row is one
    label_times: dict[Name, str] = {}
    categorical: list[str] = []
    numeric: list[str] = []
    lists: dict[str, str] = {}  # column -> separator

    @model_validator(mode="after")
    def _of_tasks(self) -> ColumnsConfig:
        for name in self.label_times:
            if name not in self.tasks:
                raise ValueError(f"label_times: there is no task '{name}'{did_you_mean(name, self.tasks)}")
        return self


class BehaviorsConfig(Strict):
    """A second table of what users did besides the samples; histories are gathered from it."""

    path: str
    time: str = "time"
    time_unit: str = "s"
    user: str = "user_id"
    item: str = "item_id"
    action: str | None = None


class LabelsConfig(Strict):
    """When a label counts, in batch as in a stream: `data.columns.label_times` say when each was known, or a window
    says until when to wait. Without either a label counts as known with its sample.
    """

    window_s: float | None = Field(default=None, gt=0)  # event seconds; no outcome until then: negative
    late: Literal["update", "weight", "ignore"] = "update"  # a positive after the window (docs/streaming.md)


class SamplingConfig(Strict):
    """Down-sampling by the first task's label: of the log on its way in, or of what one model learns from.

    (A model that learns from a sample of the log still predicts every row of it.)
    """

    positive: Rate = 1.0
    negative: Rate = 1.0


class NegativesConfig(Strict):
    """Sampled negatives for a log of positives only: items that anybody chose in the window just before, in
    proportion.
    """

    per_positive: Positive = 3
    window_hours: float = Field(default=1.0, gt=0)
    item_features: list[
        str
    ] = []  # columns that describe the item: taken from the drawn row, the others from the positive
    positives: Literal["pool", "all"] = "pool"  # those that somebody else chose in the window before, or every one
    exclude: Literal["nothing", "chosen"] = "nothing"  # of a user's negatives: what that user chose before
    seed: int = 0


class DataConfig(Strict):
    """Where the log comes from. `path` is relative to --data, or to the working directory without it."""

    reader: Literal["simulator", "table", "movielens", "kuairand", "mind", "globo", "trivago"] = "table"
    path: str = ""  # a file, a folder, a pattern or a Delta table; or the folder as its publisher gives it
    columns: ColumnsConfig = ColumnsConfig()
    behaviors: BehaviorsConfig | None = None
    options: dict[str, int | float | str | bool] = {}  # the reader's or simulator's own arguments
    sort: bool = False  # sort a table by time on ingest (in memory); otherwise unsorted input is refused
    limit: Positive | None = None  # first rows only
    negatives: NegativesConfig | None = None  # for a log of positives only
    keep_rates: dict[str, tuple[Rate, Rate]] = {}  # task -> (k+, k-) the log was sampled under
    sampling: SamplingConfig = SamplingConfig()  # what to keep of it now; multiplies the keep rates of the first task
