"""A log's pre-trained vectors as files of an artefact: memory-mapped rows, and the ids that have one."""

from __future__ import annotations

from pathlib import Path

from recdistill.data.store.memmap import create_column
from recdistill.data.store.sample_store import SampleStore
from recdistill.serve.id_map import write_id_map

__all__ = ["write_vectors"]

CHUNK = 65_536  # rows held at a time


def write_vectors(folder: Path, store: SampleStore) -> None:
    """Write vectors_SIDE.npy, float32 [ids + 1, V], row 0 for ids without any, and the map vectors_SIDE of its ids, of
    items and users where the log has them. Ids that are in no row of the log are among them.
    """
    for side, vectors in store.vectors.items():
        name, values = f"vectors_{side}", vectors.values
        into = create_column(folder, name, values.shape, "float32")
        for at in range(0, len(values), CHUNK):
            into[at : at + CHUNK] = values[at : at + CHUNK]
        write_id_map(folder, name, vectors.ids.to_list())
