"""Slices and curves are the metrics of the rows they name."""

import numpy as np
import pytest

from recdistill.evaluate import metrics
from recdistill.evaluate.breakdown import curve, points, sliced, slices
from recdistill.evaluate.transferability import draw_all
from recdistill.evaluate.window import load_window, logits_of
from recdistill.tables.predictions import PredictionLog
from tests.support.scored_rows import events_of, record


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """Return (window, logits by model) of 4,000 rows with users, items and hours that differ."""
    n, draw = 4000, np.random.default_rng(0)
    true = draw.normal(0, 1.5, n)
    rows = {
        "user_id": (draw.random(n) ** 2 * 300).astype(int).tolist(),
        "item_id": draw.integers(0, 3000, n).tolist(),
        "label": (draw.random(n) < metrics.probability(true)).astype(float).tolist(),
    }
    path = tmp_path_factory.mktemp("scored")
    log, frame = events_of(path, rows)
    predictions = PredictionLog.create(path / "predictions", ("click",))
    levels = {"teacher": [0.1], "raw": [3.0, 3.1], "distilled": [1.0, 1.1]}
    window = load_window(log, log.version, "click", 0.5, "user")
    logits = {}
    for model, noises in levels.items():
        for seed, noise in enumerate(noises):
            record(predictions, frame, f"{model}.{seed}", true + draw.normal(0, noise, n))
        logits[model] = [
            logits_of(predictions, predictions.version, f"{model}.{seed}", "click", window.ids, 0.0)
            for seed in range(len(noises))
        ]
    return window, logits


def test_slices_are_the_metrics_of_their_rows(scored):
    window, logits = scored
    drawn = draw_all(window.samples.users, 1, 2, 200)
    parts = {model: [sliced(window, z, drawn.bundle, drawn.weights) for z in seeds] for model, seeds in logits.items()}
    found = {(part.slice, part.value): part for part in slices(parts, drawn, 0.95)}
    assert {name for name, _ in found} == {"new_item", "new_user", "history_length", "hour"} - (
        {"new_user"} if not window.rows["new_user"].any() else set()
    )
    part = found["new_item", "yes"]
    mask = window.rows["new_item"].to_numpy()
    assert 0 < mask.sum() == part.rows < len(mask)
    assert found["new_item", "no"].rows == len(mask) - part.rows
    y, group = window.samples.label[mask], window.samples.group[mask]
    expected = np.mean([metrics.gauc(y, z[mask], group) for z in logits["raw"]])
    assert part.metrics["raw"]["gauc"] == pytest.approx(expected)
    assert sum(p.rows for (name, _), p in found.items() if name == "hour") <= len(mask)
    for other in found.values():
        assert bool(other.why) if other.eta is None else other.low < other.eta < other.high
        assert other.eta is None or other.low < other.eta < other.high
    expected = metrics.means_of([metrics.score(y, z[mask], group) for z in logits["raw"]]).values
    assert part.metrics["raw"] == pytest.approx(expected)


def test_curves_cover_the_window_once_in_order(scored):
    window, logits = scored
    line = curve(window, [points(window, z) for z in logits["teacher"]])
    assert len(line.time) == 10 == len(line.metrics["ne"])
    assert line.time == sorted(line.time) and line.time[0] == window.rows["time"][0]
    first = slice(0, 200)
    expected = metrics.normalized_entropy(window.samples.label[first], logits["teacher"][0][first])
    assert line.metrics["ne"][0] == pytest.approx(expected)
