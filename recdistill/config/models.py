"""Networks: what they are made of, how they learn, and how a student is distilled."""

from __future__ import annotations

from collections.abc import Container
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from recdistill.config.base import Positive, Strict
from recdistill.config.data import SamplingConfig
from recdistill.config.presets import expanded
from recdistill.config.sizes import AlternateConfig, PruneConfig, PrunedFromConfig
from recdistill.config.starts import WarmStartConfig
from recdistill.defaults import USER_KIND
from recdistill.errors import did_you_mean

__all__ = [
    "AdapterConfig",
    "CandidatesConfig",
    "CrossfitConfig",
    "DistillConfig",
    "GateConfig",
    "KINDS",
    "NumericAs",
    "ModelConfig",
    "PaperConfig",
    "PretrainConfig",
    "RowsConfig",
    "StaleConfig",
    "TeacherHiddenConfig",
    "StudentConfig",
    "TeacherConfig",
]

NumericAs = Literal["both", "buckets", "values"]
Weight = Annotated[float, Field(ge=0)]
EmbeddingWidth = Annotated[int, Field(ge=1, le=65_536)]
KINDS = ("pooled-mlp", "dcn-v2", "din", "target-attention", "hstu", "transformer", "longer", "token-mixer")


def _known_kind(kind: str) -> str:
    if kind not in KINDS and not USER_KIND.match(kind):
        raise ValueError(f"no such model{did_you_mean(kind, KINDS)}; your own is package.module:Class")
    return kind


Kind = Annotated[str, AfterValidator(_known_kind)]  # one of KINDS, or the user's own class as package.module:Class


class PretrainConfig(Strict):
    """Generative pre-training of the item table at one point of the log, on what was done before it (GPSD)."""

    at: float = Field(default=0.25, gt=0, lt=1)  # share of the log, down to a whole checkpoint
    category: str | None = None  # the log's column with the item's category, which is predicted with the next item
    epochs: Positive = 2
    batch: Positive = 64  # histories per step
    negatives: Positive = 4096  # items drawn per step
    temperature: float = Field(default=0.05, gt=0)  # of cosines
    rate: float = Field(
        default=1e-3, gt=0
    )  # of the encoder; like the next, it warms up, and follows a cosine to a tenth
    table_rate: float = Field(default=5e-3, gt=0)  # of the item table
    table: Literal["frozen", "transferred"] = "frozen"  # whether the items that it met go on learning from labels
    dense: bool = (
        False  # whether the encoder that predicted the next item goes on as the model's own, or one is lent for it
    )


class RowsConfig(Strict):
    """A bound on the rows of each table, for ids that never end: rows are given to ids that come back, and the ids seen
    longest ago give theirs to new ones; or ids share rows by their remainder, or by remainder and quotient; or every id
    has a narrow row.
    """

    most: int = Field(ge=8, le=1 << 31)  # rows of a table, down to a multiple of 8
    admit: Positive = 1  # steps that have to look an id up before it gets a row; until then it reads the padding
    share: Literal["never", "remainder", "quotient-remainder"] = (
        "never"  # remainder: ids of one remainder read one row; quotient-remainder: that times their quotient's
    )

    narrow: int = Field(default=0, ge=0)  # numbers of a row that every id has; the others belong to `most` ids

    @model_validator(mode="after")
    def _shared(self) -> RowsConfig:
        if self.share != "never" and self.narrow:
            raise ValueError("narrow is for rows of one id each; leave it out, or share")
        if self.share != "never" and self.admit > 1:
            raise ValueError("admit is for rows of one id each; leave it out, as ids that share rows have one at once")
        return self


class ModelConfig(Strict):
    """A network and how it learns."""

    kind: Kind = "target-attention"
    width: EmbeddingWidth = 32
    history: int = Field(default=30, ge=1, le=100_000)  # past events it sees
    numbers: list[Literal["counts", "repeats"]] = [
        "counts",
        "repeats",
    ]  # that it reads: how many outcomes of user and item were known; how often the history has the item already
    numeric_as: NumericAs = "both"  # how it reads numeric features: as the bucket, as the normalised value
    options: dict[str, Any] = {}  # the backbone's own arguments, which it checks itself
    batch: Positive = 512  # rows per step
    table_rate: float = Field(default=1e-2, gt=0)  # learning rate of the embedding rows
    dense_rate: float = Field(default=3e-3, gt=0)  # learning rate of everything else
    dense_warmup: int = Field(default=0, ge=0)  # steps in which dense_rate rises from near 0
    dense_clip: float | None = Field(default=None, gt=0)  # largest norm of a step's dense gradient
    rate_end: float = Field(
        default=1.0, gt=0, le=1
    )  # share of both rates that is left at the end of training, by a cosine
    optimiser: Literal["adam", "rowwise-adagrad"] = "adam"
    replay: int = Field(default=0, ge=0)  # extra learning steps per batch, drawn from the last `replay_window` rows
    replay_window: Positive = 25_000
    epochs: int = Field(default=0, ge=0)  # shuffled passes after the prequential one (their logits are not recorded)
    sampling: SamplingConfig = SamplingConfig()
    pretrain: PretrainConfig | None = None
    rows: RowsConfig | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"  # of the dense part; auto: CUDA where there is one
    tables: Literal["auto", "host", "device"] = "host"  # whose memory has the embedding rows; auto: device, if they fit
    embeddings: Literal["own", "torchrec"] = "own"  # whose kernels hold and move the rows; torchrec: FBGEMM's

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, keys: Any) -> Any:
        return expanded(keys)

    @model_validator(mode="after")
    def _rows_stay(self) -> ModelConfig:
        if self.rows is not None and self.rows.narrow >= self.width:
            raise ValueError(f"rows.narrow is {self.rows.narrow}, of a width of {self.width}; make it smaller")
        if self.rows is not None and self.pretrain is not None:
            raise ValueError("rows that are bounded cannot be pre-trained; leave out rows or pretrain")
        if self.embeddings == "torchrec" and self.optimiser != "rowwise-adagrad":
            raise ValueError(
                "embeddings: torchrec moves rows by row-wise Adagrad alone; set optimiser: rowwise-adagrad, or "
                "embeddings: own"
            )
        return self


class StaleConfig(Strict):
    """How old the weights are that a teacher predicts with: it learns from a sample only when that is so old.
    One of three.
    """

    steps: int = Field(default=0, ge=0)  # batches
    hours: float = Field(default=0.0, ge=0)  # of the log
    versions: int = Field(default=0, ge=0)  # published ones, each of checkpoint_rows

    @model_validator(mode="after")
    def _one(self) -> StaleConfig:
        if sum(value > 0 for value in (self.steps, self.hours, self.versions)) > 1:
            raise ValueError("name one of steps, hours and versions")
        return self

    @property
    def fresh(self) -> bool:
        """Return whether the teacher predicts with its newest weights."""
        return not (self.steps or self.hours or self.versions)


class TeacherConfig(ModelConfig):
    """A model that students learn from."""

    stale: StaleConfig = StaleConfig()

    @model_validator(mode="after")
    def _in_order(self) -> TeacherConfig:
        if not self.stale.fresh and self.pretrain:
            raise ValueError(
                "a stale teacher may not pre-train on what is newer than its weights; leave out stale or pretrain"
            )
        if not self.stale.fresh and (self.replay or self.epochs):
            raise ValueError("stale is for a teacher that learns each sample once; set replay and epochs to 0")
        return self


class CandidatesConfig(Strict):
    """Items that nobody was shown, with each sample, of samples shortly before; the teacher
    scores them too.
    """

    count: int = Field(default=0, ge=0, le=64)  # per sample
    window: Positive = 20_000  # samples before it that they are drawn from
    item_features: list[str] = []  # columns that describe the item: they come with it


class TeacherHiddenConfig(Strict):
    """The teacher's hidden state, recorded with its logit, in width * bits / 8 bytes per sample; 0: none (LoopFM's
    channel).
    """

    width: int = Field(default=0, ge=0, le=1024, multiple_of=4)
    block: int | None = Field(default=None, ge=1)  # of the teacher, whose output it is; null: what its heads read
    bits: Literal[4, 8] = 8
    rate: float = Field(default=1e-3, gt=0)  # of the autoencoder's optimiser
    learn_rows: Positive = 100_000  # that the autoencoder learns from; then it stays as it is

    @property
    def size(self) -> int:
        """Return the bytes of one state."""
        return self.width * self.bits // 8


class GateConfig(Strict):
    """When signals count: once the teacher's progressive NE beats the student's own by `margin` and by
    `sigmas` of its error.
    """

    start: Literal["always", "teacher-ahead"] = "always"
    margin: float = Field(default=0.002, ge=0)
    sigmas: float = Field(default=2.0, ge=0)  # standard errors of the difference
    window: Positive = 20_000  # rows of the comparison
    by: str | None = None  # a gate per value of this feature; or per length of history; null: one gate


class CrossfitConfig(Strict):
    """Teachers for students with `distill.signals: crossfit`: each learns from all folds but one, and
    scores that one.
    """

    folds: int = Field(default=5, ge=2, le=50)
    by: Literal["sample", "user", "time"] = "sample"
    share: float = Field(default=0.5, gt=0, le=1)  # of the log, its first part; a stream's batch phase has all of it


class AdapterConfig(Strict):
    """ExFM's student adapter: an MLP on the teacher's logit, learned from fresh labels, whose output is a
    second target.
    """

    hidden: list[Positive] = [8]
    rate: float = Field(default=1e-2, gt=0)  # of its own optimiser
    weight: Weight = 1.0  # of its target, on a head of its own


class PaperConfig(Strict):
    """Rec-Distill's own correction f_S; r_s / p_X are the student's keep rates."""

    reading: Literal["outside", "inside"] = "outside"  # of the parenthesis, where b_s stands
    nominal_retention: float = Field(default=1.0, gt=0, le=1)  # r_+
    bias: float = Field(default=0.0, ge=0)  # b_s


class DistillConfig(Strict):
    """How the teacher's record becomes a loss (docs/how-it-works.md)."""

    teachers: list[str] = Field(
        default=["teacher"], min_length=1
    )  # teacher, a name of `teachers`, another student; several: an ensemble
    ensemble: Literal["mean", "recent"] = "mean"  # of the log-odds: each alike, or by recent NE per slice of `gate.by`
    signals: Literal["prequential", "crossfit"] = (
        "prequential"  # crossfit: of the log's first part, by teachers that never saw the label
    )
    start: float = Field(default=0.0, ge=0, lt=1)  # share of the log after which signals count
    share: float = Field(default=1.0, ge=0, le=1)  # of the signals that count, the others left out by sample id
    candidates: int = Field(default=0, ge=0)  # of the teacher's per sample, to learn from
    teacher_hidden: int = Field(
        default=0, ge=0
    )  # the teacher's hidden states of that many of the user's samples strictly before, as a feature (LoopFM)
    teacher_hidden_days: float | None = Field(default=None, gt=0)  # of those samples, how long ago the oldest may be
    listwise: Weight = 0.0  # of the teacher's order within a request, added to `weight`'s
    loss: Literal["cross-entropy", "kl", "mse"] = "cross-entropy"
    weight: Weight | Literal["auto"] | dict[str, Weight] = (
        1.0  # of the signal, where the label's is 1; a number per task
    )
    auto_fraction: float = Field(default=0.5, gt=0)  # weight auto: signal gradient / label gradient at the backbone
    towers: Literal["decoupled", "single", "signal-only"] = (
        "decoupled"  # signal-only: the auxiliary tower learns from no label (ExFM)
    )
    label_scale: float = Field(
        default=1.0, gt=0
    )  # ExFM, equation 4: the target is min(scale * p, 1); the head is never served
    gradient_scale: float = Field(default=1.0, gt=0)  # ExFM: of what reaches the backbone from the auxiliary tower
    adapter: AdapterConfig | None = None
    temperature: float = Field(default=1.0, gt=0)
    space: Literal["posterior", "student", "paper"] = "posterior"
    paper: PaperConfig = PaperConfig()  # of space paper
    gate: GateConfig = GateConfig()
    warm_start: WarmStartConfig | None = None

    @model_validator(mode="after")
    def _fits(self) -> DistillConfig:
        if self.towers == "single" and (self.gradient_scale != 1 or self.label_scale != 1):
            raise ValueError(
                "label_scale and gradient_scale are the auxiliary tower's; with towers single there is none"
            )
        if self.space != "paper" and self.paper != PaperConfig():
            raise ValueError("paper is of space paper; set space: paper, or leave paper out")
        if self.signals == "crossfit" and self.teachers != ["teacher"]:
            raise ValueError("signals crossfit are the first teacher's; teachers must be [teacher]")
        if len(set(self.teachers)) < len(self.teachers):
            raise ValueError("teachers names one twice")
        if self.warm_start and len(self.teachers) > 1:
            raise ValueError("warm_start begins from one teacher; name one in teachers")
        return self

    def of_outcomes(self, name: str, first: str, values: str, regression: Container[str]) -> dict[str, str]:
        """Return the keys under `name` that are set and are for outcomes alone, with the task that is none; `values` is
        one, and `first` too where it is in `regression`.
        """
        asked = {
            "listwise": bool(self.listwise),
            "adapter": self.adapter is not None,
            "ensemble": self.ensemble == "recent",
            "gate.start": self.gate.start != "always" and first in regression,
        }
        return {f"{name}.{key}": values for key, given in asked.items() if given}

    @property
    def uses_teacher(self) -> bool:
        """Return whether anything of a teacher's counts."""
        weighted = any(self.weight.values()) if isinstance(self.weight, dict) else self.weight != 0
        adapted = self.adapter and self.adapter.weight
        return bool(weighted or self.listwise or self.teacher_hidden or adapted or self.warm_start)


class StudentConfig(ModelConfig):
    """A light model, trained twice per seed: raw (labels alone) and distilled, equal in everything else."""

    kind: Kind = "din"
    width: EmbeddingWidth = 16
    device: Literal["auto", "cpu", "cuda"] = "cpu"
    distill: DistillConfig = DistillConfig()
    prune: PruneConfig | None = None
    alternate: AlternateConfig | None = None
    pruned_from: PrunedFromConfig | None = None
    start_from: str | None = Field(
        default=None, min_length=1
    )  # folder of an earlier run's model: raw and distilled begin as it
    domain: dict[str, int | str] = Field(
        default={}, max_length=1
    )  # {feature: value}: it learns, and is scored on, those samples alone

    @model_validator(mode="after")
    def _one_plan(self) -> StudentConfig:
        if self.prune is not None and self.alternate is not None:
            raise ValueError("name prune or alternate, not both")
        if self.prune is not None and self.prune.versions is not None and self.rate_end < 1:
            raise ValueError("rate_end falls in the batch phase, before prune.versions; leave one of them out")
        start = self.distill.warm_start
        if self.pretrain and start:
            raise ValueError("pretrain and distill.warm_start both make the item rows; name one of them")
        if self.rows is not None and (self.prune or self.alternate):
            raise ValueError("rows that are bounded cannot change their width; leave out rows, or prune and alternate")
        if self.start_from is not None and (self.prune or self.alternate or self.rows is not None):
            raise ValueError("start_from is for a student of one size; leave out prune, alternate and rows")
        if self.rows is not None and start:
            raise ValueError(
                "rows that are bounded cannot be taken from a teacher; leave out rows or distill.warm_start"
            )
        if (self.prune or self.alternate) and start and "network" in start.parts:
            raise ValueError(
                "distill.warm_start.parts: network is for a student of one size; leave out prune or alternate"
            )
        return self

    @model_validator(mode="after")
    def _one_beginning(self) -> StudentConfig:
        others = {
            "prune": self.prune,
            "alternate": self.alternate,
            "start_from": self.start_from,
            "rows": self.rows,
            "pretrain": self.pretrain,
            "distill.warm_start": self.distill.warm_start,
        }
        asked = [key for key, value in others.items() if value is not None]
        if self.pruned_from is not None and asked:
            raise ValueError(f"pruned_from does not go with {', '.join(asked)}; leave one of them out")
        return self
