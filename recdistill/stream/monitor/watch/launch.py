"""The live page of a stream, and its figures for Prometheus and Grafana."""

from __future__ import annotations

from recdistill.config.experiment import Experiment
from recdistill.errors import UserError
from recdistill.runs.folder import RunFolder

__all__ = ["serve_watch"]

NEEDED = ("fastapi", "uvicorn", "prometheus_client")


def serve_watch(folder: RunFolder, experiment: Experiment, host: str = "127.0.0.1", port: int = 8377) -> None:
    """Serve the page, its state and metrics of a run until interrupted; `port` 0 takes a free one. The address is
    printed.

    Raises UserError when the port is taken, the host is none of this machine's, or the libraries are not installed.
    """
    try:
        from recdistill.stream.monitor.watch.server import serve
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in NEEDED:
            raise
        raise UserError(f"watch needs {error.name}; install it: pip install 'recdistill[watch]'") from None
    serve(folder, experiment, host, port)
