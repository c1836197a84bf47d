"""What the recorder costs, measured side by side with what one would use instead: ``python -m benchmarks --help``."""
