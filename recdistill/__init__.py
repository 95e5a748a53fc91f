"""Distil a large recommendation model into the one you can serve, and measure how much of its gain arrived."""
