"""The registry of methods: one entry has all that the rest of the package knows of a method.

The entry is in the `__init__` of the method's folder. Classes and functions that it names are
imported when they are used, so that listing the methods imports neither torch nor detectron2.
"""

import importlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

# Names modules of the user's, with commas between them.
OWN_CODE = "SOLO_FAMILY_IMPORT"

# "package.module:name", which `resolve` imports, or the object itself.
Reference = str | Callable[..., Any]


@dataclass(frozen=True)
class Visualization:
    """A drawing of the intermediate maps from which a method makes its masks.

    Attributes:
        draw: a `solo_family.modeling.drawing.Draw`.
        help: the help text of its flag of `visualize-results`.
        of_one: whether it draws exactly one image, which must be readable. Otherwise unreadable
            images are skipped.
        of_all: whether it makes one drawing of all images, by default those of DATASETS.TEST.
        reads: which of `maps` and `window` of the options it reads.
    """

    draw: Reference
    help: str
    of_one: bool = False
    of_all: bool = False
    reads: tuple[str, ...] = ()


@dataclass(frozen=True)
class Method:
    """The description of a method: its names, parts, config keys and its authors' defaults.

    Attributes:
        meta_arch: its name in detectron2's META_ARCH registry (`MODEL.META_ARCHITECTURE`).
        model: the class, a `MaskSegmentor`, that is built from a configuration.
        base_config: the config file that its others inherit from, relative to `configs/`, or its
            whole path.
        quickstart_config: the CPU-sized config on the shapes dataset, likewise.
        num_classes_key: the config key of its class count.
        title: its name in prose.
        add_config: takes a `CfgNode` and adds the method's keys, in place. Methods that share their
            keys name the same function.
        check_config: takes a `CfgNode` and raises ConfigError for values that can't work.
        backbones: its entries in detectron2's BACKBONE registry, by name.
        sem_seg_heads: its entries in detectron2's SEM_SEG_HEADS registry, by name.
        checkpoint_sources: references to tuples of `checkpoint.source.Source`, which convert
            checkpoints of other code bases.
        visualizations: the drawings that `visualize-results` can make, by flag.
        tasks: the tasks that it can be evaluated on: "semantic", "panoptic", "instance",
            "proposals".
        score_key: the config key of the score threshold of results; "" if there is none.
        classify_key: the config key that makes a class-agnostic method predict classes; "" if the
            method always predicts classes.
        optimizer: the optimizer that `SOLVER.OPTIMIZER ''` stands for.
        backbone_multiplier: the value that `SOLVER.BACKBONE_MULTIPLIER 0` stands for.
        crop_short_edges: the value that `INPUT.CROP.SHORT_EDGES ()` stands for with instances, in
            pixels.
        empty_segments: the value that `INPUT.EMPTY_SEGMENTS ""` stands for.
        label_sampling: the value that `INPUT.LABEL_SAMPLING ""` stands for.
        limits: takes a `CfgNode` and returns how many instances of an image the model can return at
            most, by the config keys that set it, see `config.caps`; None for
            `TEST.DETECTIONS_PER_IMAGE` alone.
        memory_keys: the config keys that, besides the image size, lower the memory of inference.
        quantizes: whether its exported model keeps its accuracy when it is quantized to 8 bits.
        parent: the `meta_arch` of the method whose model its own is a subclass of, and whose keys
            it reads; "" for a method of its own. See `adopt`.
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
    parent: str = ""


# The methods by `meta_arch`. `solo_family.methods` registers its own; other code may add more.
METHODS: dict[str, Method] = {}
_followers: list[Callable[[Method], None]] = []


def register(method: Method) -> Method:
    """Add a method to `METHODS` and to detectron2's registries, and return it.

    Raises:
        ValueError: another method has the same `meta_arch`.
    """
    present = METHODS.get(method.meta_arch)
    if present is not None and present != method:
        raise ValueError(
            f"There is already a method {method.meta_arch!r}: {present.model}. Choose another name."
        )
    if present is None:
        METHODS[method.meta_arch] = method
        for follower in _followers:
            follower(method)
    return method


def adopt(meta_arch: str, model: Any) -> None:
    """Add a subclass of a method's model to `METHODS`, under the name that detectron2 knows it by.

    It has all that its parent has: keys, checks, tasks, the authors' optimizer. Other models are
    left alone.

    Args:
        meta_arch: its name in detectron2's META_ARCH registry.
        model: what is registered there.
    """
    if meta_arch in METHODS or not isinstance(model, type):
        return
    methods = list(METHODS.values())
    for base in model.__mro__:
        # References are compared, not imported: this runs while other modules are imported.
        same = (base, f"{base.__module__}:{base.__qualname__}")
        parent = next((each for each in methods if each.model in same), None)
        if parent is not None:
            METHODS[meta_arch] = replace(
                parent, meta_arch=meta_arch, model=model, parent=parent.parent or parent.meta_arch
            )
            return


def method_name(meta_arch: str) -> str:
    """Return the name of the method that a model is or is a subclass of; other names as is."""
    method = METHODS.get(meta_arch)
    return method.parent or meta_arch if method is not None else meta_arch


def import_own_code() -> None:
    """Import the modules that `SOLO_FAMILY_IMPORT` names, which register what configs name.

    A config can't name them, because nothing that a config says is run as code.

    Raises:
        ConfigError: there is no such module.
    """
    from .errors import ConfigError
    from .starting import load

    for name in filter(None, map(str.strip, os.environ.get(OWN_CODE, "").split(","))):
        try:
            load(name)
        except ModuleNotFoundError as error:
            if not error.name or f"{name}.".startswith(f"{error.name}."):
                raise ConfigError(
                    f"{OWN_CODE} names the module {name}, which Python does not find. Install it "
                    "with pip, or name the folder that it is in in PYTHONPATH."
                ) from None
            raise


def follow(follower: Callable[[Method], None]) -> None:
    """Call `follower` with every method: now with those registered, later with each new one."""
    _followers.append(follower)
    for method in METHODS.values():
        follower(method)


def resolve(reference: Any) -> Any:
    """Import and return the object that "package.module:name" names; return other objects as is."""
    if not isinstance(reference, str):
        return reference
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)
