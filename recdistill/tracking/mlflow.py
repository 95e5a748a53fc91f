"""MLflow (extra `mlflow`): one MLflow run per run folder, taken up again when the run is.

The store is that of MLFLOW_TRACKING_URI, else a sqlite file in the run's folder; the MLflow experiment is that of
MLFLOW_EXPERIMENT_NAME, else the experiment's name. A metric is called MODEL/METRIC, its step counts rows.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from recdistill.errors import UserError
from recdistill.evaluate.summary import write_atomic
from recdistill.tracking.update import Update, plain_name

__all__ = ["MlflowRun", "open_run", "store_of"]

METRICS, TEXTS = 1000, 100  # that one call takes
KEY = r"\w.\-/: "  # what MLflow takes in a name
LONGEST_VALUE = 5000  # characters of a tag or a parameter
CHATTER = ("mlflow", "alembic", "urllib3")  # their loggers report each migration and each attempt
T = TypeVar("T")


def store_of(root: Path) -> str:
    """Return the address of the store for a run's folder."""
    given = os.environ.get("MLFLOW_TRACKING_URI")
    path = root.resolve() / "tracking" / "mlflow.db"
    if not given and "?" in str(path):
        raise UserError(f"{root}: a sqlite store cannot lie below a '?'; set MLFLOW_TRACKING_URI")
    return given or f"sqlite:///{path}"


def open_run(root: Path, experiment: str) -> MlflowRun:
    """Return the run of a run's folder, made in its store where it has none there yet."""
    _be_quiet()
    from mlflow import MlflowClient

    store, note = store_of(root), root / "tracking" / "mlflow.json"
    note.parent.mkdir(parents=True, exist_ok=True)
    client = MlflowClient(store, registry_uri=store)
    run = _known_run(client, note)
    if run is None:
        place = _experiment(client, store, os.environ.get("MLFLOW_EXPERIMENT_NAME") or experiment)
        run = client.create_run(place, tags=_origin(), run_name=root.resolve().name).info.run_id
        write_atomic(json.dumps({"run_id": run}) + "\n", note)
    client.update_run(run, status="RUNNING")
    return MlflowRun(client, run)


def _be_quiet() -> None:
    """Keep MLflow's notes off the terminal and its usage statistics at home, where nobody has said otherwise."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    import mlflow  # noqa: F401  which sets the levels of its loggers

    for name in CHATTER:
        logging.getLogger(name).setLevel(logging.ERROR)


def _origin() -> dict[str, str]:
    """Return the tags that MLflow gives every run: user, program, git commit."""
    from mlflow.tracking.context.registry import resolve_tags

    tags: dict[str, str] = resolve_tags()
    return tags


def _known_run(client: Any, note: Path) -> str | None:
    """Return the id that an earlier session noted, None where this store has no such run (any more)."""
    from mlflow.exceptions import MlflowException

    try:
        run = str(json.loads(note.read_text(encoding="utf-8"))["run_id"])
        return run if client.get_run(run).info.lifecycle_stage == "active" else None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def _experiment(client: Any, store: str, name: str) -> str:
    """Return the id of an experiment, made where the store has none of that name."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=_artefacts(store, name)))
        except MlflowException:  # another run of the same name was first
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return str(found.experiment_id)


def _artefacts(store: str, name: str) -> str | None:
    """Return where a new experiment's files go: beside a sqlite store, else where the store says (None).

    Without this MLflow would put them into a folder mlruns below the working directory.
    """
    scheme = store.partition(":")[0].partition("+")[0]
    if scheme in ("postgresql", "mysql", "mssql"):
        raise UserError(
            f"experiment '{name}' is not in the store, which does not say where files go; make it with: mlflow "
            "experiments create --artifact-location"
        )
    if scheme != "sqlite":
        return None
    from sqlalchemy import make_url

    database = make_url(store).database
    return (Path(database).resolve().parent / "mlartifacts" / plain_name(name)).as_uri() if database else None


class MlflowRun:
    """One run in a store."""

    def __init__(self, client: Any, run: str):
        self._client, self._run = client, run

    def log(self, update: Update) -> None:
        """Store what is new. A parameter that is there already stays as it is: MLflow refuses to change one."""
        from mlflow.entities import Metric

        metrics = [
            Metric(plain_name(f"{point.model}/{point.name}", KEY), point.value, int(1000 * point.time), point.step)
            for point in update.points
        ]
        if update.parameters:
            self._log_parameters(update.parameters)
        for some in _chunks(metrics, METRICS):
            self._client.log_batch(self._run, metrics=some)
        self._log_tags(update.tags)
        for file in update.files:
            self._client.log_artifact(self._run, str(file))

    def close(self, status: str) -> None:
        """Mark the run as ended."""
        self._client.set_terminated(self._run, status)

    def _log_parameters(self, parameters: Mapping[str, str]) -> None:
        """Store those that are new; those that the run was begun with otherwise go into a tag."""
        from mlflow.entities import Param

        given = {plain_name(key, KEY): value[:LONGEST_VALUE] for key, value in parameters.items()}
        there = self._client.get_run(self._run).data.params
        for some in _chunks([Param(key, value) for key, value in given.items() if key not in there], TEXTS):
            self._client.log_batch(self._run, params=some)
        changed = [f"{key}: {value}" for key, value in given.items() if there.get(key, value) != value]
        if changed:
            self._log_tags({"recdistill.changed": ", ".join(changed)})

    def _log_tags(self, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        for some in _chunks(
            [RunTag(plain_name(key, KEY), value[:LONGEST_VALUE]) for key, value in tags.items()], TEXTS
        ):
            self._client.log_batch(self._run, tags=some)


def _chunks(values: Sequence[T], most: int) -> Iterator[Sequence[T]]:
    return (values[at : at + most] for at in range(0, len(values), most))
