"""The two tables everything else stands on: what happened, and what each model said before it knew. Knows no torch."""

from recdistill.tables.events import BehaviorLog, EventLog
from recdistill.tables.join import join_signals
from recdistill.tables.predictions import Kind, PredictionLog
from recdistill.tables.schema import POLARS_TYPES, EventSchema

__all__ = ["POLARS_TYPES", "BehaviorLog", "EventLog", "EventSchema", "Kind", "PredictionLog", "join_signals"]
