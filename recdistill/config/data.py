"""Where the log comes from."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from recdistill.config.base import Name, Positive, Rate, Strict
from recdistill.config.levels import levels_of, with_levels
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
    "SideConfig",
    "TaskColumn",
    "TextLayout",
    "VectorConfig",
    "check_binary",
]

Column = Annotated[str, Field(min_length=1)]  # a name in the user's table


class TaskColumn(Strict):
    """A label made of a column: 1 where the column is at least `at_least`, or equals `equals`, else 0; `soft`: its
    values themselves, from 0 to 1; `regression`: its values, learned by their logarithm (`log`) or as they are
    (`huber`), in units of `scale`.
    """

    column: str
    at_least: float | None = Field(default=None, allow_inf_nan=False)
    equals: str | int | float | None = None
    soft: bool = False
    regression: Literal["log", "huber"] | None = None
    scale: float = Field(default=1.0, gt=0, allow_inf_nan=False)  # of a regression: errors above it count by their size

    @model_validator(mode="after")
    def _one(self) -> TaskColumn:
        given = [one is not None for one in (self.at_least, self.equals, self.regression)]
        if sum(given) + self.soft != 1:
            raise ValueError("give one of at_least, equals, soft: true and regression: log or huber")
        if self.scale != 1 and self.regression is None:
            raise ValueError("scale: is of a regression")
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
    )  # 1: every row is one; {column, levels: [3, 4]}: a task per level
    label_times: dict[Name, str] = {}
    weight: Column | None = None  # what each row counts in learning and in scores; null: all alike
    categorical: list[Column] = []
    numeric: list[Column] = []
    lists: dict[Column, Annotated[str, Field(min_length=1)]] = {}  # column -> separator
    sequences: dict[Name, SequenceColumns] = {}  # "history" stands in place of the user's earlier samples
    dtypes: dict[str, Literal["text"]] = {}  # an id's key or column, or a category: taken as text, as it is written

    @model_validator(mode="before")
    @classmethod
    def _a_task_per_level(cls, given: Any) -> Any:
        return with_levels(given)

    @model_validator(mode="after")
    def _no_label_is_a_feature(self) -> ColumnsConfig:
        labels = self.label_columns | ({self.weight: "the weight of the rows"} if self.weight else {})
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
    def soft(self) -> tuple[str, ...]:
        """Return the tasks whose labels are anything from 0 to 1."""
        return tuple(task for task, spec in self.tasks.items() if isinstance(spec, TaskColumn) and spec.soft)

    @property
    def regression(self) -> dict[str, tuple[str, float]]:
        """Return the tasks whose labels are values -> (loss, scale)."""
        specs = {task: spec for task, spec in self.tasks.items() if isinstance(spec, TaskColumn)}
        return {task: (one.regression, one.scale) for task, one in specs.items() if one.regression is not None}

    @property
    def levels(self) -> dict[str, tuple[str, ...]]:
        """Return the labels with several levels -> their tasks, ascending."""
        specs = {task: spec for task, spec in self.tasks.items() if isinstance(spec, TaskColumn)}
        return levels_of({task: (one.column, one.at_least) for task, one in specs.items() if one.at_least is not None})

    @property
    def label_columns(self) -> dict[str, str]:
        """Return the columns of labels and of their times -> what each is, in words."""
        labels = {
            spec if isinstance(spec, str) else spec.column: f"the label of task '{task}'"
            for task, spec in self.tasks.items()
            if not isinstance(spec, int)
        }
        return labels | {column: f"the label time of task '{task}'" for task, column in self.label_times.items()}


def check_binary(asked: dict[str, str], columns: ColumnsConfig) -> None:
    """Raise ValueError for the first key of `asked` {key: task} whose task has other labels than 0 and 1."""
    for key, task in asked.items():
        if task in columns.soft or task in columns.regression:
            kind = "those of task '{}' are soft" if task in columns.soft else "task '{}' is a regression"
            raise ValueError(f"{key}: needs labels of 0 and 1; {kind.format(task)}; leave it out")


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


class SideConfig(TextLayout):
    """A table of what is known of each item, or of each user, joined to every row by id.

    Of an id's rows one counts: the newest whose `valid_from` is not after the row's time.
    """

    path: str
    key: Column
    valid_from: Column | None = None  # without it an id has one row, which counts as known always
    time_unit: str = "s"  # of valid_from
    categorical: list[Column] = []
    numeric: list[Column] = []
    lists: dict[Column, Annotated[str, Field(min_length=1)]] = {}  # column -> separator
    dtypes: dict[Column, Literal["text"]] = {}  # a category: taken as text, as it is written

    @model_validator(mode="after")
    def _says_something(self) -> SideConfig:
        if not (self.categorical or self.numeric or self.lists):
            raise ValueError("names no feature; give categorical, numeric or lists")
        for name in self.dtypes:
            if name not in self.categorical:
                raise ValueError(f"dtypes: no category '{name}'{did_you_mean(name, self.categorical)}")
        if self.valid_from is None and self.time_unit != "s":
            raise ValueError("time_unit: is of valid_from, which is not given")
        return self


class VectorConfig(TextLayout):
    """A table with a pre-trained vector of each item or user, or a column of the log with one of each row."""

    path: str | None = None  # without it the column is the log's own
    key: Column | None = None
    column: Column = "embedding"  # of lists of numbers, all of one length
    of: Literal["item", "user"] = (
        "item"  # whose ids `key` holds; of the log's own: item, where it goes with a drawn item
    )

    @model_validator(mode="after")
    def _table_or_column(self) -> VectorConfig:
        if (self.path is None) != (self.key is None):
            raise ValueError("give path and key of a table, or neither: then the column is the log's own")
        if self.path is None and self.given:
            raise ValueError("header, separator: are of a table, and no path is given")
        return self


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
    """Sampled negatives for a log of positives only: items that were chosen before, never those chosen later.

    draw: from what, and how often each (docs/howto/bring-your-log.md).
    """

    draw: Literal["window", "uniform", "popularity", "batch"] = "window"
    per_positive: Positive = 3
    window_hours: float = Field(default=1.0, gt=0)  # of draw: window
    rows: Positive = 1024  # of draw: batch, how many positives before
    power: float = Field(default=0.75, gt=0, le=1)  # of draw: popularity, in proportion to (times chosen)^power
    item_features: list[
        str
    ] = []  # columns that describe the item: taken from the drawn row, the others from the positive
    positives: Literal["pool", "all"] = "pool"  # those that somebody else chose where it is drawn from, or every one
    exclude: Literal["nothing", "chosen"] = "nothing"  # of a user's negatives: what that user chose before
    correct: bool = False  # learn logits without the odds of the draw
    seed: int = 0

    @model_validator(mode="after")
    def _of_the_draw(self) -> NegativesConfig:
        for key, draw in (("window_hours", "window"), ("rows", "batch"), ("power", "popularity")):
            if getattr(self, key) != NegativesConfig.model_fields[key].default and self.draw != draw:
                raise ValueError(f"{key}: belongs to draw: {draw}; draw: {self.draw} does not look at it")
        if self.correct and (self.positives, self.exclude) != ("pool", "nothing"):
            raise ValueError(
                "correct: needs positives: pool and exclude: nothing; what could not have been drawn has no probability"
            )
        return self


class DataConfig(TextLayout):
    """Where the log comes from. `path` is relative to --data, or to the working directory without it."""

    reader: ReaderName = "table"
    path: str = ""  # a file, a folder, a pattern or a Delta table; or the folder as its publisher gives it
    columns: ColumnsConfig = ColumnsConfig()
    behaviors: BehaviorsConfig | None = None
    items: SideConfig | None = None  # features of items from a table of their own
    users: SideConfig | None = None  # likewise of users
    vectors: dict[Name, VectorConfig] = {}  # pre-trained, of items or users
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
            keys = ", ".join(f"{key}: null" for key in self.lacking)
            return f"data.columns: {keys}" if keys else ""
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
        first = next(iter(self.columns.tasks))
        rates = {f"keep_rates.{task}": task for task in self.keep_rates}
        first = next(iter(self.columns.regression), first)  # what sampling does to values is not corrected
        rates |= {} if self.sampling == SamplingConfig() else {"sampling": first}
        rates |= {"negatives": first} if self.negatives is not None else {}
        check_binary(rates, self.columns)
        if self.sort and self.columns.time is None:
            raise ValueError("sort: sorts by time; the log has none (data.columns: time: null)")
        return self
