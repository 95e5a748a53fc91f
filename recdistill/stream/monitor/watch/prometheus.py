"""A State as Prometheus metrics; a figure that is not known is left out, never 0."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from recdistill.stream.monitor.state import State

__all__ = ["expose"]

Family = CounterMetricFamily | GaugeMetricFamily
Values = Iterable[tuple[tuple[str, ...], float | None]]


def expose(state: State) -> bytes:
    """Return `state` in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(state))
    return generate_latest(registry)


class _Families(Collector):
    def __init__(self, state: State) -> None:
        self.state = state

    def collect(self) -> Iterator[Family]:
        yield from _processes(self.state)
        yield from _models(self.state)
        yield from _whole(self.state)


def _filled(family: Family, values: Values) -> Family:
    for labels, value in values:
        if value is not None:
            family.add_metric(labels, value)
    return family


def _counter(name: str, text: str, labels: tuple[str, ...], values: Values) -> Family:
    return _filled(CounterMetricFamily(f"recdistill_{name}", text, labels=labels), values)


def _gauge(name: str, text: str, labels: tuple[str, ...], values: Values) -> Family:
    return _filled(GaugeMetricFamily(f"recdistill_{name}", text, labels=labels), values)


def _processes(state: State) -> Iterator[Family]:
    of, pairs = ("process",), [((one.name,), one) for one in state.processes]
    yield _counter("rows", "Rows taken, recorded or judged since the hand-over.", of, ((n, p.rows) for n, p in pairs))
    yield _gauge(
        "rows_per_second", "Rows per second over the last half minute.", of, ((n, p.rows_per_second) for n, p in pairs)
    )
    yield _gauge(
        "lag_rows", "Rows behind ingest; of the gate: behind the teachers.", of, ((n, p.lag_rows) for n, p in pairs)
    )
    yield _gauge("lag_seconds", "Event time behind the newest event.", of, ((n, p.lag_seconds) for n, p in pairs))
    yield _gauge("silent_seconds", "Wall time since the last commit.", of, ((n, p.silent) for n, p in pairs))
    yield _gauge("pending_rows", "Rows waiting for a label or a signal.", of, ((n, p.pending) for n, p in pairs))
    yield _gauge(
        "process_resident_memory_bytes", "Memory in use at the last commit.", of, ((n, p.memory) for n, p in pairs)
    )
    yield _gauge("process_open_handles", "Open files at the last commit.", of, ((n, p.handles) for n, p in pairs))
    yield _gauge("stalled", "1: silent with rows to do.", of, ((n, float(p.status == "stalled")) for n, p in pairs))
    yield _gauge(
        "ended", "1: its source is exhausted and all is done.", of, ((n, float(p.status == "ended")) for n, p in pairs)
    )


def _models(state: State) -> Iterator[Family]:
    of, pairs = ("model",), [((one.name,), one) for one in state.models]
    yield _gauge("ne", "Progressive normalized entropy over the newest rows.", of, ((n, m.recent.ne) for n, m in pairs))
    yield _gauge(
        "calibration", "Predicted over observed rate, newest rows.", of, ((n, m.recent.calibration) for n, m in pairs)
    )
    distilled = [(n, m) for n, m in pairs if m.role == "distilled"]
    yield _gauge(
        "coverage",
        "Share of the newest rows learned with a signal.",
        of,
        ((n, m.recent.coverage) for n, m in distilled),
    )
    yield _gauge(
        "waiting_seconds",
        "Mean wall time from arrival to learning, newest rows.",
        of,
        ((n, m.recent.waiting) for n, m in pairs),
    )
    yield _gauge(
        "label_to_weights_seconds",
        "Longest way of a row from its producer into the weights, last half minute.",
        of,
        ((n, m.label_to_weights) for n, m in pairs),
    )
    yield _gauge("model_version", "Version of the weights that predict.", of, ((n, m.version) for n, m in pairs))
    yield _counter(
        "missing_signals",
        "Rows learned without a signal, and signals without use, by cause.",
        ("model", "cause"),
        (((m.name, cause), rows) for _, m in pairs for cause, rows in m.missing.items()),
    )


def _whole(state: State) -> Iterator[Family]:
    teachers = {one.name: 0 for one in state.models if one.role == "teacher"}
    for one in state.bad:
        teachers[one.model] = teachers.get(one.model, 0) + 1
    yield _gauge(
        "quarantined_versions",
        "Versions quarantined or revoked and not unquarantined since.",
        ("model",),
        (((name,), rows) for name, rows in teachers.items()),
    )
    yield _counter(
        "dropped_rows",
        "Rows that ingest dropped, by cause.",
        ("cause",),
        (((cause,), rows) for cause, rows in state.dropped.items()),
    )
    yield _counter("dead_letters", "Rows of messages that could not be taken.", (), [((), sum(state.dead.values()))])
    yield _gauge("unread_commits", "Commits that this exporter has yet to read.", (), [((), state.unread)])
