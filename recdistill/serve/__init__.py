"""What serves a student: an artefact that was exported, and nothing of torch."""
