"""Public logs of feeds in their publishers' own format: KuaiVideo, Tenrec, Yambda, EB-NeRD."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from recdistill.errors import UserError
from tests.data.readers.test_public import opened, put, seconds

HEAD = "timestamp,user_id,item_id,is_click,is_like,is_follow,pos_items,neg_items\n"


@pytest.mark.parametrize(("scale", "seconds_each"), [(1, 1.0), (1_000, 0.001)])
def test_kuaivideo(scale: int, seconds_each: float, tmp_path: Path) -> None:
    at = [761_105_059 * scale, 761_105_061 * scale, 761_105_060 * scale]
    put(
        tmp_path / "set",
        {
            "train.csv": f"{HEAD}{at[0]},7,11,1,0,0,,3^4\n{at[1]},8,12,0,0,0,5^6,\n",
            "test.csv": f"{HEAD}{at[2]},7,12,1,1,1,11,3\n",
            "item_visual_emb_dim64.h5": "",
        },
    )
    log, events, behaviors = opened(tmp_path, "kuaivideo")
    assert log.schema.tasks == ("click", "like", "follow") and behaviors is None and not log.schema.features
    assert events["time"].to_list() == seconds(*(value * seconds_each for value in sorted(at)))
    assert events["user_id"].to_list() == [7, 7, 8] and events["item_id"].to_list() == [11, 12, 12]
    assert events["label_click"].to_list() == [1, 1, 0] and events["label_follow"].to_list() == [0, 1, 0]
    put(tmp_path / "set", {"test.csv": f"{HEAD}soon,7,12,1,1,1,11,3\n"})
    with pytest.raises(UserError, match="test.csv: row 0, column 'timestamp': not a time"):
        opened(tmp_path, "kuaivideo")


SHOWN = "user_id,item_id,click,follow,like,share,video_category,watching_times,gender,age"


def test_tenrec(tmp_path: Path) -> None:
    past = ",".join(f"hist_{k}" for k in range(1, 11))
    put(
        tmp_path / "set",
        {
            "QB-video.csv": f"{SHOWN}\n1,4,0,0,0,0,1,0,1,4\n1,1201,1,0,1,0,\\N,1,1,4\n9,4,0,0,0,0,0,0,\\N,2\n",
            "ctr_data_1M.csv": f"{SHOWN},{past}\n1,4,1,0,0,0,1,0,1,4,2,3,80936,781,111774,1230,26403,991,2362,1202\n",
        },
    )
    log, events, behaviors = opened(tmp_path, "tenrec")
    assert log.schema.tasks == ("click", "follow", "like", "share") and behaviors is None and not log.schema.has_time
    assert events["user_id"].to_list() == [1, 1, 9] and events["item_id"].to_list() == [4, 1201, 4]
    assert events["label_click"].to_list() == [0, 1, 0] and events["label_like"].to_list() == [0, 1, 0]
    assert events["feature_video_category"].to_list() == ["1", None, "0"]
    assert events["feature_gender"].to_list() == ["1", "1", None] and len(log.schema.features) == 3
    log, events, _ = opened(tmp_path, "tenrec", options={"log": "ctr_data_1M"})
    assert events["label_click"].to_list() == [1] and len(log.schema.features) == 3
    with pytest.raises(UserError, match="holds no QK-video.csv"):
        opened(tmp_path, "tenrec", options={"log": "QK-video"})


def test_yambda(tmp_path: Path) -> None:
    kinds = pl.Enum(["listen", "like", "dislike", "unlike", "undislike"])
    unsigned = {"uid": pl.UInt32, "timestamp": pl.UInt32, "item_id": pl.UInt32, "is_organic": pl.UInt8}
    listened = {"played_ratio_pct": pl.UInt16, "track_length_seconds": pl.UInt32}
    rows = [
        (10, 15, 7, 1, "listen", 120, 180),
        (10, 15, 7, 1, "like", None, None),
        (20, 5, 8, 0, "listen", 49, 200),
        (20, 10, 7, 0, "listen", None, 180),
        (20, 20, 9, 0, "dislike", None, None),
    ]
    names = {**unsigned, "event_type": kinds, **listened}
    every = pl.DataFrame(rows, schema=names, orient="row")
    (tmp_path / "set").mkdir()
    every.write_parquet(tmp_path / "set" / "multi_event.parquet")
    listens = every.filter(pl.col("event_type") == "listen").drop("event_type")
    listens.write_parquet(tmp_path / "set" / "listens.parquet")
    likes = every.filter(pl.col("event_type") == "like").drop("event_type", *listened)
    likes.write_parquet(tmp_path / "set" / "likes.parquet")
    log, events, behaviors = opened(tmp_path, "yambda")
    assert log.schema.tasks == ("listened",) and events["label_listened"].to_list() == [0, None, 1]
    assert events["time"].to_list() == seconds(5, 10, 15) and events["user_id"].to_list() == [20, 20, 10]
    assert events["item_id"].to_list() == [8, 7, 7] and events["feature_is_organic"].to_list() == [0, 0, 1]
    assert events["feature_track_length_seconds"].to_list() == [200, 180, 180]
    assert behaviors is not None
    assert behaviors["action"].to_list() == ["listen", "listen", "listen", "like", "dislike"]
    alone, found, nothing = opened(tmp_path, "yambda", options={"events": "listens", "at_least": 40})
    assert nothing is None and found["label_listened"].to_list() == [1, None, 1]
    assert alone.schema.features == log.schema.features and found.drop("label_listened", "sample_id").equals(
        events.drop("label_listened", "sample_id")
    )
    log, events, behaviors = opened(tmp_path, "yambda", options={"events": "likes"})
    assert log.schema.tasks == ("like",) and events["label_like"].to_list() == [1] and behaviors is None


def eb_nerd(folder: Path) -> None:
    """Write a week of two impressions, one history and three articles, in the types that are published."""
    at = datetime(2023, 5, 18, 7, 0, 0)
    shown = {
        "impression_id": pl.Series([153, 152], dtype=pl.UInt32),
        "article_id": pl.Series([None, 9778745], dtype=pl.Int32),
        "impression_time": pl.Series([at + timedelta(minutes=1), at], dtype=pl.Datetime("us")),
        "read_time": pl.Series([21.0, 30.0], dtype=pl.Float32),
        "device_type": pl.Series([2, 1], dtype=pl.Int8),
        "article_ids_inview": pl.Series([[3, 1], [2, 1, 3]], dtype=pl.List(pl.Int32)),
        "article_ids_clicked": pl.Series([[1], [3, 9]], dtype=pl.List(pl.Int32)),
        "user_id": pl.Series([22779, 150224], dtype=pl.UInt32),
        "is_sso_user": [False, True],
        "gender": pl.Series([None, 1.0], dtype=pl.Float64),
        "postcode": pl.Series([None, 2.0], dtype=pl.Float64),
        "age": pl.Series([None, 50.0], dtype=pl.Float64),
        "is_subscriber": [False, False],
        "session_id": pl.Series([21, 298], dtype=pl.UInt32),
        "next_read_time": pl.Series([16.0, 2.0], dtype=pl.Float32),
    }
    past = {
        "user_id": pl.Series([22779], dtype=pl.UInt32),
        "impression_time_fixed": pl.Series(
            [[datetime(2023, 4, 28), datetime(2023, 4, 27)]], dtype=pl.List(pl.Datetime)
        ),
        "article_id_fixed": pl.Series([[2, 5]], dtype=pl.List(pl.Int32)),
        "read_time_fixed": pl.Series([[17.0, 12.0]], dtype=pl.List(pl.Float32)),
    }
    about = {
        "article_id": pl.Series([1, 2, 3], dtype=pl.Int32),
        "category": pl.Series([142, 118, 142], dtype=pl.Int16),
        "article_type": ["article_default", "article_video", "article_default"],
        "premium": [False, True, False],
        "sentiment_label": ["Neutral", "Negative", "Positive"],
        "subcategory": pl.Series([[196, 271], [], [133]], dtype=pl.List(pl.Int16)),
        "topics": [["Sport"], [], ["Erhverv", "Privat virksomhed"]],
        "total_pageviews": pl.Series([5, None, 7], dtype=pl.Int32),
    }
    (folder / "train").mkdir(parents=True)
    pl.DataFrame(shown).write_parquet(folder / "train" / "behaviors.parquet")
    pl.DataFrame(past).write_parquet(folder / "train" / "history.parquet")
    pl.DataFrame(about).write_parquet(folder / "articles.parquet")


def test_eb_nerd(tmp_path: Path) -> None:
    eb_nerd(tmp_path / "set")
    log, events, behaviors = opened(tmp_path, "eb-nerd")
    assert events["request_id"].to_list() == [152] * 3 + [153] * 2 and events["user_id"][4] == 22779
    assert events["item_id"].to_list() == [2, 1, 3, 3, 1] and events["label_click"].to_list() == [0, 0, 1, 0, 1]
    assert events["time"].unique().sort().to_list() == seconds(1684393200, 1684393260)
    assert events["feature_category"].to_list() == [118, 142, 142, 142, 142]
    assert events["feature_premium"].to_list() == [1, 0, 0, 0, 0] and events["feature_age"].to_list()[2:4] == [
        "50",
        None,
    ]
    assert events["feature_subcategory"].to_list()[1:3] == [["196", "271"], ["133"]]
    assert events["feature_topics"].to_list()[2] == ["Erhverv", "Privat virksomhed"]
    measured = ("read_time", "pageviews", "subscriber", "session")
    assert not any(word in name for name in log.schema.features for word in measured)
    assert behaviors is not None and behaviors["item_id"].to_list() == [5, 2, 3, 9, 1]
    assert behaviors["user_id"].to_list() == [22779, 22779, 150224, 150224, 22779]
    assert set(behaviors["action"]) == {"click"} and behaviors["time"][1] < events["time"][0]
    assert log.notes() == ["eb-nerd: 1 clicks on articles that were not in view left out"]
    with pytest.raises(UserError, match="holds no validation/behaviors.parquet"):
        opened(tmp_path, "eb-nerd", options={"split": "validation"})
