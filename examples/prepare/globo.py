"""Make examples/globo*.yaml's Parquet files: python examples/prepare/globo.py FOLDER OUT

FOLDER holds what the publisher of Globo.com's news clicks gives (clicks/clicks_hour_*.csv). OUT gets
`globo_clicks.parquet`, every click in time order, and `globo_ranking.parquet`, clicks of the most active readers with
three sampled negatives each. Nothing but the past is used, so that no rule about the future can tell the two apart:

- readers with at least 15 clicks in the log's first five days, which is before the half that the examples score;
- positives: their clicks on an article that somebody else clicked in the hour before;
- negatives: articles of clicks of that hour, strictly before, in proportion to how often, this reader's own included;
  only the positive's article is left out;
- the positive stands anywhere in its list of four.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import polars as pl

DAY, HOUR = 86_400, 3_600
ACTIVE_CLICKS, ACTIVE_DAYS = 15, 5
END = 1_508_241_600  # 2017-10-17 12:00 UTC: from here on the log is sparse
NEGATIVES, ROUNDS = 3, 200
MIN_CLICKS = 50  # in the hour before: the log's first minute and its end have too few articles to draw from
CONTEXT = {
    "click_environment": "environment",
    "click_deviceGroup": "device_group",
    "click_os": "os",
    "click_country": "country",
    "click_region": "region",
    "click_referrer_type": "referrer_type",
}


def read_clicks(folder: Path) -> pl.DataFrame:
    """Return every click in time order: event_id, timestamp (s), user_id, item_id, label 1, the session, context, and
    item_age_s, the seconds since the article's first click.
    """
    raw = pl.scan_csv(sorted(folder.rglob("clicks_hour_*.csv")))
    clicks = raw.select(
        timestamp=pl.col("click_timestamp") // 1_000,
        user_id="user_id",
        item_id="click_article_id",
        label=pl.lit(1, pl.Int8),
        session_key="session_id",
        session_start_s=pl.col("session_start") // 1_000,
        **{new: pl.col(old) for old, new in CONTEXT.items()},
    )
    ordered = clicks.sort("timestamp", "user_id", "item_id").collect()
    age = pl.col("timestamp") - pl.col("timestamp").min().over("item_id")
    return ordered.with_columns(item_age_s=age).with_row_index("event_id").cast({"event_id": pl.Int64})


def active_users(clicks: pl.DataFrame) -> pl.Series:
    """Return the users with enough clicks in the log's first days."""
    first = clicks.filter(pl.col("timestamp") < clicks["timestamp"][0] + ACTIVE_DAYS * DAY)
    return first.group_by("user_id").len().filter(pl.col("len") >= ACTIVE_CLICKS)["user_id"]


def clicked_by_others(clicks: pl.DataFrame) -> np.ndarray:
    """Return bool [n]: whether another user clicked the same article in the hour before, strictly."""
    counts = []
    for keys in (["item_id"], ["item_id", "user_id"]):
        group = clicks.select(pl.struct(keys).rank("dense"))[:, 0].to_numpy().astype(np.int64) << 34
        at = group + clicks["timestamp"].to_numpy()
        ordered = np.sort(at)
        counts.append(np.searchsorted(ordered, at) - np.searchsorted(ordered, np.maximum(at - HOUR, group)))
    return counts[0] > counts[1]


def draw_negatives(clicks: pl.DataFrame, rows: np.ndarray, seed: int) -> np.ndarray:
    """Return int64 [n, NEGATIVES]: for each of `rows` the clicks whose articles are its negatives, -1 where none."""
    random = np.random.default_rng(seed)
    time, item = clicks["timestamp"].to_numpy(), clicks["item_id"].to_numpy()
    low, high = np.searchsorted(time, time[rows] - HOUR), np.searchsorted(time, time[rows])
    drawn = np.full((len(rows), NEGATIVES), -1)
    for place in range(NEGATIVES):
        left = np.flatnonzero(high > low)
        for _ in range(ROUNDS):
            at = random.integers(low[left], high[left])
            taken = np.where(drawn[left, :place] >= 0, item[drawn[left, :place]], -1)
            good = (item[at] != item[rows[left]]) & (taken != item[at][:, None]).all(1)
            drawn[left[good], place] = at[good]
            left = left[~good]
    return drawn


def ranking(clicks: pl.DataFrame, seed: int = 0) -> pl.DataFrame:
    """Return lists of one positive and three negatives, in time order."""
    mine = clicks["user_id"].is_in(active_users(clicks).implode()).to_numpy()
    time = clicks["timestamp"].to_numpy()
    enough = np.searchsorted(time, time) - np.searchsorted(time, time - HOUR) >= MIN_CLICKS
    rows = np.flatnonzero(mine & clicked_by_others(clicks) & enough & (time < END))
    drawn = draw_negatives(clicks, rows, seed)
    rows, drawn = rows[(drawn >= 0).all(1)], drawn[(drawn >= 0).all(1)]
    lists = np.concatenate([rows[:, None], drawn], 1)
    order = np.argsort(np.random.default_rng(seed + 1).random(lists.shape), 1)  # the positive stands anywhere
    places, label = np.take_along_axis(lists, order, 1).ravel(), (order == 0).ravel()
    first = clicks.group_by("item_id").agg(first=pl.col("timestamp").min())
    shown = clicks[np.repeat(rows, NEGATIVES + 1)].with_columns(
        item_id=clicks["item_id"].gather(places),
        label=pl.Series(label).cast(pl.Int8),
        request_id=pl.Series(np.repeat(np.arange(len(rows)), NEGATIVES + 1)),
    )
    aged = shown.join(first, on="item_id", how="left", maintain_order="left")
    aged = aged.with_columns(item_age_s=pl.col("timestamp") - pl.col("first"))
    numbered = aged.drop("event_id").with_row_index("event_id").cast({"event_id": pl.Int64})
    ids = ["event_id", "timestamp", "user_id", "item_id", "label", "request_id"]
    return numbered.select(*ids, *CONTEXT.values(), "item_age_s")


def main(folder: Path, out: Path) -> None:
    """Write both files."""
    out.mkdir(parents=True, exist_ok=True)
    clicks = read_clicks(folder)
    clicks.write_parquet(out / "globo_clicks.parquet")
    lists = ranking(clicks)
    lists.write_parquet(out / "globo_ranking.parquet")
    print(f"{len(clicks):,} clicks, {len(lists):,} rows to rank of {lists['user_id'].n_unique():,} users in {out}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
