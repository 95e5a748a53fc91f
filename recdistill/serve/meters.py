"""What /metrics shows."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from recdistill.serve.live import Live

__all__ = ["Meters"]


class Meters:
    """What /metrics shows."""

    def __init__(self, live: Live) -> None:
        self.registry = CollectorRegistry()
        self.answers = Counter("recdistill_rank", "Requests answered, by status.", ["status"], registry=self.registry)
        self.candidates = Counter("recdistill_candidates", "Candidates scored.", registry=self.registry)
        buckets = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5)
        self.seconds = Histogram(
            "recdistill_rank_seconds", "From body to answer.", buckets=buckets, registry=self.registry
        )
        for name, text, value in (
            ("recdistill_version", "The version that is served.", lambda: live.scorer.version),
            ("recdistill_refused_versions", "Versions that were damaged, and not taken.", lambda: live.refused),
        ):
            Gauge(name, text, registry=self.registry).set_function(value)
