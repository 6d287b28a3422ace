"""All changes that this package makes to detectron2, and their reasons.

This module imports neither torch nor detectron2 nor a method. Importing `solo_family` installs
import hooks, and each change is made when the package of detectron2 that it concerns is imported,
or at once if it has been. So the order of the two imports does not matter.

| what is changed | when | why |
|---|---|---|
| registries of models, backbones, heads | import of `detectron2.modeling` | build our classes |
| registering a model | as above | a subclass of a method's model is a method, too |
| `DatasetCatalog` | import of `detectron2.data` | further public datasets |
| `DetectionCheckpointer` | import of `detectron2.checkpoint` | .safetensors; no code is run |
| `CfgNode.merge_from_file` | import of `detectron2.config` | the keys of our config files |
| `CfgNode.merge_from_other_cfg`, `.merge_from_list` | as above | `NMS_SIGMA` 2 and 0.5 |
| `CfgNode._open_cfg` | import of `detectron2.config` | `_BASE_: solo_family://...` |
| `resnet.DeformConv` | while a backbone is built | deformable blocks without its `_C` |
| `PathManager.open` | `detectron2.utils` is imported | text is UTF-8 in every locale |
| its source, under `python -O` | it is imported | its asserts and docstrings stay |
"""

import contextlib
import functools
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import IO, Any

from .own_configs import config_path
from .registry import METHODS, Method, Reference, adopt, follow, resolve

# Backbones that belong to no single method.
_BACKBONES: dict[str, Reference] = {
    name: f"solo_family.modeling.timm_backbone:{name}"
    for name in ("build_timm_backbone", "build_timm_fpn_backbone")
}


def follow_detectron2() -> None:
    """Change each package of detectron2 when it is imported, or now if it has been.

    If detectron2 is not installed, nothing is done: exported models run without it.
    """
    if importlib.util.find_spec("detectron2") is None:
        return
    if sys.flags.optimize:
        sys.meta_path.insert(0, _Unoptimized())
    from wrapt import register_post_import_hook

    for change, package in (
        (register_shared_backbones, "detectron2.modeling"),
        (adopt_subclasses, "detectron2.modeling"),
        (register_datasets, "detectron2.data"),
        (read_checkpoints_safely, "detectron2.checkpoint"),
        (merge_our_keys, "detectron2.config"),
        (merge_any_numbers, "detectron2.config"),
        (open_our_bases, "detectron2.config"),
        (open_text_as_utf8, "detectron2.utils.file_io"),
    ):
        register_post_import_hook(change, package)
    follow(
        lambda method: register_post_import_hook(
            functools.partial(register_method, method), "detectron2.modeling"
        )
    )


class _Unoptimized:
    """An import finder that compiles detectron2 and fvcore without the optimisation of `python -O`.

    Both check their input with asserts, which `-O` removes. On import detectron2 also appends to a
    docstring, which `-OO` removes.
    """

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: Any = None
    ) -> ModuleSpec | None:
        """Return the spec of a module, with an unoptimised loader; None for other packages."""
        if name.split(".")[0] not in ("detectron2", "fvcore"):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _WholeSource(spec.loader.name, spec.loader.path)
        return spec


class _WholeSource(SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        # The cache of compiled files is not used, because it has the optimised ones.
        return compile(self.get_data(self.path), self.path, "exec", dont_inherit=True, optimize=0)


def register_method(method: Method, modeling: Any) -> None:
    """Register a method, its backbones and its heads; each is imported when it is built.

    No class can be imported here, because the import of detectron2 that calls this function may be
    at the top of the class's own module.

    Args:
        method: the method.
        modeling: the module `detectron2.modeling`.
    """
    build = _builder(method.meta_arch, method.model)

    @functools.wraps(build)
    def build_model(*args: Any, **options: Any) -> Any:
        if args and "CLASS_NAMES" not in getattr(args[0], "MODEL", ("CLASS_NAMES",)):
            from .errors import ConfigError  # what `import solo_family` does without

            raise ConfigError(
                f"MODEL.META_ARCHITECTURE is {method.meta_arch}, but the configuration lacks the "
                "keys of solo_family. Call solo_family.add_solo_family_config(cfg) after "
                "detectron2's get_cfg(), before files and values are merged."
            )
        return build(*args, **options)

    modeling.META_ARCH_REGISTRY.register(build_model)
    _register(modeling.BACKBONE_REGISTRY, method.backbones)
    _register(modeling.SEM_SEG_HEADS_REGISTRY, method.sem_seg_heads)


def register_shared_backbones(modeling: Any) -> None:
    """Register the backbones that belong to no single method; see `register_method`."""
    _register(modeling.BACKBONE_REGISTRY, _BACKBONES)


def adopt_subclasses(modeling: Any) -> None:
    """Let what users register with detectron2 be a method if its class is a subclass of one's.

    Otherwise it would be trained without the method's checks, optimizer and mapper, and without
    storing its classes, and no line would say so.

    Args:
        modeling: the module `detectron2.modeling`.
    """
    registry = modeling.META_ARCH_REGISTRY
    original = registry._do_register

    @functools.wraps(original)
    def do_register(name: str, model: Any) -> None:
        original(name, model)
        adopt(name, model)

    registry._do_register = do_register


def _register(registry: Any, entries: Mapping[str, Reference]) -> None:
    for name, reference in entries.items():
        registry.register(_builder(name, reference))


def _builder(name: str, reference: Reference) -> Callable[..., Any]:
    """Return a function with the class's name that builds an instance; detectron2 calls either."""

    def build(*args: Any, **options: Any) -> Any:
        return resolve(reference)(*args, **options)

    build.__name__ = build.__qualname__ = name
    build.__doc__ = f"Build {reference}."
    return build


def register_datasets(data: Any) -> None:
    """Register public datasets in `$DETECTRON2_DATASETS` that detectron2 does not register.

    Args:
        data: the module `detectron2.data`.
    """
    resolve("solo_family.data.formats.builtin:register_builtin")()


def merge_our_keys(config: Any) -> None:
    """Let a plain configuration of detectron2 read the config files of this package.

    Code that only calls `detectron2.config.get_cfg`, such as a tool that wraps detectron2, then
    needs no `add_solo_family_config`. A configuration that reads none of our files is unchanged.

    Args:
        config: the module `detectron2.config`.
    """
    original = config.CfgNode.merge_from_file

    @functools.wraps(original)
    def merge_from_file(self: Any, cfg_filename: str, allow_unsafe: bool = False) -> None:
        if "MODEL" in self and "CLASS_NAMES" not in self.MODEL and not self.is_frozen():
            loaded = self.load_yaml_with_base(cfg_filename, allow_unsafe=allow_unsafe)
            if (loaded.get("MODEL") or {}).get("META_ARCHITECTURE") in METHODS:
                resolve("solo_family.config:add_solo_family_config")(self)
        original(self, cfg_filename, allow_unsafe=allow_unsafe)

    config.CfgNode.merge_from_file = merge_from_file


def merge_any_numbers(config: Any) -> None:
    """Let keys such as `NMS_SIGMA`, whose default is an integer, take any number.

    Args:
        config: the module `detectron2.config`.
    """
    originals = config.CfgNode.merge_from_other_cfg, config.CfgNode.merge_from_list
    numbers = "solo_family.config.any_number:admit_numbers"

    # It is also what `merge_from_file` ends with.
    @functools.wraps(originals[0])
    def merge_from_other_cfg(self: Any, cfg_other: Any) -> None:
        values = resolve("solo_family.config.load:dotted_values")(cfg_other)
        resolve(numbers)(self, values.items())
        originals[0](self, cfg_other)

    @functools.wraps(originals[1])
    def merge_from_list(self: Any, cfg_list: Sequence[Any]) -> None:
        resolve(numbers)(self, zip(map(str, cfg_list[::2]), cfg_list[1::2]))
        originals[1](self, cfg_list)

    config.CfgNode.merge_from_other_cfg = merge_from_other_cfg
    config.CfgNode.merge_from_list = merge_from_list


def open_our_bases(config: Any) -> None:
    """Let any config inherit from one of the package's, wherever it is installed.

    Args:
        config: the module `detectron2.config`.
    """
    original = config.CfgNode._open_cfg

    def open_cfg(cls: Any, filename: str) -> Any:
        return original(config_path(filename))

    config.CfgNode._open_cfg = classmethod(open_cfg)


def open_text_as_utf8(file_io: Any) -> None:
    """Let detectron2 read and write text files, as configs, in UTF-8 whatever the locale is.

    Args:
        file_io: the module `detectron2.utils.file_io`.
    """
    original = file_io.PathManager.open

    @functools.wraps(original)
    def open_text(path: str, mode: str = "r", buffering: int = -1, **options: Any) -> Any:
        # What handles addresses knows no encodings, and says so.
        if "b" not in mode and "://" not in path:
            options.setdefault("encoding", "utf-8")
            if mode[:1] in "wax":  # a path of letters that the locale does not know
                options.setdefault("errors", "backslashreplace")
        return original(path, mode, buffering, **options)

    file_io.PathManager.open = open_text


def read_checkpoints_safely(checkpoint: Any) -> None:
    """Let detectron2's checkpointer also read .safetensors, and never run code from a file.

    The class is changed rather than an instance, because `DefaultPredictor` creates its own one.

    Args:
        checkpoint: the module `detectron2.checkpoint`.
    """
    checkpointer = checkpoint.DetectionCheckpointer
    original = checkpointer._load_file
    calls_torch_load = hasattr(checkpointer, "_torch_load")  # version 0.6 does not

    def load_any(self: Any, path: str) -> Any:
        if path.endswith(".pyth"):  # detectron2 uses torch.load, which runs code in old versions
            resolve("solo_family.weight_files:read_file")(Path(path))
        elif not calls_torch_load and not path.endswith(".pkl"):
            content = _torch_load(self, path)
            return content if "model" in content else {"model": content}
        return original(self, path)

    checkpointer._load_file = load_any
    checkpointer._torch_load = _torch_load
    # The module uses the name `pickle` only to read .pkl files.
    checkpoint.detection_checkpoint.pickle = _ArrayPickle


class _ArrayPickle:
    """A replacement of the module `pickle` that loads arrays only."""

    @staticmethod
    def load(file: IO[bytes], encoding: str) -> Any:
        return resolve("solo_family.weight_files:ArrayUnpickler")(file).load()


def _torch_load(self: Any, path: str) -> Any:
    return resolve("solo_family.weight_files:load_checkpoint")(path)


@contextlib.contextmanager
def deformable_blocks_of(convolution: type) -> Iterator[None]:
    """Let detectron2's ResNet build its deformable blocks with `convolution`, in the `with` block.

    detectron2's own deformable convolutions need its compiled `_C`. They are restored afterwards,
    so that other models of the process are built as detectron2 builds them.

    Args:
        convolution: the class of the deformable convolution.
    """
    resnet: Any = importlib.import_module("detectron2.modeling.backbone.resnet")
    names = ("DeformConv", "ModulatedDeformConv")
    originals = {name: getattr(resnet, name) for name in names}
    try:
        for name in names:
            setattr(resnet, name, convolution)
        yield
    finally:
        for name, original in originals.items():
            setattr(resnet, name, original)
