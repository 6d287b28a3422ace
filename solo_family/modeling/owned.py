"""Copy what a model returns out of memory that a CUDA graph writes to again."""

from typing import Any

from detectron2.structures import Boxes, Instances
from torch import Tensor

from .recording import map_tensors


def owned(results: Any, outputs: Any) -> Any:
    """Return results, of which those that lie in the memory of `outputs` are copied.

    A graph's outputs are overwritten by its next replay.
    """
    borrowed: set[int] = set()

    def note(tensor: Tensor) -> Tensor:
        borrowed.add(tensor.untyped_storage().data_ptr())
        return tensor

    def own(tensor: Tensor) -> Tensor:
        return tensor.clone() if tensor.untyped_storage().data_ptr() in borrowed else tensor

    def own_all(value: Any) -> Any:
        if isinstance(value, Instances):
            for name, field in value.get_fields().items():
                value.set(
                    name, Boxes(own(field.tensor)) if type(field) is Boxes else own_all(field)
                )
            return value
        if isinstance(value, dict):
            return {key: own_all(part) for key, part in value.items()}
        if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
            return type(value)(own_all(part) for part in value)
        return map_tensors(own, value)

    map_tensors(note, outputs)
    borrowed.discard(0)
    return own_all(results)
