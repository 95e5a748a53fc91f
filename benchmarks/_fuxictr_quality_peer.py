"""Take one of FuxiCTR's models once through the arrays of an .npz in time order, every row predicted before it is
learned.

Run by fuxictr_quality.py with the interpreter of the environment that has FuxiCTR's requirements. Its one argument is a
JSON object: file, checkout, kind (DIN or DCNv2), batch, rate, rows, width, seed, out: the .npy of float32 [rows] logits
to write. A batch's logits are those of the training step's own forward pass, before the update.
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

__all__ = ["main"]

SIZES: dict[str, dict[str, Any]] = {
    "DIN": {
        "dnn_hidden_units": [64, 32],
        "attention_hidden_units": [32],
        "attention_hidden_activations": "sigmoid",
        "din_target_field": "item",
        "din_sequence_field": "history",
    },
    "DCNv2": {"model_structure": "parallel", "parallel_dnn_hidden_units": [64, 32], "num_cross_layers": 2},
}


def feature_map(data: dict[str, Any], folder: Path, width: int, pooled: bool) -> Any:
    """Return FuxiCTR's map of the arrays, written and loaded as its preprocessing would."""
    from fuxictr.features import FeatureMap

    items = int(max(data["item"].max(), data["history"].max())) + 1
    fields = {name: int(values.max()) + 1 for name, values in data.items() if name not in ("label", "history")} | {
        "item": items
    }
    features: list[dict[str, Any]] = [
        {name: {"source": "", "type": "categorical", "padding_idx": 0, "vocab_size": size}}
        for name, size in fields.items()
    ]
    history = {
        "source": "",
        "type": "sequence",
        "share_embedding": "item",
        "padding_idx": 0,
        "vocab_size": items,
        "max_len": data["history"].shape[1],
    }
    features.append({"history": history | ({"feature_encoder": "layers.MaskedAveragePooling()"} if pooled else {})})
    (folder / "feature_map.json").write_text(
        json.dumps({"dataset_id": "log", "labels": ["label"], "features": features})
    )
    loaded = FeatureMap("log", str(folder))
    loaded.load(str(folder / "feature_map.json"), {"embedding_dim": width})
    return loaded


def main() -> None:
    """Train and write the recorded logits."""
    asked = json.loads(sys.argv[1])
    kind = asked["kind"]
    sys.path[:0] = [asked["checkout"], str(Path(asked["checkout"]) / "model_zoo" / kind)]
    torch.set_num_threads(1)
    torch.manual_seed(asked["seed"])
    data = {name: values[: asked["rows"]] for name, values in np.load(asked["file"]).items()}
    with tempfile.TemporaryDirectory() as name:
        fields = feature_map(data, Path(name), asked["width"], kind == "DCNv2")
        model = getattr(importlib.import_module(f"src.{kind}"), kind)(
            fields,
            embedding_dim=asked["width"],
            learning_rate=asked["rate"],
            optimizer="adam",
            loss="binary_crossentropy",
            metrics=["AUC"],
            model_root=name,
            verbose=0,
            **SIZES[kind],
        )
    model._max_gradient_norm = 10.0  # what its fit() sets
    recorded, forward = [], model.forward

    def recording(inputs: Any) -> Any:
        found = forward(inputs)
        recorded.append(found["y_pred"].detach().flatten())
        return found

    model.forward = recording  # train_step calls it by name, so that hooks are not asked
    model.train()
    for low in range(0, asked["rows"], asked["batch"]):
        model.train_step({key: torch.from_numpy(values[low : low + asked["batch"]]) for key, values in data.items()})
    p = torch.cat(recorded).double().clamp(1e-7, 1 - 1e-7)
    np.save(asked["out"], torch.logit(p).float().numpy())


if __name__ == "__main__":
    main()
