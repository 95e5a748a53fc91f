"""A log that has grown: its run is that of the whole log, row by row and bit for bit, or nothing has changed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from deltalake import write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.checkpoint.store import Checkpoints
from recdistill.config.experiment import Experiment
from recdistill.config.load import load_text
from recdistill.errors import UserError
from recdistill.runs import grown
from recdistill.runs.batch_ingest import hand_over, ingest, notes_of, open_tables
from recdistill.runs.folder import RunFolder
from recdistill.runs.grown import Differs, beyond
from tests.support.runs import finish, same_bits

CONFIG = """
name: grows
data: {path: log, columns: {tasks: {click: 1}, categorical: [shop]}}
teacher: {kind: pooled-mlp, width: 4, history: 5, batch: 50}
students: {light: {kind: pooled-mlp, width: 4, history: 5, batch: 50}}
evaluate: {seeds: [0], bootstrap: 20}
"""
ROWS, HALF = 300, 170
NEGATIVES = "data.negatives={per_positive: 1, draw: DRAW}"
SETTINGS: list[list[str]] = [
    [],
    ["data.sort=true"],
    ["data.limit=250"],
    ["data.sampling={negative: 0.5}", "data.columns.tasks={click: label}"],
    *([NEGATIVES.replace("DRAW", draw)] for draw in ("window", "uniform", "popularity", "batch")),
    ["data.behaviors={path: actions.parquet}"],
    ["data.columns.sequences={carts: {items: cart}}"],
]
VECTORS = "data.vectors={image: {path: image.parquet, key: sku}, sound: {path: sound.parquet, key: sku}}"


def rows() -> pl.DataFrame:
    draw = np.random.default_rng(0)
    return pl.DataFrame(
        {
            "time": np.sort(draw.integers(0, 9_000, ROWS)),
            "user_id": draw.integers(0, 12, ROWS),
            "item_id": draw.integers(0, 15, ROWS),
            "shop": draw.choice(["a", "b", "c", "d"], ROWS),
            "label": draw.integers(0, 2, ROWS),
            "price": draw.random(ROWS) * np.arange(ROWS),
            "cart": [f"{one}|{other}" for one, other in draw.integers(0, 15, (ROWS, 2))],
        }
    )


def write(folder: Path, count: int) -> None:
    """Write the first rows of the log, as a file for what is there and a file for what comes."""
    (folder / "log").mkdir(exist_ok=True)
    rows()[:HALF].write_parquet(folder / "log" / "1.parquet")
    rows()[:count:3].write_parquet(folder / "actions.parquet")
    if count > HALF:
        rows()[HALF:count].write_parquet(folder / "log" / "2.parquet")


def experiment(*assignments: str) -> Experiment:
    return load_text(CONFIG, list(assignments))


def read(folder: Path, run: str, one: Experiment, **more: Any) -> tuple[int, list[str]]:
    """Ingest into a run of `folder`; return (rows read, notes)."""
    there, notes = RunFolder(folder / run), list[str]()
    with there.claimed(one, str(folder)):
        return ingest(there, one, folder, lambda rows: None, notes.append, **more), notes


def tables(folder: Path, run: str) -> list[pl.DataFrame]:
    """Return all rows of the events and, where given, the behaviors."""
    return [pl.concat(log.batches()) for log in open_tables(RunFolder(folder / run)) if log is not None]


@pytest.mark.parametrize("assignments", SETTINGS)
def test_the_tables_are_those_of_the_whole_log(assignments: list[str], tmp_path: Path) -> None:
    one = experiment(*assignments)
    write(tmp_path, HALF)
    first, _ = read(tmp_path, "run", one)
    write(tmp_path, ROWS)
    more, notes = read(tmp_path, "run", one)
    whole, noted = read(tmp_path, "whole", one)
    assert first + more == whole and more
    for mine, new in zip(tables(tmp_path, "run"), tables(tmp_path, "whole"), strict=True):
        assert mine.equals(new)
    assert (
        notes[:-1] == noted == notes_of(RunFolder(tmp_path / "run"))
        and " more, all before them as they were" in notes[-1]
    )
    assert read(tmp_path, "run", one) == (0, [])
    assert {path.name for path in (tmp_path / "run").iterdir()} <= {"run.json", "lock", "tables"}


def test_models_learn_the_whole_log_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = ("teacher", "light.distilled.s0")
    write(tmp_path, HALF)
    finish(Path("run"), experiment(), *names)
    before = Checkpoints(RunFolder(Path("run")).model("teacher")).newest()
    write(tmp_path, ROWS)
    for run in ("run", "whole"):
        finish(Path(run), experiment(), *names)
    for name in names:
        one, other = (Checkpoints(RunFolder(Path(run)).model(name)) for run in ("run", "whole"))
        (mine, new) = (found.load(found.newest()) for found in (one, other))
        assert same_bits(mine.tensors, new.tensors) and before is not None
    for column in ("item", "context", "user", "labels", "counts"):
        mine, new = (np.load(Path(run) / "store" / f"{column}.npy") for run in ("run", "whole"))
        assert np.array_equal(mine, new)


def write_vectors(folder: Path, images: int, sounds: int) -> None:
    """Write vectors of so many items of the log, and of others."""
    for name, items in (("image", range(images)), ("sound", range(10, 10 + sounds))):
        vectors = [[1.0 - 2 * (item & 1), 1.0 - (item & 2)] for item in items]
        pl.DataFrame({"sku": items, "embedding": vectors}).write_parquet(folder / f"{name}.parquet")


@pytest.mark.parametrize("count", [HALF, ROWS])
def test_vectors_of_new_ids_are_taken_over_with_or_without_new_rows(count: int, tmp_path: Path) -> None:
    one = experiment(VECTORS)
    write(tmp_path, HALF)
    write_vectors(tmp_path, 5, 3)
    read(tmp_path, "run", one)
    (tmp_path / "run" / "models").mkdir()
    write(tmp_path, count)
    write_vectors(tmp_path, 9, 6)
    _, notes = read(tmp_path, "run", one)
    read(tmp_path, "whole", one)
    assert f"{count - HALF} rows and vectors of 7 ids more" in notes[-1] and "every model learns" in notes[-1]
    assert not (tmp_path / "run" / "models").exists()
    for name in ("item.npy", "item.parquet"):
        mine, new = ((tmp_path / run / "tables" / "vectors" / name).read_bytes() for run in ("run", "whole"))
        assert mine == new


def test_a_command_that_trains_one_model_does_not_drop_the_others(tmp_path: Path) -> None:
    write(tmp_path, HALF)
    read(tmp_path, "run", experiment())
    write(tmp_path, ROWS)
    alone = "2.parquet is new\\), and `recdistill run` and `recdistill ingest` alone follow it; choose another --out"
    with pytest.raises(UserError, match=alone):
        read(tmp_path, "run", experiment(), follows=False)
    hand_over(RunFolder(tmp_path / "run"))
    with pytest.raises(
        UserError, match="2.parquet is new\\), and a stream has gone on from there; choose another --out"
    ):
        read(tmp_path, "run", experiment(), rows=10)


def test_delta_tables_grow_by_versions_and_text_by_lines(tmp_path: Path) -> None:
    for name, write_ in (("delta", _delta), ("log.csv", _lines)):
        one = experiment(f"data.path={name}")
        for count, new in ((HALF, HALF), (ROWS, ROWS - HALF)):
            write_(tmp_path / name, count)
            assert read(tmp_path, f"of-{name}", one)[0] == new
        read(tmp_path, f"whole-{name}", one)
        assert tables(tmp_path, f"of-{name}")[0].equals(tables(tmp_path, f"whole-{name}")[0])


def _delta(path: Path, count: int) -> None:
    new = rows()[:HALF] if count == HALF else rows()[HALF:count]
    write_deltalake(str(path), new.to_arrow(), mode="append")


def _lines(path: Path, count: int) -> None:
    rows()[:count].write_csv(path)


def _wrong(folder: Path) -> None:
    write(folder, ROWS)
    rows()[:3].write_parquet(folder / "log" / "3.parquet")  # earlier than the rows before


def _between(folder: Path) -> None:
    rows()[HALF:].with_columns(time=pl.lit(0, pl.Int64)).write_parquet(folder / "log" / "2.parquet")


REFUSED: list[tuple[list[str], Callable[[Path], None], str]] = [
    ([], _wrong, "3.parquet: row 0, column 'time'"),
    (["data.sort=true"], _between, "its rows 1 to 170 are not those that the run has read"),
    (["data.columns.numeric=[price]"], lambda at: write(at, ROWS), "its first rows give the numeric features other bu"),
    ([VECTORS], lambda at: write_vectors(at, 9, 2), "a vector of its items is not the one that the run has read"),
    ([VECTORS], lambda at: write_vectors(at, 4, 9), "a vector of its items is not the one that the run has read"),
]


@pytest.mark.parametrize(("assignments", "change", "why"), REFUSED)
def test_what_cannot_be_taken_over_leaves_the_run_as_it_was(
    assignments: list[str], change: Callable[[Path], None], why: str, tmp_path: Path
) -> None:
    write(tmp_path, HALF)
    write_vectors(tmp_path, 5, 3)
    read(tmp_path, "run", experiment(*assignments))
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    change(tmp_path)
    with pytest.raises(UserError, match=re.escape(why)):
        read(tmp_path, "run", experiment(*assignments))
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("killed", ["forget", "first rename", "second rename"])
def test_a_command_that_is_killed_is_run_again(killed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, HALF)
    read(tmp_path, "run", experiment())
    write(tmp_path, ROWS)
    renames: list[Path] = []
    rename, remove = Path.rename, shutil.rmtree

    def dying(self: Path, target: Path) -> Path:
        renames.append(self)
        if len(renames) == {"forget": 1, "first rename": 2}.get(killed):
            raise KeyboardInterrupt
        return rename(self, target)

    def leaving(path: Path, **more: Any) -> None:
        if killed == "second rename" and renames and Path(path).name == "tables.old":
            raise KeyboardInterrupt
        remove(path, **more)

    with monkeypatch.context() as patched:
        patched.setattr(grown.Path, "rename", dying)
        patched.setattr(grown.shutil, "rmtree", leaving)
        with pytest.raises(KeyboardInterrupt):
            read(tmp_path, "run", experiment())
    read(tmp_path, "run", experiment())
    read(tmp_path, "whole", experiment())
    assert tables(tmp_path, "run")[0].equals(tables(tmp_path, "whole")[0])
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"run.json", "lock", "tables"}


@settings(max_examples=60)
@given(
    st.integers(0, 12), st.integers(0, 12), st.lists(st.integers(0, 12)), st.lists(st.integers(0, 12)), st.booleans()
)
def test_what_lies_beyond_however_both_are_cut(
    old: int, new: int, cuts: list[int], others: list[int], same: bool
) -> None:
    def cut(values: list[int], at: list[int]) -> list[pl.DataFrame]:
        places = [0, *sorted(min(one, len(values)) for one in at), len(values)]
        return [
            pl.DataFrame({"a": values[low:high]}, schema={"a": pl.Int64})
            for low, high in zip(places, places[1:], strict=False)
        ]

    known = list(range(old))
    log = [*known, *range(100, 100 + new)]
    if not same and old:
        log[old // 2] = -1
        with pytest.raises(Differs):
            list(beyond(cut(log, cuts), iter(cut(known, others)), ["a"]))
        log = known[:-1]
        with pytest.raises(Differs, match=f"ends after row {old - 1}, "):
            list(beyond(cut(log, cuts), iter(cut(known, others)), ["a"]))
        return
    found = [value for chunk in beyond(cut(log, cuts), iter(cut(known, others)), ["a"]) for value in chunk["a"]]
    assert found == log[old:]
