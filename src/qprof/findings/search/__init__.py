"""Mixed precision: which layers of a quantized model are worth their cost in float, found by trying.

`space`: the layers, what their rounding loses and what they cost in float; `propose`: what to try next; `trials`: runs
that are kept as they end; `halves`: scores for choosing, and others for reporting; `search`: the loop; `outcome`: the
front, and files to use it elsewhere.
"""
