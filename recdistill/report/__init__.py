"""The pages a person reads: report, ablation, scaling."""
