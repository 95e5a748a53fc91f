"""LoopFM (2605.29280) from notes of its text: the hidden state of a chosen layer of the teacher, without gradient,
through a tanh encoder, in four bits: clamp(round(8 z), -8, 7) / 8.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from recdistill.distill.state_codec import HiddenStateCodec
from recdistill.models.embeddings.growable import TableOptions
from recdistill.models.examples import ACTIONS, FIELDS, LENGTH, SLOTS, example_batch
from recdistill.models.factory import build_backbone
from tests.fidelity.numbers import linear, number, randomised

SHAPE: dict[str, Any] = {"width": 8, "fields": FIELDS, "slots": SLOTS, "actions": ACTIONS, "length": LENGTH}
KINDS = [
    ("hstu", {"layers": 3}, "layers.0", 1),
    ("hstu", {"layers": 2, "newest": 2, "newest_layers": 1}, "layers.1", 2),
    ("transformer", {"layers": 3}, "layers.1", 2),
    ("longer", {"layers": 3}, "layers.0", 2),
    ("token-mixer", {"layers": 2, "mixer_layers": 3}, "layers.0", 4),
]


@pytest.mark.parametrize(("kind", "options", "layer", "block"), KINDS)
def test_the_state_of_a_layer_in_four_bits(kind: str, options: dict[str, Any], layer: str, block: int) -> None:
    net: Any = build_backbone(kind, **SHAPE, tables=TableOptions(), options=options)
    codec = HiddenStateCodec(net.record(block), 8, 4, 1e-3, 10)
    randomised(codec.network)
    seen: list[Any] = []
    part = net.body if kind == "token-mixer" else net.encoders[0]
    part.get_submodule(layer).register_forward_hook(lambda _part, _given, out: seen.append(out))
    batch = example_batch()
    net(batch)
    out = seen[-1].mean(0) if kind == "token-mixer" else seen[-1][1]
    assert not net.recorded.requires_grad and len(net.recorded) == len(batch)
    if kind == "token-mixer":
        np.testing.assert_array_equal(number(net.recorded), number(out))
    else:  # one row per sample, of those per history and candidate
        rows = {row.tobytes() for row in out.detach().flatten(0, 1).numpy()}
        assert {row.tobytes() for row in net.recorded.numpy()} <= rows
    state = number(net.recorded)
    z = np.tanh(np.stack([linear(codec.network["encode"], row / np.sqrt(1 + 1e-6)) for row in state]))
    codes = number(codec.encode(net.recorded.double()))
    np.testing.assert_allclose(codes, np.clip(np.round(8 * z), -8, 7) / 8, atol=1e-12)


@pytest.mark.parametrize("kind", ["hstu", "transformer", "longer", "token-mixer"])
def test_the_last_block_of_the_encoder_is_what_the_body_reads(kind: str) -> None:
    net: Any = build_backbone(kind, **SHAPE, tables=TableOptions(), options={"layers": 2})
    read: list[torch.Tensor] = []
    net.norms[0].register_forward_hook(lambda _norm, given, _out: read.append(given[0]))
    net.record(net.encoders[0].depth)
    batch = example_batch()
    net(batch)
    rows = {row.numpy().tobytes() for row in read[-1].detach().flatten(0, 1)}
    assert {row.numpy().tobytes() for row in net.recorded} <= rows
