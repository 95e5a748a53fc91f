"""What /metrics shows: of this process, or the sum over all that share a folder of counts (processes.py)."""

from __future__ import annotations

import os
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess, values

from recdistill.serve.live import Live

__all__ = ["SHARED", "Meters", "share"]

SHARED = "PROMETHEUS_MULTIPROC_DIR"  # in the environment: the folder of counts; a name of prometheus_client's
BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5)


def share(number: int) -> None:
    """Let the meters that this process makes count in the folder of all, as process `number`: one that takes another's
    place goes on with its counts, so that neither sums nor files depend on how many have died.
    """
    values.ValueClass = values.MultiProcessValue(lambda: number)  # type: ignore[no-untyped-call]


class Meters:
    """Counts of one server; other parts add theirs with `counter` and `watch`."""

    def __init__(self) -> None:
        self.registry, self._refused = CollectorRegistry(), 0
        self._watched: list[tuple[Gauge, Callable[[], float]]] = []
        self.answers = self.counter("recdistill_rank", "Requests answered, by status.", "status")
        self.candidates = self.counter("recdistill_candidates", "Candidates scored.")
        self.late = self.counter("recdistill_late", "Requests given up, as time was up.")
        self.restarts = self.counter("recdistill_restarts", "Processes that died and were started again.")
        self.refused = self.counter("recdistill_refused_versions", "Versions that were damaged, and not taken.")
        self.seconds = Histogram(
            "recdistill_rank_seconds", "From body to answer.", buckets=BUCKETS, registry=self.registry
        )
        self.version = self._gauge("recdistill_version", "The version that is served.")
        self.canary = self._gauge("recdistill_canary_version", "The version that answers some users, 0 for none.")

    def counter(self, name: str, text: str, *labels: str) -> Counter:
        """Return a further count."""
        return Counter(name, text, labels, registry=self.registry)

    def watch(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Show a value, asked for whenever the page is; of several processes that which answers."""
        gauge = Gauge(name, text, registry=self.registry, multiprocess_mode="mostrecent")
        self._watched.append((gauge, value))

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, registry=self.registry, multiprocess_mode="all")

    def follow(self, live: Live) -> None:
        """Take over what is served now."""
        self.version.set(live.scorer.version)
        self.canary.set(live.canary)
        if live.refused != self._refused:
            self.refused.inc(live.refused - self._refused)
            self._refused = live.refused

    def page(self) -> bytes:
        """Return the text of /metrics."""
        for gauge, value in self._watched:
            gauge.set(value())
        if SHARED not in os.environ:
            return generate_latest(self.registry)
        whole = CollectorRegistry()
        multiprocess.MultiProcessCollector(whole)  # type: ignore[no-untyped-call]
        return generate_latest(whole)
