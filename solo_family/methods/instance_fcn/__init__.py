"""Register InstanceFCN (Dai et al., ECCV 2016, arXiv 1603.08678)."""

from ...registry import Method, Visualization, register

register(
    Method(
        meta_arch="InstanceFCN",
        title="InstanceFCN",
        model=f"{__name__}.model:InstanceFCN",
        base_config="InstanceFCN/Base-InstanceFCN.yaml",
        quickstart_config="quickstart/instance_fcn.yaml",
        num_classes_key="MODEL.INSTANCE_FCN.NUM_CLASSES",
        add_config=f"{__name__}.config:add_instance_fcn_config",
        check_config=f"{__name__}.config:check_instance_fcn_config",
        backbones={"build_vgg_atrous_backbone": f"{__name__}.vgg:build_vgg_atrous_backbone"},
        checkpoint_sources=(f"{__name__}.checkpoint:SOURCES",),
        visualizations={
            "--score-maps": Visualization(
                draw=f"{__name__}.visualize:draw_best_window",
                help="the score maps of --input's picture and the mask of a window",
                of_one=True,
                reads=("window",),
            ),
        },
        tasks=("proposals",),
        classify_key="MODEL.INSTANCE_FCN.CLASSIFY",
        limits=f"{__name__}.config:limit_instances",
        memory_keys=("MODEL.INSTANCE_FCN.TEST_SCALES", "MODEL.INSTANCE_FCN.MAX_PER_IMG"),
    )
)
