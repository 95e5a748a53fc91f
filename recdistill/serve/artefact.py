"""An artefact: one folder that holds everything a student needs to be served.

manifest.json      what it is, and the SHA-256 of every other file
dense.onnx         the graph: gathered rows and indices to logits
table_N.npy        [ids + 1, width] per table, row 0 for what was never seen: float32, or smaller (rows.py)
users.*, items.*, context.*    ids to rows (id_map.py)
vectors_SIDE.npy, vectors_SIDE.*    pre-trained vectors of items or users, float32 [ids + 1, V], and their ids
user_numbers.npy, item_numbers.npy  float32 [ids + 1, 2]: what models read of the outcomes known at export

A folder of versions holds them as 1, 2, ... and `current.json`, which names the one that is served.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from recdistill.data.store.memmap import json_text, open_column
from recdistill.errors import RecdistillError, UserError
from recdistill.serve.checks import (
    MAPS,
    check_files,
    check_ids,
    check_numbers,
    check_tables,
    check_values,
    check_vectors,
)
from recdistill.serve.id_map import IdMap
from recdistill.serve.pointer import read_pointer
from recdistill.serve.rows import TableRows, open_rows
from recdistill.typing import Array

__all__ = [
    "FORMAT",
    "MANIFEST",
    "Artefact",
    "Manifest",
    "ServedSchema",
    "checksum_of",
    "current_version",
    "digest",
    "open_artefact",
]

FORMAT = 5  # 3: columns of the log's events, many users in a call, vectors, sequences; 4: smaller rows; 5: numbers
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class ServedSchema:
    """What a request holds: id types (int64 or string), features with their types, edges of numeric ones' buckets and
    scales of their values, how many entries of a list count; times: whether the log has any; timed: whether events of
    the history have; sequences: those next to the history, in the graph's order, with the same; vectors: the sides
    (item, user) whose ids have some here; row_vectors: what rows bring themselves. See `EventSchema`.
    """

    user_id: str
    item_id: str
    features: dict[str, str]
    edges: dict[str, tuple[float, ...]]
    scales: dict[str, tuple[float, float, float]]
    list_length: int
    times: bool
    timed: bool
    sequences: dict[str, bool]
    vectors: list[str]
    row_vectors: dict[str, tuple[str, int, float]]


@dataclass(frozen=True)
class Manifest:
    """What an artefact is.

    schema: of a ServedSchema; history: the most events read; fields, slots: of context and lists; actions: the types of
    a history's events, by code; numbers, numeric_as: what the model reads; look_ups: per input of rows (table, column,
    width); events: the columns of the log's events and their types; regression: tasks of values, see `Regression`;
    log_odds_offset: per task, what sampling added to the log-odds that the model learned; lineage: run, job,
    checkpoint; parity: largest difference of a logit from the network's; rows: what smaller rows cost, empty where
    all are there as float32; files: name -> SHA-256.
    """

    format: int
    version: int
    model: str
    tasks: list[str]
    schema: dict[str, Any]
    history: int
    fields: int
    slots: int
    actions: list[str]
    numbers: list[str]
    numeric_as: str
    look_ups: list[tuple[int, str, int]]
    events: dict[str, str]
    regression: dict[str, tuple[str, float]]
    log_odds_offset: list[float]
    lineage: dict[str, Any]
    parity: float
    rows: dict[str, Any]
    files: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return what stands in the file, its own checksum with it."""
        tree = asdict(self)
        return {**tree, "checksum": checksum_of(tree)}

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Return a folder's manifest; UserError where there is none, or none of this format."""
        path = folder / MANIFEST
        try:
            text = path.read_text(encoding="utf-8")
            tree = json.loads(text)
        except FileNotFoundError:
            raise UserError(f"{folder}: no artefact; make one with recdistill export RUN MODEL --to DIR") from None
        except (ValueError, OSError, RecursionError):
            raise UserError(f"{path}: damaged; export again") from None
        if not isinstance(tree, dict) or tree.get("format") != FORMAT:
            found = tree.get("format") if isinstance(tree, dict) else None
            raise UserError(f"{path}: format {found}, this version reads {FORMAT}; export again")
        whole = text == json_text(tree)  # a changed letter may leave the values as they were
        checksum = tree.pop("checksum", None)
        if not whole or set(tree) != {one.name for one in fields(cls)} or checksum != checksum_of(tree):
            raise UserError(f"{path}: damaged; export again")
        try:
            made = cls(**tree)
            if not _as_declared(made) or not _as_declared(ServedSchema(**made.schema)):
                raise ValueError
        except (ValueError, TypeError):
            raise UserError(f"{path}: damaged; export again") from None
        return made


def _as_declared(made: Manifest | ServedSchema) -> bool:
    """Return whether every field is of its type, by its outermost type: True is no whole number."""
    wanted = {name: get_origin(hint) or hint for name, hint in get_type_hints(type(made)).items()}
    return all(type(getattr(made, name)) is kind for name, kind in wanted.items())


def checksum_of(tree: dict[str, Any]) -> str:
    """Return the SHA-256 of a manifest's JSON but for the checksum itself."""
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Artefact:
    """An opened artefact: its parts are memory-mapped, so processes that serve one share it."""

    folder: Path
    manifest: Manifest
    schema: ServedSchema
    users: IdMap
    items: IdMap
    context: IdMap
    tables: dict[int, TableRows]
    user_numbers: Array
    item_numbers: Array
    vectors: dict[str, tuple[IdMap, Array]]  # by side

    @property
    def graph(self) -> Path:
        """Return the path of the graph."""
        return self.folder / "dense.onnx"


def digest(path: Path) -> str:
    """Return a file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def current_version(root: Path) -> Path:
    """Return the folder that is to be served of a folder of versions, or an artefact itself; UserError without one."""
    if (root / MANIFEST).exists():
        return root
    pointer = read_pointer(root)
    if pointer is None:
        if there := [int(path.parent.name) for path in root.glob(f"*/{MANIFEST}") if path.parent.name.isdecimal()]:
            raise UserError(f"{root}/current.json: missing; export again, or name a version, as {root}/{max(there)}")
        raise UserError(f"{root}: no artefact; make one with recdistill export RUN MODEL --to DIR")
    return root / str(pointer.version)


def open_artefact(root: Path, version: int | None = None) -> Artefact:
    """Return the artefact at `root`, or, of a folder of versions, `version` or the current one; every file of it is
    checked.

    Raises UserError, which names the file, for one that is missing, damaged or of another format.
    """
    folder = current_version(root) if version is None else root / str(version)
    manifest = Manifest.read(folder)
    if folder != root and manifest.version != int(folder.name):
        raise UserError(f"{folder / MANIFEST}: of version {manifest.version}; export again")
    try:
        check_values(folder, vars(manifest), manifest.schema)
        check_files(folder, manifest.files, manifest.look_ups)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{folder / MANIFEST}: damaged; export again") from None
    for name, wanted in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise UserError(f"{path}: missing; export again")
        if digest(path) != wanted:
            raise UserError(f"{path}: damaged, its checksum is another; export again")
    try:
        return _opened(folder, manifest)
    except UserError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecdistillError):
        raise UserError(f"{folder / MANIFEST}: damaged; export again") from None


def _opened(folder: Path, manifest: Manifest) -> Artefact:
    schema = ServedSchema(**manifest.schema)
    users, items, context = maps = [IdMap(folder, name) for name in MAPS]
    by_name = dict(zip(MAPS, maps, strict=True))
    check_ids(
        folder, by_name, {"users": schema.user_id == "string", "items": schema.item_id == "string", "context": True}
    )
    tables = {number: open_rows(folder, number, width) for number, _, width in manifest.look_ups}
    check_tables(folder, manifest.look_ups, tables, by_name)
    user_numbers, item_numbers = open_column(folder, "user_numbers"), open_column(folder, "item_numbers")
    check_numbers(folder, "user_numbers", user_numbers, users)
    check_numbers(folder, "item_numbers", item_numbers, items)
    vectors = {
        side: (IdMap(folder, f"vectors_{side}"), open_column(folder, f"vectors_{side}")) for side in schema.vectors
    }
    for side, (ids, values) in vectors.items():
        check_vectors(folder, side, ids, values)
    return Artefact(folder, manifest, schema, users, items, context, tables, user_numbers, item_numbers, vectors)
