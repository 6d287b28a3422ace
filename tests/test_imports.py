"""What an import brings in, and what it registers, in processes of their own."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_model

from solo_family import METHODS
from solo_family.errors import ConfigError

from .coco_folder import write_cfg
from .conftest import ROOT, eager_to_find, tiny_cfg, tiny_model


def run(script: str, limit: float = 300) -> str:
    """Return what a script prints in a new interpreter."""
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=limit,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_importing_the_package_imports_nothing_heavy() -> None:
    """Listing the methods and the version needs Python alone."""
    script = """
        import sys
        before = set(sys.modules)
        import solo_family
        assert solo_family.__version__ and solo_family.METHODS["SOLOv2"].title
        tops = {name.split(".")[0] for name in set(sys.modules) - before}
        print(*sorted(tops & {"torch", "detectron2", "cv2", "numpy", "timm", "scipy", "yaml"}))
        print(*sorted(name for name in sys.modules if name.startswith("solo_family.")))
    """
    heavy, ours = run(script).split("\n")[:2]
    assert heavy == ""
    expected = "detectron2_patches methods own_configs registry version"
    folders = "grid instance_fcn mask_former solo solov2 sparse_inst"
    names = [*expected.split(), *(f"methods.{folder}" for folder in folders.split())]
    assert ours.split() == sorted(f"solo_family.{name}" for name in names)


CHECKS = """
    from detectron2.checkpoint import DetectionCheckpointer
    from detectron2.data import DatasetCatalog
    from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY, SEM_SEG_HEADS_REGISTRY

    for name, method in solo_family.METHODS.items():
        assert META_ARCH_REGISTRY.get(name).__name__ == name
        assert all(backbone in BACKBONE_REGISTRY for backbone in method.backbones)
        assert all(head in SEM_SEG_HEADS_REGISTRY for head in method.sem_seg_heads)
    assert "build_timm_fpn_backbone" in BACKBONE_REGISTRY
    assert "ade20k_panoptic_val" in DatasetCatalog.list()
    assert DetectionCheckpointer._torch_load.__module__ == "solo_family.detectron2_patches"
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "imports",
    [
        "import solo_family, detectron2.modeling, detectron2.data",
        "import detectron2.modeling, detectron2.data, detectron2.checkpoint, solo_family",
        # Each of these imports a package of detectron2's, which looks for ours, at its own top.
        "import solo_family.methods.grid.model, solo_family",
        "import solo_family.methods.mask_former.config, solo_family",
        "import solo_family.data.formats.panoptic_dataset, solo_family",
        "import solo_family.checkpoint.load, solo_family",
        "import solo_family.modeling.timm_backbone, solo_family",
    ],
)
def test_everything_is_registered_in_every_order(imports: str) -> None:
    run(f"{imports}\n{textwrap.dedent(CHECKS)}")


@pytest.mark.slow
def test_every_module_can_be_the_first() -> None:
    """Each is imported in a copy of a process that has neither ours nor detectron2's modules."""
    script = """
        import os, sys, traceback
        from pathlib import Path
        import cv2, scipy.optimize, timm, torch, torchvision

        failed = []
        for path in sorted(Path("solo_family").rglob("*.py")):
            name = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
            child = os.fork()
            if not child:
                try:
                    __import__(name)
                    os._exit(0)
                except BaseException:
                    traceback.print_exc()
                    os._exit(1)
            if os.waitpid(child, 0)[1]:
                failed.append(name)
        print(*failed)
    """
    assert run(script, limit=1200).split() == []


@pytest.mark.slow
def test_a_training_imports_nothing_that_few_need() -> None:
    """Matching, blended copy-paste, drawing and evaluation import theirs when they begin."""
    script = """
        import sys
        import solo_family.engine.main
        tops = {name.split(".")[0] for name in sys.modules}
        print(*sorted(tops & {"scipy", "matplotlib", "hotcoco", "timm", "onnx"}))
    """
    assert run(script, limit=1200).split() == []


@pytest.mark.slow
def test_detectron2s_own_predictor_runs_our_configs() -> None:
    """What SAHI and others do that know detectron2 alone, after a bare `import solo_family`."""
    script = """
        import solo_family
        import numpy as np
        from detectron2.config import get_cfg
        from detectron2.engine import DefaultPredictor

        cfg = get_cfg()
        assert "SOLOV2" not in cfg.MODEL
        cfg.merge_from_file("configs/quickstart/solov2.yaml")
        cfg.MODEL.DEVICE = "cpu"
        cfg.MODEL.WEIGHTS = cfg.MODEL.TIMM.WEIGHTS = ""
        cfg.MODEL.SOLOV2.NUM_CLASSES = 3
        cfg.DATASETS.TEST = ()
        instances = DefaultPredictor(cfg)(np.zeros((60, 80, 3), np.uint8))["instances"]
        assert instances.image_size == (60, 80)
    """
    run(script)


@pytest.mark.slow
def test_sahi_runs_our_models_after_a_bare_import(tmp_path: Path) -> None:
    """Slices of a picture through SAHI's own class for detectron2, which knows nothing of ours."""
    names = ["apple", "pear", "plum"]
    model = eager_to_find(tiny_model(), True)
    torch.save({"model": model.state_dict()}, tmp_path / "model.pth")
    cfg = tiny_cfg(opts=["MODEL.CLASS_NAMES", names, "INPUT.MIN_SIZE_TEST", 64])
    write_cfg(tmp_path / "config.yaml", cfg)
    script = f"""
        import solo_family
        import numpy as np
        from sahi import AutoDetectionModel
        from sahi.predict import get_sliced_prediction

        model = AutoDetectionModel.from_pretrained(
            model_type="detectron2",
            model_path={str(tmp_path / "model.pth")!r},
            config_path={str(tmp_path / "config.yaml")!r},
            category_mapping={{str(index): name for index, name in enumerate({names!r})}},
            confidence_threshold=0.0,
            device="cpu",
        )
        assert type(model.model.model).__module__ == "solo_family.methods.solov2.model"
        picture = np.random.default_rng(0).integers(0, 255, (96, 128, 3), dtype=np.uint8)
        found = get_sliced_prediction(picture, model, slice_height=64, slice_width=64)
        print(len(found.object_prediction_list))
        assert all(part.mask is not None for part in found.object_prediction_list)
    """
    assert int(run(script).split()[-1]) > 0


@pytest.mark.slow
def test_a_plain_config_that_reads_no_file_of_ours_stays_plain(tmp_path: Path) -> None:
    path = tmp_path / "other.yaml"
    path.write_text("MODEL:\n  META_ARCHITECTURE: GeneralizedRCNN\n")
    script = f"""
        import solo_family
        from detectron2.config import get_cfg

        cfg = get_cfg()
        cfg.merge_from_file({str(path)!r})
        assert "SOLOV2" not in cfg.MODEL and "CLASS_NAMES" not in cfg.MODEL
    """
    run(script)


@pytest.mark.parametrize("method", METHODS)
def test_a_model_of_a_plain_config_is_refused_with_the_call_that_adds_the_keys(method: str) -> None:
    cfg = get_cfg()
    cfg.MODEL.META_ARCHITECTURE = method
    with pytest.raises(ConfigError, match=rf"is {method}, but .*add_solo_family_config"):
        build_model(cfg)
