"""Files that labelling tools wrote themselves; README.md says which, and how they were made."""

from pathlib import Path

FIXTURES = Path(__file__).resolve().parent
