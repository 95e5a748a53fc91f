"""An opened artefact that scores: onnxruntime on the graph, rows gathered before."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from recdistill.errors import UserError
from recdistill.serve.artefact import Artefact, open_artefact
from recdistill.serve.reader import Reader
from recdistill.serve.request import Past, Request
from recdistill.serve.together import together
from recdistill.tables.regression import Regression
from recdistill.typing import Array

__all__ = ["Scorer"]


class Scorer:
    """One version of a student, ready to rank. threads: of a request's matrix products."""

    def __init__(self, artefact: Artefact, threads: int = 1) -> None:
        self.artefact, self.reader = artefact, Reader(artefact)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self.session = onnxruntime.InferenceSession(
                str(artefact.graph), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # noqa: BLE001 - onnxruntime's own classes differ between its versions
            raise UserError(f"{artefact.graph}: onnxruntime does not take it; export again ({error})") from None
        self.offset = np.array(artefact.manifest.log_odds_offset, np.float32)
        self.wanted = {one.name for one in self.session.get_inputs()}

    @classmethod
    def open(cls, root: Path, threads: int = 1, version: int | None = None) -> Scorer:
        """Open the artefact at `root`, or, of a folder of versions, `version` or the current one; UserError as
        `open_artefact`, and for one that cannot score an item that nobody knows.
        """
        made = cls(open_artefact(root, version), threads)
        try:
            made._tried()
        except Exception:  # noqa: BLE001 - a manifest may be whole and yet say anything
            raise UserError(f"{made.artefact.folder}: it cannot score a request; export again") from None
        return made

    def _tried(self) -> None:
        """Score one request, with an event of the past; raise whatever is wrong with the artefact."""
        about = self.artefact.manifest
        unknown = "" if self.artefact.schema.item_id == "string" else 0
        past = Past([unknown], [0.0] * self.artefact.schema.timed, about.actions[:1])
        found = self.rank(Request(None, [unknown], 1.0, history=past))
        if found.shape != (1, len(about.tasks)) or not np.isfinite(found).all():
            raise ValueError

    @property
    def version(self) -> int:
        """Return the version that scores."""
        return self.artefact.manifest.version

    def logits(self, inputs: dict[str, Array]) -> Array:
        """Return float32 [C, K], as the model learned them, of the graph's inputs."""
        fed = {name: values for name, values in inputs.items() if name in self.wanted}
        return np.asarray(self.session.run(None, fed)[0])

    def rank(self, request: Request) -> Array:
        """Return float32 [C, K], per candidate and task its probability in the log before any down-sampling, of a
        regression its value in the label's unit. Raises UserError, which names the field, for a request that cannot be
        read.
        """
        return self.scores([self.reader.arrays(request)])[0]

    def scores(self, requests: Sequence[dict[str, Array]]) -> list[Array]:
        """Return what `rank` does, of each request's inputs, in one call of the graph."""
        if len(requests) == 1:
            return [self._scaled(self.logits(requests[0]))]
        found = self._scaled(self.logits(together(requests)))
        return np.split(found, np.cumsum([len(one["item"]) for one in requests])[:-1])

    def _scaled(self, logits: Array) -> Array:
        about = self.artefact.manifest
        with np.errstate(over="ignore"):
            found = 1 / (1 + np.exp(self.offset - logits))
        for task, (loss, scale) in about.regression.items():
            at = about.tasks.index(task)
            found[:, at] = Regression(loss, scale).values(logits[:, at])  # type: ignore[arg-type]
        return np.asarray(found, np.float32)
