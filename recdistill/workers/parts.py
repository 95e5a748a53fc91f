"""One job in parts: plan -> parts, each worked on by any worker -> results in the order of the plan -> one commit.

    plan      pure: the same parts whatever the number of workers
    work      a function of one part; it writes under names made of (job, part), so that a part that is worked on again
              overwrites its own
    commit    the caller's, once, with the results of all parts

So the outcome is the same to the bit with one worker, with many, and after any of them was lost. The error of the first
part that has one is raised, as one worker alone would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from recdistill.workers.processes import in_processes
from recdistill.workers.ray_tasks import in_ray

__all__ = ["ALONE", "Workers", "in_parts"]

Part = TypeVar("Part")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Workers:
    """How many parts are worked on at a time, and by what: processes of this machine, or tasks on a Ray cluster."""

    count: int = 1
    engine: Literal["processes", "ray"] = "processes"


ALONE = Workers()


def in_parts(work: Callable[[Part], Result], parts: Sequence[Part], workers: Workers = ALONE) -> Iterator[Result]:
    """Yield `work(part)` of every part, in their order; one worker is this process.

    work: a function of a module, or a `partial` of one; it, parts and results are sent between processes. str(part) is
    its name in messages. Raises what `work` raises for the first part that fails, and RecdistillError for a part whose
    worker was lost too often.
    """
    if workers.count == 1 or len(parts) < 2:
        return map(work, parts)
    run = in_ray if workers.engine == "ray" else in_processes
    return run(work, parts, min(workers.count, len(parts)))
