"""The pages for people: report, ablation, scaling."""
