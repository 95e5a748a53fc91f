"""Before training, not after it: which students could not be served."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib.util import find_spec

import torch

from recdistill.data.store.sample_store import SampleStore
from recdistill.errors import UserError
from recdistill.runs.folder import RunFolder, fingerprint
from recdistill.runs.jobs import WHERE, Job
from recdistill.tables.events import EventLog
from recdistill.tables.schema import EventSchema
from recdistill.train.build import build_network

__all__ = ["check_installed", "unservable"]

NEEDED = ("onnx", "onnxscript", "onnxruntime")  # of the extra `export`
OWN = ":"  # in the kind of a network of the user's


def check_installed() -> None:
    """Raise UserError where the extra `export` is missing."""
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise UserError(f"export needs {missing[0]}; install it: pip install 'recdistill[export]'")


def unservable(folder: RunFolder, jobs: Iterable[Job]) -> Iterator[str]:
    """Yield a line for each distinct student of a network of the user's own whose untrained network cannot be exported;
    nothing where the extra `export` is not installed. Kinds of recdistill's own are exported by its tests.

    Nothing that is trained afterwards differs for it: torch's random state stays as it is.
    """
    alike = {*WHERE, "distill"}  # what the served part does not differ by
    own = {
        fingerprint(job.config.model_dump(mode="json", exclude=alike)): job for job in jobs if OWN in job.config.kind
    }
    if not own or not all(map(find_spec, NEEDED)):
        return
    schema, store = EventLog.open(folder.tables / "events").schema, SampleStore(folder.store)
    for job in own.values():
        if (line := _refusal(job, schema, store.actions)) is not None:
            yield (
                f"warning: {line}; it is trained all the same, but `recdistill export` will refuse it: change the "
                "network, or set export_check: false"
            )


def _refusal(job: Job, schema: EventSchema, actions: int) -> str | None:
    from recdistill.export.write import graph_of  # which takes a second to import

    with torch.random.fork_rng(devices=[]):
        try:
            graph_of(job, build_network(job, schema, actions, 0).eval(), schema)
        except UserError as error:
            return str(error)
    return None
