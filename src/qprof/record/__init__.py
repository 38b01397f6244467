"""What is recorded: tensors, ops, phases, blocks, readings, scores, the manifest. Every other layer speaks of these
types; they speak of nothing but errors."""
