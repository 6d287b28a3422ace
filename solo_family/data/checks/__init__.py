"""Checks of datasets: what is wrong, what it does to a run, and how to fix it."""
