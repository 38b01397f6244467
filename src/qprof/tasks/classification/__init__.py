"""Classification: one class for each image, text, or whatever a model takes as arrays."""
