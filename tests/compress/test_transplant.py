"""Growth keeps the answers, pruning what was grown gives the network back, a pruned one is the large one without its
pruned units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from recdistill.compress.transplant import move_rows, move_weights, moved_optimiser
from recdistill.compress.units import NEW, Growth, grown_units, picked
from recdistill.data.batch.batch import Batch
from recdistill.data.batch.extras import Extras
from recdistill.errors import UserError
from recdistill.models.embeddings.growable import TableOptions
from recdistill.models.examples import ACTIONS, FIELDS, LENGTH, SLOTS, example_batch
from recdistill.models.factory import build_backbone, named_tables
from recdistill.models.heads import Towers
from recdistill.models.widths import Dim, NetworkWidths, into, widths_of

EXTRAS = Extras(values=4, vectors=(("item", 5),))  # a sequence's dot product with the candidate grows with the width
KINDS: dict[str, dict[str, Any]] = {
    "pooled-mlp": {},
    "dcn-v2": {},
    "din": {"unit": [8, 6], "activation": "dice"},
    "target-attention": {"heads": 2, "kernels": 3, "rich": True},
    "hstu": {"heads": 2, "layers": 2},
    "transformer": {"heads": 2, "layers": 2},
    "sasrec": {"heads": 2, "layers": 2, "block": "sasrec"},
    "longer": {},
}
Units = dict[str, Tensor]
States = Mapping[Tensor, Mapping[str, Tensor]]
NORMED = ("hstu", "transformer", "sasrec", "longer")  # norms stand between their widths, so the width stays here


def transplant(old: nn.Module, new: nn.Module, units: Mapping[str, Tensor], growth: Growth = "zero") -> None:
    """Give `new` all that `old` has."""
    move_weights(old, new, units, growth)
    move_rows(old, new, units, growth)


def network(kind: str, width: int, seed: int = 0, extras: Extras = EXTRAS, **options: Any) -> Towers:
    torch.manual_seed(seed)
    shape = {"fields": FIELDS, "slots": SLOTS, "actions": ACTIONS, "length": LENGTH}
    tables = TableOptions(0, 0.01, "adam")
    options = {"hidden": [12, 7], **KINDS[kind], **options}
    backbone = build_backbone(
        "transformer" if kind == "sasrec" else kind, width=width, tables=tables, options=options, extras=extras, **shape
    )
    return Towers(backbone, 2, layout="decoupled")


def batch(seed: int = 0) -> Batch:
    found = example_batch(seed=seed)
    return replace(found, values=found.values[:, :4], vectors={"item": found.vectors["item"]})


def learned(net: Towers, optimiser: torch.optim.Adam | None = None, steps: int = 3) -> torch.optim.Adam:
    """Return the optimiser of a network that took some steps."""
    optimiser = optimiser or torch.optim.Adam(net.parameters(), lr=0.01)
    for step in range(steps):
        optimiser.zero_grad()
        main, aux = net.train()(batch(step))
        assert aux is not None
        (main.square().sum() + aux.sum()).backward()
        optimiser.step()
        for table in named_tables(net).values():
            table.step()
    return optimiser


def answers(net: Towers) -> Tensor:
    return torch.cat([net.eval()(batch(seed))[0].detach() for seed in range(5)])  # ids that were never learned, too


def larger(kind: str, own: dict[str, Any], head: int, exact: bool, draw: Any) -> tuple[int, dict[str, Any]]:
    """Return another width, and larger options; own: those so far; head: columns of a head so far; exact: whether only
    what leaves the answers may grow where entries of sequences, or norms, meet the width.
    """
    more: dict[str, Any] = {"hidden": [size + draw(st.integers(0, 9)) for size in own["hidden"]]}
    if kind != "longer":
        more["context_width"] = 8 + draw(st.integers(0, 5))
    if "layers" in KINDS[kind]:
        more["layers"] = draw(st.integers(2, 4))
    if kind == "dcn-v2":
        more["crosses"] = draw(st.integers(2, 4))
    if kind == "din":
        more["unit"] = [8 + draw(st.integers(0, 5)), 6 + draw(st.integers(0, 3))]
    if exact:
        return 2 * head, more
    heads = draw(st.sampled_from([2, 3])) if kind == "target-attention" else 2
    return heads * (head + draw(st.integers(0, 3))), more | ({"heads": heads} if kind == "target-attention" else {})


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15)  # each one learns, grows and shrinks again
@given(data=st.data())
def test_growth_keeps_the_answers_and_pruning_gives_it_back(kind: str, data: st.DataObject) -> None:
    draw, seed = data.draw, data.draw(st.integers(0, 999))
    sequences, head = data.draw(st.booleans()), 4 if kind in NORMED else data.draw(st.integers(2, 4))
    extras = replace(EXTRAS, sequences=2) if sequences else EXTRAS
    own = {"hidden": [draw(st.integers(3, 12)), draw(st.integers(2, 7))]}
    small = network(kind, 2 * head, seed, extras, **own)
    optimiser, before = learned(small), answers(small)
    width, more = larger(kind, own, head, sequences or kind in NORMED, draw)
    large, growth = network(kind, width, seed + 1, extras, **more), draw(st.sampled_from(["zero", "split", "fresh"]))
    widths, kept = widths_of(small), {name: torch.arange(size) for name, size in widths_of(small).sizes.items()}
    units = grown_units(widths, kept, widths_of(large).sizes, growth, torch.Generator().manual_seed(seed))
    transplant(small, large, units, growth)
    if growth != "fresh":  # of sums in another order each may round
        assert torch.allclose(answers(large), before, rtol=1e-5, atol=2e-6)
    if growth != "split":  # whose copies have a share of what reads the units
        again = network(kind, 2 * head, seed + 2, extras, **own)
        transplant(large, again, kept)
        state = moved_optimiser(large, moved_optimiser(small, optimiser.state, large, units), again, kept)
        check_same(small, optimiser.state, again, state)
        assert torch.equal(answers(again), before)


def check_same(one: Towers, state: States, other: Towers, its: States) -> None:
    """See that two networks and their optimisers are the same to the bit."""
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    assert all(torch.equal(mine, theirs) for mine, theirs in pairs)
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        assert all(torch.equal(state[mine][key], its[theirs][key]) for key in state[mine])
    for name, table in named_tables(one).items():
        rows, others = table.state(), named_tables(other)[name].state()
        assert all(torch.equal(rows[key], others[key]) for key in rows)


def smaller(kind: str, draw: Any) -> tuple[int, dict[str, Any]]:
    """Return a width of at most 12, and options of at most the kind's own sizes."""
    less: dict[str, Any] = {"hidden": [draw(st.integers(1, 12)), draw(st.integers(1, 7))]}
    if kind != "longer":
        less["context_width"] = draw(st.integers(1, 8))
    if kind == "din":
        less["unit"] = [draw(st.integers(1, 8)), draw(st.integers(1, 6))]
    heads = draw(st.integers(1, 2)) if kind == "target-attention" else 2
    width = 12 if kind in NORMED else heads * draw(st.integers(1, 6))
    return width, less | ({"heads": heads} if kind == "target-attention" else {})


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=6)
@given(data=st.data())
def test_a_pruned_network_is_the_large_one_with_its_pruned_units_unread(kind: str, data: st.DataObject) -> None:
    large, (width, less) = network(kind, 12), smaller(kind, data.draw)
    learned(large)
    small = network(kind, width, seed=1, **less)
    widths, draw = widths_of(large), torch.Generator().manual_seed(data.draw(st.integers(0, 999)))
    units = {
        name: torch.randperm(widths.sizes[name], generator=draw)[:size].sort().values
        for name, size in widths_of(small).sizes.items()
    }
    transplant(large, small, units)
    shapes = [{name: value.shape for name, value in net.state_dict().items()} for net in (small, large)]
    masked(large, widths, units)
    assert torch.allclose(answers(small), answers(large), rtol=1e-5, atol=2e-6)
    assert type(small.backbone) is type(large.backbone) and shapes[0].keys() == shapes[1].keys()
    for one, other in (*((shapes[0][name], shapes[1][name]) for name in shapes[0]), table_widths(small, large)):
        assert all(mine <= its for mine, its in zip(one, other, strict=True))
    assert shapes[0] != shapes[1] or widths_of(small).sizes == widths.sizes


def table_widths(*networks: Towers) -> tuple[list[int], ...]:
    """Return of each network the widths of its tables."""
    return tuple([table.width for table in named_tables(net).values()] for net in networks)


def masked(net: Towers, widths: NetworkWidths, units: Mapping[str, Tensor]) -> None:
    """Let nobody read the units that are not in `units`."""
    for name, values in net.state_dict().items():
        for at, dim in enumerate(widths.dims.get(name, ())):
            if dim.reads:
                gone = torch.ones(values.shape[at], dtype=torch.bool)
                gone[picked(dim, widths.sizes, units).old] = False
                values.movedim(at, 0)[gone] = 0.0
    for name, table in named_tables(net).items():
        dim = widths.tables.get(name)
        if dim is not None and dim.reads:
            gone = torch.ones(table.width, dtype=torch.bool)
            gone[picked(dim, widths.sizes, units).old] = False
            rows = torch.arange(1, 60)
            table.peek(rows)
            table._weight[:, gone] = 0.0


def test_parts_products_and_new_units() -> None:
    dim = Dim(((3,), ("heads", 2), ("heads", "width")))
    found = picked(dim, {"heads": 2, "width": 3}, {"heads": torch.tensor([1]), "width": torch.tensor([2, NEW, 0])})
    assert found.old.tolist() == [0, 1, 2, 5, 6, 12, NEW, 10]
    copies = picked(into(["heads"]), {"heads": 2}, {"heads": torch.tensor([0, 1, 1])})
    assert copies.share.tolist() == pytest.approx([1, 2 / 3, 1 / 3]) and copies.copy.tolist() == [False, False, True]
    units = {"heads": torch.tensor([0, 1, 0, 0]), "width": torch.tensor([1, NEW, 0, 1])}
    both = picked(into([("heads", "width")]), {"heads": 2, "width": 2}, units)
    heads, width = [1 / 2, 1, 1 / 3, 1 / 6], [2 / 3, 1, 1, 1 / 3]
    assert both.share.tolist() == pytest.approx([one * other for one in heads for other in width])
    again = [(head, column) for head in (0, 0, 1, 1) for column in (0, 0, 0, 1)]
    assert both.copy.tolist() == [bool(head or column) for head, column in again]


def regrown(kind: str, growth: Growth, hidden: Sequence[int]) -> tuple[Towers, torch.optim.Adam, Towers, Units]:
    """Return a network that learned, its optimiser, what it grew to, drawn anew, and of which units that is made."""
    small, large = network(kind, 8), network(kind, 8, seed=1, hidden=[*hidden])
    optimiser, before = learned(small), widths_of(small)
    kept = {name: torch.arange(size) for name, size in before.sizes.items()}
    units = grown_units(before, kept, widths_of(large).sizes, growth, torch.Generator().manual_seed(0))
    return small, optimiser, large, units


@pytest.mark.parametrize("growth", ["zero", "split", "fresh"])
def test_units_that_come_back_have_no_momentum_and_a_mean_second_moment(growth: Growth) -> None:
    small, optimiser, large, units = regrown("pooled-mlp", growth, [20, 9])
    moved = moved_optimiser(small, optimiser.state, large, units)
    old, new = (optimiser.state[small.backbone.body[2].weight], moved[large.backbone.body[2].weight])  # type: ignore[index,union-attr]
    assert new["exp_avg"].shape == (9, 20) and bool(old["exp_avg"].any())
    for key, fill in (("exp_avg", 0.0), ("exp_avg_sq", float(old["exp_avg_sq"].mean()))):
        assert torch.equal(new[key][:7, :12], old[key])
        assert torch.allclose(new[key][7:], torch.tensor(fill)) and torch.allclose(new[key][:, 12:], torch.tensor(fill))


def test_copies_learn_different_things() -> None:
    small, optimiser, large, units = regrown("pooled-mlp", "split", [36, 7])  # of each unit there are two copies
    transplant(small, large, units, "split")
    weight = large.backbone.body[0].weight  # type: ignore[index,union-attr]
    assert int(torch.linalg.matrix_rank(weight, rtol=1e-3)) == 12
    again = torch.optim.Adam(large.parameters(), lr=0.01)
    again.state.update(moved_optimiser(small, optimiser.state, large, units))
    learned(large, again, steps=20)
    for unit in range(12):
        for one, other in combinations(weight[units["hidden.0"] == unit].detach(), 2):
            assert float((one - other).norm() / one.norm()) > 1e-3
    assert int(torch.linalg.matrix_rank(weight, rtol=1e-3)) >= 20


def test_what_is_fresh_is_as_a_new_network_has_it() -> None:
    small, _, large, units = regrown("pooled-mlp", "fresh", [20, 9])
    drawn = {name: value.clone() for name, value in large.state_dict().items()}
    transplant(small, large, units, "fresh")
    for name, old, inputs in (("backbone.body.0", 12, 83), ("backbone.body.2", 7, 12)):
        weight, bias = (large.state_dict()[f"{name}.{part}"] for part in ("weight", "bias"))
        assert torch.equal(weight[old:], drawn[f"{name}.weight"][old:]) and torch.equal(
            bias[old:], drawn[f"{name}.bias"][old:]
        )
        assert torch.equal(weight[:, inputs:], drawn[f"{name}.weight"][:, inputs:])
        assert torch.equal(weight[:old, :inputs], small.state_dict()[f"{name}.weight"])
    wide = network("pooled-mlp", 12, seed=1)
    kept = {name: torch.arange(size) for name, size in widths_of(small).sizes.items()}
    transplant(small, wide, kept | {"width": torch.tensor([*range(8), *[NEW] * 4])}, "fresh")
    item = named_tables(wide)["backbone.inputs.item"]
    assert float(item.peek(torch.arange(1, 900))[:, 8:].std()) == pytest.approx(item.std, rel=0.1)


def test_what_is_no_width_is_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"backbone\.recency would change from .* none of its widths can"):
        transplant(network("target-attention", 8), network("target-attention", 8, kernels=2), {})
    with pytest.raises(UserError, match=r"segment would change from \(8,\) to \(12,\)"):
        transplant(network("longer", 8), network("longer", 12), {})
    with pytest.raises(UserError, match="differ in more than their widths"):
        transplant(network("transformer", 8), network("sasrec", 8), {})
    with pytest.raises(UserError, match="says nothing of its widths"):
        widths_of(nn.Linear(2, 3))
