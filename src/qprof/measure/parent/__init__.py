"""The parent's side: asks workers, reads sensors while they run, and writes the run directory. It runs no model."""
