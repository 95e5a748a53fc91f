"""Distil a large recommendation model into the one you can serve, and measure how much of its gain arrived.

    import recdistill as rd

    log = rd.read_log("impressions.parquet", user="user_id", item="item_id", time="ts", labels={"click": "clicked"})
    run = rd.Run("runs/mine", log)
    teacher = run.train(rd.Teacher("target-attention", width=64, history=100))
    student = run.train(rd.Student("din", history=20), teacher=teacher, seeds=range(5))
    run.evaluate().students["mine"].eta("gauc")

Nothing is loaded before it is used: importing the package takes milliseconds.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recdistill.api.log import Log as Log
    from recdistill.api.log import read_log as read_log
    from recdistill.api.models import Distill as Distill
    from recdistill.api.models import Student as Student
    from recdistill.api.models import Teacher as Teacher
    from recdistill.api.result import Result as Result
    from recdistill.api.run import Run as Run
    from recdistill.api.run import TrainedModel as TrainedModel
    from recdistill.app.ablate import ablate as ablate
    from recdistill.app.choose import choose as choose
    from recdistill.app.compare import compare as compare
    from recdistill.app.scale import scale as scale
    from recdistill.data.batch.batch import Batch as Batch
    from recdistill.errors import RecdistillError as RecdistillError
    from recdistill.errors import UserError as UserError
    from recdistill.models.contract import check_model as check_model
    from recdistill.models.embeddings.growable import GrowableTable as GrowableTable
    from recdistill.models.embeddings.growable import TableOptions as TableOptions
    from recdistill.models.examples import example_batch as example_batch
    from recdistill.serve.rows import SmallerRows as SmallerRows

__version__ = "0.1.0"
_HOMES = {
    "Batch": "recdistill.data.batch.batch",
    "Distill": "recdistill.api.models",
    "GrowableTable": "recdistill.models.embeddings.growable",
    "SmallerRows": "recdistill.serve.rows",
    "Log": "recdistill.api.log",
    "RecdistillError": "recdistill.errors",
    "Result": "recdistill.api.result",
    "Run": "recdistill.api.run",
    "Student": "recdistill.api.models",
    "TableOptions": "recdistill.models.embeddings.growable",
    "Teacher": "recdistill.api.models",
    "TrainedModel": "recdistill.api.run",
    "UserError": "recdistill.errors",
    "ablate": "recdistill.app.ablate",
    "check_model": "recdistill.models.contract",
    "choose": "recdistill.app.choose",
    "compare": "recdistill.app.compare",
    "example_batch": "recdistill.models.examples",
    "read_log": "recdistill.api.log",
    "scale": "recdistill.app.scale",
}
__all__ = [
    "Batch",
    "Distill",
    "GrowableTable",
    "Log",
    "RecdistillError",
    "Result",
    "Run",
    "SmallerRows",
    "Student",
    "TableOptions",
    "Teacher",
    "TrainedModel",
    "UserError",
    "ablate",
    "check_model",
    "choose",
    "compare",
    "example_batch",
    "read_log",
    "scale",
]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'recdistill' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
