"""Pure functions on numbers: intervals, paired tests, steady state, schedules; the source cited beside each."""
