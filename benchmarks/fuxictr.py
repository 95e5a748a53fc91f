"""Rows per second on DIN against FuxiCTR: `python benchmarks/fuxictr.py --fuxictr PATH` (about 2 minutes). Budget: >= 3.

PATH is a checkout of github.com/reczoo/FuxiCTR; its published wheel carries no DIN. Without it nothing is measured.
Samples, histories, widths, batch, Adam and threads are equal, as in rechub.py. FuxiCTR clips gradients and reads shuffled
rows of one padded array in memory; it runs without loader workers and with two, and the faster counts.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from _common import learner_of, store_of, tell
from _peers import environment, our_rows_per_second, padded, peer_rows_per_second
from rechub import CONFIG, ITEMS, ROUNDS, ROWS, USERS

BUDGET = 3.0
REQUIREMENTS = ("torch==2.13.0", "numpy", "scipy", "pandas", "scikit-learn", "h5py", "tqdm", "pyarrow", "polars>=1.40.1", "pyyaml",
                "keras_preprocessing")  # fmt: skip


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
    python, threads = environment("fuxictr", REQUIREMENTS), torch.get_num_threads()
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as name:
        store = store_of(Path(name), ROWS, USERS, ITEMS)
        arrays = Path(name) / "arrays.npz"
        np.savez(arrays, **padded(store, CONFIG.history))
        for _ in range(ROUNDS):
            ours.append(our_rows_per_second(learner_of(store, CONFIG, None), store, CONFIG))
            theirs.append(max(peer_rows_per_second(
                python, "_fuxictr_peer.py", arrays, threads, workers, CONFIG.batch, CONFIG.width, 1e-3, checkout.resolve(),
            ) for workers in (0, 2)))  # fmt: skip
    mine, peer = statistics.median(ours), statistics.median(theirs)
    row = [f"{mine:,.0f}", f"{peer:,.0f}", f"{mine / peer:.2f}"]
    title = f"DIN, {ROWS:,} rows, {ITEMS:,} items, batch {CONFIG.batch}"
    return tell(title, ["recdistill rows/s", "FuxiCTR rows/s", "ratio"], [row], mine / peer >= BUDGET, f">= {BUDGET}")


if __name__ == "__main__":
    sys.exit(main())
