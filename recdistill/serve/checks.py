"""What stands in an artefact must fit together: checksums show that nothing was damaged, not that whoever wrote the
manifest knew what they did.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from recdistill.errors import UserError
from recdistill.serve.id_map import IdMap
from recdistill.serve.rows import TableRows
from recdistill.typing import Array

__all__ = ["MAPS", "check_numbers", "check_files", "check_ids", "check_tables", "check_values"]
__all__ += ["check_vectors", "map_of", "required"]

GRAPH = "dense.onnx"
MAPS = ("users", "items", "context")
MAP_OF = {"item": "items", "history": "items", "user": "users", "context": "context", "lists": "context"}  # by column
SEQUENCE = re.compile(r"sequence_[0-9]+")
KINDS = {"int64", "string", "float32", "list<int64>", "list<string>"}  # of features
NUMBERS, NUMERIC_AS, LOSSES = {"counts", "repeats"}, {"buckets", "values", "both"}, {"log", "huber"}
MAX_TABLES, MAX_SIZE = 10_000, 1_000_000


def map_of(column: str) -> str:
    """Return the map of ids that a column of the graph's inputs holds; empty for no column of theirs."""
    return "items" if SEQUENCE.fullmatch(column) else MAP_OF.get(column, "")


def required(look_ups: Iterable[tuple[int, str, int]]) -> set[str]:
    """Return the files that an artefact cannot be without."""
    found = {GRAPH, "user_numbers.npy", "item_numbers.npy"}
    found |= {f"{name}.{part}.npy" for name in MAPS for part in ("hash", "place")}
    return found | {f"table_{number}.npy" for number, _, _ in look_ups}


def check_files(folder: Path, files: Mapping[str, str], look_ups: Iterable[tuple[int, str, int]]) -> None:
    """Raise UserError unless the manifest names all that is needed, and every column that lies there."""
    if any(Path(name).name != name for name in files):
        raise _wrong(folder, "files: names and their checksums were expected")
    for name in sorted(required(look_ups) - set(files)):
        raise _wrong(folder, f"files: {name} is missing there")
    for path in sorted(folder.glob("*.npy")):
        if path.name not in files:
            raise UserError(f"{path}: the manifest does not name it; export again")


def check_values(folder: Path, tree: Mapping[str, Any], schema: Mapping[str, Any]) -> None:
    """Raise UserError, which names the field, for values of a manifest that no export writes; their types are right."""
    tasks = tree["tasks"]
    known = {
        "tasks": bool(tasks) and len(set(tasks)) == len(tasks) and _texts(tasks),
        "actions": _texts(tree["actions"]),
        "history": _size(tree["history"]) and (not tree["history"] or bool(tree["actions"])),
        "fields": _size(tree["fields"]),
        "slots": _size(tree["slots"]),
        "version": tree["version"] >= 1,
        "numbers": set(tree["numbers"]) <= NUMBERS,
        "numeric_as": tree["numeric_as"] in NUMERIC_AS,
        "look_ups": all(map(_look_up, tree["look_ups"])),
        "log_odds_offset": len(tree["log_odds_offset"]) == len(tasks) and all(map(_number, tree["log_odds_offset"])),
        "regression": all(task in tasks and _regression(one) for task, one in tree["regression"].items()),
        "schema.user_id": schema["user_id"] in ("int64", "string"),
        "schema.item_id": schema["item_id"] in ("int64", "string"),
        "schema.features": set(schema["features"].values()) <= KINDS,
        "schema.edges": all(_ascending(one) for one in schema["edges"].values()),
        "schema.scales": all(map(_scale, schema["scales"].values())),
        "schema.list_length": _size(schema["list_length"]),
        "schema.vectors": set(schema["vectors"]) <= {"item", "user"},
    }
    for field, right in known.items():
        if not right:
            raise _wrong(folder, f"{field}: not what an export writes")


def check_ids(folder: Path, maps: Mapping[str, IdMap], text: Mapping[str, bool]) -> None:
    """Raise UserError, which names the file, for a map of ids that is not as `write_id_map` writes it. text: by map,
    whether its ids are text.
    """
    for name, found in maps.items():
        if fault := found.fault():
            raise UserError(f"{folder / fault}; export again")
        if len(found) and found.text != text[name]:
            raise UserError(f"{folder / name}.hash.npy: ids of the other type than the manifest's; export again")


def check_numbers(folder: Path, name: str, numbers: Array, ids: IdMap) -> None:
    """Raise UserError unless there are two numbers of every id, and of the padding."""
    if numbers.dtype != "float32" or numbers.shape != (len(ids) + 1, 2):
        raise UserError(f"{folder / name}.npy: float32 [{len(ids) + 1}, 2] was expected; export again")


def check_tables(
    folder: Path,
    look_ups: Iterable[tuple[int, str, int]],
    tables: Mapping[int, TableRows],
    maps: Mapping[str, IdMap],
) -> None:
    """Raise UserError unless every look-up finds a row of its width for each id that its column may hold."""
    for number, column, width in look_ups:
        rows, table = len(maps[map_of(column)]) + 1, tables[number]
        if table.dtype != "float32" or table.ndim != 2 or table.shape[1] != width or len(table) < rows:
            raise UserError(f"{folder}/table_{number}.npy: float32 [{rows}, {width}] was expected; export again")


def check_vectors(folder: Path, side: str, ids: IdMap, values: Array) -> None:
    """Raise UserError, which names the file, unless each of a side's ids has a vector, as has the padding."""
    if fault := ids.fault():
        raise UserError(f"{folder / fault}; export again")
    if values.dtype != "float32" or values.ndim != 2 or len(values) != len(ids) + 1:
        raise UserError(f"{folder}/vectors_{side}.npy: float32 [{len(ids) + 1}, numbers] was expected; export again")


def _wrong(folder: Path, what: str) -> UserError:
    return UserError(f"{folder / 'manifest.json'}: {what}; export again")


def _texts(values: Iterable[Any]) -> bool:
    return all(type(one) is str for one in values)


def _number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _size(value: int) -> bool:
    return 0 <= value <= MAX_SIZE


def _look_up(one: Any) -> bool:
    number, column, width = one
    return type(number) is type(width) is int and 0 <= number < MAX_TABLES and width > 0 and bool(map_of(column))


def _regression(one: Any) -> bool:
    loss, scale = one
    return loss in LOSSES and _number(scale) and scale > 0


def _ascending(edges: Any) -> bool:
    return all(map(_number, edges)) and all(low <= high for low, high in zip(edges, edges[1:], strict=False))


def _scale(one: Any) -> bool:
    unit, centre, spread = one
    return all(map(_number, (unit, centre, spread))) and unit >= 0 and spread > 0
