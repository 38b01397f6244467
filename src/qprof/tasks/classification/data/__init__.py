"""Labelled samples, from wherever people keep them."""
