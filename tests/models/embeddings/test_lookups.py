"""Two gloo ranks whose tables' ids, rows and gradients travel together learn the bits that they learn one by one."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from recdistill.config.models import StudentConfig
from recdistill.data.batch.batch import Batch
from recdistill.distributed.ranks import InFull, Ranks
from recdistill.models.embeddings.bounded import RowBudget
from recdistill.models.embeddings.budget import bound_tables
from recdistill.models.embeddings.lookups import Lookups
from recdistill.models.embeddings.sharded import spread_tables
from recdistill.train.learner import Learner
from recdistill.train.step import Outcome, Prepared, steps
from tests.support.batches import make_batch, make_net
from tests.support.rank_processes import met

STEPS = 7  # more than are prepared ahead
SHARED, APART = "din, whose ids share rows", "experts, which read bounded rows before they learn from them"
KINDS = {"din": "din", "target-attention": "target-attention", SHARED: "din", APART: "token-mixer"}
BUDGETS = {SHARED: RowBudget(8, share="quotient-remainder"), APART: RowBudget(16, admit=2)}
EXPERTS = {"variant": "rankmixer", "tokens": 2, "mixer_width": 8, "mixer_layers": 1, "experts": 3}
CALLS = ("all_reduce", "all_to_all_single", "all_gather")


def learner_of(ranks: Ranks, kind: str) -> Learner:
    network = make_net(KINDS[kind], **(EXPERTS if kind == APART else {}))
    if kind in BUDGETS:
        bound_tables(network, BUDGETS[kind])
    spread_tables(network, ranks)
    return Learner(network, StudentConfig(), tasks=("click",), dense=InFull(ranks))


def prepared(rank: int, number: int) -> Prepared:
    """Return a rank's part of a step; of every third one candidates are scored too, and one is predicted alone."""
    batch, asked = (make_batch(seed=100 * number + 10 * rank + of) for of in range(2))
    learn = number != STEPS - 2
    return Prepared(batch, torch.ones(len(batch), dtype=torch.bool), asked if number % 3 == 1 else None, learn)


def alone(learner: Learner, one: Prepared) -> Outcome:
    """Take a step whose lookups are messages of their own."""
    found = None if one.candidates is None else learner.score_candidates(one.candidates, len(one.batch))
    return Outcome(learner.learn(one.batch, one.keep) if one.learn else learner.predict_only(one.batch), found)


def _bits(learner: Learner, outcomes: list[Outcome]) -> list[list[float]]:
    parts: list[Tensor] = [value.double().flatten() for name, value in sorted(learner.state()[0].items())]
    parts += [one.result.logits.double().flatten() for one in outcomes]
    parts += [torch.from_numpy(one.candidates).double().flatten() for one in outcomes if one.candidates is not None]
    return [part.tolist() for part in parts]


def both_ways(ranks: Ranks) -> dict[str, tuple[Any, Any, list[int]]]:
    """Return by kind of network what is learned together and one by one, and the messages that each step waited for."""
    sent = [0]
    for name in CALLS:
        call = getattr(dist, name)

        def counted(*args: Any, call: Any = call, **words: Any) -> Any:
            sent[0] += threading.current_thread() is threading.main_thread()
            return call(*args, **words)

        setattr(dist, name, counted)
    found = {}
    for kind in KINDS:
        every = [prepared(ranks.rank, number) for number in range(STEPS)]
        together, one_by_one, counts = learner_of(ranks, kind), learner_of(ranks, kind), []
        done: list[Outcome] = []
        before = sent[0]
        for outcome in steps(together, every.__getitem__, range(STEPS)):
            done.append(outcome)
            counts.append(sent[0] - before)
            before = sent[0]
        found[kind] = _bits(together, done), _bits(one_by_one, [alone(one_by_one, one) for one in every]), counts
    return found


@pytest.fixture(scope="module")
def ways() -> list[dict[str, tuple[Any, Any, list[int]]]]:
    return met(2, both_ways)


@pytest.mark.parametrize("kind", list(KINDS))
def test_what_travels_together_is_learned_to_the_same_bits(ways: list[dict[str, Any]], kind: str) -> None:
    for rank in ways:
        together, one_by_one, _ = rank[kind]
        assert together == one_by_one
    logits = torch.tensor(ways[0][kind][0][-1])
    assert len(logits) and bool(logits.isfinite().all())


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != APART])  # whose experts send more
def test_a_step_waits_for_three_messages_whatever_its_tables(ways: list[dict[str, Any]], kind: str) -> None:
    """Rows, their gradients, and the dense part's with whether all is finite; a step that learns nothing for one."""
    first, *others = ways[0][kind][2]
    assert first > 10 and others == [3 if number != STEPS - 2 else 1 for number in range(1, STEPS)]


def test_a_network_of_one_process_asks_nobody() -> None:
    learner, batch = learner_of(Ranks(), "din"), make_batch()
    assert isinstance(batch, Batch) and learner.lookups.known
    assert learner.lookups.ask([batch.columns()]) == []
    assert Lookups([], Ranks(0, 2)).known
