"""The family: one entry per method. The zoo, the docs and the contract tests are made from it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    """What a method is called, where its configs are, and how its authors train it.

    Attributes:
        meta_arch: its name in detectron2's META_ARCH registry (`MODEL.META_ARCHITECTURE`).
        base_config: the config file that its others inherit from, relative to `configs/`.
        quickstart_config: the CPU-sized config on the shapes dataset, relative to `configs/`.
        num_classes_key: the config key of its class count.
        tasks: what it can be evaluated on.
        optimizer: what `SOLVER.OPTIMIZER ''` means.
        backbone_multiplier: what `SOLVER.BACKBONE_MULTIPLIER 0` means.
    """

    meta_arch: str
    base_config: str
    quickstart_config: str
    num_classes_key: str
    tasks: tuple[str, ...] = ("instance",)
    optimizer: str = "SGD"
    backbone_multiplier: float = 1.0


METHODS = {
    method.meta_arch: method
    for method in (
        Method(
            meta_arch="SOLOv2",
            base_config="SOLOv2/Base-SOLOv2.yaml",
            quickstart_config="quickstart/solov2.yaml",
            num_classes_key="MODEL.SOLOV2.NUM_CLASSES",
        ),
        Method(
            meta_arch="MaskFormer",
            base_config="MaskFormer/Base-MaskFormer.yaml",
            quickstart_config="quickstart/mask_former_instance.yaml",
            num_classes_key="MODEL.SEM_SEG_HEAD.NUM_CLASSES",
            tasks=("semantic", "panoptic", "instance"),
            optimizer="AdamW",
            backbone_multiplier=0.1,
        ),
    )
}
