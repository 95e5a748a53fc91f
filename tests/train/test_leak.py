"""No logit is recorded that has seen its own label: shown by a teacher that can do nothing but learn
samples by heart.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor, nn

from recdistill.checkpoint.store import Checkpoints
from recdistill.config.models import ModelConfig
from recdistill.data.batch.batch import Batch
from recdistill.data.batch.builder import BatchBuilder
from recdistill.data.store.sample_store import SampleStore, build_store
from recdistill.evaluate.metrics import auc
from recdistill.models.embeddings.growable import GrowableTable
from recdistill.models.heads import Towers
from recdistill.tables.events import EventLog
from recdistill.tables.predictions import PredictionLog
from recdistill.tables.schema import EventSchema
from recdistill.train.learner import Learner, StepResult
from recdistill.train.schedule import Plan
from recdistill.train.trainer import Trainer

ROWS = 40_000  # the AUC of noise then has a standard deviation of 0.003


class Memory(nn.Module):
    """A backbone that knows a sample by its id alone, and learns it by heart in one step."""

    output_width = 4

    def __init__(self) -> None:
        super().__init__()
        self.rows = GrowableTable(4, seed=0, name="sample", std=0.01, rate=1.0)

    def forward(self, batch: Batch) -> Tensor:
        """Return the sample's own row, float32 [B, 4]."""
        return self.rows(torch.cat([torch.zeros(1, dtype=torch.int64), batch.sample_id + 1]))[1:]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> SampleStore:
    """Return a log whose labels are the toss of a coin."""
    folder = tmp_path_factory.mktemp("coins")
    draw = np.random.default_rng(0)
    events = EventLog.create(folder / "events", EventSchema(("click",)))
    ids = np.arange(ROWS)
    events.append(
        pl.DataFrame(
            {
                "sample_id": ids,
                "time": pl.Series(1_700_000_000_000_000 + ids * 1_000).cast(pl.Datetime("us", "UTC")),
                "user_id": ids % 100,
                "item_id": ids % 70,
                "label_click": draw.integers(0, 2, ROWS).astype(np.float32),
            }
        ),
        writer="test",
        sequence=0,
    )
    return build_store(folder / "store", events, None)


class LearnsFirst(Learner):
    """The mistake that the loop must not make: learn, then say what it thinks."""

    def learn(
        self, batch: Batch, keep: Tensor, undo: Tensor | None = None, late: Tensor | None = None, weight: float = 1.0
    ) -> StepResult:
        """Return the logits from after the update."""
        result = super().learn(batch, keep, undo, late, weight)
        with torch.no_grad():
            return StepResult(self.network(batch)[0], result.coverage)


def figures(store: SampleStore, folder: Path, kind: type[Learner], replay: int = 0) -> tuple[float, float]:
    """Return (AUC of the memory's own record, AUC when it is asked again after learning)."""
    torch.manual_seed(0)
    config = ModelConfig(batch=1000, replay=replay, replay_window=3_000)
    learner = kind(Towers(Memory(), tasks=1, hidden=()), config)
    trainer = Trainer(
        "memory",
        "1",
        learner,
        store,
        BatchBuilder(store, 1),
        Plan.of(config, ROWS, 10_000, 0),
        PredictionLog.create(folder / "predictions", ("click",)),
        Checkpoints(folder / "memory"),
        {},
    )
    for _ in trainer.run_to_end():
        pass
    rows = pl.concat(list(trainer.predictions.of("memory", columns=["sample_id", "logit_click"])))
    said = rows.sort("sample_id")["logit_click"].to_numpy()
    with torch.no_grad():
        again = learner.network(trainer.builder.build(np.arange(ROWS)))[0][:, 0].numpy()
    label = np.asarray(store.labels)[:, 0]
    return auc(label, said), auc(label, again)


@pytest.mark.parametrize("replay", [0, 1])
def test_its_record_knows_nothing_and_it_knows_everything(store: SampleStore, tmp_path: Path, replay: int) -> None:
    recorded, asked_again = figures(store, tmp_path, Learner, replay)
    print(f"a teacher that learns samples by heart: AUC of its record {recorded:.4f}, asked again {asked_again:.4f}")
    assert abs(recorded - 0.5) <= 0.01 and asked_again > 0.9


def test_a_leak_would_be_seen(store: SampleStore, tmp_path: Path) -> None:
    recorded, _ = figures(store, tmp_path, LearnsFirst)
    assert recorded > 0.9
