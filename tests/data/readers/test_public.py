"""Each public log in its publisher's own format: ids, times, labels, features, behaviors as they stand in the files."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from recdistill.config.data import DataConfig
from recdistill.data.readers.base import Log
from recdistill.data.readers.factory import READERS, open_log
from recdistill.data.readers.published import PUBLISHED
from recdistill.errors import UserError
from tests.support.paths import ROOT


def put(folder: Path, files: dict[str, str], encoding: str = "utf-8") -> None:
    """Write files below `folder`."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding=encoding)


def opened(folder: Path, reader: str, **more: Any) -> tuple[Log, pl.DataFrame, pl.DataFrame | None]:
    """Return the log, its events, and its behaviors or None; all have the columns of the schema."""
    log = open_log(DataConfig(reader=reader, path="set", **more), folder)
    events = pl.concat(log.batches())
    assert dict(events.schema) == log.schema.columns()
    assert events["time"].is_sorted() and events["sample_id"].is_unique().all()
    behaviors = pl.concat(log.behaviors()) if log.behaviors else None
    assert behaviors is None or behaviors["time"].is_sorted()
    return log, events, behaviors


def seconds(*values: float) -> list[datetime]:
    return [datetime.fromtimestamp(value, UTC) for value in values]


def test_movielens_100k(tmp_path: Path) -> None:
    put(
        tmp_path / "set",
        {
            "u.data": "196\t242\t3\t881250949\n186\t302\t4\t891717742\n196\t302\t5\t881250000\n",
            "u.user": "186|39|F|executive|00000\n196|49|M|writer|55105\n",
            "u.item": "242|Kolya "
            "(1996)|24-Jan-1997||http://us.imdb.com/M/title-exact?Kolya%20(1996)|0|0|0|0|0|1|0|0|0|0|0|0|0|0|0|0|0|0|0\n302|Misérables, Les (1995)|01-Jan-1995||http://us.imdb.com/|0|0|0|0|0|0|0|0|1|0|0|1|0|0|0|0|0|0|0\n",
        },
        "latin-1",
    )
    log, events, behaviors = opened(tmp_path, "movielens")
    assert log.schema.tasks == ("like",) and behaviors is None
    assert events["time"].to_list() == seconds(881250000, 881250949, 891717742)
    assert events["user_id"].to_list() == [196, 196, 186] and events["item_id"].to_list() == [302, 242, 302]
    assert events["label_like"].to_list() == [1, 0, 1]
    assert events["feature_year"].to_list() == ["1995", "1996", "1995"] and events["feature_occupation"].to_list() == [
        "writer",
        "writer",
        "executive",
    ]
    assert events["feature_genres"].to_list() == [["Drama", "Horror"], ["Comedy"], ["Drama", "Horror"]]
    assert opened(tmp_path, "movielens", options={"at_least": 5})[1]["label_like"].to_list() == [1, 0, 0]


def test_movielens_1m_and_10m(tmp_path: Path) -> None:
    put(
        tmp_path / "set",
        {
            "ratings.dat": "1::1193::5::978300760\n2::661::3::978302109\n",
            "movies.dat": "661::Pokémon: The First Movie (1998)::Animation|Children's\n1193::One Flew Over the Cuckoo's Nest "
            "(1975)::Drama\n",
            "users.dat": "1::F::1::10::48067\n2::M::56::16::70072\n",
        },
        "latin-1",
    )
    _, events, _ = opened(tmp_path, "movielens")
    assert events["item_id"].to_list() == [1193, 661] and events["label_like"].to_list() == [1, 0]
    assert events["feature_gender"].to_list() == ["F", "M"] and events["feature_age"].to_list() == ["1", "56"]
    assert events["feature_year"].to_list() == ["1975", "1998"] and events["feature_genres"].to_list() == [
        ["Drama"],
        ["Animation", "Children's"],
    ]
    (tmp_path / "set" / "users.dat").unlink()
    put(tmp_path / "set", {"ratings.dat": "1::122::4.5::838985046\n"})
    _, events, _ = opened(tmp_path, "movielens")
    assert (
        "feature_gender" not in events.columns
        and events["label_like"].to_list() == [1]
        and events["feature_year"].to_list() == [None]
    )


def test_movielens_20m_and_25m(tmp_path: Path) -> None:
    put(
        tmp_path / "set",
        {
            "ratings.csv": "userId,movieId,rating,timestamp\n1,296,3.5,1147880044\n1,306,4.0,1147868817\n",
            "movies.csv": 'movieId,title,genres\n296,"Pulp, Fiction (1994)",Comedy|Crime\n306,Trois couleurs (1994),(no genres listed)\n',
            "tags.csv": "userId,movieId,tag,timestamp\n",
        },
    )
    _, events, _ = opened(tmp_path, "movielens")
    assert events["item_id"].to_list() == [306, 296] and events["label_like"].to_list() == [1, 0]
    assert (
        events["feature_genres"].to_list() == [["(no genres listed)"], ["Comedy", "Crime"]]
        and events["feature_year"].to_list() == ["1994"] * 2
    )


def test_movielens_names_the_line_that_is_wrong(tmp_path: Path) -> None:
    put(
        tmp_path / "set",
        {"ratings.dat": "1::1193::5::978300760\n2::661::x::978302109\n", "movies.dat": "1::A (1999)::Drama\n"},
    )
    with pytest.raises(UserError, match="ratings.dat: row 1, column 'rating': not a finite number; got 'x'"):
        opened(tmp_path, "movielens")
    with pytest.raises(UserError, match="the movielens has no 'atleast'; did you mean 'at_least'?"):
        opened(tmp_path, "movielens", options={"atleast": 3})
    with pytest.raises(UserError, match="data.options.at_least"):
        opened(tmp_path, "movielens", options={"at_least": "high"})
    (tmp_path / "set" / "ratings.dat").unlink()
    with pytest.raises(UserError, match="holds no u.data or ratings.dat or ratings.csv"):
        opened(tmp_path, "movielens")


LOG = "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab\n"
USER = (
    "user_id,user_active_degree,is_lowactive_period,is_live_streamer,is_video_author,follow_user_num,follow_user_num_range,fans_user_num,fans_user_num_range,friend_user_num,friend_user_num_range,register_days,register_days_range,"
    + ",".join(f"onehot_feat{k}" for k in range(18))
    + "\n"
)
VIDEO = (
    "video_id,author_id,video_type,upload_dt,upload_type,visible_status,video_duration,server_width,server_height,"
    "music_id,music_type,tag\n"
)


@pytest.mark.parametrize(("kind", "parts"), [("pure", [""]), ("1k", [""]), ("27k", ["_part1", "_part2"])])
def test_kuairand(kind: str, parts: list[str], tmp_path: Path) -> None:
    rows = [
        "3,1071,20220408,1600,1649408076860,1,0,0,0,0,0,1,175045,87433,0,0,0,0,1\n",
        "0,2000,20220408,1500,1649404476860,0,0,0,0,0,0,0,0,9000,0,0,0,0,4\n",
    ]
    texts = ["".join(rows)] if len(parts) == 1 else rows
    put(
        tmp_path / "set" / "data",
        {
            **{
                f"log_standard_4_08_to_4_21_{kind}{part}.csv": LOG + text
                for part, text in zip(parts, texts, strict=True)
            },
            f"log_random_4_22_to_5_08_{kind}.csv": LOG
            + "3,2000,20220422,400,1650571200000,1,0,0,0,0,0,0,1,9000,0,0,0,1,0\n",
            f"user_features_{kind}.csv": USER
            + '3,high_active,0,0,1,5,"(0,10]",312,"[100,1k)",0,0,3624,730+,'
            + ",".join(map(str, range(18)))
            + "\n",
            f"video_features_basic_{kind}.csv": VIDEO
            + '1071,123,NORMAL,2022-04-01,LongImport,0.0,87433.0,720,1280,9155697141,9.0,"39,5"\n',
            f"video_features_statistic_{kind}.csv": "video_id,counts\n",
        },
    )
    log, events, _ = opened(tmp_path, "kuairand")
    assert log.schema.tasks == ("is_click", "long_view")
    assert events["time"].to_list() == seconds(1649404476.86, 1649408076.86, 1650571200)
    assert events["user_id"].to_list() == [0, 3, 3] and events["item_id"].to_list() == [2000, 1071, 2000]
    assert events["label_is_click"].to_list() == [0, 1, 1] and events["label_long_view"].to_list() == [0, 1, 0]
    assert events["feature_follow_user_num_range"].to_list() == [None, "(0,10]", "(0,10]"]
    assert events["feature_onehot_feat17"].to_list() == [None, "17", "17"]
    assert events["feature_tag"].to_list() == [None, ["39", "5"], None] and events["feature_is_rand"].to_list() == [
        0,
        0,
        1,
    ]
    assert events["feature_duration_ms"].to_list() == [9000, 87433, 9000]
    assert len(opened(tmp_path, "kuairand", options={"logs": "random"})[1]) == 1
    with pytest.raises(UserError, match="data.options.logs"):
        opened(tmp_path, "kuairand", options={"logs": "every"})


def test_mind(tmp_path: Path) -> None:
    put(
        tmp_path / "set",
        {
            "behaviors.tsv": "1\tU13740\t11/11/2019 9:05:58 AM\tN55189 N42782\tN55689-1 N35729-0\n"
            "2\tU91836\t11/12/2019 6:11:30 PM\t\tN20678-0\n"
            "3\tU13740\t11/11/2019 9:05:00 AM\tN55189 N42782\tN35729-0 N20678-1 N55689-0\n",
            "news.tsv": 'N55689\tsports\tfootball_nfl\tCharles Rogers, "Lion\tAn abstract\thttps://assets.msn.com\t[{"Label": "x"}]\t[]\n'
            "N35729\tnews\tnewsus\tPorsche launches\t\thttps://assets.msn.com\t[]\t[]\n",
        },
    )
    log, events, behaviors = opened(tmp_path, "mind")
    assert log.schema.has_request and events["request_id"].to_list() == [3, 3, 3, 1, 1, 2]
    assert events["item_id"].to_list() == ["N35729", "N20678", "N55689", "N55689", "N35729", "N20678"]
    assert events["label_click"].to_list() == [0, 1, 0, 1, 0, 0] and events["user_id"][5] == "U91836"
    assert events["time"][5] == datetime(2019, 11, 12, 18, 11, 30, tzinfo=UTC)
    assert events["feature_category"].to_list() == ["news", None, "sports", "sports", "news", None]
    assert behaviors is not None and behaviors["item_id"].to_list() == ["N55189", "N42782", "N20678", "N55689"]
    assert set(behaviors["user_id"]) == {"U13740"} and behaviors["time"][1] < events["time"][0]
    put(tmp_path / "set", {"behaviors.tsv": "1\tU1\t11/11/2019 9:05:58 AM\tN1\tN55689 N35729\n"})
    _, events, behaviors = opened(tmp_path, "mind")
    assert (
        events["label_click"].to_list() == [None, None]
        and behaviors is not None
        and behaviors["item_id"].to_list() == ["N1"]
    )
    put(
        tmp_path / "set",
        {"behaviors.tsv": "1\tU1\t11/11/2019 9:05:58 AM\tN1\tN55689-1\n2\tU1\t2019-11-11\tN1\tN55689-1\n"},
    )
    with pytest.raises(UserError, match="behaviors.tsv: row 1, column 'time': not a time"):
        opened(tmp_path, "mind")


CLICK = "user_id,session_id,session_start,session_size,click_article_id,click_timestamp,click_environment,click_deviceGroup,click_os,click_country,click_region,click_referrer_type\n"


def test_globo(tmp_path: Path) -> None:
    put(
        tmp_path / "set",
        {
            "clicks/clicks_hour_000.csv": CLICK
            + "0,1506825423271737,1506825423000,2,119592,1506826828020,4,1,17,1,25,2\n"
            "0,1506825423271737,1506825423000,2,30970,1506826858020,4,3,2,1,25,2\n",
            "clicks/clicks_hour_001.csv": CLICK
            + "1,1506825426267738,1506825426000,2,30970,1506826840000,2,3,2,1,9,1\n",
            "articles_metadata.csv": "article_id,category_id,created_at_ts,publisher_id,words_count\n"
            "119592,247,1506711111000,0,168\n30970,26,1506700000000,0,20\n",
        },
    )
    log, events, behaviors = opened(tmp_path, "globo")
    assert events["time"].to_list() == seconds(1506826828.02, 1506826840, 1506826858.02)
    assert events["user_id"].to_list() == [0, 1, 0] and events["item_id"].to_list() == [119592, 30970, 30970]
    assert events["label_click"].to_list() == [1, 1, 1] and events["feature_click_region"].to_list() == [25, 9, 25]
    assert events["feature_category_id"].to_list() == ["247", "26", "26"] and events[
        "feature_words_count"
    ].to_list() == [168, 20, 20]
    assert behaviors is not None and behaviors["item_id"].to_list() == [119592, 30970, 30970]
    negatives = {"per_positive": 2, "positives": "all", "exclude": "chosen"}
    log, parts = open_log(DataConfig(reader="globo", path="set", negatives=negatives), tmp_path), []
    with pytest.raises(UserError, match="1 negatives for 3 positives"):
        parts.extend(log.batches())
    events = pl.concat(parts)
    assert events["request_id"].to_list() == [0, 1, 1, 2]
    about = events.sort("request_id", "label_click", descending=[False, True])
    assert about["label_click"].to_list() == [1, 1, 0, 1] and about["feature_click_region"].to_list() == [25, 9, 9, 25]
    assert about["feature_category_id"].to_list() == ["247", "26", "247", "26"]
    assert log.behaviors is not None and len(pl.concat(log.behaviors())) == 3


def test_trivago(tmp_path: Path) -> None:
    head = "user_id,session_id,timestamp,step,action_type,reference,platform,city,device,current_filters,impressions,prices\n"
    put(
        tmp_path / "set",
        {
            "train.csv": head + 'B,s2,1541037500,1,clickout item,88,BR,"Rome, Italy",mobile,,88|99,50|40\n'
            'A,s1,1541037460,1,search for poi,Newtown,AU,"Sydney, Australia",mobile,,,\n'
            'A,s1,1541037522,2,interaction item image,666856,AU,"Sydney, Australia",mobile,,,\n'
            'A,s1,1541037532,3,clickout item,109038,AU,"Sydney, Australia",mobile,Focus on Distance|Hotel,3400638|109038|5,95|66|66\n'
            'A,s1,1541037600,4,clickout item,,AU,"Sydney, Australia",mobile,,7,12\n',
            "item_metadata.csv": "item_id,properties\n109038,WiFi|Spa\n88,Pool\n",
        },
    )
    _, events, behaviors = opened(tmp_path, "trivago")
    assert events["request_id"].to_list() == [0, 0, 3, 3, 3, 4] and events["user_id"].to_list() == ["B"] * 2 + ["A"] * 4
    assert events["item_id"].to_list() == [88, 99, 3400638, 109038, 5, 7] and events["label_click"].to_list() == [
        1,
        0,
        0,
        1,
        0,
        None,
    ]
    assert events["feature_price"].to_list() == [50, 40, 95, 66, 66, 12] and events["feature_price_rank"].to_list() == [
        2,
        1,
        3,
        1,
        1,
        1,
    ]
    assert events["feature_position"].to_list() == [0, 1, 0, 1, 2, 0] and events["feature_city"][0] == "Rome, Italy"
    assert events["feature_current_filters"].to_list()[2] == ["Focus on Distance", "Hotel"] and events[
        "feature_properties"
    ].to_list()[3] == ["WiFi", "Spa"]
    assert behaviors is not None and behaviors["item_id"].to_list() == [88, 666856, 109038]
    assert behaviors["action"].to_list() == ["clickout item", "interaction item image", "clickout item"]
    assert behaviors["time"].to_list() == seconds(1541037500, 1541037522, 1541037532)
    put(tmp_path / "set", {"train.csv": head + "B,s2,1541037500,1,clickout item,88,BR,Rome,mobile,,88|99,50\n"})
    with pytest.raises(UserError, match="train.csv: row 0, column 'prices': not as many as 'impressions'"):
        opened(tmp_path, "trivago")


@pytest.mark.parametrize("reader", sorted(PUBLISHED))
def test_a_folder_without_the_files(reader: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        opened(tmp_path, reader)
    (tmp_path / "set").mkdir()
    with pytest.raises(UserError, match="holds no .*; data.path is the folder as its publisher gives it"):
        opened(tmp_path, reader)


def test_movielens_32m(tmp_path: Path) -> None:
    """The README of ml-32m names the same files and columns as that of 25M."""
    put(
        tmp_path / "set",
        {
            "ratings.csv": "userId,movieId,rating,timestamp\n1,17,4.0,944249077\n1,25,1.0,944250228\n",
            "movies.csv": "movieId,title,genres\n17,Sense and Sensibility (1995),Drama|Romance\n",
            "links.csv": "movieId,imdbId,tmdbId\n",
        },
    )
    _, events, _ = opened(tmp_path, "movielens")
    assert events["label_like"].to_list() == [1, 0] and events["feature_year"].to_list() == ["1995", None]


def test_taobao(tmp_path: Path) -> None:
    rows = (
        "1,2268318,2520377,pv,1511544070\n1,2333346,2520771,pv,1511561733\n1,2576651,149192,buy,1511572885\n"
        "100,2268318,2520377,pv,1511539200\n100,3830808,4181361,pv,1512316800\n100,1,2,pv,-1134949234\n"
        "100,1,2,fav,2122867355\n"
    )
    put(tmp_path / "set", {"UserBehavior.csv": rows})
    log, events, behaviors = opened(tmp_path, "taobao")
    assert log.schema.tasks == ("pv",) and events["label_pv"].to_list() == [1, 1, 1]
    assert events["time"].to_list() == seconds(1511539200, 1511544070, 1511561733)
    assert events["user_id"].to_list() == [100, 1, 1] and events["item_id"].to_list() == [2268318, 2268318, 2333346]
    assert events["feature_category"].to_list() == [2520377, 2520377, 2520771]
    assert behaviors is not None and behaviors["action"].to_list() == ["pv", "pv", "pv", "buy"]
    assert log.notes() == ["taobao: 3 rows before 25 November or after 3 December 2017 left out"]
    assert opened(tmp_path, "taobao", options={"action": "buy"})[1]["item_id"].to_list() == [2576651]
    put(tmp_path / "set", {"UserBehavior.csv": "1,2268318,2520377,pv,soon\n"})
    with pytest.raises(UserError, match="UserBehavior.csv: row 0, column 'timestamp': not a time in s"):
        opened(tmp_path, "taobao")


def test_amazon_reviews(tmp_path: Path) -> None:
    def review(user: str, rating: float, time: int, verified: bool) -> str:
        images = '[{"small_image_url": "https://m.media-amazon.com/x.jpg"}]' if verified else "[]"
        return (
            f'{{"rating": {rating}, "title": "Such a lovely scent", "text": "It, \\"works\\".", "images": {images}, '
            f'"asin": "B00YQ6X8EO", "parent_asin": "B00YQ6X8EO", "user_id": "{user}", "timestamp": {time}, '
            f'"helpful_vote": 0, "verified_purchase": {str(verified).lower()}}}\n'
        )

    text = review("AGKHLEW2", 5.0, 1588687728923, True) + review("AFQ5Q5AH", 3.0, 1370000000000, False)
    put(
        tmp_path / "set",
        {
            "All_Beauty.jsonl": text + review("AFQ5Q5AH", 4.0, -1000, False),
            "meta_All_Beauty.jsonl": '{"main_category": "All Beauty", "parent_asin": "B00YQ6X8EO"}\n',
        },
    )
    log, events, _ = opened(tmp_path, "amazon-reviews")
    assert events["user_id"].to_list() == ["AFQ5Q5AH", "AGKHLEW2"] and events["label_like"].to_list() == [0, 1]
    assert events["time"].to_list() == seconds(1370000000, 1588687728.923)
    assert set(events["item_id"]) == {"B00YQ6X8EO"} and events["feature_verified_purchase"].to_list() == [0, 1]
    assert log.notes() == ["drop_missing: 1 rows without user, item or usable time left out"]
    assert opened(tmp_path, "amazon-reviews", options={"at_least": 3})[1]["label_like"].to_list() == [1, 1]


def test_kuairec(tmp_path: Path) -> None:
    head = "user_id,video_id,play_duration,video_duration,time,date,timestamp,watch_ratio\n"
    big = (
        "0,3649,13838,10867,2020-07-05 00:08:23.438,20200705,1593878903.438,1.2733965215790926\n"
        "0,9598,13665,10984,2020-07-05 00:13:41.297,20200705,1593879221.297,2.244082301529497\n"
    )
    put(
        tmp_path / "set" / "data",
        {
            "big_matrix.csv": head + big,
            "small_matrix.csv": head + "14,148,4381,6067,,,,0.722103181143893\n" + big.replace("\n0,9598", "\n14,9598"),
            "item_categories.csv": 'video_id,feat\n3649,"[27, 9]"\n148,[8]\n',
        },
    )
    log, events, _ = opened(tmp_path, "kuairec")
    assert log.schema.tasks == ("like",) and events["label_like"].to_list() == [0, 1]
    assert events["time"].to_list() == seconds(1593878903.438, 1593879221.297)
    assert events["feature_tags"].to_list() == [["27", "9"], None]
    assert events["feature_video_duration"].to_list() == [10867, 10984]
    log, events, _ = opened(tmp_path, "kuairec", options={"matrix": "small", "at_least": 1})
    assert events["user_id"].to_list() == [0, 14] and events["label_like"].to_list() == [1, 1]
    assert log.notes() == ["drop_missing: 1 rows without user, item or usable time left out"]


def test_every_reader_of_a_published_log_is_listed_with_its_section() -> None:
    assert set(PUBLISHED) == set(READERS) - {"simulator", "table"}
    pages = {page for page, _, _ in (one.page.partition("#") for one in PUBLISHED.values())}
    (text,) = [(ROOT / page).read_text(encoding="utf-8") for page in pages]
    titles = {
        line.removeprefix("## ").lower().replace(" ", "-") for line in text.splitlines() if line.startswith("## ")
    }
    assert {one.page.partition("#")[2] for one in PUBLISHED.values()} <= titles
