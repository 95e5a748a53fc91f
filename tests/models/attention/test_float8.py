"""Linear products in 8 bits, as the CPU imitates them: near float64's, forward and backward, and refused
where they are no use.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from recdistill.errors import UserError
from recdistill.models.attention.float8 import Float8, check_float8, linear
from recdistill.models.encoders.hstu import HSTUStack
from recdistill.models.encoders.packed import one_sequence
from tests.support.batches import make_batch, make_net


def far(found: Tensor, exact: Tensor) -> float:
    return float((found.detach().double() - exact.detach()).norm() / exact.detach().norm())


@pytest.mark.parametrize("shape", [(16,), (3, 5), (1,), (2, 3, 4)])
@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_a_product_in_eight_bits(shape: tuple[int, ...], size: float) -> None:
    """e4m3 has 3 bits behind the point, e5m2 has 2: errors of single numbers up to 1/16 and 1/8, whatever
    their size.
    """
    torch.manual_seed(0)
    x, weight, bias = (
        (size * torch.randn(*shape, 32)).requires_grad_(),
        torch.randn(48, 32, requires_grad=True),
        torch.randn(48),
    )
    exact = [part.detach().double().requires_grad_() for part in (x, weight)]
    out, plain = linear(x, weight, bias * size), functional.linear(*exact, bias.double() * size)
    assert out.dtype == torch.bfloat16 and out.shape == (*shape, 48) and far(out, plain) < 0.06
    pull = torch.randn(plain.shape, dtype=torch.float64)
    for one, other in zip(
        torch.autograd.grad(out, [x, weight], pull.bfloat16()), torch.autograd.grad(plain, exact, pull), strict=True
    ):
        assert one.dtype == torch.float32 and far(one, other) < 0.12


@pytest.mark.parametrize(("inputs", "outputs", "rows"), [(24, 16, 4), (16, 8, 4), (16, 16, 0)])
def test_what_the_hardware_refuses_is_done_as_ever(inputs: int, outputs: int, rows: int) -> None:
    layer, x = nn.Linear(inputs, outputs), torch.randn(rows, inputs)
    assert torch.equal(linear(x, layer.weight, layer.bias), layer(x))


def test_zeros_stay_zeros() -> None:
    x, weight = torch.zeros(16, 16, requires_grad=True), torch.zeros(16, 16, requires_grad=True)
    out = linear(x, weight)
    assert not out.any() and all(not part.any() for part in torch.autograd.grad(out.sum(), [x, weight]))


def test_a_value_that_is_no_number_is_not_hidden() -> None:
    x = torch.ones(16, 16)
    x[3, 3] = torch.nan
    assert linear(x, torch.ones(16, 16)).isnan().any()


def step(recompute: bool, eight: bool) -> list[Tensor]:
    torch.manual_seed(0)
    stack = HSTUStack(32, 2, 20, 3, recompute=recompute)
    events, targets = torch.randn(1, 20, 32), torch.randn(1, 3, 32)
    with torch.autocast("cpu", torch.bfloat16):
        if eight:
            with Float8():
                out = stack(events, targets, one_sequence(20))
        else:
            out = stack(events, targets, one_sequence(20))
    out.float().square().sum().backward()
    return [out, *(p.grad for p in stack.parameters() if p.grad is not None)]


def test_an_encoder_in_eight_bits_learns_nearly_the_same() -> None:
    short, plain = step(False, True), step(False, False)
    assert not torch.equal(short[0], plain[0]) and far(short[0].float(), plain[0].double()) < 0.1
    assert len(short) == len(plain) and all(part.isfinite().all() for part in short)


def test_what_is_made_again_is_made_with_the_same_products() -> None:
    assert all(torch.equal(one, other) for one, other in zip(step(True, True), step(False, True), strict=True))


def test_eight_bits_need_the_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="compute capability 8.9 or more, and this model is on cpu; take bfloat16"):
        make_net("hstu", precision="float8")(make_batch())
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (8, 6))
    with pytest.raises(UserError, match="cuda:0"):
        check_float8(torch.device("cuda:0"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (9, 0))
    check_float8(torch.device("cuda:0"))


@pytest.mark.parametrize("kind", ["hstu", "transformer", "longer"])
def test_a_model_in_eight_bits_predicts_nearly_the_same(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recdistill.models.backbones.sequence.check_float8", lambda _device: None)
    exact, short = (make_net(kind, width=32, heads=2, precision=precision) for precision in ("float32", "float8"))
    states = [net.backbone(make_batch()) for net in (exact, short)]
    assert states[1].dtype == torch.float32 and 0 < far(states[1], states[0].double()) < 0.2
    short(make_batch())[0].sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in short.parameters())
