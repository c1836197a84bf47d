"""What lands on disk, and reading it back."""
