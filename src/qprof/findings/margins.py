"""What counts as no difference, unless a command line says otherwise."""

from __future__ import annotations

from qprof.record.distances import CLOSENESS, SAME_TOP

#: 2 % of a latency or an energy.
LATENCY_MARGIN = 0.02
#: Half a point of a score.
SCORE_MARGIN = 0.005
#: How far a variant may be from its baseline where nothing is asked for and there are no labels. Another top answer is
#: not always a wrong one: a share of right answers can lose no more than `same_top` does, and mostly loses far less. A
#: tenth of the outputs' length is 20 dB.
DISTANCE_DROPS = {SAME_TOP: 0.05, CLOSENESS: 0.10}
#: 2 % of a memory, where the run does not tell how much it scatters.
MEMORY_MARGIN = 0.02
