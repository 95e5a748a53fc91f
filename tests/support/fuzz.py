"""Damaged logs: files of every form with bytes flipped, cut, repeated and put in, and what ingest makes of them."""

from __future__ import annotations

import gzip
import random
import shutil
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa
from deltalake import write_deltalake

from recdistill.config.data import BehaviorsConfig, ColumnsConfig, DataConfig
from recdistill.config.experiment import Experiment
from recdistill.errors import UserError
from recdistill.runs.batch_ingest import ingest
from recdistill.runs.folder import RunFolder

__all__ = ["FORMS", "Fuzzer", "damaged"]

ROWS = 40
LOG = pl.DataFrame(
    {
        "id": range(ROWS),
        "time": range(1_700_000_000, 1_700_000_000 + ROWS),
        "user": [f"u{k % 5}" for k in range(ROWS)],
        "item": [k % 7 for k in range(ROWS)],
        "label": [k % 2 for k in range(ROWS)],
        "seen": [1_700_000_100 + k for k in range(ROWS)],
        "price": [k / 4 for k in range(ROWS)],
        "tags": [[f"t{k % 3}", "x"] for k in range(ROWS)],
        "device": pl.Series([k % 3 for k in range(ROWS)]).cast(pl.String),
    }
)
COLUMNS = ColumnsConfig(
    sample_id="id",
    user="user",
    item="item",
    label_times={"click": "seen"},
    categorical=["device"],
    numeric=["price"],
    lists={"tags": "|"},
)
FORMS = ("parquet", "parts", "csv", "csv.gz", "jsonl", "jsonl.zst", "delta")


def _write(folder: Path, form: str) -> str:
    """Write the log in one form; return its path below `folder`."""
    flat = LOG.with_columns(pl.col("tags").list.join("|"))
    if form == "parts":
        (folder / form).mkdir()
        for k in range(4):
            LOG[10 * k : 10 * k + 10].write_parquet(folder / form / f"part-{k}.parquet")
        return form
    if form == "delta":
        for k in range(2):
            write_deltalake(str(folder / form), LOG[20 * k : 20 * k + 20].to_arrow(), mode="append")
        return form
    path = folder / f"log.{form}"
    if form == "parquet":
        LOG.write_parquet(path, row_group_size=16)
    else:
        data = (flat.write_csv() if form.startswith("csv") else LOG.write_ndjson()).encode()
        packed = gzip.compress(data) if form.endswith("gz") else pa.compress(data, codec="zstd", asbytes=True)
        path.write_bytes(packed if form.endswith(("gz", "zst")) else data)
    return path.name


def damaged(content: bytes, draw: random.Random) -> bytes:
    """Return `content` with a few things wrong with it."""
    out = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 8))):
        at, length = draw.randrange(len(out) + 1), draw.choice((1, 1, 4, 64))
        piece = out[at : at + length]
        what = draw.randrange(6)
        if what < 2 and piece:
            out[at] ^= 1 << draw.randrange(8)
        elif what == 2:
            out[at : at + length] = b""
        elif what == 3:
            out[at:at] = draw.choice((bytes(piece), draw.randbytes(length), b"\n", b'"', b"\x00", b"9" * length, b","))
        elif what == 4:
            out[at : at + length] = draw.randbytes(len(piece))
        else:
            del out[at:]
    return bytes(out)


@dataclass
class Fuzzer:
    """Ingests damaged logs in `folder`; counts those taken and those refused."""

    folder: Path
    taken: int = 0
    refused: int = 0

    def __post_init__(self) -> None:
        for form in FORMS:
            (self.folder / form).mkdir()
            _write(self.folder / form, form)

    def try_one(self, seed: int) -> str:
        """Damage a log and ingest it; return what is wrong with what happened, '' for nothing.

        Right is: taken with rows in a whole run, or one line of a UserError and no run.
        """
        draw = random.Random(seed)
        form, copy = draw.choice(FORMS), self.folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.folder / form, copy)
        files = sorted(path for path in copy.rglob("*") if path.is_file())
        victim = draw.choice(files)
        victim.write_bytes(damaged(victim.read_bytes(), draw))
        name = form if form in ("parts", "delta") else f"log.{form}"
        why = self._ingest(copy, name, with_behaviors=draw.random() < 0.3)
        return f"seed {seed}, {victim.relative_to(copy)}: {why}" if why else ""

    def _ingest(self, folder: Path, name: str, with_behaviors: bool) -> str:
        """Return what is wrong with what happened, '' for nothing."""
        actions = BehaviorsConfig(path=name, user="user", item="item") if with_behaviors else None
        config = DataConfig(path=name, columns=COLUMNS, behaviors=actions)
        run, experiment = RunFolder(self.folder / "run"), Experiment(name="x", data=config)
        try:
            with run.claimed(experiment, str(folder)):
                rows = ingest(run, experiment, folder, lambda rows: None, lambda line: None)
            self.taken += 1
            return "" if rows and run.tables.exists() else "taken, but there is no run"
        except UserError as error:
            self.refused += 1
            return "" if "\n" not in str(error) and not run.root.exists() else f"half a run, or several lines: {error}"
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001, the panic of a library is no Exception
            return f"{type(error).__name__}: {error}"
        finally:
            shutil.rmtree(run.root, ignore_errors=True)
