"""Register MaskFormer (Cheng et al., NeurIPS 2021, arXiv 2107.06278)."""

from ...registry import Method, Visualization, register

_HEADS = {
    "MaskFormerHead": "predictor",
    "PerPixelBaselineHead": "per_pixel",
    "PerPixelBaselinePlusHead": "per_pixel",
    "BasePixelDecoder": "pixel_decoder",
    "TransformerEncoderPixelDecoder": "pixel_decoder",
}

register(
    Method(
        meta_arch="MaskFormer",
        title="MaskFormer",
        model=f"{__name__}.model:MaskFormer",
        base_config="MaskFormer/Base-MaskFormer.yaml",
        quickstart_config="quickstart/mask_former_instance.yaml",
        num_classes_key="MODEL.SEM_SEG_HEAD.NUM_CLASSES",
        score_key="MODEL.MASK_FORMER.TEST.INSTANCE_SCORE_THRESHOLD",
        add_config=f"{__name__}.config:add_mask_former_config",
        check_config=f"{__name__}.config:check_mask_former_config",
        backbones={"D2SwinTransformer": f"{__name__}.swin:D2SwinTransformer"},
        sem_seg_heads={name: f"{__name__}.{module}:{name}" for name, module in _HEADS.items()},
        checkpoint_sources=(
            f"{__name__}.checkpoint:SOURCES",
            f"{__name__}.checkpoint_huggingface:SOURCES",
            f"{__name__}.checkpoint_mmdet:SOURCES",
            f"{__name__}.checkpoint_swin:SOURCES",
        ),
        visualizations={
            "--classes-per-query": Visualization(
                draw=f"{__name__}.visualize:draw_classes_per_query",
                help="how many classes each query predicts in all pictures",
                of_all=True,
            ),
        },
        tasks=("semantic", "panoptic", "instance"),
        limits=f"{__name__}.config:limit_instances",
        optimizer="AdamW",
        backbone_multiplier=0.1,
        empty_segments="keep",
        label_sampling="corner",
    )
)
