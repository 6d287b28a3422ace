"""The family: what each method tells the rest of the package, in one entry.

The entry stands in the `__init__` of the method's folder. What it names is imported when it is
used, so that listing the methods imports neither torch nor detectron2.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

# "package.module:name", which is imported when it is used; or the object itself.
Reference = str | Callable[..., Any]


@dataclass(frozen=True)
class Visualization:
    """A drawing of what a method makes of a picture on the way to its masks.

    Attributes:
        draw: a `solo_family.modeling.drawing.Draw`.
        help: what it draws, for the flag of `visualize-results` that asks for it.
        of_one: it is of one picture, which must be readable; others skip what is not.
        of_all: it is one drawing of all pictures, by default of those of DATASETS.TEST.
    """

    draw: Reference
    help: str
    of_one: bool = False
    of_all: bool = False


@dataclass(frozen=True)
class Method:
    """What a method is called, what it is made of, and how its authors train it.

    Attributes:
        meta_arch: its name in detectron2's META_ARCH registry (`MODEL.META_ARCHITECTURE`).
        title: its name in prose.
        model: the `MaskSegmentor` that is built from a configuration.
        base_config: the config file that its others inherit from, relative to `configs/`.
        quickstart_config: the CPU-sized config on the shapes dataset, relative to `configs/`.
        num_classes_key: the config key of its class count.
        add_config: takes a `CfgNode` and adds the method's keys, in place. Methods that share their
            keys name one function.
        check_config: takes a `CfgNode` and raises ConfigError for values that can't work.
        backbones: what it adds to detectron2's BACKBONE registry, by name.
        sem_seg_heads: what it adds to detectron2's SEM_SEG_HEADS registry, by name.
        checkpoint_sources: tuples of `checkpoint.source.Source`: other code's checkpoints of it.
        visualizations: what `visualize-results` draws of it, by flag.
        tasks: what it can be evaluated on: "semantic", "panoptic", "instance", "proposals".
        score_key: the config key of the least score of a result, where there is one.
        classify_key: the config key that lets a class-agnostic method tell classes apart.
        optimizer: what `SOLVER.OPTIMIZER ''` means.
        backbone_multiplier: what `SOLVER.BACKBONE_MULTIPLIER 0` means.
        crop_short_edges: what `INPUT.CROP.SHORT_EDGES ()` means.
        empty_segments: what `INPUT.EMPTY_SEGMENTS ""` means.
        label_sampling: what `INPUT.LABEL_SAMPLING ""` means.
        limits: takes a `CfgNode` and returns how many instances of an image the model can return at
            most, by the config keys that say so, see `config.caps`; None for
            `TEST.DETECTIONS_PER_IMAGE` alone.
        memory_keys: the config keys that lower the memory of inference, beside the image's size.
        quantizes: whether its exported model keeps its results in 8 bits.
    """

    meta_arch: str
    model: Reference
    base_config: str
    quickstart_config: str
    num_classes_key: str
    title: str = ""
    add_config: Reference | None = None
    check_config: Reference | None = None
    backbones: Mapping[str, Reference] = field(default_factory=dict)
    sem_seg_heads: Mapping[str, Reference] = field(default_factory=dict)
    checkpoint_sources: tuple[str, ...] = ()
    visualizations: Mapping[str, Visualization] = field(default_factory=dict)
    tasks: tuple[str, ...] = ("instance",)
    score_key: str = ""
    classify_key: str = ""
    optimizer: str = "SGD"
    backbone_multiplier: float = 1.0
    crop_short_edges: tuple[int, ...] = ()
    empty_segments: str = "drop"
    label_sampling: str = "center"
    limits: Reference | None = None
    memory_keys: tuple[str, ...] = ()
    quantizes: bool = False


# By `meta_arch`. `solo_family.methods` fills it in, and whoever has a method of their own.
METHODS: dict[str, Method] = {}
_followers: list[Callable[[Method], None]] = []


def register(method: Method) -> Method:
    """Add a method to `METHODS` and to detectron2's registries, and return it.

    Raises:
        ValueError: there is another of that name.
    """
    present = METHODS.get(method.meta_arch)
    if present is not None and present != method:
        raise ValueError(f"There is a method {method.meta_arch!r} already: {present.model}.")
    if present is None:
        METHODS[method.meta_arch] = method
        for follower in _followers:
            follower(method)
    return method


def follow(follower: Callable[[Method], None]) -> None:
    """Call `follower` with every method: those that there are now, and each that is added."""
    _followers.append(follower)
    for method in METHODS.values():
        follower(method)


def resolve(reference: Any) -> Any:
    """Return the object that "package.module:name" names; any other object is returned as it is."""
    if not isinstance(reference, str):
        return reference
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)
