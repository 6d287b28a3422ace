"""The methods: each is a folder, whose `__init__` has its entry in the registry.

Importing this package fills `registry.METHODS`, and imports only the entries. A new folder here is
a new method; no other file needs to name it.
"""

import importlib
import pkgutil

for _folder in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_folder.name}")
