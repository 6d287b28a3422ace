"""A plugin of mypy's for the tests: the attributes of a network have the types that the test knows.

PyTorch declares every attribute of a module that its class does not as `Tensor | Module`, so that
`model.head.tower[0].weight` needs three casts. In a test a wrong attribute fails at that very line;
the package itself declares the attributes that it uses, and is checked without this.
"""

from collections.abc import Callable
from pathlib import PurePath

from mypy.plugin import AttributeContext, Plugin
from mypy.types import AnyType, Type, TypeOfAny

MODULE = "torch.nn.modules.module.Module."


def is_test(path: str) -> bool:
    """Return whether the file at `path` belongs to the tests."""
    return "tests" in PurePath(path).parts


def known_to_the_test(context: AttributeContext) -> Type:
    """Return Any for an undeclared attribute of a module in a test, else PyTorch's own type."""
    if is_test(context.api.path):
        return AnyType(TypeOfAny.explicit)
    return context.default_attr_type


class UndeclaredAttributes(Plugin):
    """Looks up the attributes of torch.nn.Module."""

    def get_attribute_hook(self, fullname: str) -> Callable[[AttributeContext], Type] | None:
        """Return what gives the type of attribute `fullname`, None for what is no module's."""
        return known_to_the_test if fullname.startswith(MODULE) else None


def plugin(version: str) -> type[Plugin]:
    """Return the plugin; mypy calls this by its name."""
    return UndeclaredAttributes
