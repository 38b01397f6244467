"""Data set, preprocessing, decoding and scoring of what a variant is run on; see `base.Task`."""
