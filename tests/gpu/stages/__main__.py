"""Runs one stage in this process: `python -m tests.gpu.stages NAME`, as `tests.gpu.check` does."""

import sys
from importlib import import_module

from . import rows


def main() -> None:
    """Add the rows of the stage that the command line names; an exception becomes one."""
    with rows.case("the stage itself"):
        import_module(f"{__package__}.{sys.argv[1]}").run()


if __name__ == "__main__":
    main()
