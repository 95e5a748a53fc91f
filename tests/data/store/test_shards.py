"""Who may write a store: never several machines where their memory maps would undo each other's pages."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from recdistill.data.store import shards
from recdistill.data.store.shards import file_system, writers
from recdistill.workers.parts import ALONE, Workers

MOUNTS = """overlay / overlay rw 0 0
server:/home /home nfs4 rw 0 0
/dev/sdb /home/scratch ext4 rw 0 0
s3fs /mnt/bucket fuse.s3fs rw 0 0
"""
LOCAL = Workers(min(64, os.cpu_count() or 1))


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/home/me/run", "nfs4"),
        ("/home/scratch/run", "ext4"),
        ("/homes/run", "overlay"),
        ("/mnt/bucket", "fuse.s3fs"),
        ("/", "overlay"),
    ],
)
def test_a_folder_lies_on_the_innermost_file_system(folder: str, kind: str) -> None:
    assert file_system(Path(folder), MOUNTS) == kind
    assert file_system(Path(folder), "") == ""


@pytest.mark.parametrize(
    ("kind", "asked", "found"),
    [
        ("nfs4", Workers(64, "ray"), LOCAL),
        ("fuse.s3fs", Workers(64, "ray"), LOCAL),
        ("lustre", Workers(64, "ray"), Workers(64, "ray")),
        ("", Workers(64, "ray"), Workers(64, "ray")),
        ("nfs4", Workers(3), Workers(3)),
        ("nfs4", ALONE, ALONE),
    ],
)
def test_where_machines_have_pages_of_their_own_one_machine_writes(
    kind: str, asked: Workers, found: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "file_system", lambda folder, mounts: kind)
    assert writers(asked, tmp_path / "store") == found
