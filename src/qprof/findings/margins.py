"""What counts as no difference, unless a command line says otherwise."""

from __future__ import annotations

#: 2 % of a latency or an energy.
LATENCY_MARGIN = 0.02
#: Half a point of a score.
SCORE_MARGIN = 0.005
#: 2 % of a memory, where the run does not tell how much it scatters.
MEMORY_MARGIN = 0.02
