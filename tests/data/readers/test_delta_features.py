"""Delta tables with features that few writers have: read right, or refused with the feature's name."""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path

import polars as pl

from recdistill.config.data import ColumnsConfig
from tests.data.readers.test_tabular import read, refused, table

PLAIN = ColumnsConfig(sample_id="id")


def by_hand(folder: Path, rows: pl.DataFrame, fields: list[dict[str, object]], reader: int, **more: object) -> None:
    """Write a Delta table of one file: `fields` of its schema; more: settings, and what the file's entry has."""
    (folder / "_delta_log").mkdir(parents=True)
    rows.write_parquet(folder / "part-0.parquet")
    protocol = {"minReaderVersion": reader, "minWriterVersion": 7 if reader == 3 else 5}
    protocol |= {f"{side}Features": ["deletionVectors"] for side in ("reader", "writer") if reader == 3}
    about = {
        "id": "a",
        "format": {"provider": "parquet", "options": {}},
        "partitionColumns": [],
        "schemaString": json.dumps({"type": "struct", "fields": fields}),
        "configuration": more["settings"],
        "createdTime": 1,
    }
    added = {
        "path": "part-0.parquet",
        "partitionValues": {},
        "size": (folder / "part-0.parquet").stat().st_size,
        "modificationTime": 1,
        "dataChange": True,
        "stats": json.dumps({"numRecords": len(rows)}),
        **({"deletionVector": more["vector"]} if "vector" in more else {}),
    }
    actions = [{"protocol": protocol}, {"metaData": about}, {"add": added}]
    (folder / "_delta_log" / f"{0:020}.json").write_text("\n".join(map(json.dumps, actions)) + "\n")


def whole_numbers() -> tuple[pl.DataFrame, list[dict[str, object]]]:
    rows = table().select("id", "time", "user_id", "item_id", "label").cast(pl.Int64)
    return rows, [{"name": name, "type": "long", "nullable": True, "metadata": {}} for name in rows.columns]


def test_rows_that_a_deletion_vector_takes_away_are_gone(tmp_path: Path) -> None:
    rows, fields = whole_numbers()
    gone = [0, 3]  # in a roaring bitmap of 64 bits with one array of 16-bit numbers
    bits = struct.pack("<iqI", 1681511377, 1, 0) + struct.pack("<IIHHI", 12346, 1, 0, len(gone) - 1, 16)
    bits += struct.pack(f"<{len(gone)}H", *gone)
    text = base64.b85encode(bits + b"\0" * (-len(bits) % 4)).decode().translate(Z85)
    vector = {"storageType": "i", "pathOrInlineDv": text, "sizeInBytes": len(bits), "cardinality": len(gone)}
    by_hand(tmp_path / "log", rows, fields, 3, settings={"delta.enableDeletionVectors": "true"}, vector=vector)
    assert read(tmp_path, "log", PLAIN)["sample_id"].to_list() == [11, 12, 14, 15]


Z85 = str.maketrans(
    "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~",  # of Python's base 85
    "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#",
)


def test_columns_with_other_names_in_the_files_are_refused(tmp_path: Path) -> None:
    rows, fields = whole_numbers()
    mapped = [
        field | {"metadata": {"delta.columnMapping.id": k, "delta.columnMapping.physicalName": f"col-{k}"}}
        for k, field in enumerate(fields, start=1)
    ]
    stored = rows.rename({name: f"col-{k}" for k, name in enumerate(rows.columns, start=1)})
    settings = {"delta.columnMapping.mode": "name", "delta.columnMapping.maxColumnId": str(len(fields))}
    by_hand(tmp_path / "log", stored, mapped, 2, settings=settings)
    assert "column mapping" in refused(tmp_path, "log", PLAIN)
