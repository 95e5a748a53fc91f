"""The notebook of the README, as it stands there: a file of impressions, a teacher, a student of one's own, results."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor, nn

import recdistill as rd
from tests.support.paths import ROOT

ROWS = 1_500


class MyNet(nn.Module):
    """The student of the documentation."""

    output_width = 16

    def __init__(self, width: int = 8, *, tables: rd.TableOptions) -> None:
        super().__init__()
        self.item = rd.GrowableTable(width, seed=tables.seed, name="item", std=0.05)
        self.body = nn.Linear(2 * width, 16)

    def forward(self, batch: rd.Batch) -> Tensor:
        item = self.item(batch.item.unique)[batch.item.inverse]
        index, _, _, mask = batch.history.dense()
        past = self.item(batch.history.unique)[index].sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
        return torch.relu(self.body(torch.cat([item, past[batch.history.of]], 1)))


def impressions() -> pl.DataFrame:
    draw = np.random.default_rng(0)
    return pl.DataFrame(
        {
            "user_id": [f"u{user:03d}" for user in draw.integers(0, 40, ROWS)],
            "item_id": draw.integers(0, 60, ROWS),
            "ts": np.sort(draw.integers(1_700_000_000, 1_700_800_000, ROWS)),
            "clicked": draw.integers(0, 2, ROWS).astype(np.int8),
        }
    )


def log_of(source: object) -> rd.Log:
    return rd.read_log(source, user="user_id", item="item_id", time="ts", labels={"click": "clicked"})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[rd.Run, rd.TrainedModel]:
    root = tmp_path_factory.mktemp("notebook")
    impressions().write_parquet(root / "impressions.parquet")
    run = rd.Run(root / "mine", log_of(root / "impressions.parquet"), evaluate={"bootstrap": 20}, checkpoint_rows=500)
    teacher = run.train(rd.Teacher("target-attention", width=8, history=10, batch=100))
    distill = rd.Distill(weight=1.0)
    student = run.train(rd.Student(MyNet, history=10, batch=100), teacher=teacher, distill=distill, seeds=range(2))
    return run, student


def test_the_result(trained: tuple[rd.Run, rd.TrainedModel]) -> None:
    run, _ = trained
    result = run.evaluate()
    assert set(result.baselines) >= {"counts"} and result.warnings == result.summary.warnings
    eta = result.students["mine"].eta("gauc")
    assert (eta.value is None) == bool(eta.why)
    frame = result.to_frame()
    assert frame["variant"].to_list()[:4] == ["teacher", "raw", "distilled", "baseline"] and "eta_gauc" in frame.columns
    assert "<iframe" in run.report()._repr_html_()
    with pytest.raises(rd.UserError, match="no metric 'guac'; did you mean 'gauc'"):
        result.students["mine"].eta("guac")


def test_new_rows_from_any_format(trained: tuple[rd.Run, rd.TrainedModel], tmp_path: Path) -> None:
    _, student = trained
    rows = impressions().drop("clicked").sample(50, seed=1)
    rows.write_parquet(tmp_path / "new.parquet")
    rows.write_csv(tmp_path / "new.csv")
    found = [student.predict(data) for data in (rows, rows.to_arrow(), tmp_path / "new.parquet", tmp_path / "new.csv")]
    assert all(one.equals(found[0]) for one in found) and len(found[0]) == 50
    torch.testing.assert_close(
        torch.sigmoid(found[0]["logit_click"].to_torch()), found[0]["probability_click"].to_torch()
    )
    assert not student.predict(rows, seed=1).equals(found[0])
    assert student.predict_file(rows, tmp_path / "out.parquet") == 50
    assert pl.read_parquet(tmp_path / "out.parquet").equals(found[0])


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda rows: rows.drop("item_id"), "no column 'item_id'"),
        (lambda rows: rows.with_columns(item_id=pl.lit("x")), "column 'item_id': not a whole number"),
        (lambda rows: rows.with_columns(ts=pl.lit("soon")), "not a time in s since 1970"),
        (lambda rows: rows.clear(), "no rows to predict"),
        (lambda rows: 7, "a int is no table"),
    ],
)
def test_rows_that_do_not_fit(trained: tuple[rd.Run, rd.TrainedModel], tmp_path: Path, change, problem: str) -> None:
    with pytest.raises(rd.UserError, match=problem):
        trained[1].predict_file(change(impressions()), tmp_path / "out.parquet")
    with pytest.raises(rd.UserError, match=problem):
        trained[1].predict(change(impressions()))
    assert not list(tmp_path.iterdir())


def test_a_run_goes_on_where_it_was(
    trained: tuple[rd.Run, rd.TrainedModel], capsys: pytest.CaptureFixture[str]
) -> None:
    """The same cells again train nothing; another student joins; a changed one is refused."""
    run, student = trained
    again = rd.Run(run.folder.root, run.log, evaluate={"bootstrap": 20}, checkpoint_rows=500)
    teacher = again.train(rd.Teacher("target-attention", width=8, history=10, batch=100))
    assert "already trained" in capsys.readouterr().out
    with pytest.raises(rd.UserError, match="holds another run"):
        again.train(rd.Student(MyNet, history=11, batch=100), teacher=teacher)
    fresh = rd.Run(run.folder.root)
    other = fresh.train(rd.Student("pooled-mlp", name="small", width=4, batch=100), teacher=fresh.model("teacher"))
    assert other.names == ("small.distilled.s0", "small.distilled.s1")
    assert set(fresh.evaluate().students) == {"mine", "small"}
    assert fresh.model("mine").predict(impressions().head(3)).equals(student.predict(impressions().head(3)))


def test_a_frame_and_an_imported_teacher(tmp_path: Path) -> None:
    frame = impressions().with_row_index("sample_id")
    log = rd.read_log(
        frame.to_arrow(), user="user_id", item="item_id", time="ts", labels={"click": "clicked"}, sample_id="sample_id"
    )
    run = rd.Run(tmp_path / "run", log, evaluate={"bootstrap": 20})
    scores = frame.select(pl.col("sample_id").cast(pl.Int64), logit=pl.lit(0.25))
    teacher = run.import_teacher(scores)
    run.train(rd.Student("pooled-mlp", name="light", width=4, batch=100), teacher=teacher, seeds=[0, 1])
    assert set(run.evaluate().students) == {"light"}
    with pytest.raises(rd.UserError, match="needs teacher="):
        run.train(rd.Student("din"))
    for other in (frame.head(100), frame.reverse(), frame.with_columns(pl.col("ts").cast(pl.Float64))):
        changed = rd.Run(tmp_path / "run", rd.read_log(other, **log_columns(), sample_id="sample_id"))
        with pytest.raises(rd.UserError, match="holds another run"):
            changed.ingest()


def log_columns() -> dict[str, object]:
    return {"user": "user_id", "item": "item_id", "time": "ts", "labels": {"click": "clicked"}}


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda: log_of(impressions().drop("ts")), r"the frame: no column 'ts' \(data.columns.time\)"),
        (lambda: log_of("nowhere.parquet"), "no such file"),
        (lambda: rd.Teacher(widht=3), "unknown key 'widht'; did you mean 'width'"),
        (lambda: rd.Student("dim"), "no such model; did you mean 'din'"),
        (lambda: rd.Distill(weight=-1), "'weight"),
        (lambda: rd.Run("nowhere"), "holds no run"),
    ],
)
def test_mistakes_are_one_line(call, problem: str) -> None:
    with pytest.raises(rd.UserError, match=problem) as raised:
        call()
    assert "\n" not in str(raised.value)


def test_the_face_is_instant_and_whole() -> None:
    heavy = ("torch", "polars", "numpy", "pydantic", "deltalake", "pyarrow")
    code = f"import sys, recdistill; print(*[name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == []
    assert all(getattr(rd, name).__doc__ for name in rd.__all__) and set(rd.__all__) <= set(dir(rd))
    with pytest.raises(AttributeError, match="has no attribute 'Runn'"):
        _ = rd.Runn


def test_a_further_teacher_is_found_again_by_its_model_name(tmp_path: Path) -> None:
    run = rd.Run(tmp_path / "run", log_of(impressions()), evaluate={"bootstrap": 20}, checkpoint_rows=500)
    first = run.train(rd.Teacher("pooled-mlp", width=4, batch=100))
    second = run.train(rd.Teacher("pooled-mlp", name="second", width=8, batch=100))
    again = run.model("teacher-second")
    assert (again.name, again.names) == (second.name, second.names) == ("second", ("teacher-second",))
    student = run.train(rd.Student("pooled-mlp", width=4, batch=100), teacher=[first, again], seeds=[0])
    assert student is not None and run.experiment.students["run"].distill.teachers == ["teacher", "second"]


def test_models_that_have_not_begun_may_still_be_chosen_in_a_notebook(tmp_path: Path) -> None:
    run = rd.Run(tmp_path / "run", log_of(impressions()), evaluate={"bootstrap": 20}, checkpoint_rows=500)
    run.ingest()
    teacher = run.train(rd.Teacher("pooled-mlp", width=4, batch=100))
    assert teacher is not None and run.folder.experiment().teacher.width == 4
    with pytest.raises(rd.UserError, match="holds another run .teacher.width: 4 there, 8 now"):
        run.train(rd.Teacher("pooled-mlp", width=8, batch=100))
