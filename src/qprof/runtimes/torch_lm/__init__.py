"""Causal language models in Hugging Face layout: unquantized, or quantized with GPTQ."""
