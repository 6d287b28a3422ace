"""Give a module another method in place: its class becomes one that is derived from its own."""

from collections.abc import Callable
from typing import Any


def derived(cls: Any, make: Callable[[Any], Any], members: dict[str, Any]) -> Any:
    """Return a class of the same name with other members.

    Modules whose `__class__` becomes it keep the names of their parameters, and are copied and
    pickled with it.

    Args:
        cls: the original class.
        make: makes the same class anew of the original one; a function that pickle finds.
        members: methods by name.
    """

    def reduce(self: Any, _: Any) -> tuple[Any, ...]:
        # Pickle finds the original class alone.
        return _new, (cls, make), self.__getstate__()

    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    return type(cls.__name__, (cls,), {**names, **members, "__reduce_ex__": reduce})


def _new(cls: Any, make: Callable[[Any], Any]) -> Any:
    made = make(cls)
    return made.__new__(made)
