"""Every place where detectron2 is changed, and why.

Nothing here imports torch, detectron2 or a method before detectron2 itself is imported: importing
`solo_family` asks to be told when that happens, and these changes follow by themselves, in
whichever order the two are imported.

| what is changed | when | why |
|---|---|---|
| the registries of models, backbones, heads | `detectron2.modeling` is imported | ours are built |
| `DatasetCatalog` | `detectron2.data` is imported | public datasets that it lacks |
| `DetectionCheckpointer` | `detectron2.checkpoint` is imported | .safetensors; no code is run |
| `CfgNode.merge_from_file` | `detectron2.config` is imported | the keys of our config files |
| `coco_evaluation.COCOeval_opt` | an evaluator is built | AP in C++ without detectron2's `_C` |
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

from .registry import METHODS, Method, Reference, follow, resolve

# Backbones that no method has for itself alone.
_BACKBONES: dict[str, Reference] = {
    name: f"solo_family.modeling.timm_backbone:{name}"
    for name in ("build_timm_backbone", "build_timm_fpn_backbone")
}


def follow_detectron2() -> None:
    """Make the changes of detectron2's packages as soon as each is imported, or now if it is.

    Where detectron2 is not installed nothing is done: exported models run without it.
    """
    if importlib.util.find_spec("detectron2") is None:
        return
    if sys.flags.optimize:
        sys.meta_path.insert(0, _Unoptimized())
    from wrapt import register_post_import_hook

    for change, package in (
        (register_shared_backbones, "detectron2.modeling"),
        (register_datasets, "detectron2.data"),
        (read_checkpoints_safely, "detectron2.checkpoint"),
        (merge_our_keys, "detectron2.config"),
        (open_text_as_utf8, "detectron2.utils.file_io"),
    ):
        register_post_import_hook(change, package)
    follow(
        lambda method: register_post_import_hook(
            functools.partial(register_method, method), "detectron2.modeling"
        )
    )


class _Unoptimized:
    """Finds detectron2's modules, and fvcore's, as they are without `python -O`.

    They refuse wrong input by asserts, without which it would pass; and at its import detectron2
    appends to a docstring, which `-OO` takes away.
    """

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: Any = None
    ) -> ModuleSpec | None:
        """Return where a module is, with a loader that keeps all of it; None for others' code."""
        if name.split(".")[0] not in ("detectron2", "fvcore"):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _WholeSource(spec.loader.name, spec.loader.path)
        return spec


class _WholeSource(SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        # Not through the cache of compiled files, which are those of -O.
        return compile(self.get_data(self.path), self.path, "exec", dont_inherit=True, optimize=0)


def register_method(method: Method, modeling: Any) -> None:
    """Register a method, its backbones and heads, each of which is imported when it is built.

    No class can be imported here: the import of detectron2 that this follows may stand at the top
    of that class's own module.

    Args:
        method: the method.
        modeling: the module `detectron2.modeling`.
    """
    _register(modeling.META_ARCH_REGISTRY, {method.meta_arch: method.model})
    _register(modeling.BACKBONE_REGISTRY, method.backbones)
    _register(modeling.SEM_SEG_HEADS_REGISTRY, method.sem_seg_heads)


def register_shared_backbones(modeling: Any) -> None:
    """Register the backbones that belong to no method; see `register_method`."""
    _register(modeling.BACKBONE_REGISTRY, _BACKBONES)


def _register(registry: Any, entries: Mapping[str, Reference]) -> None:
    for name, reference in entries.items():
        registry.register(_builder(name, reference))


def _builder(name: str, reference: Reference) -> Callable[..., Any]:
    """Return a function of the class's name that builds the class, as detectron2 calls both."""

    def build(*args: Any, **options: Any) -> Any:
        return resolve(reference)(*args, **options)

    build.__name__ = build.__qualname__ = name
    build.__doc__ = f"Build {reference}."
    return build


def register_datasets(data: Any) -> None:
    """Register the public datasets that detectron2 does not, under `$DETECTRON2_DATASETS`.

    Args:
        data: the module `detectron2.data`.
    """
    resolve("solo_family.data.formats.builtin:register_builtin")()


def merge_our_keys(config: Any) -> None:
    """Let a plain configuration of detectron2 read the config files of this family.

    Whoever has only `detectron2.config.get_cfg`, as tools that wrap detectron2 do, then needs no
    `add_solo_family_config`. Configurations that read no file of ours stay as they are.

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
    """Let detectron2's checkpointer read .safetensors too, and run no code that a file names.

    It is done on the class, because `DefaultPredictor` makes one of its own.

    Args:
        checkpoint: the module `detectron2.checkpoint`.
    """
    checkpointer = checkpoint.DetectionCheckpointer
    original = checkpointer._load_file

    def load_any(self: Any, path: str) -> Any:
        if path.endswith(".pyth"):  # pycls' are read by torch, of which old versions run code
            resolve("solo_family.weight_files:read_file")(Path(path))
        return original(self, path)

    checkpointer._load_file = load_any
    checkpointer._torch_load = _torch_load
    # The name that its module uses to read .pkl, and for nothing else.
    checkpoint.detection_checkpoint.pickle = _ArrayPickle


class _ArrayPickle:
    """In the place of the module `pickle`."""

    @staticmethod
    def load(file: IO[bytes], encoding: str) -> Any:
        return resolve("solo_family.weight_files:ArrayUnpickler")(file).load()


def _torch_load(self: Any, path: str) -> Any:
    return resolve("solo_family.weight_files:load_checkpoint")(path)


def use_faster_coco_eval(evaluator: Any) -> bool:
    """Let detectron2's `COCOEvaluator` compute AP in C++, and return whether it does.

    detectron2 has a place for a fast implementation: its own, which its compiled ops bring. Where
    that is missing, this puts faster-coco-eval (the extra `[eval]`) there, whose numbers are
    pycocotools' own. It knows images by numbers only; names are left to pycocotools.
    """
    coco_evaluation: Any = importlib.import_module("detectron2.evaluation.coco_evaluation")
    if coco_evaluation.COCOeval_opt is not coco_evaluation.COCOeval:
        own = coco_evaluation.COCOeval_opt.__module__.startswith("detectron2")
    elif importlib.util.find_spec("faster_coco_eval") is None:
        return False
    else:
        from faster_coco_eval import COCOeval_faster

        coco_evaluation.COCOeval_opt = COCOeval_faster
        # What it takes where more detections count than COCO's 100; only its summary is its own.
        summary = {"summarize": coco_evaluation.COCOevalMaxDets.summarize}
        coco_evaluation.COCOevalMaxDets = type("COCOevalMaxDets", (COCOeval_faster,), summary)
        own = False
    numbered = all(isinstance(image_id, int) for image_id in evaluator._coco_api.imgs)
    evaluator._use_fast_impl = own or numbered
    return evaluator._use_fast_impl


@contextlib.contextmanager
def deformable_blocks_of(convolution: type) -> Iterator[None]:
    """Within it, detectron2's ResNet builds the blocks of `DEFORM_ON_PER_STAGE` with `convolution`.

    detectron2's own need its compiled `_C`. The names are put back afterwards, so that other models
    of the process are as detectron2 builds them.
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
