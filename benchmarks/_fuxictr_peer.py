"""Train FuxiCTR's DIN on the arrays of an .npz with its own loader and epoch, and print {"rows_per_second": [..., ...],
"step_alone": ...}: without loader workers and with two; on STEPS batches that are ready.

Run by fuxictr.py with the interpreter of the environment that has FuxiCTR's requirements.
Arguments: FILE THREADS STEPS BATCH WIDTH RATE CHECKOUT.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

__all__ = ["main"]

FIELDS = ("user", "item", "hour", "device", "country")


def feature_map(data: dict[str, Any], folder: Path, width: int) -> Any:
    """Return FuxiCTR's map of the arrays, written and loaded as its preprocessing would."""
    from fuxictr.features import FeatureMap

    sizes = {name: int(data[name].max()) + 1 for name in FIELDS}
    sizes["item"] = int(max(data["item"].max(), data["history"].max())) + 1
    features: list[dict[str, Any]] = [
        {name: {"source": "", "type": "categorical", "padding_idx": 0, "vocab_size": sizes[name]}} for name in FIELDS
    ]
    features.append(
        {
            "history": {
                "source": "",
                "type": "sequence",
                "share_embedding": "item",
                "padding_idx": 0,
                "vocab_size": sizes["item"],
                "max_len": data["history"].shape[1],
            }
        }
    )
    (folder / "feature_map.json").write_text(
        json.dumps({"dataset_id": "log", "labels": ["label"], "features": features})
    )
    loaded = FeatureMap("log", str(folder))
    loaded.load(str(folder / "feature_map.json"), {"embedding_dim": width})
    return loaded


def main() -> None:
    """Build map, loader and model, train one epoch on a tenth to warm up, then time one over all rows."""
    file, threads, steps, batch, width, rate, checkout = sys.argv[1:8]
    sys.path[:0] = [checkout, str(Path(checkout) / "model_zoo" / "DIN")]
    from fuxictr.pytorch.dataloaders import RankDataLoader
    from src.DIN import DIN

    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    data = {name: values for name, values in np.load(file).items()}
    with tempfile.TemporaryDirectory() as name:
        fields = feature_map(data, Path(name), int(width))
        model = DIN(
            fields,
            embedding_dim=int(width),
            dnn_hidden_units=[64, 32, 16],
            attention_hidden_units=[32],
            attention_hidden_activations="sigmoid",
            din_target_field="item",
            din_sequence_field="history",
            learning_rate=float(rate),
            optimizer="adam",
            loss="binary_crossentropy",
            metrics=["AUC"],
            model_root=name,
            verbose=1,
        )
        model._max_gradient_norm, model._total_steps, model._stop_training = 10.0, 0, False  # what its fit() sets
        model._eval_steps = sys.maxsize  # training alone is timed

        def loader(rows: int, workers: int = 0) -> Any:
            np.savez(Path(name) / "some.npz", **{key: values[:rows] for key, values in data.items()})
            return RankDataLoader(
                fields,
                stage="train",
                train_data=str(Path(name) / "some.npz"),
                batch_size=int(batch),
                num_workers=workers,
                data_format="npz",
            ).make_iterator()[0]

        def epoch(batches: Any, rows: int) -> float:
            start = time.perf_counter()
            model.train_epoch(batches)
            return rows / (time.perf_counter() - start)

        rows, ready = len(data["label"]), int(steps) * int(batch)
        epoch(loader(rows // 10), 1)
        loops = [epoch(loader(rows, workers), rows) for workers in (0, 2)]
        print("\n" + json.dumps({"rows_per_second": loops, "step_alone": epoch(list(loader(ready)), ready)}))


if __name__ == "__main__":
    main()
