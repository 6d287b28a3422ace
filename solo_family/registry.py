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
        tasks: what it can be evaluated on: "semantic", "panoptic", "instance", "proposals".
        classify_key: the config key that lets a class-agnostic method tell classes apart.
        optimizer: what `SOLVER.OPTIMIZER ''` means.
        backbone_multiplier: what `SOLVER.BACKBONE_MULTIPLIER 0` means.
        crop_short_edges: what `INPUT.CROP.SHORT_EDGES ()` means.
        memory_keys: the config keys that lower the memory of inference, beside the image's size.
    """

    meta_arch: str
    base_config: str
    quickstart_config: str
    num_classes_key: str
    tasks: tuple[str, ...] = ("instance",)
    classify_key: str = ""
    optimizer: str = "SGD"
    backbone_multiplier: float = 1.0
    crop_short_edges: tuple[int, ...] = ()
    memory_keys: tuple[str, ...] = ()


METHODS = {
    method.meta_arch: method
    for method in (
        Method(
            meta_arch="SOLO",
            base_config="SOLO/Base-SOLO.yaml",
            quickstart_config="quickstart/solo.yaml",
            num_classes_key="MODEL.SOLO.NUM_CLASSES",
            memory_keys=("MODEL.SOLO.NMS_PRE", "MODEL.SOLO.MAX_PER_IMG"),
        ),
        Method(
            meta_arch="DecoupledSOLO",
            base_config="DecoupledSOLO/Base-DecoupledSOLO.yaml",
            quickstart_config="quickstart/decoupled_solo.yaml",
            num_classes_key="MODEL.SOLO.NUM_CLASSES",
            memory_keys=("MODEL.SOLO.NMS_PRE", "MODEL.SOLO.MAX_PER_IMG"),
        ),
        Method(
            meta_arch="SOLOv2",
            base_config="SOLOv2/Base-SOLOv2.yaml",
            quickstart_config="quickstart/solov2.yaml",
            num_classes_key="MODEL.SOLOV2.NUM_CLASSES",
            memory_keys=("MODEL.SOLOV2.NMS_PRE", "MODEL.SOLOV2.MAX_PER_IMG"),
        ),
        Method(
            meta_arch="SparseInst",
            base_config="SparseInst/Base-SparseInst.yaml",
            quickstart_config="quickstart/sparse_inst.yaml",
            num_classes_key="MODEL.SPARSE_INST.DECODER.NUM_CLASSES",
            tasks=("instance", "panoptic"),
            optimizer="AdamW",
            crop_short_edges=(400, 500, 600),
            memory_keys=("MODEL.SPARSE_INST.MAX_DETECTIONS",),
        ),
        Method(
            meta_arch="InstanceFCN",
            base_config="InstanceFCN/Base-InstanceFCN.yaml",
            quickstart_config="quickstart/instance_fcn.yaml",
            num_classes_key="MODEL.INSTANCE_FCN.NUM_CLASSES",
            tasks=("proposals",),
            classify_key="MODEL.INSTANCE_FCN.CLASSIFY",
            memory_keys=("MODEL.INSTANCE_FCN.TEST_SCALES", "MODEL.INSTANCE_FCN.MAX_PER_IMG"),
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
