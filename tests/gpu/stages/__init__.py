"""The stages of `tests.gpu.check`, a module each: `run` adds rows with `rows.add`."""
