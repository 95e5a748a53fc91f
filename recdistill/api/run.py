"""A run: one folder, in which a log is read, models are trained and scored, and a report is written."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from recdistill.api.log import Log, digest
from recdistill.api.models import Distill, Student, Teacher
from recdistill.api.result import Report, Result
from recdistill.app import run as stages
from recdistill.app.backfill import backfill_stage
from recdistill.app.export import export_stage
from recdistill.app.progress import print_line
from recdistill.app.scores import print_summary
from recdistill.config.experiment import Experiment
from recdistill.config.load import checked, load_file
from recdistill.config.models import StudentConfig
from recdistill.data.readers.new_rows import source_of
from recdistill.data.writer import NO_ROWS, write_frames
from recdistill.errors import UserError, did_you_mean
from recdistill.runs.folder import RunFolder
from recdistill.runs.jobs import Job, controls_of, every_job, pairs_of, teacher_seeds_of
from recdistill.runs.names import TEACHER, ModelName
from recdistill.serve.rows import SmallerRows
from recdistill.storage.location import Location, location, of_this_machine
from recdistill.train.predict import Predictor
from recdistill.train.trained import trained

__all__ = ["Run", "TrainedModel"]


@dataclass(frozen=True)
class TrainedModel:
    """A trained teacher, or a student with a model per seed; names: of its models, the one to serve first."""

    run: Run
    name: str
    names: tuple[str, ...]

    def predict(self, data: Any, seed: int | None = None) -> pl.DataFrame:
        """Return the predictions of new rows, in their order: sample_id, logit_TASK and probability_TASK, float32.

        data: whatever `read_log` takes, with the log's columns but for labels; histories are the run's. seed: of a
        student, default its first. probability: of the log before down-sampling. Raises UserError for rows that do not
        fit the run's log, and for none.
        """
        frames = list(self.run.predictions(self._of(seed), data))
        if not frames:
            raise UserError(NO_ROWS)
        return pl.concat(frames)

    def predict_file(self, data: Any, path: str | Path, seed: int | None = None) -> int:
        """Write the predictions of new rows to a .parquet or .csv file, a chunk at a time, and return how many.

        The file appears whole or not at all. Raises UserError for another kind of file, and as `predict`.
        """
        return write_frames(of_this_machine(path), self.run.predictions(self._of(seed), data))

    def backfill(self, seed: int | None = None, workers: int | None = None) -> int:
        """Predict every sample of the run's log with the model's newest checkpoint, into the table of predictions as
        MODEL.backfill, and return how many; 0 where that was done already. Students never learn from these.

        workers: how many processes, default those of the experiment. Raises UserError for a model that is not trained.
        """
        return self.run.backfill(self._of(seed), workers)

    def export(
        self,
        to: str | Path,
        seed: int | None = None,
        rows: int | None = None,
        checkpoint: str | Path | None = None,
        serves: bool = True,
        smaller: SmallerRows | None = None,
    ) -> Path:
        """Write the model as the next version of an artefact in the folder `to`, and return that version's folder.

        What it takes to serve it: `recdistill.serve`, which needs no torch. rows, checkpoint: not its newest
        checkpoint, but the first that had predicted so many rows, or the one in this folder. serves: whether servers of
        `to` take it over. smaller: rows of fewer bytes, or fewer rows; what that costs is printed and stands in the
        manifest. Raises UserError, and publishes nothing, where NE rises by more than it may, for a network that
        torch.export does not take, where the artefact would not give the network's logits, and for a checkpoint that is
        not there or was revoked.
        """
        at = None if checkpoint is None else of_this_machine(checkpoint)
        return self.run.export(self._of(seed), of_this_machine(to), rows, at, serves, smaller)

    def _of(self, seed: int | None) -> str:
        if seed is None:
            return self.names[0]
        seeds = {ModelName.parse(name).number: name for name in self.names}
        if seed not in seeds:
            raise UserError(f"{self.name}: no seed {seed}; it has {', '.join(map(str, seeds))}")
        return seeds[seed]


class Run:
    """One folder: the log's tables, the models trained on it, their predictions and the report.

    folder: made by the first call that writes, or opened where it is a run; whatever is done there already is not done
    again. log: of `read_log`; None for a run that is there. settings: keys of the experiment file besides data and
    models (evaluate, checkpoint_rows, processes, candidates, crossfit, teacher_hidden, tracking, ...).
    """

    def __init__(self, folder: str | Path, log: Log | None = None, **settings: Any) -> None:
        self.folder, self.log = RunFolder(location(str(folder))), log
        self.data: Path | None = None
        self._grows = True  # models come one by one
        if log is None:
            self.experiment, self.data = self.folder.experiment(), self.folder.data()
            return
        tree = {"name": self.folder.root.resolve().name, "data": log.config, "students": {}, **settings}
        self.experiment = checked(Experiment, tree, "Run")
        if self.folder.exists:
            self._join(self.folder.experiment(), settings.get("evaluate", {}))
        if log.frame is not None:
            self.data = self.folder.here.resolve()

    @classmethod
    def from_config(
        cls,
        config: str | Path | Experiment,
        data: Path | None = None,
        out: str | Location | None = None,
        set_: Iterable[str] = (),
    ) -> Run:
        """Return the run of an experiment file, in `out` (default runs/NAME). data: the folder that its paths are
        relative to; set_: assignments as `--set` takes them.
        """
        run = cls.__new__(cls)
        run._grows = False
        run.experiment = config if isinstance(config, Experiment) else load_file(Path(config), list(set_))
        os.environ.update(run.experiment.storage.variables())
        run.folder = RunFolder(location(str(out)) if out else Path("runs") / run.experiment.name)
        run.log, run.data = None, data
        return run

    def _join(self, there: Experiment, evaluate: Mapping[str, Any]) -> None:
        """Take over the models and seeds of a run that is there; the seeds unless `evaluate` names others."""
        update: dict[str, Any] = {"teacher": there.teacher, "teachers": there.teachers, "students": there.students}
        if "seeds" not in evaluate:
            update["evaluate"] = self.experiment.evaluate.model_copy(update={"seeds": there.evaluate.seeds})
        self.experiment = self.experiment.model_copy(update=update)

    @contextmanager
    def _claimed(self, trains: bool = True) -> Iterator[None]:
        with stages.open_run(self.experiment, self.data, self.folder.root, trains, self._grows):
            if self.log is not None and self.log.frame is not None:
                _write_once(self.log.frame, self.folder.here / self.log.config.path)
            yield

    @contextmanager
    def _held(self) -> Iterator[None]:
        self.folder.experiment()  # a folder that holds no run is refused in its own words
        with self.folder.held():
            yield

    def ingest(self) -> None:
        """Read the log into the run's tables, once. Raises UserError for a log that cannot be read as it says."""
        with self._claimed(trains=False):
            stages.ingest_stage(self.folder, self.experiment, self.data)

    def train(
        self,
        model: Teacher | Student | str | None = None,
        *,
        teacher: TrainedModel | Iterable[TrainedModel] | None = None,
        distill: Distill | None = None,
        seeds: Iterable[int] | None = None,
    ) -> TrainedModel | None:
        """Train a model, and return it; without one, all that the experiment names. What is trained stays as it is; an
        interrupted call is resumed by the same call.

        teacher, distill, seeds: of a Student: whom it learns from and how, and which models it becomes, each raw and
        distilled. A string: the name of one model of the experiment.
        """
        if isinstance(model, Teacher):
            return self._train_teacher(model)
        if isinstance(model, Student):
            return self._train_student(model, teacher, distill, seeds)
        with self._held():
            stages.train_stage(self.folder, self.experiment, [] if model is None else [model])
        return None

    def _train_teacher(self, teacher: Teacher) -> TrainedModel:
        further = "" if teacher.name in (None, TEACHER) else str(teacher.name)
        if further:
            self._update({"teachers": {**self.experiment.teachers, further: teacher.config}})
        else:
            self._update({"teacher": teacher.config})
        name = str(ModelName("teacher", further))
        self._train([name] if further else [job.name for job in teacher_seeds_of(self.experiment)])
        return TrainedModel(self, further or TEACHER, (name,))

    def _train_student(
        self,
        student: Student,
        teacher: TrainedModel | Iterable[TrainedModel] | None,
        distill: Distill | None,
        seeds: Iterable[int] | None,
    ) -> TrainedModel:
        if teacher is None:
            raise UserError(
                "train: a student needs teacher=...; first run.train(rd.Teacher(...)) or run.import_teacher(...)"
            )
        teachers = [teacher] if isinstance(teacher, TrainedModel) else list(teacher)
        keys = {"teachers": [one.name for one in teachers], **(distill.keys if distill else {})}
        name = student.name or self.experiment.name
        config = checked(StudentConfig, {**student.keys, "distill": keys}, "Student")
        update: dict[str, Any] = {"students": {**self.experiment.students, name: config}}
        if seeds is not None:
            evaluate = self.experiment.evaluate.model_dump() | {"seeds": list(seeds)}
            update["evaluate"] = evaluate
        self._update(update)
        pairs = pairs_of(self.experiment)[name]
        controls = [job for jobs in controls_of(self.experiment)[name].values() for job in jobs]
        self._train([job.name for job in (*(one for pair in pairs for one in pair), *controls)])
        return TrainedModel(self, name, tuple(distilled.name for _, distilled in pairs))

    def _update(self, update: dict[str, Any]) -> None:
        tree = {**self.experiment.model_dump(mode="json"), **update}
        self.experiment = checked(Experiment, tree, "Run")

    def _train(self, names: list[str]) -> None:
        with self._claimed():
            stages.ingest_stage(self.folder, self.experiment, self.data, follows=False)
            stages.train_stage(self.folder, self.experiment, names)

    def import_predictions(self, path: Path) -> None:
        """Take a Parquet file as the predictions of the teacher of a run whose log is ingested; see
        `import_teacher`.
        """
        with self._held():
            stages.import_stage(self.folder, self.experiment, path)

    def import_teacher(self, predictions: Any) -> TrainedModel:
        """Take a Parquet file or a frame as the predictions of the run's teacher: sample_id, and per task logit_TASK or
        probability_TASK. They must have been made before the teacher learned from the sample. Raises UserError for a
        sample that is scored and missing, and for values that are no logits.
        """
        with self._claimed(trains=False):
            stages.ingest_stage(self.folder, self.experiment, self.data, follows=False)
            path = predictions if isinstance(predictions, str | Path) else self._as_file(predictions)
            stages.import_stage(self.folder, self.experiment, of_this_machine(path))
        return TrainedModel(self, TEACHER, (TEACHER,))

    def _as_file(self, predictions: Any) -> Path:
        frame = source_of(predictions).frame.collect()
        path = self.folder.here / f"teacher-{digest(frame)}.parquet"
        _write_once(frame, path)
        return path

    def evaluate(self) -> Result:
        """Score every model from the tables, write `summary.json`, print the table and return the result."""
        with self._held():
            summary = stages.evaluate_stage(self.folder, self.experiment)
            print_summary(summary)
        return Result(summary)

    def report(self) -> Report:
        """Write `report.html` of the last evaluation, and return it; a notebook shows it."""
        with self._held():
            stages.report_stage(self.folder)
        return Report(self.folder.root / "report.html")

    def run(self) -> Result:
        """Do all that the experiment says: read the log, train every model, evaluate, report."""
        with self._claimed():
            summary = stages.run_stages(self.folder, self.experiment, self.data)
            print_summary(summary)
            stages.report_stage(self.folder)
        return Result(summary)

    def model(self, name: str) -> TrainedModel:
        """Return a trained model by its name (`light.distilled.s0`), or a student (`light`) with all its seeds."""
        jobs = self._jobs()
        if name in self.experiment.students:
            pairs = pairs_of(self.experiment)[name]
            return TrainedModel(self, name, tuple(distilled.name for _, distilled in pairs))
        if name not in jobs:
            known = [*self.experiment.students, *jobs]
            raise UserError(f"{name}: no such model in {self.folder.root}{did_you_mean(name, known)}")
        further = name.removeprefix(f"{TEACHER}-")  # in the experiment, and so for students, without that
        return TrainedModel(self, further if further in self.experiment.teachers else name, (name,))

    def _jobs(self) -> dict[str, Job]:
        return every_job(self.experiment)

    def predictions(self, model: str, data: Any) -> Iterator[pl.DataFrame]:
        """Yield a model's predictions of new rows, a chunk at a time, and print what was left out of these and what
        their side tables lack; see `TrainedModel.predict`.
        """
        if not isinstance(self.folder.root, Path):
            with self._held():
                stages.run_store(self.folder)  # which this machine may not have
        predictor = Predictor(self.folder, self.experiment, self._jobs()[model])
        yield from predictor.predict(source_of(data, self.experiment.data))
        for line in predictor.notes():
            print_line(line)

    def backfill(self, model: str, workers: int | None = None) -> int:
        """Record a model's predictions of the whole log; see `TrainedModel.backfill`."""
        with self._held():
            stages.run_store(self.folder)  # of a run in an object store this machine may not have it
            return backfill_stage(self.folder, self.experiment, self._jobs()[model], workers)

    def export(
        self,
        model: str,
        to: Path,
        rows: int | None = None,
        checkpoint: Path | None = None,
        serves: bool = True,
        smaller: SmallerRows | None = None,
    ) -> Path:
        """Write a trained model as the next version of an artefact; see `TrainedModel.export`. A stream may go on
        meanwhile.
        """
        job = self._jobs()[model]
        found = trained(self.folder, job, rows, checkpoint)
        with nullcontext() if found.of_stream else self._held():
            return export_stage(self.folder, self.experiment, job, to, found, serves, smaller or SmallerRows())

    def inspect(self) -> None:
        """Print the tables with their versions, and the models with what they recorded."""
        stages.inspect_stage(self.folder)


def _write_once(frame: pl.DataFrame, path: Path) -> None:
    if not path.exists():
        write_frames(path, iter((frame,)))
