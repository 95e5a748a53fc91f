"""What is gathered together, counted by hand."""

from __future__ import annotations

from torch import nn

from recdistill.distributed.shard_units import gathered


class Block(nn.Module):
    """A weight of 10 by 10, and, for experts, that many blocks inside."""

    def __init__(self, experts: int = 0) -> None:
        super().__init__()
        self.product = nn.Linear(10, 10, bias=False)
        self.experts = nn.ModuleList(Block() for _ in range(experts))


class Network(nn.Module):
    """A stack in a list, whose blocks are layers too, and parts outside of all lists."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(10, 7, bias=False)
        stack = nn.Module()
        stack.layers, stack.closing = nn.ModuleList([Block(), Block(3)]), Block()
        stack.norm = nn.Linear(5, 1, bias=False)
        self.stacks = nn.ModuleList([stack])
        self.norms = nn.ModuleList([nn.LayerNorm(4)])  # has no parts, and is no layer


def test_a_layer_counts_with_those_it_stands_in_and_the_rest_by_itself() -> None:
    assert gathered(Network()) == (70 + 8, 5 + 100 + 100)
    assert gathered(nn.Linear(3, 3, bias=False)) == (9, 0)
