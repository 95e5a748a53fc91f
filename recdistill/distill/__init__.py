"""How knowledge crosses: losses, debias, weight, gate. Pure functions on tensors; usable without the tables."""

from recdistill.distill.adapter import Adapter
from recdistill.distill.compressor import Compressor, packed, quantised, unpacked
from recdistill.distill.debias import KeepRates, PaperCorrection, paper_log_odds, true_log_odds
from recdistill.distill.ensemble import Record, combine
from recdistill.distill.gate import StartGate
from recdistill.distill.listwise import listwise_loss
from recdistill.distill.losses import (
    Loss,
    bernoulli_kl,
    label_loss,
    late_mass,
    objective,
    scaled_label,
    share_heard,
    signal_loss,
)
from recdistill.distill.saved import state_of, take_up
from recdistill.distill.weight import AutoWeight

__all__ = [
    "Adapter",
    "AutoWeight",
    "Compressor",
    "KeepRates",
    "Loss",
    "PaperCorrection",
    "Record",
    "StartGate",
    "bernoulli_kl",
    "combine",
    "label_loss",
    "late_mass",
    "listwise_loss",
    "objective",
    "packed",
    "paper_log_odds",
    "quantised",
    "scaled_label",
    "share_heard",
    "signal_loss",
    "state_of",
    "take_up",
    "true_log_odds",
    "unpacked",
]
