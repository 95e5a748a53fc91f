"""Damaged artefacts: `python benchmarks/reliability/artefacts.py [COUNT]`. Budget: every one refused in one line, and
the version before it goes on serving the same scores.

A small model is exported; COUNT (1,000) copies of it each suffer one damage, by turns, at a random place of a random
file: a bit flipped, the end cut off, a byte too many, the file missing, empty, swapped with another, taken from another
version, or overwritten by zeros for a disk block. Each becomes the next version of a folder that is being served.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from recdistill.api.run import Run
from recdistill.config.load import load_text
from recdistill.errors import UserError
from recdistill.serve.live import Live
from recdistill.serve.pointer import Pointer, write_pointer
from recdistill.serve.request import Past, Request
from recdistill.serve.scorer import Scorer

__all__ = ["DAMAGES", "main", "refused"]

BLOCK = 4096
CONFIG = """
name: artefacts
data: {reader: simulator, options: {rows: 2000, users: 100, items: 80, days: 1.0}}
teacher: {kind: din, width: 8, history: 10, batch: 100}
students: {light: {kind: pooled-mlp, width: 4, history: 5, batch: 100}}
evaluate: {seeds: [0]}
"""
REQUEST = Request(3, [1, 2, 3], 1e9, history=Past([4, 5], [1e8, 2e8], ["positive", "negative"]))
Damage = Callable[[Path, Path, np.random.Generator], None]  # file, another version of the whole, draws


def _flip(path: Path, other: Path, draw: np.random.Generator) -> None:
    content = bytearray(path.read_bytes())
    content[int(draw.integers(len(content)))] ^= 1 << int(draw.integers(8))
    path.write_bytes(content)


def _cut(path: Path, other: Path, draw: np.random.Generator) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(draw.integers(len(content)))])


def _extend(path: Path, other: Path, draw: np.random.Generator) -> None:
    path.write_bytes(path.read_bytes() + bytes([int(draw.integers(256))]))


def _remove(path: Path, other: Path, draw: np.random.Generator) -> None:
    path.unlink()


def _empty(path: Path, other: Path, draw: np.random.Generator) -> None:
    path.write_bytes(b"")


def _swap(path: Path, other: Path, draw: np.random.Generator) -> None:
    files = [one for one in sorted(path.parent.iterdir()) if one.read_bytes() != path.read_bytes()]
    chosen = files[int(draw.integers(len(files)))]
    mine, its = path.read_bytes(), chosen.read_bytes()
    path.write_bytes(its)
    chosen.write_bytes(mine)


def _of_another(path: Path, other: Path, draw: np.random.Generator) -> None:
    """Take the file from another version; where it is the same there, the manifest, which never is."""
    source = other / path.name
    if source.exists() and source.read_bytes() != path.read_bytes():
        shutil.copyfile(source, path)
    else:
        shutil.copyfile(other / "manifest.json", path.with_name("manifest.json"))


def _zero(path: Path, other: Path, draw: np.random.Generator) -> None:
    content = bytearray(path.read_bytes())
    start = int(draw.integers(-(-len(content) // BLOCK))) * BLOCK
    if any(content[start : start + BLOCK]):
        content[start : start + BLOCK] = bytes(len(content[start : start + BLOCK]))
        path.write_bytes(content)
    else:
        _flip(path, other, draw)


DAMAGES: dict[str, Damage] = {
    "a bit flipped": _flip,
    "cut off": _cut,
    "a byte too many": _extend,
    "missing": _remove,
    "empty": _empty,
    "swapped with another file": _swap,
    "of another version": _of_another,
    "a block of zeros": _zero,
}


def refused(folder: Path) -> bool:
    """Return whether an artefact is refused in one line that tells what to do."""
    try:
        Scorer.open(folder)
    except UserError as error:
        return "\n" not in str(error) and ("export" in str(error))
    return False


def goes_on(live: Live, root: Path, number: int, wanted: np.ndarray) -> bool:
    """Let a served folder name version `number`; return whether the first one still serves what it did."""
    write_pointer(root, Pointer(number, (1,)))
    with contextlib.redirect_stderr(io.StringIO()):
        live.of(REQUEST)
        with live._loading:
            pass
    return live.scorer.version == 1 and np.array_equal(live.of(REQUEST).rank(REQUEST), wanted)


def _exported(place: Path) -> tuple[Path, Path]:
    """Return (a folder of two versions of different weights, the first served; a third one that lies elsewhere)."""
    run, root = Run.from_config(load_text(CONFIG), out=place / "run"), place / "versions"
    with contextlib.redirect_stdout(io.StringIO()):
        run.ingest()
        run.train("teacher")
        run.train("light.raw.s0")
        run.model("teacher").export(root)
        run.model("light.raw.s0").export(root, serves=False)
        whole = run.model("teacher").export(root, serves=False).rename(place / "3")
    if refused(whole):
        raise SystemExit("what is not damaged is refused")
    return root, whole


def main(count: int) -> int:
    """Damage, open, serve; print what was refused; return 0 where all was."""
    draw, tried, missed = np.random.default_rng(0), Counter[str](), Counter[str]()
    with tempfile.TemporaryDirectory() as place:
        root, whole = _exported(Path(place))
        live = Live(root)
        wanted = live.scorer.rank(REQUEST)
        for turn in range(count):
            name, damage = list(DAMAGES.items())[turn % len(DAMAGES)]
            folder = root / "3"
            shutil.copytree(whole, folder)
            files = sorted(folder.iterdir())
            damage(files[int(draw.integers(len(files)))], root / "2", draw)
            tried[name] += 1
            missed[name] += not (refused(folder) and goes_on(live, root, 3, wanted))
            shutil.rmtree(folder)
    table = Table("damage", "artefacts", "not refused, or the old one disturbed")
    for name, times in tried.items():
        table.add_row(name, str(times), str(missed[name]))
    Console().print(table)
    share = 1 - missed.total() / tried.total()
    print(f"refused: {share:.1%} of {tried.total():,}, the version before went on serving; budget 100 %")
    return int(missed.total() > 0)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000))
