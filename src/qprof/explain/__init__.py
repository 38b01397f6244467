"""Run -> findings: what differs, where it went, and why. Nothing is measured or drawn here."""
