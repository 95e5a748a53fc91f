"""Which files of a table are merged, and which of them one commit may replace."""

from __future__ import annotations

from itertools import groupby, zip_longest

from recdistill.tables.delta.files import Part

__all__ = ["mergeable", "one_a_partition"]

MERGED = 128 << 20  # bytes of parts that compaction merges into one file


def mergeable(parts: list[Part]) -> list[list[Part]]:
    """Return runs of two and more parts of one partition, neighbours in commit order, of up to MERGED bytes."""
    runs = []
    for _, same in groupby(sorted(parts, key=_partition), key=_partition):
        run: list[Part] = []
        size = 0
        for part in same:
            if run and size + part.size > MERGED:
                runs.append(run)
                run, size = [], 0
            run.append(part)
            size += part.size
        runs.append(run)
    return [run for run in runs if len(run) > 1]


def one_a_partition(runs: list[list[Part]]) -> list[list[list[Part]]]:
    """Return the runs in groups of one run a partition: the first of each, the second of each, and so on.

    The file that takes a run's place stands where the first of all that its commit removes in that partition stood.
    """
    key = lambda run: _partition(run[0])  # noqa: E731
    same = [list(found) for _, found in groupby(sorted(runs, key=key), key)]
    return [[run for run in group if run] for group in zip_longest(*same)]


def _partition(part: Part) -> list[tuple[str, str]]:
    return sorted(part.partition.items())
