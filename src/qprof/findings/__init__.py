"""Run -> findings: where differences went, causes with their tests, verdicts, audits, the choice of a variant."""
