"""The protocol: profile -> plan -> workers -> Run. The only layer that measures.

`parent/` asks, reads sensors and writes; `worker/` runs models; `requests` is all that they say to one another.
"""
