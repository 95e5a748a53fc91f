"""A checksum of each commit within the commit, for no other covers the log of a table; commits of other writers have
none.

It covers the files added and removed, the writers' transactions, the table's own description, and the writer's
metadata; the rest (time, operation, library) is not read. Its value names the metadata's keys, so that a damaged key is
missed.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from deltalake import Transaction
from deltalake.transaction import AddAction, RemoveAction

__all__ = ["metadata_of", "seal", "seal_of_new", "whole"]

KEY, MARK = "recdistill.checksum", "crc32"
ACTIONS = {
    "add",
    "remove",
    "commitInfo",
    "txn",
    "metaData",
    "protocol",
    "cdc",
    "domainMetadata",
    "checkpointMetadata",
    "sidecar",
}
Action = dict[str, Any]


def seal(
    actions: Sequence[AddAction | RemoveAction], transactions: Sequence[Transaction], metadata: Mapping[str, str]
) -> dict[str, str]:
    """Return the writer's metadata of a commit, with the checksum added."""
    adds = [
        [a.path, a.size, a.partition_values, a.modification_time, a.data_change, a.stats]
        for a in actions
        if isinstance(a, AddAction)
    ]
    removes = [[a.path, a.partition_values, a.data_change] for a in actions if isinstance(a, RemoveAction)]
    return _sealed([adds, removes, [[t.app_id, t.version] for t in transactions], []], metadata)


def seal_of_new(schema: str, partitions: Sequence[str], configuration: Mapping[str, str]) -> dict[str, str]:
    """Return the same for the commit that makes a table; schema: Delta's JSON."""
    return _sealed([[], [], [], [[json.loads(schema), list(partitions), dict(configuration)]]], {})


def whole(actions: list[Action]) -> bool:
    """Return whether a commit's actions, as its file has them, are those its checksum was taken of; True
    where it has none.
    """
    info = _info(actions)
    if not ACTIONS.issuperset(name for action in actions for name in action):
        return False
    seals = [key for key, value in info.items() if key == KEY or str(value).startswith(f"{MARK} ")]
    if not seals:
        return True
    metadata = metadata_of(actions)
    return seals == [KEY] and metadata is not None and _sealed(_parts(actions), metadata)[KEY] == info[KEY]


def metadata_of(actions: list[Action]) -> dict[str, str] | None:
    """Return the writer's metadata of its commit, None where no checksum names its keys, or they are not all there."""
    info = _info(actions)
    names = str(info.get(KEY, "")).split(" ", 2)[2:]
    try:
        return {str(name): str(info[name]) for name in json.loads(names[0])} if names else None
    except (KeyError, ValueError, TypeError):
        return None


def _info(actions: list[Action]) -> Action:
    return {key: value for action in actions for key, value in action.get("commitInfo", {}).items()}


def _sealed(parts: list[list[Any]], metadata: Mapping[str, str]) -> dict[str, str]:
    ordered = [sorted(part, key=lambda each: json.dumps(each, sort_keys=True)) for part in parts]
    text = json.dumps([ordered, dict(metadata)], sort_keys=True)
    return {**metadata, KEY: f"{MARK} {zlib.crc32(text.encode()):08x} {json.dumps(sorted(metadata))}"}


def _parts(actions: list[Action]) -> list[list[Any]]:
    adds, removes, transactions, tables = (
        [a[name] for a in actions if name in a] for name in ("add", "remove", "txn", "metaData")
    )
    try:
        return [
            [
                [
                    unquote(a["path"]),
                    a["size"],
                    a["partitionValues"],
                    a["modificationTime"],
                    a["dataChange"],
                    a.get("stats"),
                ]
                for a in adds
            ],
            [[unquote(a["path"]), a["partitionValues"], a["dataChange"]] for a in removes],
            [[a["appId"], a["version"]] for a in transactions],
            [[json.loads(a["schemaString"]), a["partitionColumns"], a["configuration"]] for a in tables],
        ]
    except (KeyError, ValueError, TypeError):
        return []
