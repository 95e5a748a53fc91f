"""Where a run may lie, for `out.py`: a folder, and a bucket at each of two servers that imitate S3, and of Azure's
emulator where it is installed.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # the tests' own servers

from recdistill.storage.location import Location
from recdistill.storage.objects import ObjectPath
from tests.support.object_stores import bucket_url, environment, object_store
from tests.support.programs import path_of

__all__ = ["SERVERS", "bucket", "figures"]

SERVERS = ("moto", "ministack", *(["azurite"] if path_of("azurite-blob") else []))
CLOCK = ("seconds", "rows_per_second", "created")  # what no two runs share


@contextmanager
def bucket(server: str, folder: Path) -> Iterator[ObjectPath]:
    """Start a server, let this process's environment lead to it, and give a place there; its cache is in `folder`."""
    with object_store(server) as url:
        os.environ.update(environment(server, url), RECDISTILL_CACHE=str(folder / f"cache-{server}"))
        yield ObjectPath.parse(f"{bucket_url(server)}/out")


def figures(place: Location) -> Any:
    """Return what summary.json holds, without what a clock says."""
    return _timeless(json.loads((place / "summary.json").read_text()))


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(one) for key, one in value.items() if key not in CLOCK}
    return [_timeless(one) for one in value] if isinstance(value, list) else value
