"""Models that are corrected for the draw of negatives: whatever it is, they learn how probable each item is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from recdistill.config.data import NegativesConfig
from recdistill.config.experiment import Experiment
from recdistill.config.load import load_text
from recdistill.config.models import DistillConfig, StudentConfig
from recdistill.data.batch.builder import BatchBuilder
from recdistill.data.readers.negatives import with_negatives
from recdistill.data.readers.new_rows import source_of
from recdistill.data.store.encoder import draw_offset
from recdistill.distill.losses import label_loss
from recdistill.runs.folder import RunFolder
from recdistill.runs.jobs import jobs_of
from recdistill.tables.events import EventLog
from recdistill.train.learner import Learner
from recdistill.train.predict import Predictor
from tests.support.batches import make_batch, make_net
from tests.support.logs import log_of, whole
from tests.support.runs import finish, trainer

GROUPS, ITEMS, ROWS = 3, 24, 40_000
DRAWS: list[dict[str, Any]] = [
    {"window_hours": 50.0},
    {"draw": "uniform"},
    {"draw": "popularity", "power": 0.75},
    {"draw": "batch", "rows": 4096},
]


def catalogue() -> np.ndarray:
    """Return p(item | group of users), [GROUPS, ITEMS]: popularity, and a taste of each group's."""
    draw = np.random.default_rng(1)
    weights = np.arange(1, ITEMS + 1) ** -0.7 * np.exp(draw.normal(0, 0.7, (GROUPS, ITEMS)))
    return np.asarray(weights / weights.sum(1, keepdims=True))


def learned(draw: dict[str, Any], correct: bool) -> np.ndarray:
    """Return [GROUPS, ITEMS], a logit for each pair, learned by the labels' loss of a log with negatives to its end."""
    p, random = catalogue(), np.random.default_rng(2)
    user = random.integers(0, 3000, ROWS)
    item = (random.random(ROWS)[:, None] > p.cumsum(1)[user % GROUPS]).sum(1).clip(max=ITEMS - 1)
    log = log_of(np.arange(ROWS) * 3_600_000, user, item, np.ones(ROWS))
    full = with_negatives(log, NegativesConfig(per_positive=2, correct=correct, **draw))
    rows = whole(full)[ROWS:]  # the first positives have little to draw from
    index = torch.from_numpy((rows["user_id"].to_numpy() % GROUPS) * ITEMS + rows["item_id"].to_numpy())
    offset = draw_offset(rows, full.schema)
    labels = torch.from_numpy(rows["label_click"].to_numpy().copy())[:, None]
    logits = torch.zeros(GROUPS * ITEMS, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([logits], max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        shifted = logits[index][:, None] + (torch.from_numpy(offset) if correct else 0.0)
        found = label_loss(shifted, labels.double())
        found.backward()
        return found

    optimiser.step(loss)
    return logits.detach().view(GROUPS, ITEMS).numpy()


def distance(logits: np.ndarray) -> float:
    """Return how far logits are, but for a constant, from those of a softmax over all items."""
    off = logits - np.log(catalogue() / (1 - catalogue()))  # an item is no negative of its own
    return float((off - off.mean()).std())


@pytest.mark.parametrize("draw", DRAWS)
def test_every_draw_learns_the_softmax_over_all_items(draw: dict[str, Any]) -> None:
    assert distance(learned(draw, correct=True)) < 0.12
    if draw.get("draw") != "uniform":
        assert distance(learned(draw, correct=False)) > 0.4


def test_the_corrected_logit_is_the_probability_itself() -> None:
    """Not only but for a constant: its exponentials add up to 1 over the items of each group."""
    for draw in DRAWS:
        total = torch.sigmoid(torch.from_numpy(learned(draw, correct=True))).sum(1)
        assert (total - 1).abs().max() < 0.1, (draw, total)


@pytest.mark.parametrize("layout", ["single", "decoupled"])
def test_a_model_predicts_and_learns_with_what_the_draw_adds(layout: str) -> None:
    batch, everyone = make_batch(), torch.ones(len(make_batch()), dtype=torch.bool)
    offset = torch.linspace(-3, 3, len(batch))[:, None]
    batch = replace(batch, signals=torch.full_like(batch.labels, 0.3))
    network = make_net("pooled-mlp", layout=layout)
    config = DistillConfig(towers=layout, loss="mse") if layout == "decoupled" else None
    learner = Learner(network, StudentConfig(), config)
    plain, drawn = learner.predict(batch), replace(batch, draw_offset=offset)
    assert torch.equal(learner.predict(drawn), plain + offset)
    assert torch.equal(learner.predict_only(drawn).logits, plain + offset)
    assert torch.equal(learner.learn(drawn, everyone).logits, plain + offset)


@pytest.mark.parametrize(("offset", "moves"), [(60.0, False), (0.0, True)])
def test_what_the_draw_explains_by_itself_teaches_no_tower_anything(offset: float, moves: bool) -> None:
    batch, everyone = make_batch(), torch.ones(len(make_batch()), dtype=torch.bool)
    drawn = replace(batch, labels=torch.ones_like(batch.labels), draw_offset=torch.full((len(batch), 1), offset))
    network = make_net("pooled-mlp", layout="decoupled")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    Learner(network, StudentConfig(), DistillConfig()).learn(drawn, everyone)
    moved = {name.split(".")[0] for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert ({"main", "aux"} <= moved) if moves else not moved


CONFIG = """
name: drawn
data:
  path: clicks.parquet
  columns: {time_unit: s, tasks: {click: 1}}
  negatives: {draw: popularity, per_positive: 2, correct: true}
teacher: {kind: pooled-mlp, width: 4, history: 5, batch: 50}
students: {light: {kind: pooled-mlp, width: 4, history: 5, batch: 50}}
evaluate: {seeds: [0], bootstrap: 20, group: request}
"""


@pytest.fixture
def run(tmp_path: Path) -> tuple[RunFolder, Experiment]:
    draw = np.random.default_rng(0)
    clicks = {"user_id": draw.integers(0, 20, 400), "item_id": draw.integers(0, 9, 400), "time": 1.6e9 + np.arange(400)}
    pl.DataFrame(clicks).with_columns(pl.col("time").cast(pl.Int64)).write_parquet(tmp_path / "clicks.parquet")
    experiment = load_text(CONFIG, [f"data.path={tmp_path / 'clicks.parquet'}"])
    finish(tmp_path / "run", experiment, "teacher", "light.distilled.s0")
    return RunFolder(tmp_path / "run"), experiment


def test_new_rows_are_predicted_without_the_odds_of_the_draw(run: tuple[RunFolder, Experiment]) -> None:
    folder, experiment = run
    one = Predictor(folder, experiment, jobs_of(experiment)[0])
    events = pl.concat(EventLog.open(folder.tables / "events").batches())
    found = pl.concat(one.predict(source_of(events.drop("label_click", "log_q"))))
    as_drawn = one.learner.predict(BatchBuilder(one.store, one.job.config.history).build(np.arange(len(events))))
    offset = -(events["log_q"].to_numpy() + np.log(2))
    np.testing.assert_allclose(found["logit_click"].to_numpy(), as_drawn[:, 0].numpy() - offset, atol=1e-5)
    assert offset.std() > 0.01 and trainer(folder.root, experiment, "light.distilled.s0").store.draw_offset.any()
