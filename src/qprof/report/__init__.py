"""Draws a run and its findings: tables, exports, progress. No measuring, no deciding."""
