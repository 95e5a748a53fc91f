"""Stacks that read a sequence of events: HSTU, Transformer, LONGER."""
