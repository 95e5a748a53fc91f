"""Numbers and names that several parts share, and that cost nothing to import."""

from __future__ import annotations

import re
from typing import Literal

__all__ = [
    "CANARY_CALIBRATION",
    "CANARY_ERRORS",
    "CANARY_SLOWER",
    "GIVEN_HISTORY",
    "LIST_LENGTH",
    "NEW_ROW_TIME",
    "PUBLISHED",
    "ROW_TIMES_FROM",
    "SECOND",
    "SERVED",
    "SHADOW",
    "USER_KIND",
    "RowKind",
]

RowKind = Literal["float32", "float16", "int8", "int4"]  # how numbers of an artefact's rows are written
LIST_LENGTH = 8  # entries of a list that models see, unless the experiment has another number
SECOND = 1_000_000  # us
ROW_TIMES_FROM = 946_684_800_000_000  # us: 2000-01-01, where the rows of a log without times begin, one us apart
NEW_ROW_TIME = ROW_TIMES_FROM + 86_400_000_000  # us: of rows to predict, after all that such a log holds
GIVEN_HISTORY = "history"  # the sequence of a row that stands in place of its user's earlier samples
PUBLISHED = (
    "recdistill.published"  # in the metadata of rows on their way to a stream: when they left, seconds since 1970
)
CANARY_ERRORS, CANARY_SLOWER, CANARY_CALIBRATION = 0.01, 2.0, 1.5  # bounds of a canary, see `Bounds`
SHADOW, SERVED = "shadow.v", "served.v"  # and a version: models of the predictions table, of what was served
USER_KIND = re.compile(r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$")  # a model of the user's own
