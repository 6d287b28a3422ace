"""Register SOLO and Decoupled SOLO (Wang et al., ECCV 2020, arXiv 1912.04488)."""

from dataclasses import replace

from ...registry import Method, Visualization, register

_SOLO = register(
    Method(
        meta_arch="SOLO",
        title="SOLO",
        model=f"{__name__}.model:SOLO",
        base_config="SOLO/Base-SOLO.yaml",
        quickstart_config="quickstart/solo.yaml",
        num_classes_key="MODEL.SOLO.NUM_CLASSES",
        score_key="MODEL.SOLO.SCORE_THR",
        add_config=f"{__name__}.config:add_solo_config",
        check_config=f"{__name__}.config:check_solo_config",
        checkpoint_sources=("solo_family.methods.grid.checkpoint:SOURCES",),
        visualizations={
            "--cells": Visualization(
                draw="solo_family.methods.grid.visualize:draw_cells",
                help="the mask of every cell of the coarsest grid, at the cell's place",
            ),
        },
        limits=f"{__name__}.config:limit_instances",
        memory_keys=("MODEL.SOLO.NMS_PRE", "TEST.DETECTIONS_PER_IMAGE"),
    )
)
# Only the head differs: see `head.py` and `decoupled_head.py`.
register(
    replace(
        _SOLO,
        meta_arch="DecoupledSOLO",
        title="Decoupled SOLO",
        model=f"{__name__}.model:DecoupledSOLO",
        base_config="DecoupledSOLO/Base-DecoupledSOLO.yaml",
        quickstart_config="quickstart/decoupled_solo.yaml",
    )
)
