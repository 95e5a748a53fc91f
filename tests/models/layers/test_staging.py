"""Batches that are sent ahead of their step arrive before it computes: on a device that only pretends to be one, whose
copies arrive when they are waited for.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from recdistill.config.models import DistillConfig, StudentConfig
from recdistill.data.batch.batch import Batch
from recdistill.models.attention.request_layout import lay_out
from recdistill.models.embeddings.growable import replace_tables
from recdistill.models.embeddings.on_device import DeviceTable
from recdistill.models.layers.device import place
from recdistill.models.layers.staging import Stage, stage_for
from recdistill.train import step
from recdistill.train.learner import Learner
from recdistill.train.step import Prepared, steps
from tests.support.batches import make_batch, make_net
from tests.support.pretended_device import Elsewhere
from tests.support.pretended_stream import NOT_YET, Streams, streams

STEPS = 6  # more than are prepared ahead


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[torch.device, Streams]]:
    with streams(monkeypatch) as found:
        yield found


def test_copies_have_arrived_and_are_kept_once_they_were_waited_for(away: tuple[torch.device, Streams]) -> None:
    device, found = away
    stage, batch = Stage(device), make_batch()
    sent = stage.send([batch])
    there = sent.batches[0].to(device)
    assert there is sent.batches[0].there and isinstance(there.item.inverse, Elsewhere)
    assert (there.item.inverse.held == NOT_YET).all() and not found.kept
    stage.wait(sent)
    assert torch.equal(there.item.inverse.cpu(), batch.item.inverse)
    layout = lay_out(there.history)
    assert isinstance(layout.index, Elsewhere) and torch.equal(layout.index.cpu(), lay_out(batch.history).index)
    assert len(found.kept) == found.copied > 10 and len({id(one) for one in found.kept}) == found.copied
    assert all(torch.equal(ids.cpu(), unique) for unique, ids in sent.ids)


def test_the_host_keeps_what_it_reads_itself(away: tuple[torch.device, Streams]) -> None:
    device, _ = away
    batch = make_batch()
    sent = Stage(device).send([batch]).batches[0]
    for one in (sent.labels, sent.signals, sent.sample_id, sent.context.inverse, sent.history.of):
        assert not isinstance(one, Elsewhere)
    assert sent.there is not None and sent.there.history.offsets is batch.history.offsets
    assert all(one is other for one, other in zip(sent.there.columns(), batch.columns(), strict=True))


def learned(kind: str, device: torch.device | None = None, tables: bool = False) -> list[torch.Tensor]:
    """Return the logits of some steps, of which one predicts alone and some score candidates, and the state after."""
    net = make_net(kind, layout="decoupled")
    if device is not None:
        place(net, device)
        if tables:
            replace_tables(net, lambda table: DeviceTable(table, device))

    def prepare(number: int) -> Prepared:
        batch, asked = (make_batch(seed=10 * number + of) for of in range(2))
        batch.signals.copy_(torch.linspace(-1, 1, len(batch))[:, None])
        keep = torch.ones(len(batch), dtype=torch.bool)
        return Prepared(batch, keep, asked if number % 3 == 1 else None, learn=number != STEPS - 2)

    learner, found = Learner(net, StudentConfig(), DistillConfig()), []
    for outcome in steps(learner, prepare, range(STEPS)):
        found.append(outcome.result.logits)
        found += [] if outcome.candidates is None else [torch.from_numpy(outcome.candidates).float()]
    return found + [value.float() for _, value in sorted(learner.state()[0].items())]


@pytest.mark.parametrize(("kind", "tables"), [("din", True), ("target-attention", False)])
def test_steps_learn_from_what_was_sent_ahead(kind: str, tables: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    here = learned(kind)
    monkeypatch.setattr(step, "stage_for", Stage)
    with streams(monkeypatch) as (device, found):
        far = learned(kind, device, tables)
    assert found.waits == STEPS and not any(isinstance(one, Elsewhere) for one in far)
    for one, other in zip(far, here, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_nothing_is_sent_ahead_to_the_cpu() -> None:
    assert stage_for(torch.device("cpu")) is None
    batch: Batch = make_batch()
    assert batch.to(torch.device("cpu")) is batch
