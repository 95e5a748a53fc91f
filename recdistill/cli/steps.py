"""Verbs for one step of a run: ingest, import-predictions, train, evaluate, report, compare, inspect, predict."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recdistill.cli import completion
from recdistill.cli.options import Config, Data, OutPlace, RunPlace, Set
from recdistill.errors import UserError

__all__ = ["compare", "evaluate", "import_predictions", "ingest", "inspect", "predict", "report", "train"]


def ingest(config: Config, data: Data = None, out: OutPlace = None, set_: Set = None) -> None:
    """Only read the log into the tables of a run."""
    from recdistill.api.run import Run

    Run.from_config(config, data, out, set_ or []).ingest()


def import_predictions(
    run_folder: RunPlace, file: Annotated[Path, typer.Argument(help="Parquet: sample_id, and logit or probability.")]
) -> None:
    """Take a file as the predictions of the teacher of an ingested run, instead of training one."""
    from recdistill.api.run import Run

    Run(run_folder).import_predictions(file)


def train(
    run_folder: RunPlace,
    model: Annotated[
        str | None, typer.Option("--model", help="Only this model.", autocompletion=completion.models)
    ] = None,
    shard: Annotated[
        bool, typer.Option("--shard", help="Under torchrun: spread the dense part over the ranks.")
    ] = False,
    tensor: Annotated[
        int,
        typer.Option(
            "--tensor", min=1, help="With --shard: how many ranks share each layer of a token mixer, by tokens."
        ),
    ] = 1,
    short: Annotated[
        bool, typer.Option("--short", help="Under torchrun: send gradients and embedding rows in bfloat16.")
    ] = False,
) -> None:
    """Train the models of an ingested run that are not finished: teachers, then students. Under torchrun: one model, by
    ranks.
    """
    from recdistill.api.run import Run
    from recdistill.app.run import ranked_stage
    from recdistill.distributed.environment import asked_for
    from recdistill.distributed.launch import leave
    from recdistill.storage.location import local_path, location

    if asked_for():
        ranked_stage(local_path(location(run_folder)), model, shard, short, tensor)
        leave()
    words = (("--shard", shard or tensor > 1), (f"--tensor {tensor}", tensor > 1), ("--short", short))
    if asked := " ".join(word for word, given in words if given):
        raise UserError(
            f"{asked}: is for several ranks; start them with torchrun --no-python recdistill train RUN {asked}"
        )
    Run(run_folder).train(model)


def evaluate(run_folder: RunPlace) -> None:
    """Score a trained run from its tables and write summary.json."""
    from recdistill.api.run import Run

    Run(run_folder).evaluate()


def report(run_folder: RunPlace) -> None:
    """Write report.html and model-card.md from summary.json."""
    from recdistill.api.run import Run

    Run(run_folder).report()


def compare(
    run_folders: Annotated[
        list[str],
        typer.Argument(
            help="Finished runs, two or more: folders, or s3://BUCKET/PREFIX.", autocompletion=completion.runs
        ),
    ],
    out: Annotated[Path | None, typer.Option("--out", help="Also write a page (HTML).")] = None,
) -> None:
    """Put finished runs side by side: scores, what arrived, and the keys that differ."""
    import recdistill

    recdistill.compare(run_folders, out)


def inspect(run_folder: RunPlace) -> None:
    """Show the tables, versions and models of a run."""
    from recdistill.api.run import Run

    Run(run_folder).inspect()


def predict(
    run_folder: RunPlace,
    model: Annotated[
        str,
        typer.Argument(
            help="A model, as light.distilled.s0, or a student: its first seed.", autocompletion=completion.models
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", help="Rows to predict: Parquet, CSV or Delta, with the log's columns. Without: the log."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The file to write: .parquet or .csv; replaced if it is there. Goes with --data."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, help="Processes that predict the log; default workers.count of the run."),
    ] = None,
) -> None:
    """Predict new rows with a trained model: sample_id, and per task logit and probability. Without --data: every
    sample of the log, into the table of predictions.
    """
    from recdistill.api.run import Run

    if (data is None) != (out is None):
        raise UserError("--data and --out go together: rows to predict, and the file for their predictions")
    if data is not None and workers is not None:
        raise UserError("--workers: is for the predictions of the log; leave out --data and --out")
    chosen = Run(run_folder).model(model)
    if data is None or out is None:
        chosen.backfill(workers=workers)
    else:
        chosen.predict_file(data, out)
