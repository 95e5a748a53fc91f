"""The request log: the stream reads of it what was served, once; no answer waits for it; what is lost is counted."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, write_deltalake
from fastapi.testclient import TestClient

from recdistill.api.run import Run
from recdistill.errors import UserError
from recdistill.runs.batch_ingest import hand_over
from recdistill.serve.app import make_app
from recdistill.serve.impressions import OUTCOMES, events_schema, outcomes_of
from recdistill.serve.limits import Limits
from recdistill.serve.live import Live
from recdistill.serve.log_sinks import FolderSink, open_sink
from recdistill.serve.meters import Meters
from recdistill.serve.request import Request
from recdistill.serve.request_log import RequestLog, open_log
from recdistill.serve.sample_ids import sample_of
from recdistill.serve.service import Served, Service
from recdistill.stream.event_log import Journal
from recdistill.stream.ingest.process import run_ingest
from recdistill.stream.sources.table import END
from recdistill.stream.sources.wire import Reader
from recdistill.tables.events import EventLog, OutcomeLog
from tests.support.artefacts import changed
from tests.support.brokers import channel
from tests.support.programs import needs
from tests.support.runs import finish, tiny
from tests.support.serving import serving

STREAMED = ("labels.window_s=3600", "stream.replay=false", "stream.commit_rows=10")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    root = tmp_path_factory.mktemp("logged") / "run"
    finish(root, tiny(*STREAMED), "teacher")
    made = Run(root)
    made.model("teacher").export(root / "artefact")
    return made


@pytest.fixture
def live(run: Run) -> Live:
    return Live(run.folder.root / "artefact")


def served(k: int, items: tuple[int, ...] = (3, 1, 2)) -> Served:
    """Return an answer whose best item is the last."""
    features = {"topic": [5, 6, 7][: len(items)], "age_days": [0.5, None, float("nan")][: len(items)]}
    request = Request(4, items, 1_700_000_000.25 + k, {"device": 2}, features)
    scores = np.stack([np.arange(len(items)), -np.arange(len(items))], 1).astype(np.float32)
    return Served(request, 7, "light", scores, 0.0, f"r{k}")


class Kept:
    """A sink in memory; away: fails; gate: what a write waits for."""

    def __init__(self) -> None:
        self.rows: dict[str, list[pa.Table]] = {}
        self.away, self.gate, self.begun = False, threading.Event(), threading.Semaphore(0)
        self.gate.set()

    def send(self, rows: Mapping[str, pa.Table]) -> None:
        self.begun.release()
        self.gate.wait()
        if self.away:
            raise OSError("away")
        for kind, table in rows.items():
            self.rows.setdefault(kind, []).append(table)

    def close(self) -> None:
        return

    def all(self, kind: str) -> pl.DataFrame:
        return pl.DataFrame(pa.concat_tables(self.rows[kind]))


def counted(meters: Meters, state: str) -> float:
    return shown_by(meters).get(f'recdistill_log_rows_total{{state="{state}"}}', 0.0)


def shown_by(meters: Meters) -> dict[str, float]:
    """Return the page of the metrics, by name and labels."""
    lines = [line for line in meters.page().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


@pytest.mark.parametrize("made", [list, np.array])
def test_a_row_is_what_was_served(live: Live, made: Callable[[Any], Any]) -> None:
    sink, meters = Kept(), Meters()
    log = RequestLog(sink, live, meters, shown=2)
    request = served(0).request
    columns = {name: made(values) if name == "topic" else values for name, values in request.item_features.items()}
    log(replace(served(0), request=replace(request, items=made(request.items), item_features=columns)))
    log(Served(Request(None, [1], 1.0), 7, "light", np.ones((1, 2), np.float32), 0.0, "nobody"))
    log.close(60)
    rows, about = sink.all("events"), sink.all("served")
    assert rows.select("item_id", "feature_topic", "feature_age_days", "feature_device", "user_id").rows() == [
        (2, 7, None, 2, 4),
        (1, 6, None, 2, 4),
    ]
    assert rows["time"].dt.epoch("us").to_list() == [1_700_000_000_250_000] * 2
    assert rows["sample_id"].to_list() == [sample_of("r0", 2), sample_of("r0", 1)] == about["sample_id"].to_list()
    assert rows["label_click"].null_count() == rows["label_time_click"].null_count() == 2
    assert about.select("model", "version", "place", "score_click", "request").rows() == [
        ("light", 7, 0, 2.0, "r0"),
        ("light", 7, 1, 1.0, "r0"),
    ]
    assert (counted(meters, "written"), counted(meters, "left out")) == (2, 1)


def test_the_stream_takes_what_was_served_once_and_its_outcomes(run: Run, live: Live, tmp_path: Path) -> None:
    """Twice sent, as after an answer that nobody saw; and the label that comes by POST /v1/feedback."""
    service = Service(live, Limits())
    log = open_log(str(tmp_path / "source"), live, service.meters, None)
    service.log = log
    app = make_app(service)
    body = {"user": 4, "items": [3, 1], "time": 1_710_000_000, "features": {"device": 1, "topic": 2}}
    outcome = {"request": "a", "item": 1, "task": "click", "label": 1, "time": 1_710_000_060}
    with TestClient(app) as client:
        for _ in range(2):
            assert client.post("/v1/rank", json=body, headers={"x-request-id": "a"}).status_code == 200
        assert client.post("/v1/feedback", json={"outcomes": [outcome]}).json() == {"taken": 1}
    log.close(60)
    folder, events = run.folder, EventLog.open(run.folder.tables / "events")
    for name, schema in (("events", events_schema(live.scorer.artefact.manifest.events)), ("outcomes", OUTCOMES)):
        about = CommitProperties(custom_metadata={END: "1"})
        write_deltalake(str(tmp_path / "source" / name), schema.empty_table(), mode="append", commit_properties=about)
    outcomes = OutcomeLog.create(folder.tables / "outcomes", events.schema)
    hand_over(folder)
    source = run.experiment.stream.source.model_copy(update={"path": str(tmp_path / "source")})
    stream = run.experiment.stream.model_copy(update={"source": source})
    run_ingest(folder, run.experiment.model_copy(update={"stream": stream}), Journal(folder.logs, "ingest"))
    new = pl.concat(events.batches())[400:]
    assert sorted(new["item_id"]) == [1, 3] and new["feature_topic"].to_list() == [2, 2]
    rows = pl.concat(outcomes.batches())
    assert rows.select("sample_id", "task", "label").rows() == [(sample_of("a", 1), "click", 1.0)]
    assert sample_of("a", 1) in new["sample_id"]


@pytest.mark.parametrize("kind", [pytest.param("nats", marks=needs("nats-server")), "kafka"])
def test_a_broker_gets_what_the_stream_reads(live: Live, run: Run, tmp_path: Path, kind: str) -> None:
    columns = EventLog.open(run.folder.tables / "events").schema.columns()
    outcomes = OutcomeLog.create(tmp_path / "outcomes", EventLog.open(run.folder.tables / "events").schema)
    readers = {"events": Reader(columns), "outcomes": Reader(dict(outcomes.types))}
    with channel(kind, tmp_path) as made:
        with made.open() as source:
            source.create(EventLog.open(run.folder.tables / "events").schema)
        where = f"{made.url}/s" if kind == "nats" else f"kafka://{made.url}/s"
        log = open_log(where, live, Meters(), None)
        log(served(1))
        log.outcomes([("r1", 2, "click", 1.0, 1_700_000_100.0)])
        log.close(60)
        with made.open() as source:
            offsets, tables = dict[str, int](), {}
            while len(tables) < 2:
                for message in source.fetch(dict(offsets), 10, 0.1):
                    offsets[message.partition] = message.position + 1
                    tables[message.kind] = readers[message.kind].read(message)
    assert pl.DataFrame(tables["events"][0])["item_id"].to_list() == [2, 1, 3]
    assert tables["events"][1].published > 1e9
    assert pl.DataFrame(tables["outcomes"][0])["sample_id"].to_list() == [sample_of("r1", 2)]


@needs("nats-server")
def test_a_second_outcome_of_a_sample_is_a_message_and_one_sent_again_is_none(
    live: Live, run: Run, tmp_path: Path
) -> None:
    tables = [outcomes_of([("r", 2, task, 1.0, 1_700_000_000.0)], live.scorer.artefact) for task in ("click", "finish")]
    with channel("nats", tmp_path) as made:
        with made.open() as source:
            source.create(EventLog.open(run.folder.tables / "events").schema)
        sink = open_sink(f"{made.url}/s", pa.schema([]))
        for table in (*tables, tables[0]):
            sink.send({"outcomes": table})
        sink.close()
        with made.open() as source:
            found = source.fetch({}, 10, 1.0)
    assert [message.kind for message in found] == ["outcomes"] * 2


def test_a_full_queue_drops_and_counts_and_nobody_waits(live: Live) -> None:
    sink, meters = Kept(), Meters()
    sink.gate.clear()
    log = RequestLog(sink, live, meters, waiting=2)
    log(served(0))
    sink.begun.acquire()
    for k in range(1, 6):
        log(served(k))
    assert counted(meters, "dropped") == 9
    assert log.outcomes([("r1", 2, "click", 1.0, 1.0)]) == 0 and counted(meters, "dropped") == 10
    sink.gate.set()
    log.close(60)
    assert sink.all("events")["time"].n_unique() == 3 and counted(meters, "written") == 9


def test_a_sink_that_was_away_gets_everything(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recdistill.serve.request_log.PAUSE", 0.01)
    sink, meters = Kept(), Meters()
    sink.away = True
    log = RequestLog(sink, live, meters)
    log(served(0))
    for _ in range(3):
        sink.begun.acquire()
    sink.away = False
    log.close(60)
    assert len(sink.all("events")) == 3 and counted(meters, "dropped") == 0
    assert shown_by(meters)["recdistill_log_failures_total"] >= 2


def test_what_cannot_be_written_in_the_end_is_said_to_be_lost(live: Live, capsys: pytest.CaptureFixture[str]) -> None:
    sink, meters = Kept(), Meters()
    sink.away = True
    log = RequestLog(sink, live, meters)
    log(served(0))
    log.close(0)
    assert "request log: away; 3 rows are lost" in capsys.readouterr().err and counted(meters, "dropped") == 3


@pytest.fixture
def client(live: Live) -> Iterator[TestClient]:
    service = Service(live, Limits())
    service.log = RequestLog(Kept(), live, service.meters)
    with TestClient(make_app(service)) as made:
        yield made
    service.close()


GOOD = {"request": "a", "item": 1, "task": "click", "label": 1}


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ("{", "body: Invalid JSON"),
        ("[]", "body: "),
        ({"outcomes": []}, "outcomes: "),
        ({"outcomes": [GOOD] * 1001}, "outcomes: at most 1,000; got 1,001"),
        ({"outcomes": [{**GOOD, "label": 0.5}]}, "outcomes.label: 0 or 1"),
        ({"outcomes": [{**GOOD, "label": 2}]}, "outcomes.0.label: "),
        ({"outcomes": [{**GOOD, "task": "nope"}]}, "outcomes.task: one of click, finish"),
        ({"outcomes": [{**GOOD, "item": "x"}]}, "outcomes.item: a whole number"),
        ({"outcomes": [{**GOOD, "time": 1e18}]}, "outcomes.0.time: "),
        ({"outcomes": [{f"k{n}": 1 for n in range(17)}]}, "body: an object has at most 16 keys; got 17"),
    ],
)
def test_feedback_that_cannot_be_read_names_its_field(client: TestClient, body: object, line: str) -> None:
    content = {"content": body} if isinstance(body, str) else {"json": body}
    answer = client.post("/v1/feedback", headers={"content-type": "application/json"}, **content)  # type: ignore[arg-type]
    assert answer.status_code == 422 and answer.json()["error"].startswith(line), answer.json()


def test_an_address_that_is_none_is_refused(tmp_path: Path) -> None:
    schema = pa.schema([("sample_id", pa.int64())])
    with pytest.raises(Exception, match="--log ftp://: nats://HOST"):
        open_sink("ftp://host", schema)
    (tmp_path / "file").write_text("")
    with pytest.raises(Exception, match="the request log cannot be written there"):
        FolderSink(tmp_path / "file", schema)


def test_a_folder_of_another_log_is_refused_by_its_column(tmp_path: Path) -> None:
    columns = {"sample_id": "int64", "time": "time", "feature_tags": "list<string>"}
    for _ in range(2):
        FolderSink(tmp_path, events_schema(columns))
    for changed_to, line in (
        ({**columns, "feature_price": "float32"}, "events: it lacks column 'feature_price', unlike"),
        ({"sample_id": "int64", "time": "time"}, "events: it has column 'feature_tags', unlike"),
        ({**columns, "feature_tags": "string"}, "events: it has another type of column 'feature_tags', unlike"),
    ):
        with pytest.raises(UserError, match=line):
            FolderSink(tmp_path, events_schema(changed_to))


def test_a_log_of_sampled_negatives_takes_nothing_that_was_served(run: Run, tmp_path: Path) -> None:
    folder = shutil.copytree(run.folder.root / "artefact", tmp_path / "artefact")
    changed(folder / "1", events={**Live(folder).scorer.artefact.manifest.events, "log_q": "float32"})
    with pytest.raises(UserError, match=r"--log .*: the model's log has sampled negatives, .* \(log_q\)"):
        open_log(str(tmp_path / "log"), Live(folder), Meters(), None)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_what_waits_is_written_when_the_server_is_ended(run: Run, tmp_path: Path, workers: str) -> None:
    """Sent SIGTERM right after its answer; and several processes that share a port."""
    words = ["--log", str(tmp_path / "source"), "--shown", "1", "--workers", workers]
    with serving(run.folder.root / "artefact", *words) as made:
        body = {"user": 4, "items": [3, 1], "time": 1_710_000_000}
        scores = json.loads(made.get("/v1/rank", json.dumps(body).encode()))["scores"]["click"]
    rows = pl.DataFrame(DeltaTable(str(tmp_path / "source" / "events")).to_pyarrow_table())
    assert made.first.returncode == 0 and rows["item_id"].to_list() == [3 if scores[0] >= scores[1] else 1]
