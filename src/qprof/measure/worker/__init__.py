"""The worker's side: one process that holds one variant, or makes, scores and compares them.

Started as `python -m qprof.measure.worker DESCRIPTOR`.
"""
