"""Where the log comes from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from recdistill.config.base import Name, Positive, Rate, Strict
from recdistill.config.readers import ReaderName, lacking
from recdistill.defaults import GIVEN_HISTORY, LIST_LENGTH
from recdistill.errors import did_you_mean

__all__ = [
    "BehaviorsConfig",
    "ColumnsConfig",
    "DataConfig",
    "LabelsConfig",
    "NegativesConfig",
    "SamplingConfig",
    "SequenceColumns",
    "TaskColumn",
    "TextLayout",
]

Column = Annotated[str, Field(min_length=1)]  # a name in the user's table


class TaskColumn(Strict):
    """A label made of a column: 1 where the column is at least `at_least`, or equals `equals`, else 0."""

    column: str
    at_least: float | None = Field(default=None, allow_inf_nan=False)
    equals: str | int | float | None = None

    @model_validator(mode="after")
    def _one(self) -> TaskColumn:
        if (self.at_least is None) == (self.equals is None):
            raise ValueError("give either at_least or equals")
        return self


class SequenceColumns(Strict):
    """A list of item ids in every row, and the times of its entries."""

    items: Column
    times: Column | None = None  # in `time_unit`; null: the entries are in order, the newest last
    separator: Annotated[str, Field(min_length=1)] = "|"  # where the lists are text


class ColumnsConfig(Strict):
    """Which columns of the user's table are what; everything not named is ignored."""

    sample_id: str | None = None
    time: str | None = "time"  # null: the log has none, its rows count in the order given
    time_unit: str = "s"  # s, ms, us, ns, iso, or a strptime format
    user: str | None = "user_id"  # null: the log has none, every row is alone
    item: str = "item_id"
    request: str | None = None
    tasks: dict[Name, str | TaskColumn | Literal[1]] = Field(
        default={"click": "label"}, min_length=1
    )  # 1: every row is one
    label_times: dict[Name, str] = {}
    categorical: list[Column] = []
    numeric: list[Column] = []
    lists: dict[Column, Annotated[str, Field(min_length=1)]] = {}  # column -> separator
    sequences: dict[Name, SequenceColumns] = {}  # "history" stands in place of the user's earlier samples
    dtypes: dict[str, Literal["text"]] = {}  # an id's key or column, or a category: taken as text, as it is written

    @model_validator(mode="after")
    def _no_label_is_a_feature(self) -> ColumnsConfig:
        labels = {
            spec if isinstance(spec, str) else spec.column: f"the label of task '{task}'"
            for task, spec in self.tasks.items()
            if not isinstance(spec, int)
        }
        labels |= {column: f"the label time of task '{task}'" for task, column in self.label_times.items()}
        given = [name for one in self.sequences.values() for name in (one.items, one.times) if name]
        for name in (*self.categorical, *self.numeric, *self.lists, *given):
            if name in labels:
                raise ValueError(f"column '{name}' is {labels[name]}, so it cannot be a feature: models would read it")
        return self

    @model_validator(mode="after")
    def _of_tasks(self) -> ColumnsConfig:
        for name in self.label_times:
            if name not in self.tasks:
                raise ValueError(f"label_times: there is no task '{name}'{did_you_mean(name, self.tasks)}")
        return self

    @model_validator(mode="after")
    def _without_user_or_time(self) -> ColumnsConfig:
        if self.user is None and self.request is not None:
            raise ValueError(
                f"request: a result list is of one user; name its column as user too: user: {self.request}"
            )
        if self.time is None and any(one.times for one in self.sequences.values()):
            raise ValueError("sequences: times are held against the rows' own; the log has none (time: null)")
        if self.time is None and (self.label_times or self.time_unit != "s"):
            raise ValueError("label_times, time_unit: need the rows' times; the log has none (time: null)")
        return self

    @property
    def lacks(self) -> str:
        """Return which keys say that the log has none, as `user: null, time: null`; empty where it has both."""
        return ", ".join(f"{key}: null" for key in ("user", "time") if getattr(self, key) is None)


class TextLayout(Strict):
    """How the rows of a text file are laid out: the names of all its columns where the first row does not hold them,
    and what separates them where it is not what the file's name says.
    """

    header: list[Column] = []
    separator: str | None = None

    @field_validator("header")
    @classmethod
    def _each_once(cls, header: list[str]) -> list[str]:
        twice = [name for at, name in enumerate(header) if name in header[:at]]
        if twice:
            raise ValueError(f"names '{twice[0]}' twice; every column of the file has a name of its own")
        return header

    @field_validator("separator")
    @classmethod
    def _ascii(cls, separator: str | None) -> str | None:
        if separator is not None and (not separator or not separator.isascii() or set(separator) & set('"\r\n')):
            raise ValueError(f'characters of ASCII, such as "\\t", ";", "|" or "::", no quotes; got {separator!r}')
        return separator

    @property
    def given(self) -> bool:
        """Return whether the keys are those of text in columns."""
        return bool(self.header) or self.separator is not None


class BehaviorsConfig(TextLayout):
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


class DataConfig(TextLayout):
    """Where the log comes from. `path` is relative to --data, or to the working directory without it."""

    reader: ReaderName = "table"
    path: str = ""  # a file, a folder, a pattern or a Delta table; or the folder as its publisher gives it
    columns: ColumnsConfig = ColumnsConfig()
    behaviors: BehaviorsConfig | None = None
    options: dict[str, int | float | str | bool] = {}  # the reader's or simulator's own arguments
    sort: bool = False  # sort a table by time on ingest (in memory); otherwise unsorted input is refused
    drop_missing: bool = False  # leave out a table's rows without user, item or usable time; otherwise they are refused
    limit: Positive | None = None  # first rows only
    list_length: Positive = LIST_LENGTH  # entries of a list that models see: the last, which are the newest
    negatives: NegativesConfig | None = None  # for a log of positives only
    keep_rates: dict[str, tuple[Rate, Rate]] = {}  # task -> (k+, k-) the log was sampled under
    sampling: SamplingConfig = SamplingConfig()  # what to keep of it now; multiplies the keep rates of the first task

    @property
    def lacking(self) -> tuple[str, ...]:
        """Return which of user and time the log has not."""
        if self.reader != "table":
            return lacking(self.reader, self.options)
        return tuple(key for key in ("user", "time") if getattr(self.columns, key) is None)

    @property
    def lacks(self) -> str:
        """Return where it stands that the log has no users or no times; empty where it has both."""
        if self.reader == "table":
            return f"data.columns: {self.columns.lacks}" if self.columns.lacks else ""
        none = " and ".join(f"no {one}s" for one in self.lacking)
        return f"data.reader: {self.reader} has {none}" if none else ""

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> DataConfig:
        for key in ("behaviors", "negatives"):
            if self.lacks and getattr(self, key) is not None:
                raise ValueError(f"{key}: needs users and times; the log lacks them ({self.lacks})")
        if self.behaviors is not None and GIVEN_HISTORY in self.columns.sequences:
            raise ValueError(
                f"behaviors and columns.sequences.{GIVEN_HISTORY} would both be the history; rename the sequence"
            )
        if self.sort and self.columns.time is None:
            raise ValueError("sort: sorts by time; the log has none (data.columns: time: null)")
        return self
