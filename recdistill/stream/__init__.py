"""The streaming phase: sources, ingest, the models that follow the tables, the gate, the monitor."""
