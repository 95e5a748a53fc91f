"""How much of a teacher's gain arrived, as a record of `summary.json`, and the metrics on which it is counted."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator

__all__ = [
    "ALL_METRICS",
    "ETAS",
    "LABELS",
    "METRICS",
    "VALUE_ETAS",
    "VALUE_METRICS",
    "Number",
    "Part",
    "Transfer",
    "Transferability",
    "Transfers",
    "ValueTransferability",
    "finite_or_none",
]

METRICS = ("auc", "gauc", "logloss", "ne", "calibration", "ece")
VALUE_METRICS = ("xauc", "mae", "rmse", "calibration")  # of a regression
ALL_METRICS = (*METRICS, *VALUE_METRICS[:3])
ETAS = ("gauc", "auc", "ne")  # the metrics that order models, the headline's first
VALUE_ETAS = ("xauc", "mae", "rmse")
LABELS = {
    "xauc": "XAUC",
    "mae": "MAE",
    "rmse": "RMSE",
    "auc": "AUC",
    "gauc": "GAUC",
    "logloss": "LogLoss",
    "ne": "NE",
    "calibration": "Calibration",
    "ece": "ECE",
    "kl": "KL to teacher",
    "teacher": "Teacher",
    "raw": "Raw student",
    "distilled": "Distilled student",
}


def finite_or_none(value: Any) -> Any:
    """Return None for NaN and infinities (JSON has neither), and any other value as it is."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


Number = Annotated[float | None, BeforeValidator(finite_or_none)]


class Part(BaseModel):
    """A part of the summary: no unknown keys, no changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Transfer(Part):
    """How much of the teacher's gain arrived, on one metric: eta = (P_distilled - P_raw) / (P_teacher - P_raw).

    `low` and `high` bound eta at the summary's `confidence`; `teacher_gain` is P_teacher - P_raw, signed so that
    positive is better (for NE: raw - teacher), and so are its bounds. A withheld eta is null and `why` gives the reason
    in one sentence; of an eta that is there, `why` says that seeds are too few for what it seems to show. `loses_on`
    names the metrics on which the teacher of this eta is worse than the raw student. `intervals` are eta's where users,
    items or stretches of time (`user`, `item`, `time`) are drawn, [null, null] where it is not bounded; `widest` names
    the widest.
    """

    eta: Number = None
    low: Number = None
    high: Number = None
    teacher_gain: Number = None
    teacher_gain_low: Number = None
    teacher_gain_high: Number = None
    why: str | None = None
    loses_on: list[str] = []
    intervals: dict[str, tuple[Number, Number]] = {}
    widest: str | None = None

    @model_validator(mode="after")
    def _withheld_has_a_reason(self) -> Transfer:
        if self.eta is None and not self.why:
            raise ValueError("eta is null, so 'why' must give the reason")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")
        return self


class Transferability(Part):
    """Eta on the three metrics that order models."""

    auc: Transfer
    gauc: Transfer
    ne: Transfer

    @property
    def names(self) -> tuple[str, ...]:
        """Return the metrics, the headline's first."""
        return ETAS

    def metric(self, name: str) -> Transfer:
        """Return eta on the metric called `name`: auc, gauc or ne; KeyError for any other name."""
        return {"auc": self.auc, "gauc": self.gauc, "ne": self.ne}[name]


class ValueTransferability(Part):
    """Eta on the three metrics of a regression; of MAE and RMSE, where less is better, gains are raw - teacher."""

    xauc: Transfer
    mae: Transfer
    rmse: Transfer

    @property
    def names(self) -> tuple[str, ...]:
        """Return the metrics, the headline's first."""
        return VALUE_ETAS

    def metric(self, name: str) -> Transfer:
        """Return eta on the metric called `name`: xauc, mae or rmse; KeyError for any other name."""
        return {"xauc": self.xauc, "mae": self.mae, "rmse": self.rmse}[name]


Transfers = Transferability | ValueTransferability
