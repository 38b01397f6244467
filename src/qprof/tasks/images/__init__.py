"""From image files to the input tensor of a model, for every task on images."""
