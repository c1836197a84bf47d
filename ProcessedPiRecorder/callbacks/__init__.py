"""Ready-made callbacks: import them from their own modules (``callbacks.faces``)."""
