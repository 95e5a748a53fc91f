"""Backbones around an encoder: precision, and options that they refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from recdistill.models.backbones.token_mixer import TokenMixer
from recdistill.models.encoders.hstu import HSTULayer, HSTUStack
from recdistill.models.encoders.longer import LongerStack
from recdistill.models.encoders.transformer import TransformerStack
from tests.support.batches import make_batch, make_net


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("hstu", {}),
        ("transformer", {}),
        ("longer", {}),
        ("token-mixer", {"tokens": 4}),
        ("token-mixer", {"tokens": 4, "grouping": "semantic", "experts": 2}),
        ("token-mixer", {"tokens": 4, "variant": "rankmixer", "experts": 2}),
    ],
)
def test_bfloat16_states_are_nearly_the_same_and_learn(kind: str, options: dict[str, Any]) -> None:
    exact, short = (make_net(kind, heads=2, precision=one, **options) for one in ("float32", "bfloat16"))
    batch = make_batch()
    states = [net.backbone(batch) for net in (exact, short)]
    assert states[1].dtype == torch.float32
    assert float((states[0] - states[1]).detach().norm() / states[0].detach().norm()) < 0.05
    short(batch)[0].sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in short.parameters())


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("hstu", {"layers": 3, "band": 3, "columns": 2, "recompute": True}),
        ("hstu", {"newest": 3, "newest_layers": 1}),
        ("hstu", {"transducers": [[0], [1]]}),
        ("transformer", {"bias": ["time"]}),
        ("transformer", {"block": "sasrec", "residual": "post"}),
        ("longer", {"layers": 2}),
        ("token-mixer", {}),
        ("token-mixer", {"grouping": "semantic"}),
        ("token-mixer", {"variant": "rankmixer"}),
    ],
)
def test_only_products_are_short(kind: str, options: dict[str, Any], recwarn: pytest.WarningsRecorder) -> None:
    """What layers add to stays float32: no residual is rounded, and no RMSNorm meets a type that is not its
    weight's.
    """
    net, seen = make_net(kind, heads=2, precision="bfloat16", **options), set()
    for name, part in net.backbone.named_modules():
        if isinstance(part, nn.RMSNorm | nn.LayerNorm) and not name.endswith("mixed_norm"):  # which norms a product
            part.register_forward_pre_hook(lambda _norm, given: seen.add(given[0].dtype))
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    try:
        net(make_batch())[0].sum().backward()
    finally:
        torch.set_warn_always(before)
    assert seen <= {torch.float32} and not [str(one.message) for one in recwarn if "dtype" in str(one.message)]


def test_a_token_mixer_multiplies_in_the_chosen_precision() -> None:
    net, seen = make_net("token-mixer", precision="bfloat16"), set()
    net.backbone.body.layers[0].within.register_forward_hook(lambda *given: seen.add(given[2].dtype))  # type: ignore
    net(make_batch())
    assert seen == {torch.bfloat16}


WRONG: list[tuple[Callable[[], nn.Module], str]] = [
    (lambda: HSTUStack(8, 3, 9, 2), "not a multiple"),
    (lambda: HSTUStack(8, 2, 9, 0), "at least 1"),
    (lambda: TokenMixer(4, tokens=4, width=8, layers=1, experts=2, active=3), "of 2 experts give 1 to 2"),
    (lambda: HSTUStack(8, 2, 9, 2, newest_layers=1), "go together"),
    (lambda: make_net("hstu", stochastic=3.0), "between 1 and 2"),
    (lambda: make_net("hstu", precision="fp8"), "'float32', 'bfloat16' or 'float8'"),
    (lambda: make_net("hstu", band=0), "equal to 1"),
    (lambda: make_net("hstu", transducers=[[5]]), "action 5 is not in the log"),
    (lambda: make_net("hstu", columns_at="middle"), "'oldest' or 'newest'"),
    (lambda: HSTULayer(8, 2, 9, ["place"]), "not one of position, time"),
    (lambda: TransformerStack(6, 2, 9, 1), "even width"),
    (lambda: TransformerStack(8, 2, 9, 1, "gpt"), "not one of sasrec, llama"),  # type: ignore[arg-type]
    (lambda: make_net("token-mixer", mixer_layers=2, auxiliary=0.1), "at least 3"),
    (lambda: LongerStack(8, 2, 9, merge=0), "at least 1"),
    (lambda: TokenMixer(4, tokens=4, width=8, layers=1, heads=3), "mixer_heads"),
    (lambda: TokenMixer(4, tokens=4, width=8, layers=1, heads=2, variant="rankmixer"), "as many heads as tokens"),
]


@pytest.mark.parametrize(("build", "message"), WRONG)
def test_wrong_options_are_named(build: Callable[[], nn.Module], message: str) -> None:
    from recdistill.errors import UserError

    with pytest.raises(UserError, match=message):
        build()
