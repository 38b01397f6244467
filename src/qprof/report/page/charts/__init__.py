"""Charts as Vega-Lite specifications: the page draws them, and `qprof plot` writes them to files."""
