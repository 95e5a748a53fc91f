"""A student in torch as it was trained, served by plain FastAPI: run by `serving_peers.py`, as `python _serving_peer.py
RUN MODEL ARTEFACT PORT`.

Bodies are read, and ids looked up, by the code that our own server uses: what differs is the server, and torch.
"""

from __future__ import annotations

import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

import torch

from recdistill.api.run import Run
from recdistill.data.batch.extras import extras_of
from recdistill.data.store.encoder import field_counts
from recdistill.export.graph import ServedNetwork
from recdistill.export.inputs import Shape
from recdistill.runs.jobs import jobs_by_name
from recdistill.serve.artefact import open_artefact
from recdistill.serve.bench_requests import request_of
from recdistill.serve.reader import Reader
from recdistill.train.predict import Predictor


class Model:
    """The network with what makes a request into its inputs."""

    def __init__(self, run: str, model: str, artefact: str) -> None:
        torch.set_num_threads(1)
        opened = Run(Path(run))
        predictor = Predictor(opened.folder, opened.experiment, jobs_by_name(opened.experiment)[model])
        schema = predictor.schema
        shape = Shape(predictor.job.config.history, *field_counts(schema), extras_of(schema))
        self.made = partial(ServedNetwork, predictor.learner.network, shape)
        self.own = threading.local()  # what a pass looks up is noted in the network
        opened_artefact = open_artefact(Path(artefact))
        self.reader, self.tasks = Reader(opened_artefact), opened_artefact.manifest.tasks

    def scores(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to a body."""
        arrays = {name: torch.from_numpy(one) for name, one in self.reader.arrays(request_of(body)).items()}
        if not hasattr(self.own, "network"):
            self.own.network = self.made()
        with torch.inference_mode():
            found = torch.sigmoid(self.own.network(*(arrays[name] for name in self.own.network.inputs)))
        return {"scores": {task: found[:, k].tolist() for k, task in enumerate(self.tasks)}}


def fastapi(model: Model, port: int) -> None:
    """Serve with FastAPI's own way for work that blocks: a function, called in a thread."""
    import uvicorn
    from fastapi import Body, FastAPI

    app = FastAPI()

    @app.post("/v1/rank")
    def rank(body: dict[str, Any] = Body()) -> dict[str, Any]:  # noqa: B008 - FastAPI's way to name a body
        return model.scores(body)

    uvicorn.run(app, port=port, log_level="error")


if __name__ == "__main__":
    fastapi(Model(*sys.argv[1:4]), int(sys.argv[4]))
