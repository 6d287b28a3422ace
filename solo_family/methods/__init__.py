"""The methods: a folder each, whose `__init__` holds its entry in the registry.

Importing this fills `registry.METHODS`, and imports nothing of a method but its entry. A folder
that is put here is a method, with no line elsewhere.
"""

import importlib
import pkgutil

for _folder in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_folder.name}")
