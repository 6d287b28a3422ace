"""Register SOLOv2 (Wang et al., NeurIPS 2020, arXiv 2003.10152)."""

from ...registry import Method, Visualization, register

register(
    Method(
        meta_arch="SOLOv2",
        title="SOLOv2",
        model=f"{__name__}.model:SOLOv2",
        base_config="SOLOv2/Base-SOLOv2.yaml",
        quickstart_config="quickstart/solov2.yaml",
        num_classes_key="MODEL.SOLOV2.NUM_CLASSES",
        score_key="MODEL.SOLOV2.SCORE_THR",
        add_config=f"{__name__}.config:add_solov2_config",
        check_config=f"{__name__}.config:check_solov2_config",
        checkpoint_sources=(
            "solo_family.methods.grid.checkpoint:SOURCES",
            f"{__name__}.checkpoint:SOURCES",
        ),
        visualizations={
            "--cells": Visualization(
                draw="solo_family.methods.grid.visualize:draw_cells",
                help="the mask of every cell of the coarsest grid, at the cell's place",
            ),
        },
        limits=f"{__name__}.config:limit_instances",
        memory_keys=("MODEL.SOLOV2.NMS_PRE", "TEST.DETECTIONS_PER_IMAGE"),
        quantizes=True,
    )
)
