"""What a student and the larger one that it is pruned from must have in common."""

from __future__ import annotations

from collections.abc import Mapping

from recdistill.config.models import StudentConfig
from recdistill.errors import did_you_mean

__all__ = ["check_pruned_from"]

MAY_DIFFER = {"width", "options", "prune", "start_from", "pruned_from", "device", "tables", "embeddings"}


def check_pruned_from(key: str, student: StudentConfig, students: Mapping[str, StudentConfig], scored: float) -> None:
    """Raise ValueError, which begins with `key`, for a student that cannot go on as the one which its `pruned_from`
    names; scored: the share of the log from which on students are.
    """
    if (start := student.pruned_from) is None:
        return
    if start.student not in students:
        raise ValueError(f"{key}.student: there is no student '{start.student}'{did_you_mean(start.student, students)}")
    larger = students[start.student]
    if larger.pruned_from is not None or larger.alternate is not None:
        what = "pruned_from" if larger.pruned_from is not None else "alternate"
        raise ValueError(f"{key}.student: '{start.student}' has {what} itself; name a student without")
    others = [one for one in StudentConfig.model_fields if getattr(student, one) != getattr(larger, one)]
    if unlike := [one for one in others if one not in MAY_DIFFER]:
        raise ValueError(
            f"{key}: '{start.student}' has another {', '.join(unlike)}; the two may differ in width and options alone"
        )
    if start.at > scored:
        raise ValueError(
            f"{key}.at {start.at:g} lies after evaluate.start {scored:g}, and what it predicts is recorded from there "
            "on; lower at, or raise evaluate.start"
        )
