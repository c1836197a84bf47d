"""Ready-made callbacks."""
