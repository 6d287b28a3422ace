"""Whole programs side by side; in the repository, not in the wheel."""
