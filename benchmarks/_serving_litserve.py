"""The network of `_serving_peer.py` in LitServe with its defaults, one process for HTTP and one for the model: run by
`serving_peers.py`, as `python _serving_litserve.py RUN MODEL ARTEFACT PORT`.
"""

from __future__ import annotations

import sys
from typing import Any

import litserve as ls
from _serving_peer import Model


class Api(ls.LitAPI):  # type: ignore[misc]
    """One request after the other."""

    def setup(self, device: str) -> None:
        """Load the network, in the model's process."""
        self.model = Model(*sys.argv[1:4])

    def predict(self, x: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to a body."""
        return self.model.scores(x)


if __name__ == "__main__":
    server = ls.LitServer(Api(api_path="/v1/rank"), accelerator="cpu")
    server.run(host="127.0.0.1", port=int(sys.argv[4]), generate_client_file=False, log_level="error")
