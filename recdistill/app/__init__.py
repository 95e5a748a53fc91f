"""What a verb of the command line does from start to end: run, stream, ablate, scale, operate."""
