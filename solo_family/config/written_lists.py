"""Evaluate the lists that MaskFormer's published configs write as code, and no other code.

Those files, and every config made from them, hold lines such as
`MIN_SIZE_TRAIN: !!python/object/apply:eval ["[int(x * 0.1 * 512) for x in range(5, 21)]"]`.
"""

import ast
import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import yaml

TAG = "tag:yaml.org,2002:python/object/apply:eval"
ALLOWED = (
    "numbers, + - * / // %, lists, int, round, range and one comprehension over a range, "
    'for instance "[int(x * 0.1 * 512) for x in range(5, 21)]"'
)
_LONGEST = 1000  # characters of code, and elements of a list
_OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {"int": int, "round": round}


def evaluate(code: str) -> Any:
    """Return the number or the list of numbers that an expression stands for.

    Args:
        code: one Python expression of `ALLOWED`, at most 1,000 characters.

    Returns:
        An int, a float, or a list of them of at most 1,000 elements.

    Raises:
        ValueError: the expression has anything else in it. Nothing of it has been run.
    """
    if len(code) > _LONGEST:
        raise ValueError(f"an expression of {len(code)} characters")
    try:
        return _value(ast.parse(code.strip(), mode="eval").body, {})
    except (SyntaxError, TypeError, ArithmeticError, RecursionError) as error:
        raise ValueError(f"{code!r}: {error}") from error


def _value(node: ast.expr, names: dict[str, float]) -> Any:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return number
        case ast.Name(id=name) if name in names:
            return names[name]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_number(operand, names)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_number(left, names), _number(right, names))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            return _FUNCTIONS[name](*(_number(each, names) for each in args))
        case ast.List(elts=elements):
            return [_number(each, names) for each in elements]
        case ast.ListComp(
            elt=element,
            generators=[ast.comprehension(target=ast.Name(id=name), ifs=[], iter=over)],
        ) if not names:
            return [_number(element, {name: each}) for each in _range(over)]
    raise ValueError(f"{ast.unparse(node)!r}, which is not one of: {ALLOWED}")


def _number(node: ast.expr, names: dict[str, float]) -> Any:
    value = _value(node, names)
    if isinstance(value, list):
        raise ValueError(f"a list where a number must be: {ast.unparse(node)!r}")
    return value


def _range(node: ast.expr) -> range:
    match node:
        case ast.Call(func=ast.Name(id="range"), args=args, keywords=[]):
            values = range(*(_number(each, {}) for each in args))
            if len(values) <= _LONGEST:
                return values
    raise ValueError(f"{ast.unparse(node)!r}, which is no range of at most {_LONGEST} numbers")


def construct(loader: yaml.SafeLoader, node: yaml.Node) -> Any:
    """Construct the value of a node with the tag `TAG`.

    Raises:
        yaml.constructor.ConstructorError: it holds anything but one allowed expression.
    """
    try:
        if not isinstance(node, yaml.SequenceNode):
            raise ValueError("no list of one expression")
        (code,) = loader.construct_sequence(node)
        return evaluate(str(code))
    except ValueError as error:
        raise yaml.constructor.ConstructorError(
            None, None, f"!!python/object/apply:eval with {error}", node.start_mark
        ) from error


@contextmanager
def written_lists() -> Iterator[None]:
    """Let `yaml.safe_load`, which detectron2 reads configs with, accept such lists in the block."""
    before = dict(yaml.SafeLoader.yaml_constructors)
    yaml.SafeLoader.add_constructor(TAG, construct)
    try:
        yield
    finally:
        yaml.SafeLoader.yaml_constructors = before
