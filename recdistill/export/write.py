"""A trained student to an artefact: built aside, compared with the network row by row, published by one rename.

Shapes as in graph.py.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recdistill.checkpoint.store import sync
from recdistill.data.batch.extras import extra_sequences, extras_of
from recdistill.data.store.encoder import field_counts
from recdistill.data.store.memmap import create_column, read_json, write_json
from recdistill.data.store.vocabulary import Vocabulary
from recdistill.defaults import GIVEN_HISTORY
from recdistill.errors import UserError
from recdistill.export.graph import ServedNetwork, onnx_graph
from recdistill.export.inputs import Shape
from recdistill.export.parity import largest_difference
from recdistill.export.vectors import write_vectors
from recdistill.models.factory import table_modules
from recdistill.runs.folder import locked
from recdistill.serve.artefact import FORMAT, MANIFEST, POINTER, Manifest, ServedSchema, digest
from recdistill.serve.id_map import write_id_map
from recdistill.train.predict import Predictor

__all__ = ["VERSIONS_KEPT", "PARITY", "export"]

VERSIONS_KEPT = 3  # versions, at least
PARITY = 1e-4  # largest difference of a logit
CHUNK = 65_536  # rows of a table held at a time
FOREVER = 1 << 62
OUTCOMES = ("negative", "positive")  # the actions of a history that is made of samples


def export(predictor: Predictor, to: Path, lineage: dict[str, Any]) -> tuple[Path, Manifest]:
    """Write a model as the next version in the folder `to`, and let `current.json` name it; return (its folder, its
    manifest).

    Raises UserError, and publishes nothing, for a network that cannot be exported, and where a logit of the graph
    differs from the network's by more than PARITY.
    """
    name, schema = predictor.job.name, predictor.schema
    try:
        shape = Shape(predictor.job.config.history, *field_counts(schema), extras_of(schema))
        served = ServedNetwork(predictor.learner.network, shape)
        graph = onnx_graph(served)
    except UserError as error:
        raise UserError(f"{name}: cannot be exported: {error}") from error
    to.mkdir(parents=True, exist_ok=True)
    with locked(to / "lock", f"{to}: another process exports there; try again"), _aside(to) as folder:
        (folder / "dense.onnx").write_bytes(graph)
        _write_tables(folder, predictor, served)
        _write_ids(folder, predictor)
        write_vectors(folder, predictor.store)
        try:
            difference = largest_difference(folder, predictor, served)
        except UserError as error:
            raise UserError(f"{name}: cannot be exported: {error}") from error
        if not difference <= PARITY:
            raise UserError(
                f"{name}: the exported graph's logits differ by {difference:.2g} from the network's; not published"
            )
        version = _next(to)
        manifest = _manifest(predictor, served, version, difference, lineage, folder)
        write_json(folder / MANIFEST, manifest.to_json())
        return _publish(to, folder, version), manifest


@contextmanager
def _aside(to: Path) -> Iterator[Path]:
    folder = to / ".part"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write_tables(folder: Path, predictor: Predictor, served: ServedNetwork) -> None:
    """Write, of every table that is looked up, the rows of all known ids, float32 [ids + 1, width]."""
    store = predictor.store
    ids = {"item": store.items, "history": store.items, "user": store.users}
    tables = table_modules(predictor.learner.network)
    for number in sorted({one.table for one in served.look_ups}):
        rows = max(ids.get(one.column, store.contexts) for one in served.look_ups if one.table == number)
        table = tables[number]
        into = create_column(folder, f"table_{number}", (rows, table.width), "float32")
        for at in range(0, rows, CHUNK):
            into[at : at + CHUNK] = table.peek(torch.arange(at, min(at + CHUNK, rows))).numpy()


def _write_ids(folder: Path, predictor: Predictor) -> None:
    """Write the vocabularies, and what was known of every user's and every item's outcomes."""
    store, schema = predictor.store, predictor.schema
    for name, present in (("users", schema.has_user), ("items", True), ("context", True)):
        path = store.folder / f"{name}.parquet"
        known = Vocabulary.load(path) if present and path.exists() else Vocabulary()
        write_id_map(folder, name, known.ids.to_list() if len(known) else [])
    for side, size in (("user", store.users), ("item", store.items)):
        counts = store.outcomes[side].before(np.arange(size), np.full(size, FOREVER))
        np.save(folder / f"{side}_counts.npy", counts.astype(np.int32))


def _manifest(
    predictor: Predictor, served: ServedNetwork, version: int, parity: float, lineage: dict[str, Any], folder: Path
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
        regression=dict(schema.regression),
        log_odds_offset=[own[min(k, len(own) - 1)].log_odds_offset for k in range(len(schema.tasks))],
        lineage=lineage,
        parity=parity,
        files={path.name: digest(path) for path in sorted(folder.iterdir())},
    )


def _next(to: Path) -> int:
    return 1 + max((int(path.name) for path in to.iterdir() if path.name.isdigit()), default=0)


def _publish(to: Path, folder: Path, version: int) -> Path:
    """Give the folder its name, let the pointer name it, remove versions older than the newest VERSIONS_KEPT."""
    for path in folder.iterdir():
        sync(path)
    sync(folder)
    place = to / str(version)
    folder.rename(place)
    sync(to)
    before = _served(to)
    write_json(to / POINTER, {"version": version, "before": before})
    numbers = sorted(int(path.name) for path in to.iterdir() if path.name.isdigit())
    for number in numbers[:-VERSIONS_KEPT]:
        if number != before:
            shutil.rmtree(to / str(number), ignore_errors=True)
    return place


def _served(to: Path) -> int | None:
    try:
        return int(read_json(to / POINTER)["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
