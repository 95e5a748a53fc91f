"""How knowledge crosses: losses, debias, weight, gate. Pure functions on tensors; usable without the tables."""

from recdistill.distill.adapter import Adapter
from recdistill.distill.debias import KeepRates, PaperCorrection, paper_log_odds, true_log_odds
from recdistill.distill.ensemble import Record, combine
from recdistill.distill.gate import StartGate
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
from recdistill.distill.weight import AutoWeight

__all__ = [
    "Adapter", "AutoWeight", "KeepRates", "Loss", "PaperCorrection", "Record", "StartGate", "bernoulli_kl", "combine", "label_loss",
    "late_mass", "objective", "paper_log_odds", "scaled_label", "share_heard", "signal_loss", "true_log_odds",
]  # fmt: skip
