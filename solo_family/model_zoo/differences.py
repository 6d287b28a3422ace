"""The list of what differs by intention between the official configs and ours."""

from pathlib import Path

TABLE = Path(__file__).with_name("differences.csv")
