"""The state of a stream: heartbeats, figures over time."""
