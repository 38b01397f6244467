"""GPTQ models by AutoGPTQ 0.7.1, archived since: what older write-ups measured, to be measured beside its successor."""
