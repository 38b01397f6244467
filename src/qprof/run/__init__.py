"""The protocol: profile -> plan -> workers -> Run. The only layer that measures."""
