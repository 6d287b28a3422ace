"""What a training shows of itself when it has ended: curves, errors, and how sure the figures are.

Everything is computed from what a run's folder holds: metrics.json, and the predictions that the
last evaluation has written. No model is built.
"""
