"""The one typed experiment file: every key, its unit and its default; a wrong key or value is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from recdistill.errors import UserError, did_you_mean

__all__ = [
    "BehaviorsConfig", "CandidatesConfig", "ColumnsConfig", "CrossfitConfig", "DataConfig", "DistillConfig", "EvaluateConfig",
    "Experiment", "GateConfig", "HealthConfig", "LabelsConfig", "ModelConfig", "NegativesConfig", "SamplingConfig", "SourceConfig",
    "StreamConfig", "StudentConfig", "TaskColumn", "checked", "load_file", "load_text", "override", "parsed", "put", "read_text",
]  # fmt: skip

Rate = Annotated[float, Field(gt=0.0, le=1.0)]
Positive = Annotated[int, Field(ge=1)]


Model = TypeVar("Model", bound=BaseModel)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TaskColumn(_Strict):
    """A label made of a column: 1 where the column is at least `at_least`, else 0."""

    column: str
    at_least: float


class ColumnsConfig(_Strict):
    """Which columns of the user's table are what; everything not named is ignored."""

    sample_id: str | None = None
    time: str = "time"
    time_unit: str = "s"  # s, ms, us, iso, or a strptime format
    user: str = "user_id"
    item: str = "item_id"
    request: str | None = None
    tasks: dict[str, str | TaskColumn | Literal[1]] = Field(default={"click": "label"}, min_length=1)  # 1: every row is one
    label_times: dict[str, str] = {}
    categorical: list[str] = []
    numeric: list[str] = []
    lists: dict[str, str] = {}  # column -> separator


class BehaviorsConfig(_Strict):
    """A second table of what users did besides the samples; histories are gathered from it."""

    path: str
    time: str = "time"
    time_unit: str = "s"
    user: str = "user_id"
    item: str = "item_id"
    action: str | None = None


class SamplingConfig(_Strict):
    """Down-sampling by the first task's label: of the log on its way in, or of what one model learns from.

    (A model that learns from a sample of the log still predicts every row of it.)
    """

    positive: Rate = 1.0
    negative: Rate = 1.0


class NegativesConfig(_Strict):
    """Sampled negatives for a log of positives only: items that anybody chose in the window just before, in proportion."""

    per_positive: Positive = 3
    window_hours: float = Field(default=1.0, gt=0)
    item_features: list[str] = []  # columns that describe the item: taken from the drawn row, the others from the positive
    seed: int = 0


class DataConfig(_Strict):
    """Where the log comes from. `path` is relative to --data, or to the working directory without it."""

    reader: Literal["simulator", "table", "movielens", "kuairand", "mind", "globo", "trivago"] = "table"
    path: str = ""  # a table, or the folder as its publisher gives it
    columns: ColumnsConfig = ColumnsConfig()
    behaviors: BehaviorsConfig | None = None
    options: dict[str, int | float | str | bool] = {}  # the reader's or simulator's own arguments
    sort: bool = False  # sort a table by time on ingest (in memory); otherwise unsorted input is refused
    limit: Positive | None = None  # first rows only
    negatives: NegativesConfig | None = None  # for a log of positives only
    keep_rates: dict[str, tuple[Rate, Rate]] = {}  # task -> (k+, k-) the log was sampled under
    sampling: SamplingConfig = SamplingConfig()  # what to keep of it now; multiplies the keep rates of the first task


class CandidatesConfig(_Strict):
    """Items beside each sample that nobody was shown, of samples shortly before; the teacher says what it thinks of them too."""

    count: int = Field(default=0, ge=0, le=64)  # per sample
    window: Positive = 20_000  # samples before it that they are drawn from
    item_features: list[str] = []  # columns that describe the item: they come with it


class ModelConfig(_Strict):
    """A network and how it learns."""

    kind: Literal["pooled-mlp", "dcn-v2", "din", "target-attention", "hstu"] = "target-attention"
    width: Positive = 32  # embedding width
    history: Positive = 30  # past events it sees
    options: dict[str, int | float | bool | str | list[int]] = {}  # the backbone's own arguments
    batch: Positive = 512  # rows per step
    table_rate: float = Field(default=1e-2, gt=0)  # learning rate of the embedding rows
    dense_rate: float = Field(default=3e-3, gt=0)  # learning rate of everything else
    optimiser: Literal["adam", "rowwise-adagrad"] = "adam"
    replay: int = Field(default=0, ge=0)  # extra learning steps per batch, drawn from the last `replay_window` rows
    replay_window: Positive = 25_000
    epochs: int = Field(default=0, ge=0)  # shuffled passes after the prequential one (their logits are not recorded)
    sampling: SamplingConfig = SamplingConfig()


class GateConfig(_Strict):
    """When signals start to count: once the teacher's progressive NE beats the student's own by `margin`."""

    start: Literal["always", "teacher-ahead"] = "always"
    margin: float = Field(default=0.002, ge=0)
    window: Positive = 20_000  # rows of the comparison


class CrossfitConfig(_Strict):
    """Teachers for students with `distill.signals: crossfit`: each learns from all folds but one, and scores that one."""

    folds: int = Field(default=5, ge=2, le=50)
    by: Literal["sample", "user", "time"] = "sample"
    share: float = Field(default=0.5, gt=0, le=1)  # of the log, its first part; a stream's batch phase has all of it


class DistillConfig(_Strict):
    """How the teacher's record becomes a loss (docs/how-it-works.md)."""

    signals: Literal["prequential", "crossfit"] = "prequential"  # crossfit: of the log's first part, by teachers that never saw the label
    loss: Literal["cross-entropy", "kl", "mse"] = "cross-entropy"
    weight: Annotated[float, Field(ge=0)] | Literal["auto"] = 1.0
    auto_fraction: float = Field(default=0.5, gt=0)  # weight auto: signal gradient / label gradient at the backbone
    towers: Literal["decoupled", "single"] = "decoupled"
    candidates: int = Field(default=0, ge=0)  # of the teacher's per sample, to learn from
    temperature: float = Field(default=1.0, gt=0)
    space: Literal["posterior", "student"] = "posterior"
    gate: GateConfig = GateConfig()


class StudentConfig(ModelConfig):
    """A light model, trained twice per seed: raw (labels alone) and distilled, equal in everything else."""

    kind: Literal["pooled-mlp", "dcn-v2", "din", "target-attention", "hstu"] = "din"
    width: Positive = 16
    distill: DistillConfig = DistillConfig()


class EvaluateConfig(_Strict):
    """What is scored, and how certain the answer must be."""

    start: float = Field(default=0.5, ge=0, lt=1)  # the window: rows after this share of the log
    seeds: list[int] = Field(default=[0, 1, 2, 3, 4], min_length=1)
    group: Literal["request", "user"] = "user"
    bootstrap: Positive = 1000
    confidence: float = Field(default=0.95, gt=0.5, lt=1)

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("a seed may stand once")
        return seeds


class SourceConfig(_Strict):
    """What carries the rows to `ingest`, in order: a broker, or Delta tables (no server)."""

    kind: Literal["table", "nats", "kafka"] = "table"
    url: str | None = None  # nats://HOST:4222, or HOST:9092 of Kafka; null with nats: a nats-server of its own is started
    stream: str = Field(default="recdistill", pattern=r"^[A-Za-z0-9_-]+$")  # JetStream stream; Kafka topics STREAM.events ...
    path: str = ""  # kind table: a folder with Delta tables events, behaviors, outcomes; empty: RUN/source
    message_rows: Positive = 100  # rows of a message that the replay publishes
    readers: Positive = 1  # kind kafka: processes ingest-0, ingest-1 ... that split the partitions between them
    options: dict[str, str | int | float | bool] = {}  # further settings of the broker's client; env:NAME is read from there

    @model_validator(mode="after")
    def _fits(self) -> SourceConfig:
        if self.readers > 1 and self.kind != "kafka":
            raise ValueError(f"readers split the partitions of kind kafka; {self.kind} has none")
        return self


class LabelsConfig(_Strict):
    """When a label counts. Without a window labels come with their samples."""

    window_s: float | None = Field(default=None, gt=0)  # event seconds; no outcome until then: negative
    late: Literal["update", "weight", "ignore"] = "update"  # a positive after the window (docs/streaming.md)


class HealthConfig(_Strict):
    """When a teacher's version is quarantined; every bound must be broken beyond doubt (`sigmas`)."""

    rows: Positive = 1000  # rows judged at a time; students hear none of them before
    reference_rows: Positive = 50_000  # good rows of the past that they are compared with
    shift: float = Field(default=1.0, gt=0)  # mean logit, in the reference's standard deviations
    spread: float = Field(default=2.0, gt=1)  # ratio of standard deviations
    calibration: float = Field(default=2.0, gt=1)  # ratio of predicted and observed rates, beyond the reference's own
    ne: float = Field(default=0.2, gt=0)  # NE above the reference's
    coverage: float = Field(default=0.75, ge=0, le=1)  # least share of the samples it says something about
    sigmas: float = Field(default=5.0, gt=0)


class StreamConfig(_Strict):
    """The streaming phase (docs/streaming.md)."""

    batch_rows: int = Field(default=100_000, ge=0)  # of a log that is replayed: the first rows, learned in batch
    replay: bool = True  # publish the rest of the log into the source; false: producers of yours fill it
    speed: float | None = Field(default=None, gt=0)  # of a replay: event seconds per second; null: as fast as can be
    source: SourceConfig = SourceConfig()
    labels: LabelsConfig = LabelsConfig()
    wait_s: float = Field(default=86_400.0, gt=0)  # event seconds that a sample waits for its signal, and a signal for its sample
    late_s: float = Field(default=86_400.0, gt=0)  # event seconds behind the newest; older samples are dropped and counted
    commit_rows: Positive = 2000  # rows that make a commit of predictions due, 4 a second at most; after a second what there is
    checkpoint_rows: Positive = 20_000  # rows per checkpoint, and per version of a teacher
    teachers: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9._]+$")], ModelConfig] = {}  # beside the first, as teacher-NAME
    undo_hours: float = Field(default=168.0, gt=0)  # wall hours that a model can be set back: so long files and commits are kept
    retain_days: Positive | None = None  # days of the tables that are kept, counted back from the newest; null: all
    health: HealthConfig = HealthConfig()
    patience_s: float = Field(default=600.0, ge=0)  # seconds to wait for a broker that is down


class Experiment(_Strict):
    """The whole experiment file."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    data: DataConfig
    teacher: ModelConfig = ModelConfig()
    students: dict[str, StudentConfig] = Field(default={"student": StudentConfig()}, min_length=1)
    crossfit: CrossfitConfig = CrossfitConfig()
    candidates: CandidatesConfig = CandidatesConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    stream: StreamConfig = StreamConfig()
    checkpoint_rows: Positive = 100_000  # rows per commit of predictions and per checkpoint
    processes: Positive = 2  # students trained at a time

    @property
    def crossfits(self) -> bool:
        """Return whether any student hears cross-fitted signals."""
        return any(student.distill.signals == "crossfit" for student in self.students.values())

    @model_validator(mode="after")
    def _enough_candidates(self) -> Experiment:
        for name, student in self.students.items():
            if student.distill.candidates > self.candidates.count:
                raise ValueError(f"students.{name}.distill.candidates {student.distill.candidates}: the teacher is asked about "
                                 f"candidates.count {self.candidates.count}")  # fmt: skip
        return self

    @model_validator(mode="after")
    def _later_than_crossfit(self) -> Experiment:
        if self.crossfits and self.evaluate.start < self.crossfit.share and self.crossfit.share < 1:
            raise ValueError(f"evaluate.start {self.evaluate.start:g} lies before crossfit.share {self.crossfit.share:g}: "
                             "students would be scored on samples whose signals knew what came later")  # fmt: skip
        return self


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]


def _known_keys(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Return the keys allowed beside the one at `location` of a `model`."""
    models = [model]
    for step in location[:-1]:
        nested = [m for model in models if str(step) in model.model_fields
                  for m in _models_in(model.model_fields[str(step)].annotation)]  # fmt: skip
        models = nested or models
    return [key for model in models for key in model.model_fields]


def _explain(error: ValidationError, model: type[BaseModel], where: str) -> UserError:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return UserError(
            f"{where}: unknown key '{key}'{did_you_mean(str(first['loc'][-1]), _known_keys(model, first['loc']))}"
        )
    problem = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error" and isinstance(first["input"], dict):  # about several keys, which it names
        return UserError(f"{where}: {key}{': ' if key else ''}{problem}")
    problem = problem[:1].lower() + problem[1:]
    return UserError(f"{where}: '{key}': {problem}; got {str(first['input'])[:60]!r}")


def put(tree: dict[str, Any], path: str, value: Any, where: str) -> None:
    """Set `key.path` of a parsed YAML tree in place; UserError when the path runs through something that is not a mapping."""
    *parents, last = path.split(".")
    node: Any = tree
    for part in parents:
        node = node.setdefault(part, {})
        if not isinstance(node, dict):
            raise UserError(f"{where}: '{part}' is not a group of keys")
    node[last] = value


def override(tree: dict[str, Any], assignment: str) -> None:
    """Apply one `key.path=value` to a parsed YAML tree in place; the value is YAML.

    Raises UserError when there is no '=', no value, or the path runs through something that is not a mapping.
    """
    path, equals, text = assignment.partition("=")
    if not equals or not path:
        raise UserError(f"--set {assignment!r}: write it as key.path=value")
    if not text.strip():
        raise UserError(f"--set {assignment!r}: has no value; write null for none")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"--set {assignment!r}: the value is not YAML") from None
    put(tree, path, value, f"--set {assignment!r}")


def parsed(text: str, where: str) -> dict[str, Any]:
    """Return the keys of YAML text; UserError when it holds anything else."""
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        raise UserError(f"{where}:{line} is not YAML: {getattr(error, 'problem', 'cannot be parsed')}") from None
    if not isinstance(tree, dict):
        raise UserError(f"{where}: expected keys like 'name:' and 'data:', got {type(tree).__name__}")
    return tree


def checked(model: type[Model], tree: dict[str, Any], where: str) -> Model:
    """Return the `model` of parsed keys; UserError names the first wrong one."""
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise _explain(error, model, where) from None


def load_text(text: str, assignments: list[str] | None = None, where: str = "config") -> Experiment:
    """Parse an experiment from YAML text with `--set` assignments on top; UserError names the first wrong key."""
    tree = parsed(text, where)
    for assignment in assignments or []:
        override(tree, assignment)
    return checked(Experiment, tree, where)


def read_text(path: Path) -> str:
    """Return the text of an experiment file; UserError when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        raise UserError(f"{path}: cannot read the experiment file: {reason}") from None


def load_file(path: Path, assignments: list[str] | None = None) -> Experiment:
    """Read an experiment file; see `load_text`."""
    return load_text(read_text(path), assignments, str(path))
