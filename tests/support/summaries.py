"""A summary with every part filled, for the tests of summary.json and of the report."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

from recdistill.evaluate.summary import (
    Bin,
    Curve,
    Details,
    ModelSummary,
    ScoredWindow,
    Shadow,
    Slice,
    StudentSummary,
    Summary,
    TaskSummary,
    Transfer,
    Transferability,
    Versions,
    summarise,
)

__all__ = ["sample_summary", "withheld_summary"]

START = datetime(2026, 3, 2, tzinfo=UTC)
SEEDS = [0, 1, 2, 3, 4]


def _model(auc: float, gauc: float, ne: float, dense: int, sparse: int, speed: float, seeds: list[int]) -> ModelSummary:
    return ModelSummary(
        auc=auc,
        gauc=gauc,
        logloss=ne * 0.41,
        ne=ne,
        calibration=1.01 + (auc - 0.75) / 5,
        ece=0.011 - auc / 100,
        dense_parameters=dense,
        sparse_parameters=sparse,
        rows_per_second=speed,
        seeds=seeds,
        std={"auc": 0.0011, "gauc": 0.0014, "ne": 0.0009},
        gauc_by={"user": gauc, "request": gauc - 0.01},
        settings={"kind": "din", "width": sparse // 41_000, "history": 20},
    )


def _student(scale: float, width: int, details: Details | None = None) -> StudentSummary:
    raw = _model(0.7481, 0.7392, 0.9013, 1_100 * width, 41_000 * width, 61_000 / width * 16, SEEDS)
    distilled = _model(
        0.7481 + 0.028 * scale,
        0.7392 + 0.0428 * scale,
        0.9013 - 0.03 * scale,
        1_100 * width,
        41_000 * width,
        58_000 / width * 16,
        SEEDS,
    )
    distill = {"weight": 1.0, "towers": "decoupled", "loss": "cross-entropy", "gate": "always"}
    distilled = distilled.model_copy(update={"settings": distilled.settings | distill})
    auc = 0.94 * scale
    transfer = Transferability(
        auc=Transfer(eta=auc, low=auc - 0.11, high=auc + 0.1, teacher_gain=0.031),
        gauc=Transfer(eta=scale, low=scale - 0.11, high=scale + 0.08, teacher_gain=0.0428),
        ne=Transfer(teacher_gain=0.0008, why="the teacher's gain is inside the noise (interval -0.0011 to 0.0027)"),
    )
    return StudentSummary(
        raw=raw, distilled=distilled, transferability=transfer, coverage=0.981, details=details or Details()
    )


def _curve(level: float, gain: float, buckets: int = 28) -> Curve:
    time = [START + timedelta(hours=12 * i) for i in range(buckets)]
    wave = [gain * (1 - math.exp(-i / 7)) + 0.004 * math.sin(i * 1.7) for i in range(buckets)]
    return Curve(
        time=time,
        metrics={
            "gauc": [None if i == 9 else level + w for i, w in enumerate(wave)],
            "auc": [level + 0.01 + w for w in wave],
            "ne": [1.65 - level - w for w in wave],
        },
    )


def _bins(slope: float) -> list[Bin]:
    mean = [0.004 * 1.33**i for i in range(17)]
    return [
        Bin(predicted=p, observed=min(1.0, p * slope * (1 + 0.08 * math.sin(i))), count=4_000)
        for i, p in enumerate(mean)
    ]


def _slices() -> list[Slice]:
    parts = [
        ("new_item", "yes", 6_200, 0.66, 0.02),
        ("new_item", "no", 61_800, 0.745, 0.03),
        ("new_user", "yes", 4_100, 0.64, 0.0),
        ("new_user", "no", 63_900, 0.744, 0.032),
        ("history_length", "0", 4_100, 0.64, 0.0),
        ("history_length", "1-9", 15_300, 0.70, 0.011),
        ("history_length", "10-99", 31_900, 0.745, 0.026),
        ("history_length", "100+", 16_700, 0.77, 0.051),
        ("hour", "00-05", 5_100, 0.74, 0.022),
        ("hour", "06-11", 14_900, 0.741, 0.027),
        ("hour", "12-17", 20_300, 0.739, 0.031),
        ("hour", "18-23", 27_700, 0.738, 0.03),
    ]
    return [
        Slice(
            slice=kind,
            value=value,
            rows=rows,
            eta=0.62 if gain > 0.01 else None,
            low=0.41 if gain > 0.01 else None,
            high=0.83 if gain > 0.01 else None,
            why=None if gain > 0.01 else "the teacher's gain is inside the noise",
            metrics={"teacher": {"gauc": raw + gain}, "raw": {"gauc": raw}, "distilled": {"gauc": raw + 0.62 * gain}},
        )
        for kind, value, rows, raw, gain in parts
    ]


def _details(scale: float) -> Details:
    kl: list[float | None] = [0.02 + 0.06 * math.exp(-i / 6) for i in range(28)]
    raw, distilled = _curve(0.705, 0.034), _curve(0.705, 0.034 + 0.041 * scale)
    distilled = distilled.model_copy(update={"metrics": distilled.metrics | {"kl": kl}})
    return Details(
        curves={"teacher": _curve(0.71, 0.075), "raw": raw, "distilled": distilled},
        calibration={"teacher": _bins(1.02), "raw": _bins(0.86), "distilled": _bins(0.97)},
        slices=_slices(),
    )


def _shadow() -> Shadow:
    of = {"shadow": 0.7391, "served": 0.7310}
    return Shadow(
        task="click",
        rows=1_900,
        shadow="shadow.v4",
        served="served.v3",
        models={
            name: ModelSummary(auc=value, ne=0.9, calibration=1.01, settings={"exported": "din-16.distilled.s0"})
            for name, value in of.items()
        },
        gains={"auc": (0.0081, 0.0012, 0.0150)},
    )


def sample_summary() -> Summary:
    """Return a run with two students, a claim on GAUC and AUC, a withheld eta on NE, and a shadow."""
    return summarise(
        name="video-feed",
        created=datetime(2026, 3, 17, 9, 30, tzinfo=UTC),
        tasks=["click", "finish"],
        rows=68_000,
        window=ScoredWindow(start=START, end=START + timedelta(days=14), share=0.5),
        versions=Versions(events=41, predictions=117, packages={"recdistill": "0.1.0", "torch": "2.13.0"}),
        teacher=_model(0.7791, 0.7820, 0.8718, 4_200_000, 5_300_000, 3_900, [0]),
        students={"din-16": _student(0.62, 16, _details(0.62)), "din-8": _student(0.31, 8, _details(0.31))},
        further_tasks={
            "finish": TaskSummary(
                rows=41_000,
                teacher=_model(0.7491, 0.7520, 0.9218, 4_200_000, 5_300_000, 3_900, [0]),
                students={"din-16": _student(0.55, 16), "din-8": _student(0.21, 8)},
            )
        },
        shadows=[_shadow()],
    )


def withheld_summary() -> Summary:
    """Return a small run that claims nothing: one seed, no groups with both classes, no details."""
    why = "the teacher's gain is inside the noise (+0.0010, interval -0.0031 to 0.0052)"
    withheld = Transfer(teacher_gain=0.001, why=why)
    model = ModelSummary(
        auc=0.7512, logloss=0.4, ne=0.98, seeds=[0], why={"gauc": "no user has both a click and a miss"}
    )
    student = StudentSummary(
        raw=model,
        distilled=model,
        transferability=Transferability(
            auc=withheld, gauc=Transfer(why="no user has both a click and a miss"), ne=withheld
        ),
    )
    return summarise(
        name="tiny", created=START, tasks=["click"], rows=900, teacher=model, students={"student": student}
    )
