"""Listwise transfer against its definition, list by list in float64."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from recdistill.distill.listwise import listwise_loss

NAN = float("nan")
ROWS = st.lists(
    st.tuples(st.floats(-6, 6), st.one_of(st.floats(-6, 6), st.just(NAN)), st.integers(0, 3)), min_size=1, max_size=12
)


def softmax(x: np.ndarray) -> np.ndarray:
    return np.exp(x - x.max()) / np.exp(x - x.max()).sum()


@given(ROWS)
def test_it_is_the_cross_entropy_of_softmaxes_list_by_list(rows):
    z, t, group = (np.array([row[k] for row in rows], float) for k in range(3))
    wanted, known = 0.0, ~np.isnan(t)
    for one in np.unique(group[known]):
        mine = known & (group == one)
        wanted -= (softmax(t[mine]) * np.log(softmax(z[mine]))).sum()
    found = listwise_loss(*(torch.tensor(x)[:, None] for x in (z, t)), torch.tensor(group).long())
    assert abs(float(found) - wanted / len(rows)) < 1e-9


def test_a_constant_of_a_list_changes_nothing_and_the_same_order_is_at_rest():
    draw = torch.Generator().manual_seed(0)
    t, group = torch.randn(20, 2, generator=draw, dtype=torch.float64), torch.arange(20) // 4
    z = (t + torch.randn(5, 2, generator=draw, dtype=torch.float64)[group]).requires_grad_()
    (pull,) = torch.autograd.grad(listwise_loss(z, t, group), z)
    assert float(pull.abs().max()) < 1e-12
    torch.testing.assert_close(listwise_loss(z.detach() + 7, t, group), listwise_loss(z.detach(), t + 7, group))


def test_no_signal_is_no_loss():
    z = torch.zeros(3, 1, requires_grad=True)
    loss = listwise_loss(z, torch.full((3, 1), NAN), torch.tensor([0, 0, 1]))
    (pull,) = torch.autograd.grad(loss, z)
    assert float(loss.detach()) == 0 and not pull.any()
