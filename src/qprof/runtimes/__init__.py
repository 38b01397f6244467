"""What executes a variant. A package here with a module `runtime` is found by `registry`; see `base.Runtime`."""
