"""From a run and its findings to the data of each section of the page."""
