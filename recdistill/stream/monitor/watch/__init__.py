"""The live page of a stream, and its figures for Prometheus and Grafana."""
