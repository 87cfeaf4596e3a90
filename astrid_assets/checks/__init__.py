"""Asset checks: they report the colours that the assets stored, and compute nothing."""
