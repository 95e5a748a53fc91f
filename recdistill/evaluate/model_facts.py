"""What scoring needs beside the two tables: costs, settings, and what a model's own sampling added to its logits."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from recdistill.config.experiment import ControlName
from recdistill.config.models import DistillConfig, ModelConfig, StudentConfig
from recdistill.config.starts import WarmStartConfig

__all__ = ["IMPORTED", "TrainingCosts", "ModelFacts", "Setting", "StudentModels", "log_odds_offset_of", "settings_of"]

Setting = str | int | float
SHOWN_SETTINGS = ("kind", "width", "history", "batch", "table_rate", "dense_rate", "optimiser", "replay", "epochs")


@dataclass(frozen=True)
class TrainingCosts:
    """What a model holds and how fast it learned, None where it was trained elsewhere.

    dense_parameters: learned numbers of its network; sparse_parameters: of its embedding rows. rows_per_second: of the
    whole loop. coverage: share of samples that had a usable signal when it learned from them. rows, steps, seconds,
    flops: of all its training; a sample with 8 candidates is 9 rows, and one that is learned again counts again.
    serving_flops: of ranking 200 candidates for one full history.
    """

    dense_parameters: int | None
    sparse_parameters: int | None
    rows_per_second: float | None
    coverage: float
    rows: int | None = None
    steps: int | None = None
    seconds: float | None = None
    flops: float | None = None
    serving_flops: float | None = None


IMPORTED = TrainingCosts(None, None, None, 1.0)  # of a model whose predictions were imported from a file


@dataclass(frozen=True)
class ModelFacts:
    """One model. log_odds_offset: log(k+ / k-) that its own down-sampling, by the first task's label, left in its
    logits.

    The log's own keep rates are no part of it: the labels that the logits are scored against went through the same
    sampling.
    """

    name: str
    seed: int
    log_odds_offset: float
    costs: TrainingCosts
    settings: dict[str, Setting]


@dataclass(frozen=True)
class StudentModels:
    """A student's raw and distilled models, paired by position. domain: {feature: value} of the samples it is for, none
    for all. controls: further students, self or compute, paired likewise.
    """

    raw: list[ModelFacts]
    distilled: list[ModelFacts]
    domain: dict[str, int | str] = field(default_factory=dict)
    controls: dict[ControlName, list[ModelFacts]] = field(default_factory=dict)

    @property
    def all(self) -> list[ModelFacts]:
        """Return every model."""
        return [*self.raw, *self.distilled, *(model for models in self.controls.values() for model in models)]


def log_odds_offset_of(config: ModelConfig) -> float:
    """Return log(k+ / k-) of the model's own down-sampling."""
    return math.log(config.sampling.positive / config.sampling.negative)


def settings_of(config: ModelConfig, distill: DistillConfig | None) -> dict[str, Setting]:
    """Return the settings that a reader needs to know what was compared, by their names in the experiment file.

    `distill` is None for the teacher; a raw student, of weight 0, has no settings of it either.
    """
    named: dict[str, Setting] = {name: getattr(config, name) for name in SHOWN_SETTINGS}
    if (config.sampling.positive, config.sampling.negative) != (1.0, 1.0):
        named["sampling"] = f"k+ {config.sampling.positive:g}, k- {config.sampling.negative:g}"
    if config.rows is not None:
        how = f"after {config.rows.admit}" if config.rows.share == "never" else f"shared by {config.rows.share}"
        others = f", others of {config.rows.narrow} numbers" if config.rows.narrow else ""
        named["rows"] = f"{config.rows.most:,} per table, {how}{others}"
    if isinstance(config, StudentConfig) and config.pruned_from is not None:
        named["pruned from"] = f"{config.pruned_from.student} at {config.pruned_from.at:g}"
    if distill is not None and distill.uses_teacher:
        named["weight"] = _weight(distill.weight)
        named |= {"towers": distill.towers, "loss": distill.loss, "space": distill.space}
        named |= {"gate": distill.gate.start, "signals": distill.signals, "teachers": ", ".join(distill.teachers)}
        named |= {"candidates": distill.candidates} if distill.candidates else {}
        named |= {"warm start": _started(distill.warm_start)} if distill.warm_start else {}
    return named


def _started(start: WarmStartConfig) -> str:
    """Return a warm start as one setting."""
    frozen = f", frozen for {start.frozen:g}" if start.frozen else ""
    return f"{', '.join(start.parts)} at {start.at:g}{frozen}"


def _weight(weight: Setting | dict[str, float]) -> Setting:
    """Return a weight as one setting, also where it is one per task."""
    return ", ".join(f"{task} {one:g}" for task, one in weight.items()) if isinstance(weight, dict) else weight
