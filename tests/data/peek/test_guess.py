"""From a log to a draft: any log gives one that is read, or says why not, and models never read a label by it."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recdistill.config.experiment import Experiment
from recdistill.config.load import load_text
from recdistill.data.peek.guess import peek_text
from recdistill.data.readers.factory import open_log
from recdistill.errors import UserError
from recdistill.runs.batch_ingest import ingest
from recdistill.runs.folder import RunFolder
from tests.support.written import START, log_with, write

N = 40
AT = pl.int_range(N, eager=True)
LABEL = AT % 3 == 0


def peeked(frame: pl.DataFrame, folder: Path, form: str = "parquet") -> tuple[str, Experiment]:
    """Return the draft's text, and the experiment that it is."""
    text = peek_text(folder / write(frame, folder, form))
    return text, load_text(text)


def read(experiment: Experiment) -> pl.DataFrame:
    return pl.concat(open_log(experiment.data, None).batches())


def features(experiment: Experiment) -> set[str]:
    columns = experiment.data.columns
    return {*columns.categorical, *columns.numeric, *columns.lists}


def full() -> pl.DataFrame:
    """Return a log with a column of every kind, in order of time."""
    return pl.DataFrame(
        {
            "eventId": AT + 7,
            "userId": [f"u{k % 5}" for k in range(N)],
            "adId": AT * 7 % 11,
            "list_id": AT // 4,
            "shown_ms": (START + AT // 4 * 60) * 1000,
            "is_click": LABEL.cast(pl.Int8),
            "purchase": (AT % 7 == 0).cast(pl.Int8),
            "country": [f"c{k % 4}" for k in range(N)],
            "price": [k * 0.37 for k in range(N)],
            "tags": [["a", "b"][: k % 3] for k in range(N)],
            "genres": [["x|y", "y", "x|y|z", "z|x"][k % 4] for k in range(N)],
            "always": "same",
            "rare": [1.5 if k == 3 else None for k in range(N)],
            "title": [f"A title of item {k}" for k in range(N)],
            "clicked_copy": LABEL.replace_strict({True: "yes", False: "no"}),
            "click_value": [5.0 if one else None for one in LABEL],
            "play_time_s": AT % 9,
            "nested": [[[1]]] * N,
            "": AT % 2,
            "nul\0": AT % 3,
        }
    ).with_columns(userId=pl.Series([f"u{k // 4 % 5}" for k in range(N)]))


def test_a_column_of_every_kind(tmp_path: Path) -> None:
    text, experiment = peeked(full(), tmp_path)
    columns = experiment.data.columns
    assert (columns.time, columns.time_unit, columns.user, columns.item) == ("shown_ms", "ms", "userId", "adId")
    assert (columns.sample_id, columns.request, experiment.evaluate.group) == ("eventId", "list_id", "request")
    assert columns.tasks == {"click": "is_click", "purchase": "purchase"}
    assert columns.categorical == ["country"] and columns.numeric == ["price"]
    assert columns.lists == {"tags": ",", "genres": "|"}
    for line in (
        "always: constant",
        "rare: empty in 98% of the rows",
        "title: nearly every row has a value of its own",
        "clicked_copy: tells the label of task 'click' in every row: a copy of it?",
        "click_value: tells the label of task 'click'",
        "play_time_s: 'play' in its name: looks like measured after the row",
        "\n  #   : its name is empty, too long, or holds a sign that no name may have",
        "nul\\x00: its name is empty",
        "nested: holds List(List(Int64)), not lists of one value each",
        "Looked at: all 40 rows",
        "Tried: 40 of these 40 rows are read by it.",
    ):
        assert line in text, line
    events = read(experiment)
    assert events["label_click"].to_list() == LABEL.cast(pl.Float32).to_list() and "? Not" not in text


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_what_is_odd_about_a_log_becomes_a_setting_or_a_hint(form: str, tmp_path: Path) -> None:
    backwards = log_with(N, user_id=AT % 5).reverse()
    text, experiment = peeked(backwards, tmp_path, form)
    assert experiment.data.sort and "not in the order of time" in text and len(read(experiment)) == N
    missing = log_with(N, time=pl.Series([None, *range(START, START + N - 1)]), user_id=AT % 5)
    text, experiment = peeked(missing, tmp_path, form)
    assert experiment.data.drop_missing and len(read(experiment)) == N - 1
    text, experiment = peeked(log_with(N, user_id=AT % 5).drop("label"), tmp_path, form)
    assert experiment.data.columns.tasks == {"event": 1} and "# hint: every row looks like a positive" in text
    together = log_with(N, time=START + AT // 4, user_id=AT // 4)
    text, experiment = peeked(together, tmp_path, form)
    assert "# hint: 100% of the rows share user and instant" in text and experiment.data.columns.request is None


def test_labels_that_come_later(tmp_path: Path) -> None:
    known = pl.DataFrame({"known": [START + k * 60 + 500 if k % 3 == 0 else -1 for k in range(N)]})["known"]
    log = log_with(N, user_id=AT % 5, label=LABEL.cast(pl.Int8), known=known)
    text, experiment = peeked(log, tmp_path)
    assert experiment.data.columns.label_times == {"label": "known"} and experiment.labels.window_s == 3600
    assert "labels become known after their rows" in text
    take_over(experiment, tmp_path)
    early = log.with_columns(known=pl.lit(START - 86_400))
    assert peeked(early, tmp_path)[1].data.columns.label_times == {}


@pytest.mark.parametrize(
    ("column", "values", "spec"),
    [
        ("rating", [k % 5 + 1 for k in range(N)], {"like": {"column": "rating", "at_least": 4.0}}),
        ("label", [k % 2 * 2 - 1 for k in range(N)], {"label": {"column": "label", "equals": 1}}),
        ("action", [["pv", "buy"][k % 2] for k in range(N)], {"buy": {"column": "action", "equals": "buy"}}),
        ("watch_ratio", [k / N for k in range(N)], {"watch_ratio": {"column": "watch_ratio", "at_least": 0.4875}}),
        ("clicked", [k % 2 == 0 for k in range(N)], {"click": "clicked"}),
    ],
)
def test_labels_of_other_kinds(column: str, values: list[object], spec: dict[str, object], tmp_path: Path) -> None:
    log = log_with(N, user_id=AT % 5).drop("label").with_columns(pl.Series(column, values))
    _, experiment = peeked(log, tmp_path)
    tasks = experiment.data.columns.model_dump(exclude_defaults=True)["tasks"]
    assert tasks.items() >= spec.items() and len(read(experiment)) == N


@pytest.mark.parametrize(
    ("times", "unit"),
    [
        ([START * 1_000_000 + k for k in range(N)], "us"),
        ([14102100 + k // 10 for k in range(N)], "%y%m%d%H"),
        ([f"11/{k // 2 + 1:02}/2019 9:05:58 AM" for k in range(N)], "%m/%d/%Y %I:%M:%S %p"),
        ([f"2024-01-{k // 2 + 1:02}T00:00:01Z" for k in range(N)], "iso"),
        ([k * 5 for k in range(N)], "s"),
    ],
)
def test_units_of_time(times: list[object], unit: str, tmp_path: Path) -> None:
    text, experiment = peeked(log_with(N, time=pl.Series(times), user_id=AT % 5), tmp_path, "csv")
    assert experiment.data.columns.time_unit == unit and "Tried: 40" in text and len(read(experiment)) == N
    assert ("from the log's own start" in text) == (unit == "s")


def test_text_without_names_and_of_other_separators(tmp_path: Path) -> None:
    rows = [(k % 7, 2_268_318 + k % 20, k % 3, ["pv", "buy"][k % 2], START + k * 60) for k in range(N)]
    (tmp_path / "log.csv").write_text("".join(f"{u},{i},{c},{b},{t}\n" for u, i, c, b, t in rows))
    text = peek_text(tmp_path / "log.csv")
    columns = load_text(text).data.columns
    assert (columns.user, columns.item, columns.time) == ("column_1", "column_2", "column_5")
    assert columns.tasks["buy"].equals == "buy" and len(read(load_text(text))) == N  # type: ignore[union-attr]
    (tmp_path / "u.data").write_text("".join(f"{u}\t{i}\t{k % 5 + 1}\t{t}\n" for k, (u, i, *_, t) in enumerate(rows)))
    experiment = load_text(peek_text(tmp_path / "u.data"))
    assert experiment.data.separator == "\t" and len(read(experiment)) == N
    log_with(N, user_id=AT % 5).write_csv(tmp_path / "semi.csv", separator=";")
    experiment = load_text(peek_text(tmp_path / "semi.csv"))
    assert (experiment.data.separator, experiment.data.header) == (";", []) and len(read(experiment)) == N


def test_names_of_one_letter(tmp_path: Path) -> None:
    rows = {"i": AT * 7 % 19, "u": AT % 5, "r": AT % 3 + 1, "t": START + AT * 60}
    text, experiment = peeked(pl.DataFrame(rows), tmp_path)
    columns = experiment.data.columns
    assert (columns.user, columns.item, columns.time) == ("u", "i", "t") and list(columns.tasks) == ["like"]
    assert "# called 'u'; text or whole numbers, 5 different\n    # ? is this the user?\n" in text
    assert "# called 'i'; text or whole numbers, 19 different, more than 'r' has (3)\n" in text


@pytest.mark.parametrize(
    ("b", "user", "reason"),
    [
        (AT // 3 * 5 % 8, "b", "8 different; 5"),
        (AT * 3 % 8, "a", "19 different, more than 'b' has (8)"),
        (AT // 5, "a", "19 different, more than 'b' has (8)"),  # a day's number: it never returns
    ],
)
def test_without_names_rows_that_follow_one_another_are_a_users(
    b: pl.Series, user: str, reason: str, tmp_path: Path
) -> None:
    rows = {"a": AT * 7 % 19, "b": b, "click": LABEL.cast(pl.Int8), "time": START + AT * 60}
    text, experiment = peeked(pl.DataFrame(rows), tmp_path)
    assert (experiment.data.columns.user, experiment.data.columns.item) == (user, "ab".replace(user, ""))
    assert reason in text and "# ? is this the user? No column is called so" in text


def test_what_cannot_be_guessed_is_named(tmp_path: Path) -> None:
    text, experiment = peeked(pl.DataFrame({"price": [0.5, 1.5], "label": [0, 1]}), tmp_path)
    assert "# missing: no column can be the item; name it as data.columns.item\n" in text
    assert (experiment.data.columns.user, experiment.data.columns.time) == (None, None)
    assert "# ? Not readable yet: " in text
    with pytest.raises(UserError, match="no column 'item_id'"):
        read(experiment)


def test_logs_without_users_or_times(tmp_path: Path) -> None:
    criteo = [[k % 2, *([k % 9 if k % 8 else ""] * 3), *([f"{k % 7:08x}"] * 4)] for k in range(N)]
    (tmp_path / "train.txt").write_text("".join("\t".join(map(str, row)) + "\n" for row in criteo))
    text = peek_text(tmp_path / "train.txt")
    columns = load_text(text).data.columns
    assert (columns.user, columns.time, columns.tasks) == (None, None, {"label": "column_1"})
    assert load_text(text).data.drop_missing
    assert "Then every row is alone" in text and "Then rows count in the order given" in text
    take_over(load_text(text), tmp_path)
    hours, sites = pl.Series([14102100 + k // 10 for k in range(N)]), [f"{k % 3:08x}" for k in range(N)]
    avazu = pl.DataFrame({"id": AT + 10**18, "click": AT % 2, "hour": hours, "site_id": sites, "app_id": AT % 6})
    _, experiment = peeked(avazu, tmp_path, "csv")
    columns = experiment.data.columns
    assert (columns.time, columns.time_unit, columns.item) == ("hour", "%y%m%d%H", "app_id")
    assert (columns.sample_id, columns.user) == ("id", "site_id") and len(read(experiment)) == N


def test_logs_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        peek_text(tmp_path / "none.parquet")
    log_with(1).head(0).write_parquet(tmp_path / "empty.parquet")
    with pytest.raises(UserError, match="the log has no rows"):
        peek_text(tmp_path / "empty.parquet")
    (tmp_path / "log.bin").write_bytes(b"\x00\x01\x02 \xff" * 30)
    with pytest.raises(UserError, match="no Parquet, and no text by its name"):
        peek_text(tmp_path / "log.bin")


NAMES = st.sampled_from(
    [
        "time",
        "ts",
        "user_id",
        "user",
        "item_id",
        "label",
        "click",
        "rating",
        "id",
        "list_id",
        "known",
        "price",
        "action",
    ]
) | st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cn")), max_size=5)
VALUES = (
    st.integers(START, START + 1000)
    | st.integers(0, 1)
    | st.integers(-(2**63), 2**63 - 1)
    | st.sampled_from([0.5, 1.0, math.nan, math.inf, 1e302])
    | st.sampled_from(["a", "b|a", "", "[1]", "2024-01-01", "0", "1"])
    | st.none()
)
KINDS = st.sampled_from([st.integers(START, START + 99), st.integers(0, 1), st.integers(0, 9), st.floats(), VALUES])


@st.composite
def tables(draw: st.DrawFn) -> tuple[pl.DataFrame, str]:
    """Return a table of any columns, and the form to write it in."""
    rows = draw(st.integers(1, 30))
    out = {}
    for name in draw(st.lists(NAMES, min_size=1, max_size=7, unique=True)):
        values = draw(KINDS)
        given = draw(st.lists(values, min_size=rows, max_size=rows))
        alike = len({type(one) for one in given if one is not None}) < 2
        out[name] = pl.Series(name, given if alike else [None if one is None else str(one) for one in given])
    return pl.DataFrame(out), draw(st.sampled_from(["parquet", "csv"]))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tables())
def test_any_table_gives_a_draft_that_is_read_or_says_why_not(table: tuple[pl.DataFrame, str]) -> None:
    frame, form = table
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / write(frame, Path(folder), form)
        try:
            text = peek_text(path)
        except UserError as error:
            assert str(error).startswith(str(path)) and "\n" not in str(error)
            return
        experiment = load_text(text)
        columns = experiment.data.columns
        labels = {spec if isinstance(spec, str) else getattr(spec, "column", "") for spec in columns.tasks.values()}
        assert not features(experiment) & (labels | set(columns.label_times.values()))
        if "# ? Not readable yet: " in text:
            with pytest.raises(UserError):
                take_over(experiment, Path(folder))
        else:
            assert "# Tried: " in text
            take_over(experiment, Path(folder))


def take_over(experiment: Experiment, folder: Path) -> None:
    """Ingest a log as the command line does."""
    run = RunFolder(folder / "run")
    with run.claimed(experiment, ""):
        ingest(run, experiment, None, lambda rows: None, lambda line: None)
