"""What processes report in their commits: written and read back, by older and newer readers alike."""

from __future__ import annotations

import json
import os

from recdistill.stream.progress import (
    GateProgress,
    Health,
    IngestProgress,
    ModelProgress,
    Sums,
    read_progress,
    to_metadata,
)


def test_every_kind_comes_back_as_it_was() -> None:
    for progress in (
        IngestProgress({"s": 7}, {"outcomes": 3}, 5, 6, {"late": 1}, 1.5, True, Health(1.0, 2, 3), 1, 2),
        ModelProgress(4, 5, 6, 7, Sums(1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0), {"absent": 8}, 9, 1.5, True),
        GateProgress(4, 5, True, Health(1.0, 2, 3)),
    ):
        assert read_progress(type(progress), to_metadata(progress)) == progress


def test_a_commit_that_reports_nothing_reads_as_none() -> None:
    assert read_progress(ModelProgress, {"model": "teacher"}) is None


def test_keys_of_a_newer_writer_are_left_out() -> None:
    metadata = {"stream": json.dumps({"events": 3, "new": 1, "sums": {"labels": 2.0, "newer": 1}})}
    assert read_progress(ModelProgress, metadata) == ModelProgress(events=3, sums=Sums(labels=2.0))


def test_health_is_this_processs_own() -> None:
    before = Health.now(12.0)
    files = [open(os.devnull, encoding="ascii") for _ in range(5)]  # noqa: SIM115 - to be counted
    after = Health.now(13.0)
    for file in files:
        file.close()
    assert (before.wall, after.wall) == (12.0, 13.0) and after.handles == before.handles + 5
    assert 1 << 20 < before.rss < 1 << 40
