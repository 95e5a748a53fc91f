"""A student that goes on as a model of an earlier run: the same answers for what both know, rows by id, and no log that
the earlier one knew.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from pydantic import ValidationError

from recdistill.app.run import open_run
from recdistill.config.experiment import Experiment
from recdistill.config.load import load_text
from recdistill.errors import UserError
from recdistill.runs.folder import RunFolder
from recdistill.runs.jobs import jobs_by_name
from recdistill.train import build
from recdistill.train.start_from import Earlier, StartFrom, pin_starts
from recdistill.train.trainer import Trainer
from tests.support.runs import finish, ingested, same_bits, trainer

LOG = """
name: later
data: {reader: table, path: PATH, columns: {numeric: [size]}}
teacher: {kind: pooled-mlp, width: 4, history: 5, batch: 50}
students: {light: {kind: pooled-mlp, width: 4, history: 5, batch: 50, options: {hidden: [8, 4]}}}
evaluate: {seeds: [0], bootstrap: 20}
checkpoint_rows: 50
"""
OLD = "light.raw.s0"
JANUARY, FEBRUARY = 1_767_225_600, 1_769_904_000  # s


def log(path: Path, start: int, items: range, rows: int = 200, user: str = "{}", size: int = 1) -> Path:
    """Write a log of clicks on the even ones of some items; of one size, two logs have the same buckets."""
    draw = np.random.default_rng(start)
    item, users = draw.integers(items.start, items.stop, rows), draw.integers(0, 20, rows)
    columns = {"user_id": [user.format(one) for one in users], "item_id": item, "time": start + 60 * np.arange(rows)}
    columns["size"] = size * (np.arange(rows) % 50) * 1.0
    pl.DataFrame({**columns, "label": (item + users) % 2}).write_csv(path)
    return path


def experiment_of(path: Path, *assignments: str) -> Experiment:
    return load_text(LOG.replace("PATH", str(path)), list(assignments))


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run of January, of items 0 to 39, its raw student trained."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("old")
    finish(root / "run", experiment_of(log(root / "january.csv", JANUARY, range(40))), OLD)
    return root / "run"


def later(tmp_path: Path, old: Path, *assignments: str, log_of: Path | None = None) -> Experiment:
    path = log_of or log(tmp_path / "february.csv", FEBRUARY, range(20, 60))
    return experiment_of(path, f"students.light.start_from={old / 'models' / OLD}", *assignments)


def begun(tmp_path: Path, experiment: Experiment, name: str = OLD) -> tuple[Trainer, StartFrom]:
    ingested(tmp_path / "new", experiment)
    found = trainer(tmp_path / "new", experiment, name)
    (start,) = found.starts
    assert isinstance(start, StartFrom)
    return found, start


def ids_of(root: Path, name: str) -> list[int]:
    return pl.read_parquet(root / "store" / f"{name}.parquet")["id"].to_list()


@pytest.mark.parametrize("size", ["", "students.light.width=6", "students.light.options={hidden: [12, 5]}"])
def test_it_answers_as_the_earlier_one_and_its_rows_follow_their_ids(tmp_path: Path, old: Path, size: str) -> None:
    experiment = later(tmp_path, old, *[size] if size else [])
    found, start = begun(tmp_path, experiment)
    taken = start.before(0, found.learner)
    assert taken is not None and start.before(1, found.learner) is None
    before = trainer(old, RunFolder(old).experiment(), OLD)
    list(before.run_to_end())
    there, here = ids_of(old, "items"), ids_of(tmp_path / "new", "items")
    both = sorted(set(there) & set(here))
    tables = [{table.name: table for table in one.learner.tables} for one in (before, found)]
    rows = [torch.tensor([1 + ids.index(one) for one in both]) for ids in (there, here)]
    was, now = (table["item"].peek(at) for table, at in zip(tables, rows, strict=True))
    assert torch.equal(was, now[:, :4])
    known = [
        len(set(ids_of(old, name)) & set(ids_of(tmp_path / "new", name))) for name in ("items", "users", "context")
    ]
    everywhere = [len(ids_of(tmp_path / "new", name)) for name in ("items", "users", "context")]
    assert taken.new == sum(everywhere) - sum(known)
    assert taken.rows == sum(known) and taken.left == sum(t.touched for t in before.learner.tables) - taken.rows > 0
    samples = pl.read_csv(tmp_path / "february.csv")
    at = np.flatnonzero(samples["item_id"].is_in(both).to_numpy())[:1]
    batch = found.builder.unlabelled(at)  # the first one of a known item: nobody has a history yet
    translated = before.builder.unlabelled(at)
    translated.item.unique[:], translated.item.inverse[:] = batch.item.unique, batch.item.inverse
    main = found.learner.predict(batch)
    for side, name in (("item", "items"), ("user", "users"), ("context", "context")):
        lookup = getattr(batch, side)
        codes = ids_of(tmp_path / "new", name)
        lookup.unique[1:] = torch.tensor(
            [1 + ids_of(old, name).index(codes[k - 1]) for k in lookup.unique[1:].tolist()]
        )
    assert torch.allclose(before.learner.predict(batch), main, rtol=0, atol=1e-6)


def test_raw_and_distilled_begin_alike_and_resume_to_the_bit(tmp_path: Path, old: Path) -> None:
    experiment = later(tmp_path, old, "students.light.width=5")
    raw, start = begun(tmp_path, experiment)
    shutil.copytree(tmp_path / "new", tmp_path / "killed")
    first = trainer(tmp_path / "killed", experiment, OLD)
    for _ in first.run_to_end():
        if first.checkpoints.newest() == 1:
            break
    second = trainer(tmp_path / "killed", experiment, OLD)
    list(second.run_to_end())
    list(raw.run_to_end())
    assert same_bits(raw.learner.state()[0], second.learner.state()[0])
    assert raw.totals().began == second.totals().began and raw.totals().began["rows"] > 0
    finish(tmp_path / "new", experiment, "teacher")
    distilled = trainer(tmp_path / "new", experiment, "light.distilled.s0")
    for one in (fresh := trainer(tmp_path / "new", experiment, OLD), distilled):
        one.starts[0].before(0, one.learner)
    assert torch.equal(*(one.learner.network.state_dict()["main.1.weight"] for one in (fresh, distilled)))
    assert start.donor.name == OLD


def test_it_keeps_to_the_checkpoint_that_it_began_from(tmp_path: Path, old: Path) -> None:
    """The earlier model trains on in between: its newest checkpoint is another one then."""
    donor = tmp_path / "old" / "models" / OLD
    shutil.copytree(old, tmp_path / "old")
    shutil.rmtree(donor / "00000003")
    experiment = later(tmp_path, tmp_path / "old")
    ingested(tmp_path / "new", experiment)
    pin_starts(RunFolder(tmp_path / "new"), experiment)
    shutil.copytree(old / "models" / OLD / "00000003", donor / "00000003")
    pin_starts(RunFolder(tmp_path / "new"), experiment)
    (start,) = trainer(tmp_path / "new", experiment, OLD).starts
    named = later(tmp_path, tmp_path / "old", f"students.light.start_from={donor / '00000002'}")
    ingested(tmp_path / "named", named)
    (wanted,) = trainer(tmp_path / "named", named, OLD).starts
    newest = Earlier.at("x", donor)
    assert isinstance(start, StartFrom) and isinstance(wanted, StartFrom) and newest.block == 3
    assert (start.donor.tensors["random"][...] == wanted.donor.tensors["random"][...]).all()
    at = [one.donor.tensors["table/0/steps"][...] for one in (start, wanted)]
    assert torch.equal(*at)
    last = newest.checkpoints.stored(3)["table/0/steps"][...]
    assert last.shape != at[0].shape or not torch.equal(last, at[0])
    shutil.rmtree(donor / "00000002")
    with pytest.raises(UserError, match="no such checkpoint; there are 3"):
        trainer(tmp_path / "new", experiment, OLD)


@pytest.mark.parametrize(
    ("assignments", "path", "why"),
    [
        ((), "nowhere", "no trained model; name a folder as RUN/models/light.distilled.s0"),
        ((), f"models/{OLD}/00000099", "no such checkpoint; there are 2, 3"),
        ((), f"models/{OLD}/stream", "is of a stream, whose ids lie elsewhere"),
        (("students.light.kind=din", "students.light.options={}"), "", "is a PooledMLP, the student a DIN"),
        (("students.light.options={hidden: [8]}",), "", "differ in more than their widths"),
        (
            ("students.light.numbers=[counts]",),
            "",
            r"numbers was .*'repeats'.* and is \['counts'\] here; give the same",
        ),
        (
            ("students.light.numeric_as=values",),
            "",
            "numeric_as was both where its weights learned, and is values here",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_training(
    tmp_path: Path, old: Path, assignments: tuple[str, ...], path: str, why: str
) -> None:
    begin = f"students.light.start_from={old / (path or f'models/{OLD}')}"
    experiment = later(tmp_path, old, *assignments, begin)
    with pytest.raises(UserError, match=why) as found, open_run(experiment, None, tmp_path / "new"):
        pass
    assert "students.light.start_from" in str(found.value) and "\n" not in str(found.value)
    assert not (tmp_path / "new").exists()


def test_a_run_whose_store_was_deleted_is_refused_before_training(tmp_path: Path, old: Path) -> None:
    shutil.copytree(old, tmp_path / "old")
    shutil.rmtree(tmp_path / "old" / "store")
    experiment, why = later(tmp_path, tmp_path / "old"), r"start_from: .*store is gone.* recdistill ingest CONFIG --out"
    with pytest.raises(UserError, match=why), open_run(experiment, None, tmp_path / "new"):
        pass


def test_a_log_that_it_knew_or_of_other_columns_is_refused(tmp_path: Path, old: Path) -> None:
    for name, path, assignments, why in (
        ("same", log(tmp_path / "same.csv", JANUARY + 600, range(40)), [], "it learned until .*and this log begins"),
        ("end", log(tmp_path / "end.csv", JANUARY + 60 * 199, range(40)), [], "this log begins no later"),
        (
            "text",
            log(tmp_path / "text.csv", FEBRUARY, range(40), user="u{}"),
            [],
            "its log has other user_id than this",
        ),
        ("more", log(tmp_path / "more.csv", FEBRUARY, range(40)), ["data.columns.categorical=[item_id]"], "features"),
        ("sizes", log(tmp_path / "sizes.csv", FEBRUARY, range(40), size=3), [], "other buckets or scales of numeric"),
        ("few", log(tmp_path / "few.csv", FEBRUARY, range(40)), ["students.light.sampling.negative=0.5"], "otherwise"),
    ):
        experiment = later(tmp_path, old, *assignments, log_of=path)
        ingested(tmp_path / name, experiment)
        with pytest.raises(UserError, match=why):
            build.trainer_of(RunFolder(tmp_path / name), experiment, jobs_by_name(experiment)[OLD])


def test_it_goes_with_one_size(tmp_path: Path, old: Path) -> None:
    with pytest.raises((ValidationError, UserError), match="leave out prune, alternate and rows"):
        later(tmp_path, old, "students.light.prune={from: {width: 8}}")
