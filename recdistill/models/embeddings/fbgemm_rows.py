"""An embedding table whose rows and optimiser's state FBGEMM holds and moves, the kernels of torchrec: row-wise
Adagrad, fused into one pass over the rows of a step. It starts, learns and is stored as the host's table is.

FBGEMM fuses the update into a look-up's backward pass. So a model reads the rows as they lie, and a step looks those up
that it moves, once it is known that all gradients are finite.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

import torch

from recdistill.errors import UserError
from recdistill.models.embeddings.fused_rows import Moved
from recdistill.models.embeddings.growable import EPSILON, GrowableTable
from recdistill.models.embeddings.on_device import DeviceTable

__all__ = ["FbgemmTable", "check_fbgemm", "holds"]

MULTIPLE = 4  # of which FBGEMM wants the numbers of a row to be one


def holds(width: int) -> bool:
    """Return whether FBGEMM has tables of this width."""
    return width % MULTIPLE == 0


@cache
def check_fbgemm() -> None:
    """Raise UserError where FBGEMM is not installed, or does not load with this torch."""
    try:
        import_module("fbgemm_gpu")
    except ModuleNotFoundError as missing:
        raise UserError(
            "embeddings: torchrec needs FBGEMM: pip install 'recdistill[torchrec]', or fbgemm-gpu where torch is one "
            "for CUDA; or set embeddings: own"
        ) from missing
    except OSError as broken:
        raise UserError(
            f"embeddings: torchrec: the FBGEMM that is installed does not load with torch {torch.__version__}; install "
            "the release that was made for it, or set embeddings: own"
        ) from broken


class FbgemmTable(DeviceTable):
    """A table of FBGEMM in the memory of `home`, the CPU's or a device's; a model uses it like the `table` it is made
    of, of row-wise Adagrad, whose width FBGEMM `holds`, and of which no row was looked up yet.
    """

    def _allocate(self, capacity: int) -> None:
        GrowableTable._allocate(self, capacity)  # host zeros that nobody touches, where FBGEMM has its own
        self._lie("first", "steps", "frozen", "place")
        kernels = _made(capacity, self.width, self.home)
        self._kernels = (kernels,)  # in a tuple, so that torch does not register its rows as parameters
        (self._weight,), ((second,),) = kernels.split_embedding_weights(), kernels.split_optimizer_states()
        self._second = second[:, None]

    def _move(self, moved: Moved) -> None:
        wanted = moved.wanted & ~self._frozen.index_select(0, moved.rows) if self._freezes else moved.wanted
        rows, gradient = moved.rows[wanted], moved.gradient[wanted]
        self._steps.index_add_(0, rows, torch.ones_like(rows, dtype=torch.int32))
        if self.decay:
            self._weight[rows] = self._weight.index_select(0, rows) * (1 - self.rate * self.decay)
        (kernels,) = self._kernels
        kernels.set_learning_rate(self.rate)  # before the look-up, which takes it along
        with torch.enable_grad():
            kernels(rows, torch.arange(len(rows) + 1, device=self.home)).backward(gradient)


def _made(rows: int, width: int, home: torch.device) -> Any:
    """Return a table of FBGEMM, a bag of one id for each row that is looked up."""
    from fbgemm_gpu.split_embedding_configs import EmbOptimType
    from fbgemm_gpu.split_table_batched_embeddings_ops_common import EmbeddingLocation
    from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
        ComputeDevice,
        SplitTableBatchedEmbeddingBagsCodegen,
    )

    away = home.type == "cuda"
    lies, computes = (
        (EmbeddingLocation.DEVICE, ComputeDevice.CUDA) if away else (EmbeddingLocation.HOST, ComputeDevice.CPU)
    )
    return SplitTableBatchedEmbeddingBagsCodegen(
        [(rows, width, lies, computes)],
        optimizer=EmbOptimType.EXACT_ROWWISE_ADAGRAD,
        learning_rate=0.0,
        eps=EPSILON,
        device=home,
    )
