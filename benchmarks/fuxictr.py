"""Rows per second on DIN against FuxiCTR: `python benchmarks/fuxictr.py --fuxictr PATH` (about 2 minutes). Budget: >=
3.

PATH is a checkout of github.com/reczoo/FuxiCTR; its published wheel carries no DIN. Without it nothing is measured.
Samples, histories, widths, batch, Adam and threads are equal, measured alternately, as in rechub.py. FuxiCTR clips
gradients and reads shuffled rows of one padded array in memory; it runs without loader workers and with two, and the
faster counts.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from _common import report
from _peers import BUDGET, COLUMNS, compare, environment, log_and_arrays

REQUIREMENTS = (
    "torch==2.13.0",
    "numpy",
    "scipy",
    "pandas",
    "scikit-learn",
    "h5py",
    "tqdm",
    "pyarrow",
    "polars>=1.40.1",
    "pyyaml",
    "keras_preprocessing",
)


def main() -> int:
    """Compare, one sample per request."""
    parser = argparse.ArgumentParser(description="rows per second on DIN against FuxiCTR")
    parser.add_argument("--fuxictr", type=Path, help="a checkout of FuxiCTR")
    checkout = parser.parse_args().fuxictr
    if checkout is None:
        print("not measured: needs --fuxictr PATH, a checkout of github.com/reczoo/FuxiCTR")
        return 0
    if not (checkout / "model_zoo" / "DIN" / "src" / "DIN.py").exists():
        raise SystemExit(f"{checkout}: no model_zoo/DIN/src/DIN.py there; give the checkout's root")
    python = environment("fuxictr", REQUIREMENTS)
    with tempfile.TemporaryDirectory() as folder:
        store, arrays = log_and_arrays(Path(folder), 1)
        ratio, row = compare("1 per request", python, "_fuxictr_peer.py", store, arrays, checkout.resolve())
    return report("DIN against FuxiCTR", COLUMNS, [row], ratio >= BUDGET, f">= {BUDGET}")


if __name__ == "__main__":
    sys.exit(main())
