"""Public logs of ads in their publishers' own format: Criteo, Avazu, the x4 splits, Taobao's ads, Open Bandit."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recdistill.config.load import load_text
from recdistill.errors import UserError
from tests.data.readers.test_lacking import MODELS
from tests.data.readers.test_public import opened, put, seconds
from tests.support.commands import typed

COUNTS = [f"I{k}" for k in range(1, 14)]
HASHES = [f"C{k}" for k in range(1, 27)]


def criteo(label: int, first: str, numbers: dict[str, str], separator: str = "\t") -> str:
    """Return a row as Criteo's: I1 to I13 as in `numbers`, else empty, C1 is `first`, C2 and C26 are hashes."""
    counts = [numbers.get(name, "") for name in COUNTS]
    return separator.join([str(label), *counts, first, "80e26c9b", *[""] * 23, "6a3b1c2d"]) + "\n"


def test_criteo(tmp_path: Path) -> None:
    rows = criteo(0, "68fd1e64", {"I1": "1", "I2": "-1"}) + criteo(1, "", {"I2": "44"}) + criteo(0, "05db9164", {})
    put(tmp_path / "set", {"train.txt": rows, "test.txt": "\t\n"})
    log, events, behaviors = opened(tmp_path, "criteo")
    assert not log.schema.has_user and not log.schema.has_time and behaviors is None
    assert log.schema.tasks == ("click",) and events["label_click"].to_list() == [0, 1, 0]
    assert events["item_id"].to_list() == ["68fd1e64", "missing", "05db9164"]
    assert events["feature_I1"].to_list() == [1, None, None] and events["feature_I2"].to_list() == [-1, 44, None]
    assert set(log.schema.features) == {*COUNTS, *HASHES[1:]}
    assert events["feature_C2"].to_list() == ["80e26c9b"] * 3 and events["feature_C3"].null_count() == 3
    assert events["feature_C26"].to_list() == ["6a3b1c2d"] * 3
    other = opened(tmp_path, "criteo", options={"item": "C2"})[1]
    assert set(other["item_id"]) == {"80e26c9b"} and other["feature_C1"].to_list() == ["68fd1e64", None, "05db9164"]
    with pytest.raises(UserError, match="data.options.item: no column 'C27'"):
        opened(tmp_path, "criteo", options={"item": "C27"})
    put(tmp_path / "set", {"train.txt": criteo(2, "68fd1e64", {})})
    with pytest.raises(UserError, match="train.txt: row 0, column 'Label': must be 0, 1 or empty"):
        opened(tmp_path, "criteo")


def test_criteo_x4_is_read_as_it_is_split(tmp_path: Path) -> None:
    head = ",".join(["Label", *COUNTS, *HASHES]) + "\n"
    parts = {"train": ("68fd1e64", "1"), "valid": ("05db9164", "2"), "test": ("8cf07265", "3")}
    put(tmp_path / "set", {f"{part}.csv": head + criteo(1, c1, {"I1": i1}, ",") for part, (c1, i1) in parts.items()})
    log, events, _ = opened(tmp_path, "criteo-x4")
    assert events["item_id"].to_list() == ["68fd1e64", "05db9164", "8cf07265"]
    assert events["feature_I1"].to_list() == [1, 2, 3] and not log.schema.has_histories
    put(tmp_path / "set", {"test.csv": head + criteo(7, "8cf07265", {}, ",")})
    with pytest.raises(UserError, match=r"test.csv: row 0, column 'Label': must be 0, 1 or empty"):
        opened(tmp_path, "criteo-x4")


AVAZU = (
    "id,click,hour,C1,banner_pos,site_id,site_domain,site_category,app_id,app_domain,app_category,device_id,device_ip,"
    "device_model,device_type,device_conn_type,C14,C15,C16,C17,C18,C19,C20,C21\n"
)


def avazu(identity: str, click: int, hour: str, ip: str, c14: int) -> str:
    return (
        f"{identity},{click},{hour},1005,0,1fbe01fe,f3845767,28905ebd,ecad2386,7801e8d9,07d7df22,a99f214a,{ip},44956a24,"
        f"1,2,{c14},320,50,1722,0,35,-1,79\n"
    )


def test_avazu(tmp_path: Path) -> None:
    rows = avazu("1000009418151094273", 0, "14102100", "ddd2926e", 15706)
    rows += avazu("10000169349117863715", 1, "14102100", "96809ac8", 15704)
    rows += avazu("10000371904215119486", 0, "14102523", "ddd2926e", 15706)
    put(tmp_path / "set", {"train.csv": AVAZU + rows})
    log, events, behaviors = opened(tmp_path, "avazu")
    assert log.schema.has_time and not log.schema.has_user and behaviors is None
    at = [datetime(2014, 10, 21, 0, tzinfo=UTC)] * 2 + [datetime(2014, 10, 25, 23, tzinfo=UTC)]
    assert events["time"].to_list() == at and events["label_click"].to_list() == [0, 1, 0]
    assert events["item_id"].to_list() == [15706, 15704, 15706] and "C14" not in log.schema.features
    assert events["feature_hour_of_day"].to_list() == [0, 0, 23] and events["feature_weekday"].to_list() == [2, 2, 6]
    assert set(events["feature_C20"]) == {-1} and set(events["feature_site_id"]) == {"1fbe01fe"}
    assert events["feature_device_ip"].to_list() == ["ddd2926e", "96809ac8", "ddd2926e"]
    assert len(log.schema.features) == len(AVAZU.split(",")) - 4 + 2  # but for id, click, hour, C14
    log, events, _ = opened(tmp_path, "avazu", options={"user": "device_ip", "item": "site_id"})
    assert log.schema.has_histories and events["user_id"].to_list() == ["ddd2926e", "96809ac8", "ddd2926e"]
    assert set(events["item_id"]) == {"1fbe01fe"} and "device_ip" not in log.schema.features
    put(tmp_path / "set", {"train.csv": AVAZU + avazu("1", 0, "2014-10-21", "ddd2926e", 1)})
    with pytest.raises(UserError, match="train.csv: row 0, column 'hour': not a time"):
        opened(tmp_path, "avazu")


def test_avazu_x4_is_read_as_it_is_split(tmp_path: Path) -> None:
    hours = {"train": "14102100", "valid": "14103023", "test": "14102105"}
    rows = {f"{part}.csv": AVAZU + avazu("1", 0, hour, "ddd2926e", k) for k, (part, hour) in enumerate(hours.items())}
    put(tmp_path / "set", rows)
    log, events, _ = opened(tmp_path, "avazu-x4")
    assert events["item_id"].to_list() == [0, 1, 2] and not log.schema.has_time and not log.schema.has_user
    assert events["feature_hour_of_day"].to_list() == [0, 23, 5] and events["feature_weekday"].to_list() == [2, 4, 2]


def test_the_log_of_another_publisher_is_refused_in_one_line(tmp_path: Path) -> None:
    put(tmp_path / "set", {"train.csv": "user_id,step\n1,2\n", "item_metadata.csv": "item_id,properties\n1,a\n"})
    for reader in ("avazu", "trivago"):
        with pytest.raises(UserError, match="set: cannot be read as a table") as caught:
            opened(tmp_path, reader)
        assert "\n" not in str(caught.value)


def test_taobao_ads(tmp_path: Path) -> None:
    put(
        tmp_path / "set",
        {
            "raw_sample.csv": "user,time_stamp,adgroup_id,pid,nonclk,clk\n581738,1494137644,1,430548_1007,1,0\n"
            "449818,1494034667,3,430548_1007,0,1\n449818,1494034668,9,430539_1007,1,0\n",
            "ad_feature.csv": "adgroup_id,cate_id,campaign_id,customer,brand,price\n1,6406,83237,1,95471,170.0\n"
            "3,6406,8324,1,NULL,199.5\n",
            "user_profile.csv": "userid,cms_segid,cms_group_id,final_gender_code,age_level,pvalue_level,shopping_level,"
            "occupation,new_user_class_level \n449818,0,5,2,5,,3,0,3\n",
            "behavior_log.csv": "user,time_stamp,btag,cate,brand\n449818,1493741625,pv,6406,91286\n"
            "581738,1493741626,buy,6423,3\n449818,1390000000,fav,6406,91286\n",
        },
    )
    log, events, behaviors = opened(tmp_path, "taobao-ads")
    assert behaviors is None and log.item_features[:2] == ("cate_id", "campaign_id")
    assert events["time"].to_list() == seconds(1494034667, 1494034668, 1494137644)
    assert events["user_id"].to_list() == [449818, 449818, 581738] and events["item_id"].to_list() == [3, 9, 1]
    assert events["label_click"].to_list() == [1, 0, 0]
    assert events["feature_brand"].to_list() == [None, None, "95471"]
    assert events["feature_price"].to_list() == [199.5, None, 170.0]
    assert events["feature_new_user_class_level"].to_list() == ["3", "3", None]
    assert events["feature_pvalue_level"].null_count() == 3 and set(events["feature_cate_id"]) == {"6406", None}
    log, events, behaviors = opened(tmp_path, "taobao-ads", options={"item": "cate_id"})
    assert events["item_id"].to_list() == ["6406", "6406"] and events["feature_adgroup_id"].to_list() == [3, 1]
    assert behaviors is not None and behaviors["action"].to_list() == ["pv", "buy"]
    assert behaviors["item_id"].to_list() == ["6406", "6423"] and behaviors["user_id"].to_list() == [449818, 581738]
    assert log.notes() == [
        "drop_missing: 1 rows without user, item or usable time left out",
        "taobao-ads: 1 actions before 22 April or after 13 May 2017 left out",
    ]


def test_open_bandit(tmp_path: Path) -> None:
    affinities = ",".join(f"user-item_affinity_{k}" for k in range(12))
    head = f",timestamp,item_id,position,click,propensity_score,{','.join(f'user_feature_{k}' for k in range(4))},"
    shown = (
        "0,2019-11-24 00:01:45.406608+00:00,11,3,0,0.059345,cef3,f1c2,7bc9,9bde,0.0,7.0,0,0,0,0,0,0,0,0,0,2.0\n"
        "1,2019-11-24 00:01:03.979311+00:00,1,2,1,0.045525,cef3,2d03,c2e4,c39b,0.0,3.0,0,0,0,0,0,0,0,0,0,9.0\n"
    )
    items = ",item_id,item_feature_0,item_feature_1,item_feature_2,item_feature_3\n1,1,-0.72,7749,088a,8ea6\n"
    folder = tmp_path / "set" / "all"
    put(folder, {"all.csv": f"{head}{affinities}\n{shown}", "item_context.csv": items})
    log, events, behaviors = opened(tmp_path, "open-bandit")
    assert not log.schema.has_user and behaviors is None and len(events) == 2
    assert events["time"].to_list() == seconds(1574553663.979311, 1574553705.406608)
    assert events["item_id"].to_list() == [1, 11] and events["label_click"].to_list() == [1, 0]
    assert events["feature_affinity"].to_list() == [3, 2] and events["feature_position"].to_list() == [2, 3]
    assert events["feature_user_feature_1"].to_list() == ["2d03", "f1c2"]
    assert events["feature_item_feature_1"].to_list() == ["7749", None]
    assert [round(value, 2) for value in events["feature_item_feature_0"].drop_nulls()] == [-0.72]
    assert not any("propensity" in name for name in events.columns)
    put(folder.with_name("men"), {"men.csv": f"{head}{affinities}\n{shown}", "item_context.csv": items})
    with pytest.raises(UserError, match="set: holds several: all/all.csv, men/men.csv; name the folder of one log"):
        opened(tmp_path, "open-bandit")


@pytest.mark.parametrize(
    ("data", "more", "fault"),
    [
        (
            "reader: criteo, negatives: {}",
            "",
            "negatives: needs users and times; the log lacks them (data.reader: criteo",
        ),
        ("reader: avazu", "teacher_hidden: {width: 8}", "(data.reader: avazu has no users)"),
        ("reader: tenrec", "labels: {window_s: 60}", "(data.reader: tenrec has no times)"),
        ("reader: open-bandit", "crossfit: {by: user}", "crossfit.by: needs what the log does not have"),
    ],
)
def test_what_needs_users_or_times_is_refused_in_one_line(data: str, more: str, fault: str) -> None:
    with pytest.raises(UserError) as caught:
        load_text(f"name: x\ndata: {{{data}}}\n{more}")
    assert fault in str(caught.value) and "\n" not in str(caught.value)


def test_a_device_taken_for_the_user_may_have_histories() -> None:
    text = "name: x\ndata: {reader: avazu, options: {user: device_ip}}\nteacher_hidden: {width: 8}"
    assert load_text(text).data.lacks == ""


def test_a_log_without_users_and_times_runs_predicts_and_is_no_stream(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    rows = [(int(draw.integers(2)), f"{draw.integers(6):08x}", str(draw.integers(9))) for _ in range(400)]
    put(tmp_path / "set", {"train.txt": "".join(criteo(label, c1, {"I1": i1}) for label, c1, i1 in rows)})
    (tmp_path / "x.yaml").write_text(f"name: x\ndata: {{reader: criteo, path: set}}{MODELS}")
    code, printed = typed("run", tmp_path / "x.yaml", "--data", tmp_path, "--out", tmp_path / "run")
    assert code == 0 and "warning: The log has no users: every row is alone" in printed, printed
    empty = dict.fromkeys([*COUNTS, *HASHES[1:]], "")
    new = pl.DataFrame([{**empty, "item_id": c1, "I1": i1} for _, c1, i1 in rows[:3]])
    new.write_csv(tmp_path / "new.csv")
    out = tmp_path / "p.csv"
    code, printed = typed("predict", tmp_path / "run", "light", "--data", tmp_path / "new.csv", "--out", out)
    assert code == 0 and len(pl.read_csv(out)) == 3, printed
    code, printed = typed("stream", tmp_path / "x.yaml", "--data", tmp_path, "--out", tmp_path / "live")
    assert (code, printed.count("\n")) == (2, 1)
    assert "data.reader: criteo has no users and no times: a stream needs users and times" in printed
