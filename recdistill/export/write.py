"""A trained student to an artefact: built aside, compared with the network row by row, published by one rename.

Shapes as in graph.py.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from recdistill.data.batch.extras import extra_sequences, extras_of
from recdistill.data.batch.numbers import outcome_numbers
from recdistill.data.store.encoder import field_counts
from recdistill.data.store.known import Known, known_of
from recdistill.data.store.memmap import create_column, sync, write_json
from recdistill.defaults import GIVEN_HISTORY
from recdistill.errors import UserError
from recdistill.export.graph import ServedNetwork, onnx_graph
from recdistill.export.inputs import Shape
from recdistill.export.parity import largest_difference
from recdistill.export.smaller_rows import leave_out_absent, made_smaller
from recdistill.export.vectors import write_vectors
from recdistill.models.embeddings.growable import GrowableTable
from recdistill.models.embeddings.hashed import HashedTable, QuotientTable
from recdistill.models.embeddings.mixed import MixedTable
from recdistill.models.factory import table_modules
from recdistill.models.heads import Towers
from recdistill.runs.jobs import Job
from recdistill.serve.artefact import FORMAT, MANIFEST, Manifest, ServedSchema, digest
from recdistill.serve.checks import map_of
from recdistill.serve.id_map import write_id_map
from recdistill.serve.pointer import Pointer, read_pointer, write_pointer
from recdistill.serve.rows import AS_THEY_ARE, SmallerRows, table_file
from recdistill.serve.versions import changing, numbers
from recdistill.tables.delta.types import TIME
from recdistill.tables.schema import POLARS_TYPES, EventSchema
from recdistill.train.predict import Predictor

__all__ = ["VERSIONS_KEPT", "PARITY", "export", "graph_of"]

VERSIONS_KEPT = 3  # versions, at least
PARITY = 1e-4  # largest difference of a logit
CHUNK = 65_536  # rows of a table held at a time
NAMES = {kind: name for name, kind in POLARS_TYPES.items()} | {
    TIME: "time",
    pl.List(TIME): "list<time>",
    pl.List(pl.Float32()): "list<float32>",
}  # of the types of events' columns
OUTCOMES = ("negative", "positive")  # the actions of a history that is made of samples


def export(
    predictor: Predictor,
    to: Path,
    lineage: dict[str, Any],
    known: Known | None = None,
    serves: bool = True,
    smaller: SmallerRows = AS_THEY_ARE,
    start: float = 0.0,
    group: str = "user",
) -> tuple[Path, Manifest]:
    """Write a model as the next version in the folder `to`, and let `current.json` name it; return (its folder, its
    manifest).

    known: the ids that the model knew; None: those of the run's store. serves: whether it is served from now on.
    smaller: how the rows are written; start: the share of the log before the window on which that is scored; group:
    user or request, of GAUC there.

    Raises UserError, and publishes nothing, for a network that cannot be exported, and where a logit of the graph
    differs from the network's by more than PARITY: where rows are smaller, from those of the network with such
    rows.
    """
    name = predictor.job.name
    served, graph = graph_of(predictor.job, predictor.learner.network, predictor.schema)
    known = known or known_of(predictor.store)
    to.mkdir(parents=True, exist_ok=True)
    with changing(to), _aside(to) as folder:
        _no_canary(to, serves)
        (folder / "dense.onnx").write_bytes(graph)
        written = _write_tables(folder, predictor, served, known)
        if not smaller.changes:
            leave_out_absent(folder, written)
        _write_ids(folder, known)
        write_vectors(folder, predictor.store)
        difference = _difference(name, folder, predictor, served)
        _check(name, difference)
        cost: dict[str, Any] = {}
        if smaller.changes:
            twin, cost = made_smaller(folder, predictor, written, smaller, start, group)
            difference = _difference(name, folder, twin, served)
            _check(name, difference)
        version = max(numbers(to), default=0) + 1
        manifest = _manifest(predictor, served, version, difference, lineage, folder, cost)
        write_json(folder / MANIFEST, manifest.to_json())
        return _publish(to, folder, version, serves), manifest


def graph_of(job: Job, network: Towers, schema: EventSchema) -> tuple[ServedNetwork, bytes]:
    """Return the served part of a job's network, and its graph; UserError, beginning with its name, where there is
    none.
    """
    try:
        shape = Shape(job.config.history, *field_counts(schema), extras_of(schema))
        served = ServedNetwork(network, shape)
        return served, onnx_graph(served)
    except UserError as error:
        raise UserError(f"{job.name}: cannot be exported: {error}") from error


def _difference(name: str, folder: Path, predictor: Predictor, served: ServedNetwork) -> float:
    try:
        return largest_difference(folder, predictor, served)
    except UserError as error:
        raise UserError(f"{name}: cannot be exported: {error}") from error


def _check(name: str, difference: float) -> None:
    if not difference <= PARITY:
        raise UserError(
            f"{name}: the exported graph's logits differ by {difference:.2g} from the network's; not published"
        )


@contextmanager
def _aside(to: Path) -> Iterator[Path]:
    folder = to / ".part"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write_tables(folder: Path, predictor: Predictor, served: ServedNetwork, known: Known) -> dict[str, GrowableTable]:
    """Write, of every table that is looked up, the rows of all known ids, float32; return the tables that hold them by
    their files' names: one each, [ids + 1, width], but where ids share rows or have narrow ones.
    """
    tables, written = table_modules(predictor.learner.network), dict[str, GrowableTable]()
    for number in sorted({one.table for one in served.look_ups}):
        asked = [one.column for one in served.look_ups if one.table == number]
        table, rows = tables[number], max(known.rows(map_of(column)) for column in asked)
        parts = table.stored(rows)
        if isinstance(table, QuotientTable) or (isinstance(table, HashedTable) and rows > table.most + 1):
            np.save(folder / f"{table_file(number, 'shared')}.npy", np.array([n - 1 for _, n in parts.values()]))
        if isinstance(table, MixedTable):
            np.save(folder / f"{table_file(number, 'narrow')}.npy", np.array([table.parts[""].width]))
        for part, (of, count) in parts.items():
            name = table_file(number, part)
            _write_rows(folder, name, of, count)
            written[name] = of
    return written


def _write_rows(folder: Path, name: str, table: GrowableTable, rows: int) -> None:
    into = create_column(folder, name, (rows, table.width), "float32")
    for at in range(0, rows, CHUNK):
        into[at : at + CHUNK] = table.peek(torch.arange(at, min(at + CHUNK, rows))).numpy()


def _write_ids(folder: Path, known: Known) -> None:
    """Write the vocabularies, and what was known of every user's and every item's outcomes."""
    for name, ids in known.ids.items():
        write_id_map(folder, name, ids)
    for side, counts in known.counts.items():
        into = create_column(folder, f"{side}_numbers", counts.shape, "float32")
        for at in range(0, len(counts), CHUNK):
            into[at : at + CHUNK] = outcome_numbers(counts[at : at + CHUNK])


def _manifest(
    predictor: Predictor,
    served: ServedNetwork,
    version: int,
    parity: float,
    lineage: dict[str, Any],
    folder: Path,
    rows: dict[str, Any],
) -> Manifest:
    schema, shape = predictor.schema, served.shape
    kinds = dict(schema.features), dict(schema.edges), dict(schema.scales)
    inputs = ServedSchema(
        schema.user_id,
        schema.item_id,
        *kinds,
        schema.list_length,
        times=schema.has_time,
        timed=schema.sequences.get(GIVEN_HISTORY, True),
        sequences={one: schema.sequences[one] for one in extra_sequences(schema.sequences)},
        vectors=list(predictor.store.vectors),
        row_vectors=dict(schema.row_vectors),
    )
    own = predictor.learner.own
    return Manifest(
        format=FORMAT,
        version=version,
        model=predictor.job.name,
        tasks=list(schema.tasks),
        schema=asdict(inputs),
        history=shape.length,
        fields=shape.fields,
        slots=shape.slots,
        actions=predictor.store.action_names or list(OUTCOMES[: predictor.store.actions]),
        numbers=list(predictor.job.config.numbers),
        numeric_as=predictor.job.config.numeric_as,
        look_ups=[(one.table, one.column, one.width) for one in served.look_ups],
        events={name: NAMES[kind] for name, kind in schema.columns().items()},
        regression=dict(schema.regression),
        log_odds_offset=[own[min(k, len(own) - 1)].log_odds_offset for k in range(len(schema.tasks))],
        lineage=lineage,
        parity=parity,
        rows=rows,
        files={path.name: digest(path) for path in sorted(folder.iterdir())},
    )


def _publish(to: Path, folder: Path, version: int, serves: bool) -> Path:
    """Give the folder its name, let the pointer name it where it `serves`, and remove versions older than the newest
    VERSIONS_KEPT that are neither served nor what a rollback would serve.
    """
    for path in folder.iterdir():
        sync(path)
    sync(folder)
    place = to / str(version)
    folder.rename(place)
    sync(to)
    pointer = _pointer(to)
    if serves or pointer is None:
        pointer = pointer.to(version) if pointer else Pointer(version)
        write_pointer(to, pointer)
    canary = {pointer.canary.version} if pointer.canary else set()
    kept = canary | {pointer.version, *pointer.before[1 - VERSIONS_KEPT :], *numbers(to)[-VERSIONS_KEPT:]}
    for number in set(numbers(to)) - kept:
        shutil.rmtree(to / str(number), ignore_errors=True)
    return place


def _pointer(to: Path) -> Pointer | None:
    with suppress(UserError):  # a damaged one is written again
        return read_pointer(to)
    return None


def _no_canary(to: Path, serves: bool) -> None:
    """Raise UserError where what is served would change under a canary that is compared with it."""
    pointer = _pointer(to)
    if serves and pointer is not None and pointer.canary is not None:
        raise UserError(
            f"{to}: version {pointer.canary.version} is a canary; promote or abort it first, or export with --candidate"
        )
