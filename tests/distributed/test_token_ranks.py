"""A token mixer whose layers lie over ranks by tokens learns what it does in one process, and its checkpoints are those
of any number of ranks; which rows of a weight a rank keeps.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from recdistill.app.layouts import Layout, Links, Parts, price
from recdistill.app.run import ranked_stage
from recdistill.checkpoint.store import Checkpoints
from recdistill.distributed.fsdp import Sharded
from recdistill.distributed.launch import _place, joined
from recdistill.distributed.ranks import IN_FULL, Dense, Ranks
from recdistill.distributed.token_ranks import ONE, MixesTokens
from recdistill.errors import UserError
from recdistill.models.backbones.token_mixer import TokenMixer
from recdistill.runs.folder import RunFolder
from recdistill.runs.jobs import jobs_by_name
from recdistill.train.pool import train_ranked
from tests.distributed.test_launch import logits, newest
from tests.support.rank_processes import ended, met, started
from tests.support.runs import finish, ingested, tiny, trainer

KINDS: dict[str, dict[str, Any]] = {  # 4 ranks, 2 to a layer: of 6 tokens 2 and 1, of 2 heads 1 and 0
    "large": {"tokens": 6, "heads": 2, "layers": 3, "between": True},
    "experts": {"tokens": 4, "heads": 2, "layers": 1, "experts": 2},
    "rankmixer": {"tokens": 2, "layers": 2, "variant": "rankmixer"},
}
ROWS, STEPS = 7, 2
EVEN = {"tokens": 4, "heads": 4, "layers": 2}  # which 4 ranks divide, and so nothing is filled up


class Sent(TorchDispatchMode):
    """Counts the bytes that come to a rank from others: of weights and gradients, and of tokens by two ranks."""

    weights = tokens = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func)
        if "allgather_base" in name or "reduce_scatter_base" in name:
            self.weights += abs(args[0].nbytes - args[1].nbytes)
        if "all_to_all_single" in name:
            self.tokens += args[0].nbytes // 2
        return func(*args, **(kwargs or {}))


def test_mixing_is_a_transposition_and_its_way_back() -> None:
    x = torch.arange(3 * 2 * 4.0).view(3, 2, 4)  # 3 tokens, 2 samples, 4 wide
    assert ONE.mixed(x, 2)[1, 0].tolist() == [*x[0, 0, 2:], *x[1, 0, 2:], *x[2, 0, 2:]]
    assert torch.equal(ONE.mixed(ONE.mixed(x, 2), 3), x)


@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 5))
def test_one_upon_the_other_the_ranks_have_all_tokens_once(tensor: int, copies: int, each: int) -> None:
    ranks = [Ranks(rank, tensor * copies, tensor=tensor) for rank in range(tensor * copies)]
    kept = [range(tensor * each)[one.chunk_of_tokens(tensor * each)] for one in ranks]
    assert [row for rows in kept for row in rows] == list(range(tensor * each))
    assert all(row // each == one.rank // copies for one, rows in zip(ranks, kept, strict=True) for row in rows)


def _learned(dense: Dense, kind: str) -> dict[str, Tensor]:
    """Return the states of a rank's rows, those behind the first block, its share of every weight and of its gradient,
    after some steps, and what it takes of new whole weights.
    """

    def make() -> nn.Module:
        torch.manual_seed(0)
        mixer = TokenMixer(5, width=4, **KINDS[kind])
        mixer.recorder.block = 1
        return mixer

    network, rows = dense.built(make), torch.randn(ROWS, 5, generator=torch.Generator().manual_seed(1))
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01, fused=True)
    for _ in range(STEPS):
        optimiser.zero_grad()
        states = network(rows[dense.ranks.part(ROWS)])
        loss = states.square().sum() + sum(state.sin().sum() for state in network.passed)  # type: ignore[union-attr]
        torch.autograd.backward(loss)
        dense.clip(network, 1.0)
        optimiser.step()
    of_rank = {name: dense.local(weight.detach()) for name, weight in network.named_parameters()}
    gradients = {
        f"{name}'": dense.local(weight.grad) for name, weight in network.named_parameters() if weight.grad is not None
    }
    whole = {f"network/{name}": weight.detach() for name, weight in make().named_parameters()}
    taken = {name: dense.local(value) for name, value in dense.shares(network, whole).items()}
    kept = network.recorder.taken().mean(0)  # type: ignore[union-attr,operator]
    return {"states": states.detach(), "kept": kept, **of_rank, **gradients, **taken}


def _even() -> TokenMixer:
    return TokenMixer(3, width=4, **EVEN)


def _all_learned(ranks: Ranks) -> dict[str, dict[str, Any]]:
    """Return this for every kind, as lists, of one rank of two copies of two, and what a step of two rows sends."""
    dense = Sharded(replace(ranks, tensor=2), torch.device("cpu"))
    learned = {kind: {name: value.tolist() for name, value in _learned(dense, kind).items()} for kind in KINDS}
    network = dense.built(_even)
    for _ in range(2):
        with Sent() as sent:  # the first step prepares what the others use
            torch.autograd.backward(network(torch.ones(2, 3)).sum())
    return learned | {"sent": {"weights": sent.weights, "tokens": sent.tokens}}


@pytest.fixture(scope="module")
def by_rank() -> list[dict[str, dict[str, Any]]]:
    return met(4, _all_learned)


@pytest.mark.parametrize("kind", KINDS)
def test_two_copies_of_two_ranks_to_a_layer_learn_what_one_process_does(
    by_rank: list[dict[str, dict[str, Any]]], kind: str
) -> None:
    """Rows are 1, 2, 2 and 2 of the ranks; shares of the ranks, one upon the other, are the whole."""
    for name, value in _learned(IN_FULL, kind).items():
        shares = [torch.tensor(found[kind][name]).view(-1, *value.shape[1:]) for found in by_rank]
        torch.testing.assert_close(torch.cat(shares), value, rtol=1e-4, atol=1e-5, msg=name)


def test_a_step_sends_what_the_plan_counts(by_rank: list[dict[str, dict[str, Any]]]) -> None:
    """Its layers' norms, which have no weights of a token's own, are gathered as what is outside."""
    sizes = {name: weight.numel() for name, weight in _even().named_parameters()}
    mixer = sum(size for name, size in sizes.items() if "across" in name or "within" in name)
    whole = sum(size for name, size in sizes.items() if not name.startswith("layers"))
    outside = sum(sizes.values()) - mixer
    parts = Parts(outside, mixer, whole, 0, layers=2, tokens=4, heads=4, row=4 * 4, features=3, rest=0)
    cost = price(parts, Layout(2, 1, 2, sharded=True), Links(1.0, 1.0, 1.0), 4 * 2, tables=0.0)
    for found in by_rank:
        assert (found["sent"]["weights"], found["sent"]["tokens"]) == (cost.moving, cost.waiting)


def test_a_mixer_has_all_tokens_by_itself() -> None:
    mixer = TokenMixer(5, width=4, **KINDS["large"])
    assert isinstance(mixer, MixesTokens) and mixer.over is ONE and not isinstance(nn.Linear(1, 1), MixesTokens)


TEACHER = tiny(
    "teacher.kind=token-mixer",
    "teacher.options={tokens: 4, mixer_width: 8, mixer_layers: 3, auxiliary: 0.3}",
    "checkpoint_rows=100",
)


@pytest.mark.long
def test_any_layout_takes_up_the_shares_of_any_other(tmp_path: Path) -> None:
    """Block by block: one process, two ranks that share layers, until one of them is killed, three ranks that do not
    share any.
    """
    folder = ingested(tmp_path / "many", TEACHER)
    shutil.copytree(folder.root, tmp_path / "one")
    finish(tmp_path / "one", TEACHER, "teacher")
    checkpoints = Checkpoints(folder.model("teacher"))
    for _ in trainer(folder.root, TEACHER, "teacher").run_to_end():
        if checkpoints.blocks():
            break
    shared = started(folder.root, 2, "--shard", "--tensor", "2", kill=(0, "checkpoint.published:2"))
    assert [code for code, _ in ended(shared)] == [-9, 1]
    assert checkpoints.newest() == 2 and len(checkpoints.state(2)["shares"]) == 2
    for code, output in ended(started(folder.root, 3, "--shard")):
        assert code == 0, output
    one, many = newest(tmp_path / "one").tensors, newest(folder.root).tensors
    assert one.keys() == many.keys()
    for name, value in one.items():
        assert value.shape == many[name].shape, name
        if value.is_floating_point():
            torch.testing.assert_close(many[name], value, rtol=5e-2, atol=2e-3, msg=name)
    np.testing.assert_allclose(logits(folder.root), logits(tmp_path / "one"), rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("teacher.kind=hstu",), "teacher: --tensor is for token mixers, and kind hstu has none"),
        (
            ("teacher.kind=token-mixer", "teacher.options={variant: rankmixer, experts: 2}"),
            "rankmixer with experts",
        ),
        (
            ("teacher.kind=token-mixer", "teacher.options={tokens: 12, mixer_width: 32, mixer_heads: 8}"),
            "teacher: --tensor 3 must divide its 12 tokens and 8 heads; give one of 1, 2, 4",
        ),
    ],
)
def test_layers_that_so_many_ranks_cannot_share_are_refused(
    tmp_path: Path, settings: tuple[str, ...], message: str
) -> None:
    experiment = tiny(*settings)
    ranks, job = Ranks(0, 3, tensor=3), jobs_by_name(experiment)["teacher"]
    with pytest.raises(UserError, match=message):
        next(train_ranked(RunFolder(tmp_path), experiment, job, ranks, True))


def test_ranks_that_share_layers_stand_side_by_side() -> None:
    """Two nodes of two: those of a node share layers, and those with the same tokens have numbers in a row."""
    assert [_place(rank, 4, 2) for rank in range(4)] == [0, 2, 1, 3]
    assert [_place(rank, 4, 1) for rank in range(4)] == [0, 1, 2, 3]


def test_a_number_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "4"), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", "1")):
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="--tensor 3: does not divide 4 ranks"), joined(tensor=3):
        raise AssertionError("met nobody")
    with pytest.raises(UserError, match="--tensor 2: goes with --shard"):
        ranked_stage(tmp_path, "teacher", False, False, 2)
