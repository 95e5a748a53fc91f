"""What vectors, weights and sequences in rows are worth: `python benchmarks/quality/features.py --data DATA` (10 min of
one core).

A raw student learns from a public log with and without one of them, from paired seeds; the later half is scored, every
row alike. What is added is made of the log's past alone:

vectors    of movies and hotels: singular vectors of who liked or looked at what in the log's first quarter
weights    MovieLens: ratings of 1 and 5, where the taste is clear, count three times; Open Bandit: one over the chance
           with which the old policy showed the item (at most 10 times the median), scored on what was shown at random
sequences  Globo: the reader's newest 50 clicks as lists in every row, in place of the history that the log's own rows
           give, and next to it

Per log: GAUC and NE of both, and the gain with its 95 % interval over users and seeds (larger is better for both). No
budget: a table. Not part of `make bench`, for it needs the logs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).parent.parent))
from _common import report
from _paired import interval, recorded, replicates, trained

from recdistill.app.run import ingest_stage, open_run
from recdistill.config.experiment import Experiment
from recdistill.config.load import load_text
from recdistill.evaluate.window import Frame, load_window
from recdistill.runs.jobs import pairs_of
from recdistill.tables.events import EventLog
from recdistill.typing import Array

SEEDS, WIDTH, CLICKS = (0, 1, 2, 3, 4), 16, 50
GLOBO_ROWS = 200_000
LARGEST_WEIGHT = 10.0
STUDENT = "din, width: 16, history: 50, batch: 64, dense_rate: 2.0e-3"

MOVIELENS = """
name: movielens
data:
  path: log.parquet
  columns: {sample_id: event_id, time: timestamp, time_unit: s, user: user_id, item: item_id,
            tasks: {like: {column: rating, at_least: 4}}, categorical: [age, gender, occupation, release_year],
            lists: {class: " "}}
evaluate: {start: 0.5, group: user}
"""
TRIVAGO = """
name: trivago
data:
  path: log.parquet
  columns: {sample_id: event_id, time: timestamp, time_unit: s, user: user_id, item: item_id, request: request_id,
            tasks: {click: label}, categorical: [position, price_rank, n_impressions, platform, city, device],
            numeric: [price], lists: {current_filters: "|"}}
  behaviors: {path: actions.parquet, time: timestamp, time_unit: s, action: action_type}
evaluate: {start: 0.5, group: request}
"""
GLOBO = """
name: globo
data:
  path: log.parquet
  columns: {sample_id: event_id, time: timestamp, time_unit: s, user: user_id, item: item_id, request: request_id,
            tasks: {click: label}, categorical: [environment, device_group, os, country, region, referrer_type],
            numeric: [item_age_s]}
evaluate: {start: 0.5, group: request}
"""
BANDIT = """
name: open-bandit
data:
  path: log.parquet
  columns: {sample_id: event_id, time: timestamp, time_unit: s, user: user_id, item: item_id, tasks: {click: label},
            categorical: [position, campaign, user_feature_0, user_feature_1, user_feature_2, user_feature_3,
                          item_feature_1, item_feature_2, item_feature_3, policy], numeric: [item_feature_0]}
evaluate: {start: 0.5, group: user}
"""
VECTORS = ["data.vectors={taste: {path: vectors.parquet, key: item_id, column: vector}}"]
WEIGHTS = ["data.columns.weight=weight"]
ITEMS = "{items: click_items, times: click_times}"
# what is added -> (log, its experiment, keys added)
ADDED = {
    "vectors, MovieLens-100K": ("movielens", MOVIELENS, VECTORS),
    "vectors, trivago": ("trivago", TRIVAGO, VECTORS),
    "weights, MovieLens-100K": ("movielens", MOVIELENS, WEIGHTS),
    "weights, Open Bandit": ("bandit", BANDIT, WEIGHTS),
    "sequence as the history, Globo": ("globo", GLOBO, [f"data.columns.sequences={{history: {ITEMS}}}"]),
    "sequence next to the history, Globo": ("globo", GLOBO, [f"data.columns.sequences={{clicks: {ITEMS}}}"]),
}


def vectors_of(pairs: pl.DataFrame) -> pl.DataFrame:
    """Return item_id and vector, float32 [WIDTH], of the pairs (user_id, item_id): singular vectors of the items' part
    of the matrix of users and items, whose entries are divided by the root of what their row and column hold.
    """
    pairs = pairs.unique().drop_nulls()
    user, item = (pairs[name].rank("dense").to_numpy().astype(np.int64) - 1 for name in ("user_id", "item_id"))
    degree = np.sqrt(np.bincount(user)[user] * np.bincount(item)[item])
    right = np.random.default_rng(0).standard_normal((item.max() + 1, WIDTH))
    for _ in range(20):  # subspace iteration: the matrix is sparse, its largest vectors are few
        left = _summed(user, right[item] / degree[:, None])
        right, _ = np.linalg.qr(_summed(item, left[user] / degree[:, None]))
    ids = pairs["item_id"].unique().sort()
    scaled = (right * np.sqrt(len(ids))).astype(np.float32)
    return pl.DataFrame({"item_id": ids, "vector": pl.Series(scaled.tolist(), dtype=pl.List(pl.Float32))})


def _summed(at: Array, rows: Array) -> Array:
    """Return float64 [max(at) + 1, W], the rows [N, W] added up by `at` [N]."""
    total = np.zeros((at.max() + 1, rows.shape[1]))
    np.add.at(total, at, rows)
    return total


def first_quarter(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of the first quarter of a log in order of time."""
    return rows.head(len(rows) // 4)


def movielens(data: Path, folder: Path) -> None:
    """Write the log with weights, and the movies' vectors."""
    rows = pl.read_parquet(data / "movielens_100k.parquet")
    clear = pl.when(pl.col("rating").cast(pl.Int64).is_in([1, 5])).then(3.0).otherwise(1.0)
    rows.with_columns(weight=clear).write_parquet(folder / "log.parquet")
    vectors_of(first_quarter(rows).filter(pl.col("rating") >= 4).select("user_id", "item_id")).write_parquet(
        folder / "vectors.parquet"
    )


def trivago(data: Path, folder: Path) -> None:
    """Write the log, its actions, and the hotels' vectors."""
    pl.read_parquet(data / "trivago_hotels.parquet").write_parquet(folder / "log.parquet")
    actions = pl.read_parquet(data / "trivago_actions.parquet")
    actions.write_parquet(folder / "actions.parquet")
    vectors_of(first_quarter(actions.sort("timestamp")).select("user_id", "item_id")).write_parquet(
        folder / "vectors.parquet"
    )


def bandit(data: Path, folder: Path) -> None:
    """Write the log with weights of one over the propensity, which has no more than a mean of 1."""
    weight = (1 / pl.col("propensity_score")).clip(
        upper_bound=LARGEST_WEIGHT * (1 / pl.col("propensity_score")).median()
    )
    rows = pl.read_parquet(data / "obd_fashion.parquet")
    rows.with_columns(weight=weight / weight.mean()).write_parquet(folder / "log.parquet")


def globo(data: Path, folder: Path) -> None:
    """Write the log's first rows with each reader's newest clicks strictly before it."""
    rows = pl.read_parquet(data / "globo_ranking.parquet").head(GLOBO_ROWS)
    clicks = pl.read_parquet(data / "globo_clicks.parquet", columns=["user_id", "item_id", "timestamp"])
    clicks = clicks.filter(pl.col("user_id").is_in(rows["user_id"].unique().implode())).sort("user_id", "timestamp")
    user, time = (clicks[name].to_numpy().astype(np.int64) for name in ("user_id", "timestamp"))
    span = int(max(time.max(), rows["timestamp"].max())) + 1
    asked = rows["user_id"].to_numpy().astype(np.int64) * span
    ends = np.searchsorted(user * span + time, asked + rows["timestamp"].to_numpy(), "left")
    starts = np.maximum(np.searchsorted(user * span, asked, "left"), ends - CLICKS)
    lists = {
        name: [clicks[column][low:high] for low, high in zip(starts.tolist(), ends.tolist(), strict=True)]
        for name, column in (("click_items", "item_id"), ("click_times", "timestamp"))
    }
    rows.with_columns(**{name: pl.Series(name, values) for name, values in lists.items()}).write_parquet(
        folder / "log.parquet"
    )


PREPARE = {"movielens": movielens, "trivago": trivago, "bandit": bandit, "globo": globo}


def experiment_of(text: str, added: list[str]) -> Experiment:
    """Return the experiment with one student."""
    sets = [f"students={{light: {{kind: {STUDENT}}}}}", f"evaluate.seeds={list(SEEDS)}", "checkpoint_rows=100000"]
    return load_text(text, [*sets, *added])


def scored(experiment: Experiment, data: Path, folder: Path) -> tuple[Frame, list[Array]]:
    """Return the scored rows and the logits that each seed's student recorded for them."""
    with open_run(experiment, data, folder, trains=False) as run:
        ingest_stage(run, experiment, data)
        jobs = [raw for raw, _ in pairs_of(experiment)["light"]]
        trained(run, experiment, jobs)
        events, evaluate = EventLog.open(run.tables / "events"), experiment.evaluate
        task = events.schema.tasks[0]
        features = [name for name in ("policy",) if name in events.schema.features]
        frame = load_window(events, events.version, task, evaluate.start, evaluate.group, features)
        return frame, recorded(run, frame, jobs, task)


def measure(name: str, data: Path, folder: Path) -> list[str]:
    """Return the table's row of one addition."""
    log, text, added = ADDED[name]
    (folder / "log").mkdir()
    PREPARE[log](data, folder / "log")
    frame, without = scored(experiment_of(text, []), folder / "log", folder / "without")
    weighted, with_ = scored(experiment_of(text, added), folder / "log", folder / "with")
    if not np.array_equal(frame.ids, weighted.ids):
        raise SystemExit(f"{name}: the two runs scored other rows")
    logits = {"without": without, "with": with_}
    if log == "bandit":
        kept = (frame.rows["feature_policy"] == "random").to_numpy()
        frame = replace(frame, rows=frame.rows.filter(pl.Series(kept)), samples=frame.samples.where(kept))
        logits = {key: [one[kept] for one in of_seeds] for key, of_seeds in logits.items()}
    found = replicates(frame, logits)
    pairs = [(found["without"][metric], found["with"][metric]) for metric in ("gauc", "ne")]
    cells = [[f"{abs(low[0]):.4f}, {abs(high[0]):.4f}", interval(high - low)] for low, high in pairs]
    return [name, f"{len(frame.rows):,}", *cells[0], *cells[1]]


def main() -> int:
    """Measure every addition, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the logs (docs/howto/public-logs.md)")
    parser.add_argument("--only", default="", help="additions whose name holds this")
    given, rows = parser.parse_args(), []
    for name in (one for one in ADDED if given.only in one):
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure(name, given.data, Path(folder)))
    columns = ("what, log", "scored rows", "GAUC without, with", "gain", "NE without, with", "gain (minus NE)")
    return report("what vectors, weights and sequences are worth", columns, rows, True, "none")


if __name__ == "__main__":
    sys.exit(main())
