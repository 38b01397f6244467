"""Forms of a run that other tools open: one module for each, named as `qprof export --format` has it."""
