"""What a run measured, and its report."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import polars as pl

from recdistill.config.experiment import ControlName
from recdistill.errors import UserError, did_you_mean
from recdistill.evaluate.summary import ModelSummary, StudentSummary, Summary, Transfer
from recdistill.runs.names import TEACHER
from recdistill.storage.location import Location

__all__ = ["Eta", "Report", "Result", "StudentResult"]


@dataclass(frozen=True)
class Eta:
    """Transferability: value, and the bounds of its interval; None where there is none, for the reason in `why`."""

    value: float | None
    low: float | None
    high: float | None
    why: str | None


@dataclass(frozen=True)
class StudentResult:
    """One student of a result."""

    name: str
    summary: StudentSummary

    def eta(self, metric: str = "gauc", beyond: ControlName | None = None) -> Eta:
        """Return eta on auc, gauc or ne with its low and high bound, or None and `why` there is none.

        beyond: eta beyond that control, self or compute. UserError for one that the run does not have.
        """
        if beyond is not None and beyond not in self.summary.controls:
            raise UserError(f"eta: the run has no control '{beyond}'; give controls=['{beyond}'] to the run")
        known = dict(self.summary.controls[beyond].beyond if beyond else self.summary.transferability)
        if metric not in known:
            raise UserError(f"eta: no metric '{metric}'{did_you_mean(metric, known)}")
        found: Transfer = known[metric]
        return Eta(found.eta, found.low, found.high, found.why)


@dataclass(frozen=True)
class Result:
    """What a run measured on its scored window, from `summary.json`."""

    summary: Summary

    @property
    def students(self) -> dict[str, StudentResult]:
        """Return the students by name."""
        return {name: StudentResult(name, student) for name, student in self.summary.students.items()}

    @property
    def baselines(self) -> dict[str, ModelSummary]:
        """Return the scores of the simple models on the same window, by name: counts, lightgbm."""
        return self.summary.baselines

    @property
    def warnings(self) -> list[str]:
        """Return what a reader of the scores must know, one sentence each."""
        return self.summary.warnings

    def to_frame(self) -> pl.DataFrame:
        """Return a row per model: model, variant (teacher, raw, distilled, self, compute, baseline), metrics, and
        eta_METRIC where distilled.
        """
        rows = [{"model": TEACHER, "variant": "teacher", **_metrics(self.summary.models.teacher)}]
        for name, student in self.summary.students.items():
            etas = {f"eta_{metric}": transfer.eta for metric, transfer in student.transferability}
            rows.append({"model": name, "variant": "raw", **_metrics(student.raw)})
            rows.append({"model": name, "variant": "distilled", **_metrics(student.distilled), **etas})
            rows += [{"model": name, "variant": kind, **_metrics(one.model)} for kind, one in student.controls.items()]
        rows += [{"model": name, "variant": "baseline", **_metrics(one)} for name, one in self.baselines.items()]
        return pl.DataFrame(rows, infer_schema_length=None)


def _metrics(model: ModelSummary) -> dict[str, float | None]:
    return {name: getattr(model, name) for name in model.metrics}


@dataclass(frozen=True)
class Report:
    """The report as a file; a notebook shows it."""

    path: Location

    def _repr_html_(self) -> str:
        page = escape(self.path.read_text(encoding="utf-8"), quote=True)
        return f'<iframe srcdoc="{page}" width="100%" height="900" style="border:0"></iframe>'
