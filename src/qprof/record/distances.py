"""Names of the scores that need no labels: how near a variant's outputs are to the baseline's on the same inputs.

Each is a mean over the inputs, in which every output of the model counts alike. The baseline, compared with itself, has
1, 1, 1 and 0.
"""

from __future__ import annotations

#: Share of rows whose largest element stands at the same place, of outputs that are probabilities or logits.
SAME_TOP = "same_top"
#: 1 - |variant - baseline| / |baseline|: 0.97 is an error of 3 % of the output's length.
CLOSENESS = "closeness"
#: Cosine of the angle between the two, as vectors.
COSINE = "cosine"
#: Kullback-Leibler divergence of the variant's distribution from the baseline's, in nats.
KL = "kl"
#: Signal-to-quantization-noise ratio of all inputs together in dB; undefined without noise, and then `CLOSENESS` is 1.
SQNR = "sqnr_db"

#: What a verdict is given on and a choice goes by, the first that a variant has; higher is better.
DECIDING = (SAME_TOP, CLOSENESS)
DISTANCES = frozenset((SAME_TOP, CLOSENESS, COSINE, KL, SQNR))
