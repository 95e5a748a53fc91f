"""The two tables everything else stands on: what happened, and what each model said before it knew. Knows no torch."""

from recdistill.tables.events import BehaviorLog, EventLog, OutcomeLog
from recdistill.tables.join import join_signals
from recdistill.tables.predictions import Kind, PredictionLog
from recdistill.tables.schema import POLARS_TYPES, EventSchema
from recdistill.tables.verdicts import VerdictLog, Verdicts

__all__ = [
    "POLARS_TYPES",
    "BehaviorLog",
    "EventLog",
    "EventSchema",
    "Kind",
    "OutcomeLog",
    "PredictionLog",
    "VerdictLog",
    "Verdicts",
    "join_signals",
]
