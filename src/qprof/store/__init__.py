"""The run directory: written once, block by block; versioned; resumable; read by everything above."""
