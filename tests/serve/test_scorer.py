"""What is served is what the run predicts: ids, features, histories and counts are made again from a request alone."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recdistill.api.run import Run
from recdistill.data.readers.new_rows import source_of
from recdistill.errors import UserError
from recdistill.runs.jobs import jobs_of
from recdistill.serve.artefact import FORMAT, open_artefact
from recdistill.serve.pointer import Pointer, write_pointer
from recdistill.serve.request import Past, Request
from recdistill.serve.scorer import Scorer
from recdistill.tables.events import EventLog
from recdistill.train.predict import Predictor
from tests.support.artefacts import exported, version_of

DAY = 86_400.0


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory.mktemp("serve"))


@pytest.fixture(scope="module")
def run(versions: Path) -> Run:
    return Run(versions.parent / "run")


def asked(run: Run, number: int, unseen: bool = False) -> tuple[Request, pl.DataFrame]:
    """Return a request a day after the log's end, and the same as rows to predict."""
    predictor = Predictor(run.folder, run.experiment, jobs_of(run.experiment)[0])
    draw = np.random.default_rng(number)
    log = pl.concat(EventLog.open(run.folder.tables / "events").batches())
    rows = log[draw.integers(0, len(log), 1 + number % 5)]
    user = 10**9 if unseen else int(log["user_id"][int(draw.integers(0, len(log)))])
    moment = log["time"][-1].timestamp() + DAY
    features = {name: rows[f"feature_{name}"].to_list() for name in predictor.schema.features}
    past = history(predictor, user)
    request = Request(user, rows["item_id"].to_list(), moment, {}, features, past)
    new = rows.rename(lambda column: column.removeprefix("feature_")).with_columns(
        user_id=pl.lit(user), time=pl.from_epoch(pl.lit(int(moment * 1e6)), "us").dt.replace_time_zone("UTC")
    )
    return request, new.with_columns(sample_id=pl.int_range(pl.len()))


def history(predictor: Predictor, user: int) -> Past:
    """Return the user's events as a caller would send them."""
    store, items = predictor.store, pl.read_parquet(predictor.store.folder / "items.parquet")["id"]
    code = predictor.encoder.users.encode(pl.Series([user]), grow=False)
    first, last = store.histories.first[code], store.histories.first[code + 1]
    events = store.histories.gather(first, last)
    names = store.action_names or ["negative", "positive"]
    chosen = [items[int(item) - 1] for item in events.item]
    return Past(chosen, [time / 1e6 for time in events.time.tolist()], [names[code] for code in events.action])


@pytest.mark.parametrize("number", range(6))
def test_a_request_gives_what_predict_gives_for_the_same_rows(run: Run, versions: Path, number: int) -> None:
    request, rows = asked(run, number, unseen=number == 5)
    wanted = pl.concat(Predictor(run.folder, run.experiment, jobs_of(run.experiment)[0]).predict(source_of(rows)))
    found = Scorer.open(versions).rank(request)
    for k, task in enumerate(run.experiment.data.columns.tasks):
        np.testing.assert_allclose(found[:, k], wanted[f"probability_{task}"].to_numpy(), atol=1e-5)


def test_requests_in_one_call_give_what_each_gives_alone(run: Run, versions: Path) -> None:
    scorer = Scorer.open(versions)
    requests = [asked(run, number, unseen=number == 5)[0] for number in (2, 5, 4)]
    found = scorer.scores([scorer.reader.arrays(one) for one in requests])
    for scores, request in zip(found, requests, strict=True):
        np.testing.assert_allclose(scores, scorer.rank(request), rtol=0, atol=1e-6)


def test_an_item_that_was_never_seen_has_a_score(run: Run, versions: Path) -> None:
    request, _ = asked(run, 1)
    odd = Request(request.user, [10**12, *request.items[1:]], request.time, {}, request.item_features, request.history)
    assert np.isfinite(Scorer.open(versions).rank(odd)).all()


def test_events_at_or_after_the_moment_do_not_count(run: Run, versions: Path) -> None:
    request, _ = asked(run, 2)
    scorer, past = Scorer.open(versions), request.history or Past()
    later = Past([*past.items, past.items[0]], [*past.times, request.time], [*past.actions, past.actions[0]])
    more = Request(request.user, request.items, request.time, {}, request.item_features, later)
    assert np.array_equal(scorer.rank(request), scorer.rank(more))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"items": []}, "items: give 1 to"),
        ({"items": [1.5]}, "items: a whole number was expected; got 1.5"),
        ({"items": ["1_0"]}, "items: a whole number was expected; got '1_0'"),
        ({"items": [" 1"]}, "items: a whole number was expected; got ' 1'"),
        ({"features": {"age_days": float("inf")}}, "features.age_days: a finite number was expected, or null; got inf"),
        ({"time": float("nan")}, "time: seconds since 1970"),
        ({"time": 1e15}, "time: seconds since 1970"),
        ({"features": {"nope": 1}}, "features: there is no feature 'nope'"),
        ({"history": Past([1], [])}, "history.times: a time per item was expected, 1; got 0"),
        ({"history": Past([1], [1.0], ["nope"])}, "history.actions: one of"),
    ],
)
def test_a_request_that_cannot_be_read_names_its_field(versions: Path, changes: dict, line: str) -> None:  # type: ignore[type-arg]
    request = Request(**{"user": 1, "items": [1], "time": 1e9, **changes})
    with pytest.raises(UserError, match=line):
        Scorer.open(versions).rank(request)


@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_an_artefact_that_is_damaged_anywhere_is_refused_by_its_file(
    versions: Path, tmp_path: Path, damage: str
) -> None:
    whole = tmp_path / "whole"
    shutil.copytree(versions / "1", whole)
    for path in sorted(whole.iterdir()):
        content = path.read_bytes()
        if damage == "remove":
            path.unlink()
        else:
            half = len(content) // 2
            path.write_bytes(content[:half] if damage == "cut" else _flipped(content, half))
        with pytest.raises(UserError, match=path.name if path.name != "manifest.json" else "manifest|artefact"):
            open_artefact(whole)
        path.write_bytes(content)
    open_artefact(whole)


def _flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def test_another_format_is_refused(versions: Path, tmp_path: Path) -> None:
    shutil.copytree(versions / "1", tmp_path / "old")
    path = tmp_path / "old" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 0}))
    with pytest.raises(UserError, match=f"format 0, this version reads {FORMAT}"):
        open_artefact(tmp_path / "old")


def test_it_is_served_without_torch_and_polars(versions: Path) -> None:
    """In an interpreter that has neither."""
    code = (
        "import sys; sys.modules['torch'] = sys.modules['polars'] = None\n"
        "from pathlib import Path\n"
        "import recdistill.serve.feedback, recdistill.serve.histories, recdistill.serve.server\n"
        "from recdistill.serve.impressions import events_schema\n"
        "from recdistill.serve.log_sinks import open_sink\n"
        "from recdistill.serve.scorer import Scorer\n"
        "from recdistill.serve.request import Request\n"
        f"scorer = Scorer.open(Path({str(versions)!r}))\n"
        f"open_sink({str(versions / 'log')!r}, events_schema(scorer.artefact.manifest.events))\n"
        "print(scorer.rank(Request(1, [1, 2], 1e9)).shape)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "(2, 2)\n", done.stderr


def test_three_versions_are_kept_and_the_pointer_names_the_newest(run: Run, versions: Path, tmp_path: Path) -> None:
    for number in range(1, 5):
        version_of(versions / "1", tmp_path, number)
    write_pointer(tmp_path, Pointer(4, (1, 2, 3)))
    run.model("teacher").export(tmp_path)
    kept = sorted(path.name for path in tmp_path.iterdir() if path.is_dir())
    assert kept == ["3", "4", "5"] and Scorer.open(tmp_path).version == 5
