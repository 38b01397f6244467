"""One HTML file that shows a run, drawn from its `report.json` alone."""
