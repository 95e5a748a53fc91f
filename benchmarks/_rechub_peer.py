"""Train torch-rechub's DIN on the arrays of an .npz as its users do, and print {"rows_per_second": [..., ...],
"step_alone": ...}: without loader workers and with two; on STEPS batches that are ready.

Run by rechub.py with the interpreter of the environment that has torch-rechub; imports nothing of recdistill.
Arguments: FILE THREADS STEPS BATCH WIDTH RATE.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np
import torch
from torch_rechub.basic.features import SequenceFeature, SparseFeature
from torch_rechub.models.ranking import DIN
from torch_rechub.trainers import CTRTrainer
from torch_rechub.utils.data import DataGenerator

__all__ = ["main"]

SIDE = ("user", "hour", "device", "country")


def main() -> None:
    """Build features, loader and model, train one epoch to warm up on a tenth, then time one over all rows."""
    file, threads, steps, batch, width, rate = sys.argv[1:7]
    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    data = {name: values for name, values in np.load(file).items()}
    label = data.pop("label")
    sizes = {name: int(data[name].max()) + 1 for name in SIDE}
    sizes["item"] = int(max(data["item"].max(), data["history"].max())) + 1
    side = [SparseFeature(name, vocab_size=sizes[name], embed_dim=int(width)) for name in SIDE]
    target = [SparseFeature("item", vocab_size=sizes["item"], embed_dim=int(width), padding_idx=0)]
    history = [
        SequenceFeature(
            "history",
            vocab_size=sizes["item"],
            embed_dim=int(width),
            pooling="concat",
            shared_with="item",
            padding_idx=0,
        )
    ]
    model = DIN(
        features=side,
        history_features=history,
        target_features=target,
        mlp_params={"dims": [64, 32, 16]},
        attention_mlp_params={"dims": [32], "activation": "sigmoid"},
    )
    trainer = CTRTrainer(model, optimizer_params={"lr": float(rate)}, n_epoch=1)

    def loader(rows: int, workers: int = 0) -> Any:
        some = {name: values[:rows] for name, values in data.items()}
        return DataGenerator(some, label[:rows]).generate_dataloader(
            x_val=some, y_val=label[:rows], x_test=some, y_test=label[:rows], batch_size=int(batch), num_workers=workers
        )[0]

    def epoch(batches: Any, rows: int) -> float:
        start = time.perf_counter()
        trainer.train_one_epoch(batches)
        return rows / (time.perf_counter() - start)

    ready = int(steps) * int(batch)
    epoch(loader(len(label) // 10), 1)
    loops = [epoch(loader(len(label), workers), len(label)) for workers in (0, 2)]
    print(json.dumps({"rows_per_second": loops, "step_alone": epoch(list(loader(ready)), ready)}))


if __name__ == "__main__":
    main()
