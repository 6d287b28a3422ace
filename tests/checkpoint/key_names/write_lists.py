"""Writes the lists of this folder: every source's names and shapes, of tiny models.

    python -m tests.checkpoint.key_names.write_lists

mmdetection's, HuggingFace's, torchvision's and timm's are listed by building their own models, with
mmdet 3.3.0, mmcv-lite 2.1.0 and transformers 5 installed (`pip install --no-deps`; not needed for
the tests). The others' code can't be installed: their names are written out here, from the
sources' own files, see the docstring of each function. Nothing of solo_family is imported.
"""

from pathlib import Path
from typing import Any

from benchmarks.mmcv_lite import import_mmdet

Shapes = dict[str, tuple[int, ...]]
HERE = Path(__file__).parent
BLOCKS = (3, 4, 6, 3)
CLASSES = 7


def write(name: str, shapes: Shapes, head: str) -> None:
    lines = [f"# {head}"]
    lines += [f"{key} {'x'.join(map(str, shape)) or 'scalar'}" for key, shape in shapes.items()]
    (HERE / f"{name}.txt").write_text("\n".join(lines) + "\n")


def conv(name: str, out: int, into: int, kernel: int, bias: bool = True) -> Shapes:
    shapes: Shapes = {f"{name}.weight": (out, into, kernel, kernel)}
    return shapes | ({f"{name}.bias": (out,)} if bias else {})


def affine(name: str, channels: int) -> Shapes:
    return {f"{name}.weight": (channels,), f"{name}.bias": (channels,)}


def batch_norm(name: str, channels: int, tracked: bool) -> Shapes:
    shapes = affine(name, channels)
    shapes |= {f"{name}.running_{what}": (channels,) for what in ("mean", "var")}
    return shapes | ({f"{name}.num_batches_tracked": ()} if tracked else {})


def resnet50(
    prefix: str, *, detectron2: bool, tracked: bool, deform: dict[int, int] | None = None
) -> Shapes:
    """ResNet-50 of width 4 under the names of torchvision (and mmdetection) or of detectron2.

    Args:
        deform: the channels of the offsets of the stages that are deformable: 18, or 27 for v2.
    """
    width, into = 4, 4
    stem = f"{prefix}stem.conv1" if detectron2 else f"{prefix}conv1"
    shapes = conv(stem, width, 3, 7, bias=False)
    shapes |= batch_norm(f"{stem}.norm" if detectron2 else f"{prefix}bn1", width, tracked)
    for stage, blocks in enumerate(BLOCKS):
        inner, out = width << stage, 4 * width << stage
        for block in range(blocks):
            name = f"{prefix}res{stage + 2}" if detectron2 else f"{prefix}layer{stage + 1}"
            name = f"{name}.{block}"
            sizes = ((inner, into, 1), (inner, inner, 3), (out, inner, 1))
            for index, size in enumerate(sizes, start=1):
                shapes |= conv(f"{name}.conv{index}", *size, bias=False)
                norm = f"{name}.conv{index}.norm" if detectron2 else f"{name}.bn{index}"
                shapes |= batch_norm(norm, size[0], tracked)
            if deform and stage in deform:
                shapes |= conv(f"{name}.conv2_offset", deform[stage], inner, 3)
            if block == 0:
                short = f"{name}.shortcut" if detectron2 else f"{name}.downsample.0"
                shapes |= conv(short, out, into, 1, bias=False)
                norm = f"{short}.norm" if detectron2 else f"{name}.downsample.1"
                shapes |= batch_norm(norm, out, tracked)
            into = out
    return shapes


def mmdet_fpn(channels: int = 32) -> Shapes:
    shapes: Shapes = {}
    for level in range(4):
        shapes |= conv(f"neck.lateral_convs.{level}.conv", channels, 16 << level, 1)
        shapes |= conv(f"neck.fpn_convs.{level}.conv", channels, channels, 3)
    return shapes


def tower(
    name: str, into: int, channels: int, convs: int, offsets: int = 0, last: bool = False
) -> Shapes:
    """A ConvModule's names: conv without bias, gn; mmcv's deformable convolution in it.

    Args:
        offsets: the channels of the offsets, 0 for plain convolutions.
        last: only the last convolution is deformable.
    """
    shapes: Shapes = {}
    for index in range(convs):
        first = into if index == 0 else channels
        shapes |= conv(f"{name}.{index}.conv", channels, first, 3, bias=False)
        if offsets and (not last or index == convs - 1):
            shapes |= conv(f"{name}.{index}.conv.conv_offset", offsets, first, 3)
        shapes |= affine(f"{name}.{index}.gn", channels)
    return shapes


GRIDS = (10, 8, 6, 4, 3)


def official_solo(kind: str) -> Shapes:
    """github.com/WXinlong/SOLO at f4cd03b: mmdet/models/anchor_heads/*solo*_head.py."""
    shapes = resnet50("backbone.", detectron2=False, tracked=True) | mmdet_fpn()
    head = "bbox_head."
    seen = {"ins_convs": 34} if kind != "decoupled" else {"ins_convs_x": 33, "ins_convs_y": 33}
    for name, into in seen.items():
        shapes |= tower(f"{head}{name}", into, 32, 2)
    shapes |= tower(f"{head}cate_convs", 32, 32, 2)
    prefix = "" if kind == "solo" else "d"
    for level, grid in enumerate(GRIDS):
        if kind == "solo":
            shapes |= conv(f"{head}solo_ins_list.{level}", grid * grid, 32, 1)
            continue
        for axis in "xy":
            shapes |= conv(f"{head}dsolo_ins_list_{axis}.{level}", grid, 32, 3)
    return shapes | conv(f"{head}{prefix}solo_cate", CLASSES, 32, 3)


def official_solov2(offsets: int = 0) -> Shapes:
    """The same at solov2_head.py and mask_heads/mask_feat_head.py.

    Args:
        offsets: 27 for DCNv2 as in R101-DCN, 18 for DCNv1 as in Light-512-DCN, 0 for none.
    """
    deform = dict.fromkeys((1, 2, 3), offsets) if offsets else None
    shapes = resnet50("backbone.", detectron2=False, tracked=True, deform=deform) | mmdet_fpn()
    shapes |= tower("bbox_head.cate_convs", 32, 64, 2, offsets, last=offsets == 18)
    shapes |= tower("bbox_head.kernel_convs", 34, 64, 2, offsets, last=offsets == 18)
    shapes |= conv("bbox_head.solo_cate", CLASSES, 64, 3)
    shapes |= conv("bbox_head.solo_kernel", 32, 64, 3)
    head = "mask_feat_head."
    for level in range(4):
        for index in range(max(level, 1)):
            name = f"{head}convs_all_levels.{level}.conv{index}"
            into = (34 if level == 3 else 32) if index == 0 else 32
            shapes |= conv(f"{name}.conv", 32, into, 3, bias=False)
            if offsets == 27:
                shapes |= conv(f"{name}.conv.conv_offset", offsets, into, 3)
            shapes |= affine(f"{name}.gn", 32)
    shapes |= conv(f"{head}conv_pred.0.conv", 32, 32, 1, bias=False)
    if offsets == 27:
        # A kernel of one position has three values: two coordinates and a weight.
        shapes |= conv(f"{head}conv_pred.0.conv.conv_offset", 3, 32, 1)
    return shapes | affine(f"{head}conv_pred.0.gn", 32)


def adelaidet() -> Shapes:
    """github.com/aim-uofa/AdelaiDet at 3672122: adet/modeling/solov2/solov2.py."""
    shapes = resnet50("backbone.bottom_up.", detectron2=True, tracked=False)
    for level in range(2, 6):
        shapes |= conv(f"backbone.fpn_lateral{level}", 32, 4 << level, 1)
        shapes |= conv(f"backbone.fpn_output{level}", 32, 32, 3)
    for name, into in (("cate", 32), ("kernel", 34)):
        for index in range(2):
            prefix = f"ins_head.{name}_tower"
            first = into if index == 0 else 64
            shapes |= conv(f"{prefix}.{3 * index}", 64, first, 3, bias=False)
            shapes |= affine(f"{prefix}.{3 * index + 1}", 64)
    shapes |= conv("ins_head.cate_pred", CLASSES, 64, 3)
    shapes |= conv("ins_head.kernel_pred", 32, 64, 3)
    for level in range(4):
        for index in range(max(level, 1)):
            name = f"mask_head.convs_all_levels.{level}.conv{index}"
            into = (34 if level == 3 else 32) if index == 0 else 32
            shapes |= conv(f"{name}.0", 32, into, 3, bias=False) | affine(f"{name}.1", 32)
    shapes |= conv("mask_head.conv_pred.0", 32, 32, 1, bias=False)
    return shapes | affine("mask_head.conv_pred.1", 32)


def sparse_inst(backbone: Shapes, channels: tuple[int, ...], decoder: str) -> Shapes:
    """github.com/hustvl/SparseInst at a899015: sparseinst/encoder.py and decoder.py."""
    shapes = dict(backbone)
    for index, into in enumerate(reversed(channels)):
        shapes |= conv(f"encoder.fpn_laterals.{index}", 32, into, 1)
        shapes |= conv(f"encoder.fpn_outputs.{index}", 32, 32, 3)
    for stage in range(4):
        shapes |= conv(f"encoder.ppm.stages.{stage}.1", 8, 32, 1)
    shapes |= conv("encoder.ppm.bottleneck", 32, 64, 1)
    shapes |= conv("encoder.fusion", 32, 96, 1)
    branch = "decoder.inst_branch."
    for name, prefix in (("inst_convs", branch), ("mask_convs", "decoder.mask_branch.")):
        for index in range(2):
            shapes |= conv(f"{prefix}{name}.{2 * index}", 32, 34 if index == 0 else 32, 3)
    groups = 1 if decoder == "base" else 4
    shapes |= conv(f"{branch}iam_conv", 10 * groups, 32 // groups, 3)
    joined = 32 * groups
    linear = {"cls_score": CLASSES, "mask_kernel": 16, "objectness": 1}
    if decoder != "base":
        linear = {"fc": joined} | linear
    for name, out in linear.items():
        shapes |= {f"{branch}{name}.weight": (out, joined), f"{branch}{name}.bias": (out,)}
    if decoder == "soft":
        shapes |= {f"{branch}softmax_bias": (1,)}
    return shapes | conv("decoder.mask_branch.projection", 16, 32, 1)


def prefixed(prefix: str, shapes: Shapes) -> Shapes:
    return {f"{prefix}{name}": shape for name, shape in shapes.items()}


def shapes_of(model: Any) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def resnet_vd(deformable: bool) -> Shapes:
    """timm's resnet50d, of which sparseinst/backbones/resnet.py is a copy; DCN in res4, res5."""
    import timm

    widths = {"stem_width": 2, "channels": (4, 8, 16, 32)}
    shapes = shapes_of(timm.create_model("resnet50d", features_only=True, **widths))
    # FrozenBN counts no batches; a deformable block's offsets stand beside its convolution.
    shapes = {key: shape for key, shape in shapes.items() if "num_batches" not in key}
    for stage, blocks in ((3, 6), (4, 3)) if deformable else ():
        for block in range(blocks):
            shapes |= conv(f"layer{stage}.{block}.conv2_offset", 18, 2 << stage, 3)
    return prefixed("backbone.", shapes)


def cspnet(name: str) -> Shapes:
    """timm's, of which sparseinst/backbones/cspnet.py is a copy."""
    from dataclasses import replace

    import timm
    from timm.models.cspnet import model_cfgs

    published = model_cfgs[name]
    stem = replace(published.stem, out_chs=4)
    stages = replace(published.stages, out_chs=(8, 16, 32, 64, 128))
    shapes = shapes_of(timm.create_model(name, stem=stem, stages=stages))
    return prefixed("backbone.", {k: s for k, s in shapes.items() if not k.startswith("head")})


def pvt(depths: tuple[int, ...], linear: bool) -> Shapes:
    """sparseinst/backbones/pvt.py, b1 and b2_li."""
    shapes: Shapes = {}
    dims, ratios, into = (8, 16, 40, 64), (8, 8, 4, 4), 3
    for stage, (dim, depth, ratio) in enumerate(zip(dims, depths, ratios), start=1):
        embed = f"backbone.patch_embed{stage}"
        shapes |= conv(f"{embed}.proj", dim, into, 7 if stage == 1 else 3)
        shapes |= affine(f"{embed}.norm", dim)
        reduction = 1 if linear else 16 >> stage
        for block in range(depth):
            name = f"backbone.block{stage}.{block}"
            shapes |= affine(f"{name}.norm1", dim) | affine(f"{name}.norm2", dim)
            for part, size in (("q", dim), ("kv", 2 * dim), ("proj", dim)):
                shapes |= {f"{name}.attn.{part}.weight": (size, dim)}
                shapes |= {f"{name}.attn.{part}.bias": (size,)}
            if linear or reduction > 1:
                shapes |= conv(f"{name}.attn.sr", dim, dim, reduction)
                shapes |= affine(f"{name}.attn.norm", dim)
            hidden = ratio * dim
            shapes |= {f"{name}.mlp.fc1.weight": (hidden, dim), f"{name}.mlp.fc1.bias": (hidden,)}
            shapes |= conv(f"{name}.mlp.dwconv.dwconv", hidden, 1, 3)
            shapes |= {f"{name}.mlp.fc2.weight": (dim, hidden), f"{name}.mlp.fc2.bias": (dim,)}
        shapes |= affine(f"backbone.norm{stage}", dim)
        into = dim
    return shapes


def official_swin(prefix: str, norms: bool) -> Shapes:
    """github.com/microsoft/Swin-Transformer; with a norm per output in MaskFormer's copy."""
    width, window = 8, 4
    shapes = conv(f"{prefix}patch_embed.proj", width, 3, 4)
    shapes |= affine(f"{prefix}patch_embed.norm", width)
    for stage, depth in enumerate((2, 2, 2, 2)):
        dim, heads = width << stage, 1 << stage
        for block in range(depth):
            name = f"{prefix}layers.{stage}.blocks.{block}"
            shapes |= affine(f"{name}.norm1", dim) | affine(f"{name}.norm2", dim)
            shapes[f"{name}.attn.relative_position_bias_table"] = ((2 * window - 1) ** 2, heads)
            shapes[f"{name}.attn.relative_position_index"] = (window**2, window**2)
            sizes = {"attn.qkv": (3 * dim, dim), "attn.proj": (dim, dim)}
            sizes |= {"mlp.fc1": (4 * dim, dim), "mlp.fc2": (dim, 4 * dim)}
            for part, size in sizes.items():
                shapes |= {f"{name}.{part}.weight": size, f"{name}.{part}.bias": size[:1]}
        if stage < 3:
            name = f"{prefix}layers.{stage}.downsample"
            shapes |= {f"{name}.reduction.weight": (2 * dim, 4 * dim)}
            shapes |= affine(f"{name}.norm", 4 * dim)
        if norms:
            shapes |= affine(f"{prefix}norm{stage}", dim)
    if not norms:
        shapes |= affine(f"{prefix}norm", 8 * width)
        shapes |= {f"{prefix}head.weight": (10, 8 * width), f"{prefix}head.bias": (10,)}
    return shapes


def attention(name: str, dim: int) -> Shapes:
    shapes: Shapes = {f"{name}.in_proj_weight": (3 * dim, dim), f"{name}.in_proj_bias": (3 * dim,)}
    return shapes | {f"{name}.out_proj.weight": (dim, dim), f"{name}.out_proj.bias": (dim,)}


def transformer_layer(name: str, dim: int, decoder: bool) -> Shapes:
    shapes = attention(f"{name}.self_attn", dim)
    if decoder:
        shapes |= attention(f"{name}.multihead_attn", dim)
    shapes |= {f"{name}.linear1.weight": (2 * dim, dim), f"{name}.linear1.bias": (2 * dim,)}
    shapes |= {f"{name}.linear2.weight": (dim, 2 * dim), f"{name}.linear2.bias": (dim,)}
    for index in range(3 if decoder else 2):
        shapes |= affine(f"{name}.norm{index + 1}", dim)
    return shapes


def mask_former(
    backbone: Shapes, channels: tuple[int, ...], *, version: int, encoder: bool = False
) -> Shapes:
    """github.com/facebookresearch/MaskFormer at da3e60d: mask_former/modeling/."""
    dim, head = 32, "sem_seg_head."
    decoder = f"{head}pixel_decoder." if version > 1 else head
    predictor = f"{head}predictor."
    shapes = dict(backbone)
    for level, into in enumerate(channels, start=1):
        if level < 4:
            shapes |= conv(f"{decoder}adapter_{level}", dim, into, 1, bias=False)
            shapes |= affine(f"{decoder}adapter_{level}.norm", dim)
        first = dim if level < 4 or encoder else into
        shapes |= conv(f"{decoder}layer_{level}", dim, first, 3, bias=False)
        shapes |= affine(f"{decoder}layer_{level}.norm", dim)
    shapes |= conv(f"{decoder}mask_features", dim, dim, 3)
    if encoder:
        shapes |= conv(f"{decoder}input_proj", dim, channels[-1], 1)
        for layer in range(2):
            name = f"{decoder}transformer.encoder.layers.{layer}"
            shapes |= transformer_layer(name, dim, decoder=False)
    else:
        shapes |= conv(f"{predictor}input_proj", dim, channels[-1], 1)
    for layer in range(2):
        name = f"{predictor}transformer.decoder.layers.{layer}"
        shapes |= transformer_layer(name, dim, decoder=True)
    shapes |= affine(f"{predictor}transformer.decoder.norm", dim)
    shapes |= {f"{predictor}query_embed.weight": (12, dim)}
    shapes |= {f"{predictor}class_embed.weight": (CLASSES + 1, dim)}
    shapes |= {f"{predictor}class_embed.bias": (CLASSES + 1,)}
    for layer in range(3):
        name = f"{predictor}mask_embed.layers.{layer}"
        shapes |= {f"{name}.weight": (dim, dim), f"{name}.bias": (dim,)}
    return shapes | {"criterion.empty_weight": (CLASSES + 1,)}


def per_pixel() -> Shapes:
    """The same code base's PerPixelBaseline, first version."""
    shapes = mask_former(
        resnet50("backbone.", detectron2=True, tracked=True), (16, 32, 64, 128), version=1
    )
    drop = ("sem_seg_head.predictor", "criterion")
    shapes = {key: shape for key, shape in shapes.items() if not key.startswith(drop)}
    return shapes | conv("sem_seg_head.predictor", CLASSES, 32, 1)


def per_pixel_plus() -> Shapes:
    """The same code base's PerPixelBaselinePlus, first version: a query for each class."""
    shapes = mask_former(
        resnet50("backbone.", detectron2=True, tracked=True), (16, 32, 64, 128), version=1
    )
    drop = ("sem_seg_head.predictor.class_embed", "criterion")
    shapes = {key: shape for key, shape in shapes.items() if not key.startswith(drop)}
    return shapes | {"sem_seg_head.predictor.query_embed.weight": (CLASSES, 32)}


def mmdet_config(file: str) -> Any:
    """A config of the package, as tiny as the others."""
    from mmengine.config import Config

    folder = Path(str(import_mmdet().__file__)).parent / ".mim" / "configs"
    model = Config.fromfile(folder / file).model
    model.backbone.init_cfg = None
    if model.backbone.type == "ResNet":
        model.backbone.base_channels = 4
    return model


def tiny_solo(file: str) -> Any:
    model = mmdet_config(file)
    model.neck.update(in_channels=[16, 32, 64, 128], out_channels=32)
    head = model.mask_head
    v2 = "v2" in head.type
    head.update(
        num_classes=CLASSES,
        in_channels=32,
        feat_channels=64 if v2 else 32,
        stacked_convs=2,
        num_grids=list(GRIDS),
    )
    if v2:
        head.mask_feature_head.update(feat_channels=32, out_channels=32, end_level=3)
        head.mask_feature_head.update(start_level=0)
    return model


def tiny_mmdet_mask_former(file: str) -> Any:
    model = mmdet_config(file)
    head = model.panoptic_head
    if model.backbone.type == "SwinTransformer":
        model.backbone.update(
            embed_dims=8, depths=(2, 2, 2, 2), num_heads=(1, 2, 4, 8), window_size=4
        )
        head.in_channels = [8, 16, 32, 64]
    else:
        head.in_channels = [16, 32, 64, 128]
    head.update(feat_channels=32, out_channels=32, num_queries=12)
    head.update(num_things_classes=4, num_stuff_classes=3)
    decoder = head.transformer_decoder
    decoder.num_layers = 2
    layers = [decoder.layer_cfg]
    if "encoder" in head.pixel_decoder:
        head.pixel_decoder.encoder.num_layers = 2
        head.pixel_decoder.positional_encoding.num_feats = 16
        layers.append(head.pixel_decoder.encoder.layer_cfg)
    head.positional_encoding.num_feats = 16
    for layer in layers:
        layer.self_attn_cfg.embed_dims = 32
        if "cross_attn_cfg" in layer:
            layer.cross_attn_cfg.embed_dims = 32
        layer.ffn_cfg.update(embed_dims=32, feedforward_channels=64)
    head.loss_cls.class_weight = [1.0] * CLASSES + [0.1]
    model.panoptic_fusion_head.update(num_things_classes=4, num_stuff_classes=3)
    return model


def build_mmdet(model: Any) -> Any:
    from mmdet.registry import MODELS

    return MODELS.build(model)


def huggingface(kind: str) -> Any:
    """A tiny MaskFormer of transformers."""
    from transformers import (
        DetrConfig,
        MaskFormerConfig,
        MaskFormerForInstanceSegmentation,
        ResNetConfig,
        SwinConfig,
    )

    stages = ["stage1", "stage2", "stage3", "stage4"]
    if kind == "swin":
        backbone: Any = SwinConfig(
            embed_dim=8, depths=[2] * 4, num_heads=[1, 2, 4, 8], window_size=4, out_features=stages
        )
    else:
        backbone = ResNetConfig(
            embedding_size=4,
            hidden_sizes=[16, 32, 64, 128],
            depths=list(BLOCKS),
            layer_type="bottleneck",
            out_features=stages,
        )
    decoder = DetrConfig(
        d_model=32, decoder_layers=2, decoder_ffn_dim=64, encoder_layers=0, num_queries=12
    )
    config = MaskFormerConfig(
        backbone_config=backbone,
        decoder_config=decoder,
        fpn_feature_size=32,
        mask_feature_size=32,
        num_labels=CLASSES,
    )
    return MaskFormerForInstanceSegmentation(config)


def write_from_sources() -> None:
    for kind in ("solo", "decoupled", "decoupled_light"):
        write(f"official_{kind}", official_solo(kind), official_solo.__doc__ or "")
    about = "github.com/WXinlong/SOLO at f4cd03b: solov2_head.py, mask_heads/mask_feat_head.py"
    for name, offsets in (("", 0), ("_dcn", 27), ("_light_dcn", 18)):
        write(f"official_solov2{name}", official_solov2(offsets), about)
    write("adelaidet_solov2", adelaidet(), adelaidet.__doc__ or "")
    resnet = resnet50("backbone.", detectron2=True, tracked=False)
    about = sparse_inst.__doc__ or ""
    tiny = (32, 64, 128)
    for decoder in ("base", "giam", "soft"):
        write(f"sparse_inst_r50_{decoder}", sparse_inst(resnet, tiny, decoder), about)
    deform = resnet50("backbone.", detectron2=True, tracked=False, deform={2: 18, 3: 18})
    write("sparse_inst_r50_dcn_giam", sparse_inst(deform, tiny, "giam"), about)
    for name, deformable in (("r50vd", False), ("r50vd_dcn", True)):
        write(f"sparse_inst_{name}_giam", sparse_inst(resnet_vd(deformable), tiny, "giam"), about)
    for name in ("cspdarknet53", "darknet53"):
        write(f"sparse_inst_{name}_giam", sparse_inst(cspnet(name), tiny, "giam"), about)
    for name, depths in (("b1", (2, 2, 2, 2)), ("b2_li", (3, 4, 6, 3))):
        backbone = pvt(depths, name == "b2_li")
        write(f"sparse_inst_pvt_{name}_giam", sparse_inst(backbone, (16, 40, 64), "giam"), about)
    about = mask_former.__doc__ or ""
    resnet = resnet50("backbone.", detectron2=True, tracked=True)
    swin = official_swin("backbone.", norms=True)
    widths = (16, 32, 64, 128)
    write("mask_former_r50_v1", mask_former(resnet, widths, version=1), about)
    write("mask_former_r50_v2", mask_former(resnet, widths, version=2), about)
    panoptic = mask_former(resnet, widths, version=2, encoder=True)
    write("mask_former_r50_panoptic", panoptic, about)
    write("mask_former_swin", mask_former(swin, (8, 16, 32, 64), version=2), about)
    write("per_pixel_baseline_r50", per_pixel(), per_pixel.__doc__ or "")
    write("per_pixel_baseline_plus_r50", per_pixel_plus(), per_pixel_plus.__doc__ or "")
    write("official_swin", official_swin("", norms=False), official_swin.__doc__ or "")


MMDET = {
    "mmdet3_solo": ("solo/solo_r50_fpn_1x_coco.py", tiny_solo),
    "mmdet3_decoupled": ("solo/decoupled-solo_r50_fpn_1x_coco.py", tiny_solo),
    "mmdet3_decoupled_light": ("solo/decoupled-solo-light_r50_fpn_3x_coco.py", tiny_solo),
    "mmdet3_solov2": ("solov2/solov2_r50_fpn_1x_coco.py", tiny_solo),
    "mmdet3_mask_former_r50": (
        "maskformer/maskformer_r50_ms-16xb1-75e_coco.py",
        tiny_mmdet_mask_former,
    ),
    "mmdet3_mask_former_swin": (
        "maskformer/maskformer_swin-l-p4-w12_64xb1-ms-300e_coco.py",
        tiny_mmdet_mask_former,
    ),
}


def write_from_packages() -> None:
    import timm
    import torchvision

    for name, (file, tiny) in MMDET.items():
        write(name, shapes_of(build_mmdet(tiny(file))), f"mmdet 3.3.0, {file}, tiny")
    for kind in ("swin", "resnet"):
        write(f"huggingface_{kind}", shapes_of(huggingface(kind)), "transformers 5.23.0, tiny")
    write("torchvision_resnet18", shapes_of(torchvision.models.resnet18()), "torchvision")
    write("torchvision_vgg16", shapes_of(torchvision.models.vgg16()), "torchvision")
    widths: dict[str, Any] = {"channels": (4, 8, 16, 32)}
    write("timm_resnet50", shapes_of(timm.create_model("resnet50", **widths)), "timm, narrow")
    widths |= {"stem_width": 2}
    write("timm_resnet50d", shapes_of(timm.create_model("resnet50d", **widths)), "timm, narrow")
    swin = timm.create_model(
        "swin_tiny_patch4_window7_224", embed_dim=8, depths=(2, 2, 2, 2), num_heads=(1, 2, 4, 8)
    )
    write("timm_swin", shapes_of(swin), "timm, tiny")


if __name__ == "__main__":
    write_from_sources()
    write_from_packages()
