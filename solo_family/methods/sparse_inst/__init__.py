"""Register SparseInst (Cheng et al., CVPR 2022, arXiv 2203.12827)."""

from ...registry import Method, Visualization, register

_BACKBONES = (
    "build_resnet_vd_backbone",
    "build_pyramid_vision_transformer",
    "build_cspnet_backbone",
)

register(
    Method(
        meta_arch="SparseInst",
        title="SparseInst",
        model=f"{__name__}.model:SparseInst",
        base_config="SparseInst/Base-SparseInst.yaml",
        quickstart_config="quickstart/sparse_inst.yaml",
        num_classes_key="MODEL.SPARSE_INST.DECODER.NUM_CLASSES",
        score_key="MODEL.SPARSE_INST.CLS_THRESHOLD",
        add_config=f"{__name__}.config:add_sparse_inst_config",
        check_config=f"{__name__}.config:check_sparse_inst_config",
        backbones={name: f"{__name__}.backbones:{name}" for name in _BACKBONES},
        checkpoint_sources=(f"{__name__}.checkpoint:SOURCES",),
        visualizations={
            "--activation-maps": Visualization(
                draw=f"{__name__}.visualize:draw_activation_maps",
                help="each instance's activation map beside its mask, for --input's pictures",
            ),
            "--activation-statistics": Visualization(
                draw=f"{__name__}.visualize:draw_activation_statistics",
                help="the mean response of --maps over DATASETS.TEST, or over --input's pictures",
                of_all=True,
                reads=("maps",),
            ),
        },
        tasks=("instance", "panoptic"),
        optimizer="AdamW",
        crop_short_edges=(400, 500, 600),
        limits=f"{__name__}.config:limit_instances",
        memory_keys=("TEST.DETECTIONS_PER_IMAGE",),
        quantizes=True,
    )
)
