"""A state in a few bytes: what is packed comes back, the gradient goes straight through, prefixes tell what
they can.
"""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recdistill.distill.state_codec import HiddenStateCodec, packed, quantised, unpacked


@given(st.lists(st.floats(-1, 1), min_size=4, max_size=4), st.sampled_from([4, 8]))
def test_codes_survive_their_bytes(values, bits):
    codes = quantised(torch.tensor([values]), bits)
    data = packed(codes, bits)
    assert data.shape == (1, 4 * bits // 8) and data.dtype == np.uint8
    np.testing.assert_array_equal(unpacked(data, bits), codes.numpy())
    assert float((codes - torch.tensor([values])).abs().max()) <= 1 / 2 ** (bits - 1)


def test_four_bits_are_loopfms():
    z = torch.linspace(-1, 1, 41)
    torch.testing.assert_close(quantised(z, 4), torch.clamp(torch.round(8 * z), -8, 7) / 8)


def test_the_gradient_goes_straight_through():
    z = torch.tensor([0.13, -0.4], requires_grad=True)
    (pull,) = torch.autograd.grad(quantised(z, 4).square().sum(), z)
    torch.testing.assert_close(pull, 2 * quantised(z, 4).detach())


def states(rows: int, seed: int) -> torch.Tensor:
    """Return states [rows, 32] that live in 4 dimensions."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 4, generator=draw) @ torch.randn(4, 32, generator=torch.Generator().manual_seed(99)) + 3


@pytest.mark.parametrize("bits", [4, 8])
def test_it_learns_what_the_states_have_in_common_and_then_stays(bits):
    codec = HiddenStateCodec(32, 16, bits, 3e-3, 100_000)
    first = codec.learn(states(500, 0))
    errors = [codec.learn(states(500, k)) for k in range(1, 199)]
    assert errors[-1] < 0.3 * first
    assert codec.learn(states(500, 300)) > 0 and codec.seen == 100_000
    before = codec.encode(states(5, 1))
    assert codec.learn(states(500, 301)) == 0.0
    assert torch.equal(codec.encode(states(5, 1)), before)


def test_a_prefix_alone_tells_most_of_it():
    codec = HiddenStateCodec(32, 16, 8, 3e-3, 10**9)
    for k in range(300):
        codec.learn(states(500, k))
    wanted = codec._normal(states(500, 777))
    codes = codec.encode(states(500, 777))
    errors = [float((codec.network[f"decode_{w}"](codes[:, :w]) - wanted).square().mean()) for w in codec.widths]
    assert codec.widths == [16, 8, 4] and errors == sorted(errors) and errors[-1] < 0.2


def test_it_draws_nothing_from_the_teachers_random_state_and_resumes():
    before = torch.get_rng_state()
    one, other = HiddenStateCodec(32, 8, 4, 1e-2, 5000), HiddenStateCodec(32, 8, 4, 1e-2, 5000)
    assert torch.equal(torch.get_rng_state(), before)
    for k in range(4):
        one.learn(states(100, k))
    tensors, state = one.state()
    other.restore({name: value.clone() for name, value in tensors.items()}, json.loads(json.dumps(state)))
    assert one.learn(states(100, 5)) == other.learn(states(100, 5))
    assert torch.equal(one.encode(states(9, 6)), other.encode(states(9, 6)))
