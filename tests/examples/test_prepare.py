"""The scripts that make the examples' Parquet files from publishers' files, on small made ones: what they hold, that
the examples read them, and that Globo's sampled negatives know nothing but the past.
"""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import polars as pl
import pytest

from recdistill.app.run import ingest_stage, open_run
from recdistill.config.load import load_file
from recdistill.tables.events import EventLog
from tests.support.paths import ROOT

START = 1_506_826_800
CLICKS = (
    "user_id,session_id,session_start,session_size,click_article_id,click_timestamp,click_environment,click_deviceGroup,"
    "click_os,click_country,click_region,click_referrer_type\n"
)


def script(name: str) -> ModuleType:
    """Return one of examples/prepare as a module."""
    spec = importlib.util.spec_from_file_location(f"prepare_{name}", ROOT / "examples" / "prepare" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ingested(example: str, data: Path, run: Path) -> pl.DataFrame:
    """Return the events that an example's experiment makes of the files in `data`."""
    experiment = load_file(ROOT / "examples" / f"{example}.yaml")
    with open_run(experiment, data, run, trains=False) as folder:
        ingest_stage(folder, experiment, data)
        return pl.concat(list(EventLog.open(folder.tables / "events").batches()))


@pytest.fixture(scope="module")
def news(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two thousand clicks of forty readers on some thirty articles within three hours, in two files, prepared."""
    folder = tmp_path_factory.mktemp("news")
    draw = np.random.default_rng(0)
    times = START + np.sort(draw.integers(0, 10_800, 2_000))
    users = draw.integers(0, 40, 2_000)
    articles = 100 + (times - START) // 600 + draw.integers(0, 12, 2_000)  # they come and go, as news does
    rows = [
        f"{user},{user}0{time},{time}000,2,{article},{time}123,4,1,17,1,21,2\n"
        for time, user, article in zip(times, users, articles, strict=True)
    ]
    (folder / "clicks").mkdir()
    for number, part in enumerate((rows[1_000:], rows[:1_000])):  # files are not in order of time
        (folder / "clicks" / f"clicks_hour_{number:03}.csv").write_text(CLICKS + "".join(part))
    script("globo").main(folder, folder / "out")
    return folder / "out"


def test_globo_clicks_are_in_order_and_aged(news: Path) -> None:
    clicks = pl.read_parquet(news / "globo_clicks.parquet")
    assert len(clicks) == 2_000 and clicks["timestamp"].is_sorted() and clicks["label"].sum() == 2_000
    first = clicks.group_by("item_id").agg(pl.col("item_age_s").min(), first=pl.col("timestamp").min())
    assert first["item_age_s"].sum() == 0
    aged = clicks.join(first.select("item_id", "first"), on="item_id")
    assert (aged["timestamp"] - aged["first"]).equals(aged["item_age_s"], check_names=False)


def test_globo_lists_are_made_of_the_past(news: Path) -> None:
    clicks, rows = pl.read_parquet(news / "globo_clicks.parquet"), pl.read_parquet(news / "globo_ranking.parquet")
    lists = rows.group_by("request_id").agg(pl.len(), pl.col("label").sum(), items=pl.col("item_id").n_unique())
    assert len(lists) > 1_500 and lists.select("len", "label", "items").unique().rows() == [(4, 1, 4)]
    positives = rows.filter(label=1).join(clicks, on=["timestamp", "user_id", "item_id"], how="semi")
    assert len(positives) == len(lists)
    for row in rows.sample(300, seed=1).iter_rows(named=True):
        hour = clicks.filter(pl.col("timestamp").is_between(row["timestamp"] - 3_600, row["timestamp"], closed="left"))
        seen = hour.filter(item_id=row["item_id"])
        assert len(seen) > 0 and row["item_age_s"] > 0
        assert row["label"] == 0 or (seen["user_id"] != row["user_id"]).any()
    places = rows.with_columns(place=pl.int_range(pl.len()).over("request_id")).filter(label=1)["place"]
    assert places.value_counts()["count"].min() > len(lists) / 5  # the positive stands anywhere


def test_globo_positives_were_clicked_by_somebody_else_before() -> None:
    clicks = pl.DataFrame(
        {"timestamp": [0, 10, 10, 20, 3_620, 3_621], "user_id": [1, 1, 2, 1, 3, 3], "item_id": [7, 7, 7, 7, 7, 7]}
    )
    assert script("globo").clicked_by_others(clicks).tolist() == [False, False, True, True, True, False]


def test_globo_negatives_may_be_articles_the_reader_clicks(news: Path) -> None:
    """The fault of the withdrawn log: an article that was a negative once was never clicked at any time."""
    rows = pl.read_parquet(news / "globo_ranking.parquet")
    pairs = rows.group_by("user_id", "item_id").agg(pl.col("label").max(), low=pl.col("label").min())
    assert len(pairs.filter((pl.col("label") == 1) & (pl.col("low") == 0))) > len(pairs) / 2


@pytest.mark.parametrize("example", ["globo", "globo-ablation", "globo-crossfit", "globo-stream"])
def test_the_globo_examples_read_them(example: str, news: Path, tmp_path: Path) -> None:
    events = ingested(example, news, tmp_path / "run")
    rows = pl.read_parquet(news / "globo_ranking.parquet")
    assert events["sample_id"].sort().equals(rows["event_id"], check_names=False)
    assert events["label_click"].sum() == rows["label"].sum()


def test_movielens(tmp_path: Path) -> None:
    (tmp_path / "u.data").write_text("196\t242\t3\t881250949\n186\t302\t4\t891717742\n196\t302\t5\t881250949\n")
    (tmp_path / "u.user").write_text("186|39|F|executive|00000\n196|49|M|writer|55105\n")
    comedy, drama = "0|0|0|0|0|1" + "|0" * 13, "0|0|0|0|0|0|0|0|1|0|0|1" + "|0" * 7
    (tmp_path / "u.item").write_text(f"242|Kolya (1996)|a||b|{comedy}\n302|Misérables, Les|a||b|{drama}\n", "latin-1")
    script("movielens").main(tmp_path, tmp_path / "out")
    rows = pl.read_parquet(tmp_path / "out" / "movielens_100k.parquet")
    assert rows.select("timestamp", "user_id", "item_id", "label").rows() == [
        (881250949, 196, 242, 0),
        (881250949, 196, 302, 1),
        (891717742, 186, 302, 1),
    ]
    assert rows.select("release_year", "class", "occupation").rows()[:2] == [
        ("1996", "Comedy", "writer"),
        ("unknown", "Drama Horror", "writer"),
    ]
    events = ingested("movielens-100k", tmp_path / "out", tmp_path / "run")
    assert events.sort("sample_id")["label_like"].to_list() == [0, 1, 1]


TRIVAGO = (
    "user_id,session_id,timestamp,step,action_type,reference,platform,city,device,current_filters,impressions,prices\n"
    "B,s2,1541548990,1,search for destination,Prado,BR,Prado,mobile,,,\n"
    "A,s1,1541548960,2,clickout item,20,AU,Bendigo,tablet,5 Star|Spa,10|20|30,70|50|60\n"
    "A,s1,1541548955,1,interaction item image,10,AU,Bendigo,tablet,,,\n"
)


def test_trivago(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(TRIVAGO)
    script("trivago").main(tmp_path / "train.csv", tmp_path / "out")
    rows = pl.read_parquet(tmp_path / "out" / "trivago_hotels.parquet")
    assert rows.select("item_id", "label", "position", "price", "price_rank").rows() == [
        (10, 0, 0, 70, 3),
        (20, 1, 1, 50, 1),
        (30, 0, 2, 60, 2),
    ]
    actions = pl.read_parquet(tmp_path / "out" / "trivago_actions.parquet")
    assert actions.select("timestamp", "item_id", "label").rows() == [
        (1541548955, 10, 0),
        (1541548960, 20, 1),
        (1541548990, None, 0),
    ]
    assert ingested("trivago", tmp_path / "out", tmp_path / "run")["label_click"].sum() == 1
    script("trivago").main(tmp_path / "train.csv", tmp_path / "late", 1541548960, 1541549000)
    assert len(pl.read_parquet(tmp_path / "late" / "trivago_actions.parquet")) == 2
