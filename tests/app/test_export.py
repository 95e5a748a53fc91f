"""A stream's checkpoint is exported with what its model knew at that moment, and not with what came later."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from recdistill.api.run import Run
from recdistill.data.store.known import known_of, known_then
from recdistill.data.store.memmap import write_json
from recdistill.errors import UserError
from recdistill.serve.artefact import open_artefact
from recdistill.stream.event_log import Journal
from recdistill.stream.workers import build
from recdistill.stream.workers.build import base_of, live_folder, stream_checkpoints, worker_of
from recdistill.stream.workers.snapshot import split
from tests.support.stream_runs import StreamRun, experiment_of, models_of


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> StreamRun:
    """A stream that has ended, begun after few rows, so that many ids are met by it alone."""
    torch.set_num_threads(1)
    made = StreamRun(tmp_path_factory.mktemp("export") / "run", experiment_of(), 200)
    write_json(made.root / "run.json", {"experiment": made.experiment.model_dump(mode="json"), "data": ""})
    made.feed_all([2000])
    for job in models_of(made.experiment)[:2]:
        made.run(job)
    return made


@pytest.fixture
def raw(run: StreamRun) -> Run:
    """Return the run as Python opens it."""
    return Run(run.root)


def test_what_was_known_at_a_checkpoint_is_what_its_model_had(run: StreamRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a live store that is restored from it has it."""
    job = models_of(run.experiment)[1]
    checkpoints, base = stream_checkpoints(run.folder, job.name), base_of(run.folder)
    assert base is not None and len(checkpoints.blocks()) > 1
    sizes = [known_of(base).rows("users")]
    for block in checkpoints.blocks():
        checkpoint = checkpoints.load(block)
        arrays, state = split(checkpoint.tensors, ["store"])[0]["store"], checkpoint.state["parts"]["store"]
        known = known_then(base, live_folder(run.folder, job), arrays, state)
        copy = run.root.parent / f"live-{block}"
        shutil.copytree(live_folder(run.folder, job), copy)
        with monkeypatch.context() as patched:
            patched.setattr(build, "live_folder", lambda *_, copy=copy: copy)
            store = worker_of(run.folder, run.experiment, job, Journal(run.folder.logs, "t")).store
        assert store.restore(arrays, state)
        for name, ids in store.vocabularies.items():
            before = known_of(base).ids[name]
            assert [*before, *ids.ids(len(before))] == known.ids[name]
        for side, counts in store.outcomes.items():
            every = np.arange(known.rows(f"{side}s"))
            assert np.array_equal(counts.before(every, np.full(len(every), store.newest)), known.counts[side])
        sizes.append(known.rows("users"))
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1]


def test_ids_that_the_stream_alone_met_have_their_rows(run: StreamRun, raw: Run, tmp_path: Path) -> None:
    job = models_of(run.experiment)[1]
    artefact = open_artefact(raw.model(job.name).export(tmp_path))
    newest = run.newest(job)
    base = base_of(run.folder)
    assert base is not None and len(artefact.users) + 1 > base.users
    newcomers = [json.loads(line) for line in (live_folder(run.folder, job) / "users.jsonl").open()]
    places = artefact.users.places(newcomers)
    assert places.tolist() == list(range(base.users, base.users + len(newcomers)))
    number = next(table for table, column, _ in artefact.manifest.look_ups if column == "user")
    rows, weight = (newest.tensors[f"table/{number}/{name}"].numpy() for name in ("rows", "weight"))
    assert np.isin(places, rows).sum() > 3 and np.array_equal(artefact.tables[number][rows], weight)
    assert artefact.manifest.lineage["rows"] == newest.state["rows"] == 2800


def test_an_older_checkpoint_by_rows_or_by_path(run: StreamRun, raw: Run, tmp_path: Path) -> None:
    model = raw.model("light.raw.s0")
    by_rows = open_artefact(model.export(tmp_path / "a", rows=600)).manifest
    path = stream_checkpoints(run.folder, model.name).path(by_rows.lineage["rows"])
    by_path = open_artefact(model.export(tmp_path / "a", checkpoint=path)).manifest
    assert 600 <= by_rows.lineage["rows"] < 2800
    assert by_rows.files == by_path.files and by_path.version == 2
    batch = open_artefact(model.export(tmp_path / "b", checkpoint=path.parents[1] / "00000000")).manifest
    assert batch.lineage["rows"] == 200 and batch.files != by_path.files
    with pytest.raises(UserError, match=r"a checkpoint of another model than teacher"):
        raw.model("teacher").export(tmp_path / "a", checkpoint=path)


def test_a_model_that_was_never_trained_is_one_line(run: StreamRun, raw: Run, tmp_path: Path) -> None:
    shutil.move(run.folder.model("light.distilled.s0"), tmp_path / "away")
    try:
        with pytest.raises(UserError, match=r"light.distilled.s0: not trained yet; run: recdistill train"):
            raw.model("light").export(tmp_path / "to")
    finally:
        shutil.move(tmp_path / "away", run.folder.model("light.distilled.s0"))
    assert not (tmp_path / "to").exists()


def test_without_what_a_model_met_its_stream_is_not_exported(run: StreamRun, raw: Run, tmp_path: Path) -> None:
    live = live_folder(run.folder, models_of(run.experiment)[1])
    shutil.move(live / "users.jsonl", tmp_path / "users.jsonl")
    try:
        with pytest.raises(UserError, match="lacks the ids and counts of this checkpoint"):
            raw.model("light.raw.s0").export(tmp_path / "to")
    finally:
        shutil.move(tmp_path / "users.jsonl", live / "users.jsonl")
