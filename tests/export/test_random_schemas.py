"""Whatever a log has and whichever student learns from it: requests get the logits that `predict` gives their rows."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from recdistill.app.run import ingest_stage, open_run
from recdistill.config.experiment import Experiment
from recdistill.config.load import load_text
from recdistill.data.readers.new_rows import source_of
from recdistill.export.write import export
from recdistill.runs.folder import RunFolder
from recdistill.runs.jobs import jobs_of
from recdistill.serve.request import Past, Request
from recdistill.serve.scorer import Scorer
from recdistill.serve.together import together
from recdistill.train.build import trainer_of
from recdistill.train.predict import Predictor
from tests.contracts.test_models import CASES
from tests.support.random_logs import Asked, RandomLog, random_logs

EXAMPLES, REQUESTS = int(os.environ.get("RECDISTILL_EXAMPLES", "2")), 6
NEAR = 2e-5  # of logits


def trained(log: RandomLog, kind: str, options: dict[str, Any], folder: Path) -> Predictor:
    """Return a model of the kind that learned from the log."""
    log.write(folder)
    experiment: Experiment = load_text(json.dumps(log.experiment(kind, options)), [])
    with open_run(experiment, folder, folder / "run") as run:
        ingest_stage(run, experiment, folder)
    run = RunFolder(folder / "run")
    for _ in trainer_of(run, experiment, jobs_of(experiment)[0]).run_to_end():
        pass
    return Predictor(run, experiment, jobs_of(experiment)[0])


def known_past(predictor: Predictor, user: Any) -> Past:
    """Return what the run knows of a user's events, as a caller would send them."""
    store, items = predictor.store, pl.read_parquet(predictor.store.folder / "items.parquet")["id"]
    code = predictor.encoder.users.encode(pl.Series([user]), grow=False)
    if not predictor.schema.has_histories or not code[0]:
        return Past()
    events = store.histories.gather(store.histories.first[code], store.histories.first[code + 1])
    names = store.action_names or ["negative", "positive"]
    chosen = [items[int(item) - 1] for item in events.item]
    return Past(chosen, [time / 1e6 for time in events.time.tolist()], [names[code] for code in events.action])


def request_of(asked: Asked, log: RandomLog, predictor: Predictor) -> Request:
    past = asked.past.pop("history", None) or known_past(predictor, asked.user)
    items = asked.rows["item_id"].to_list()
    return Request(asked.user, items, asked.time, asked.features, asked.item_features, past, asked.past)


def largest_difference(log: RandomLog, predictor: Predictor, scorer: Scorer) -> float:
    """Return the largest difference of a logit, of requests alone and together."""
    draw, inputs, wanted = np.random.default_rng(log.seed), [], []
    for _ in range(REQUESTS):
        asked = log.asked(draw)
        rows = asked.rows if log.user else asked.rows.drop("user_id")
        found = pl.concat(predictor.predict(source_of(rows if log.time else rows.drop("time"))))
        wanted.append(found.select(f"logit_{task}" for task in predictor.schema.tasks).to_numpy())
        inputs.append(scorer.reader.arrays(request_of(asked, log, predictor)))
    alone = np.concatenate([scorer.logits(one) for one in inputs])
    both = np.stack((alone, scorer.logits(together(inputs))))
    return float(np.abs(both - np.concatenate(wanted)).max())


@pytest.mark.long
@settings(max_examples=EXAMPLES, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(random_logs(), st.sampled_from(sorted(CASES)))
def test_requests_get_what_their_rows_are_predicted(log: RandomLog, case: str) -> None:
    kind, options = CASES[case]
    if case == "hstu-transducers" and not (log.user and log.time and log.history in ("samples", "behaviors")):
        options = {}  # such a log has but one kind of action
    with tempfile.TemporaryDirectory() as name:
        predictor = trained(log, kind, options, Path(name))
        place, _ = export(predictor, Path(name) / "artefact", {})
        worst = largest_difference(log, predictor, Scorer.open(place))
    print(f"{worst:.2e} {case} {log}")
    assert worst <= NEAR
