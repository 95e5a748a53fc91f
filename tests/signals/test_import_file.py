"""A teacher's predictions from a file: all of them once, or nothing and a clear line."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recdistill.app.run import evaluate_stage, ingest_stage, open_run, run_pipeline, train_stage
from recdistill.config.experiment import Experiment
from recdistill.config.load import load_text
from recdistill.data.store.piles import LIMIT, joined
from recdistill.errors import UserError
from recdistill.evaluate.summary import load
from recdistill.runs.folder import RunFolder
from recdistill.signals import import_file
from recdistill.signals.columns import join_column
from recdistill.signals.import_file import import_predictions, imported
from recdistill.tables.events import EventLog
from recdistill.tables.predictions import PredictionLog
from tests.support.processes import exit_code

CONFIG = """
name: t
data: {reader: simulator, options: {rows: 3000, users: 40, items: 60, days: 1.0}}
teacher: {kind: pooled-mlp, width: 4, history: 10, batch: 100}
students: {light: {kind: pooled-mlp, width: 4, history: 5, batch: 100}}
evaluate: {seeds: [0, 1], bootstrap: 20}
"""
IMPORT = """
import sys
from pathlib import Path
from recdistill.signals import import_file as imported
from recdistill.runs.folder import RunFolder
imported.ROWS = 500
folder = RunFolder(Path(sys.argv[1]))
imported.import_predictions(folder, folder.experiment(), Path(sys.argv[2]))
"""


@pytest.fixture
def run(tmp_path: Path) -> Iterator[tuple[RunFolder, Experiment]]:
    """A run that read its log, and trained nothing."""
    experiment = load_text(CONFIG)
    with open_run(experiment, None, tmp_path / "run") as folder:
        ingest_stage(folder, experiment, None)
        yield folder, experiment


def truth_of(folder: RunFolder) -> pl.DataFrame:
    """Return a logit per sample and task."""
    ids = pl.concat(EventLog.open(folder.tables / "events").batches(columns=["sample_id"]))
    draw = np.random.default_rng(0).normal(-2, 1, (len(ids), 2)).astype(np.float32)
    return ids.with_columns(logit_click=pl.Series(draw[:, 0]), logit_finish=pl.Series(draw[:, 1]))


def test_each_sample_hears_what_the_file_says_of_it(run: tuple[RunFolder, Experiment], tmp_path: Path) -> None:
    folder, experiment = run
    truth = truth_of(folder)
    logit, probability = (
        truth["logit_click"].to_numpy(),
        1 / (1 + np.exp(-truth["logit_finish"].to_numpy().astype(np.float64))),
    )
    rows = pl.DataFrame(
        {"sample_id": truth["sample_id"], "logit_click": logit, "probability_finish": probability, "more": "ignored"}
    )
    strangers = rows[:5].with_columns(sample_id=pl.Series(range(10**7, 10**7 + 5)))
    pl.concat([rows[200:], strangers]).sample(fraction=1, shuffle=True, seed=1).write_parquet(tmp_path / "said.parquet")
    found = import_predictions(folder, experiment, tmp_path / "said.parquet")
    assert (found.rows, found.unknown, found.coverage) == (2800, 5, pytest.approx(2800 / 3000))
    store, predictions = import_file.SampleStore(folder.store), PredictionLog.open(folder.predictions)
    column = np.array(join_column(folder.signals, store, predictions, "teacher"))
    order = np.argsort(store.sample_id)
    want = truth.sort("sample_id").drop("sample_id").to_numpy()
    heard = ~np.isnan(column[order, 0])
    assert heard.sum() == 2800 and np.allclose(column[order][heard], want[heard], atol=1e-5)
    assert set(predictions.scan().collect()["kind"]) == {"imported"} and imported(predictions)


def test_a_run_goes_on_with_it_in_place_of_a_teacher_of_its_own(
    run: tuple[RunFolder, Experiment], tmp_path: Path
) -> None:
    folder, experiment = run
    truth_of(folder).write_parquet(tmp_path / "said.parquet")
    import_predictions(folder, experiment, tmp_path / "said.parquet")
    train_stage(folder, experiment)
    evaluate_stage(folder, experiment)
    assert not folder.model("teacher").exists()
    models = load(folder.root / "summary.json").models
    assert models.teacher.settings == {"imported": "said.parquet"} and models.teacher.dense_parameters is None
    assert models.teacher.auc == pytest.approx(0.5, abs=0.05) and models.distilled.auc > 0.5


def test_a_whole_run_after_an_import_ends_with_a_report(tmp_path: Path) -> None:
    experiment = load_text(CONFIG)
    with open_run(experiment, None, tmp_path / "run") as folder:
        ingest_stage(folder, experiment, None)
        truth_of(folder).write_parquet(tmp_path / "said.parquet")
        import_predictions(folder, experiment, tmp_path / "said.parquet")
    run_pipeline(experiment, None, tmp_path / "run")
    assert "said.parquet" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_an_import_that_is_killed_is_taken_up_and_no_student_hears_the_half(
    run: tuple[RunFolder, Experiment], tmp_path: Path
) -> None:
    folder, experiment = run
    path = tmp_path / "said.parquet"
    truth_of(folder).write_parquet(path)
    assert exit_code(IMPORT, folder.root, path, point="table.commit:3") == -signal.SIGKILL
    predictions = PredictionLog.open(folder.predictions)
    assert predictions.rows() in (1000, 1500) and not imported(predictions)
    truth_of(folder).with_columns(pl.col("logit_click") + 1).write_parquet(tmp_path / "other.parquet")
    with pytest.raises(UserError, match="has a teacher already"):
        import_predictions(folder, experiment, tmp_path / "other.parquet")
    assert exit_code(IMPORT, folder.root, path) == 0
    assert predictions.rows() == predictions.scan().collect()["sample_id"].n_unique() == 3000 and imported(predictions)


def spoilt(rows: pl.DataFrame, fault: str) -> pl.DataFrame:
    """Return the rows with one fault."""
    last = pl.int_range(pl.len()) == pl.len() - 1
    made = {
        "no id": rows.drop("sample_id"),
        "id of text": rows.with_columns(pl.format("s{}", "sample_id").alias("sample_id")),
        "no column": rows.drop("logit_finish"),
        "two columns": rows.with_columns(probability_click=pl.lit(0.5)),
        "text": rows.with_columns(logit_click=pl.lit("high")),
        "missing": rows.with_columns(logit_click=pl.when(~last).then("logit_click")),
        "infinite": rows.with_columns(logit_click=pl.when(last).then(float("inf")).otherwise("logit_click")),
        "no probability": rows.drop("logit_click").with_columns(
            probability_click=pl.when(last).then(1.0).otherwise(0.5)
        ),
        "twice": pl.concat([rows, rows[:1]]),
        "strangers": rows.with_columns(pl.col("sample_id") + 10**7),
        "a scored one missing": rows[:-1],
    }
    return made[fault]


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("no id", "column 'sample_id' is missing"),
        ("id of text", "'sample_id' must hold whole numbers"),
        ("no column", "of task 'finish' the file has none of logit_finish, probability_finish"),
        ("two columns", "has both 'logit_click' and 'probability_click'; drop one"),
        ("text", "'logit_click' must hold numbers; it is String"),
        ("missing", r"'logit_click' must be finite; sample \d+ has None"),
        ("infinite", r"'logit_click' must be finite; sample \d+ has inf"),
        ("no probability", r"'probability_click' must lie between 0 and 1, both excluded; sample \d+ has 1\.0"),
        ("twice", "stands there twice"),
        ("strangers", "none of its 3,000 sample ids is in the log"),
        (
            "a scored one missing",
            "has no prediction for 1 of the 1,500 samples that are scored, those after the first 50% of the log",
        ),
    ],
)
def test_a_file_with_a_fault_is_refused_and_nothing_is_written(
    run: tuple[RunFolder, Experiment], tmp_path: Path, fault: str, told: str
) -> None:
    folder, experiment = run
    rows = truth_of(folder).sort(pl.col("sample_id"))
    order = pl.concat(EventLog.open(folder.tables / "events").batches(columns=["sample_id"]))
    spoilt(order.join(rows, on="sample_id", maintain_order="left"), fault).write_parquet(tmp_path / "said.parquet")
    with pytest.raises(UserError, match=told):
        import_predictions(folder, experiment, tmp_path / "said.parquet")
    assert PredictionLog.open(folder.predictions).version == 0


def test_what_is_no_parquet_file_is_refused(run: tuple[RunFolder, Experiment], tmp_path: Path) -> None:
    folder, experiment = run
    (tmp_path / "said.csv").write_text("sample_id,logit_click\n1,2\n")
    for name, told in (
        ("said.csv", "is no Parquet file"),
        ("nowhere.parquet", "cannot be read: No such file or directory"),
    ):
        with pytest.raises(UserError, match=told):
            import_predictions(folder, experiment, tmp_path / name)


def test_a_run_whose_teacher_was_trained_takes_no_other(run: tuple[RunFolder, Experiment], tmp_path: Path) -> None:
    folder, experiment = run
    train_stage(folder, experiment, ["teacher"])
    truth_of(folder).write_parquet(tmp_path / "said.parquet")
    with pytest.raises(UserError, match=r"has a teacher already \(trained here\)"):
        import_predictions(folder, experiment, tmp_path / "said.parquet")


@pytest.mark.parametrize("limit", [LIMIT, 50])  # in memory, and on disk
def test_samples_named_by_text_are_joined_by_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(import_file, "joined", partial(joined, limit=limit))
    monkeypatch.setattr(import_file, "ROWS", 90)
    """The file comes in another order, with a stranger among it; no name is mistaken for a number."""
    names = [f"{k % 7}-{k}" for k in range(400)]
    pl.DataFrame({"id": names, "time": [1_700_000_000 + k for k in range(400)], "user_id": 1, "item_id": 2,
                  "label": [k % 2 for k in range(400)]}).write_parquet(tmp_path / "log.parquet")  # fmt: skip
    experiment = load_text("""
        name: t
        data: {path: log.parquet, columns: {sample_id: id}}
        students: {light: {kind: pooled-mlp}}
    """)
    said = pl.DataFrame({"sample_id": [*names[::-1], "7"], "logit": [float(k) for k in range(400)][::-1] + [99.0]})
    said.write_parquet(tmp_path / "said.parquet")
    with open_run(experiment, tmp_path, tmp_path / "run") as folder:
        ingest_stage(folder, experiment, tmp_path)
        pl.concat(60 * [said.head(1)]).write_parquet(tmp_path / "one.parquet")
        repeats = "more than 50 rows have one sample_key" if limit == 50 else "stands there twice"
        with pytest.raises(UserError, match=f"one.parquet: column 'sample_id': .*{repeats}"):
            import_predictions(folder, experiment, tmp_path / "one.parquet")
        found = import_predictions(folder, experiment, tmp_path / "said.parquet")
        assert (found.rows, found.unknown) == (400, 1)
        rows = pl.concat(PredictionLog.open(folder.predictions).batches()).sort("sample_id")
        assert rows["logit_click"].to_list() == [float(k) for k in range(400)]


def test_what_counts_on_any_task_must_be_there_and_what_has_no_weight_need_not(tmp_path: Path) -> None:
    ids = pl.int_range(40, eager=True)
    log = pl.DataFrame({"id": ids, "time": 1_700_000_000 + ids, "user_id": 1, "item_id": 2,
                        "click": pl.Series([None if k % 2 else k % 4 // 2 for k in range(40)]), "buy": ids % 3 // 2,
                        "weight": (ids < 36).cast(pl.Float32)})  # fmt: skip
    log.write_parquet(tmp_path / "log.parquet")
    experiment = load_text("""
        name: t
        data: {path: log.parquet, columns: {sample_id: id, tasks: {click: click, buy: buy}, weight: weight}}
        students: {light: {kind: pooled-mlp}}
        evaluate: {start: 0.5}
    """)
    logits = log.select(sample_id="id", logit_click=pl.lit(0.1), logit_buy=pl.lit(0.2))
    logits.filter(pl.Series(ids % 2 == 0)).write_parquet(tmp_path / "clicks.parquet")
    logits.head(36).write_parquet(tmp_path / "said.parquet")
    with open_run(experiment, tmp_path, tmp_path / "run") as folder:
        ingest_stage(folder, experiment, tmp_path)
        with pytest.raises(UserError, match="no prediction for 8 of the 16 samples that are scored"):
            import_predictions(folder, experiment, tmp_path / "clicks.parquet")
        assert import_predictions(folder, experiment, tmp_path / "said.parquet").rows == 36
