"""torch as a runtime for exported networks: `torch.export` files, and Hugging Face folders of classifiers."""
