"""The two per-pixel baselines, as heads of detectron2's SemanticSegmentor."""

import pytest
import torch
import torch.nn.functional as F
from detectron2.modeling import build_model

from ...conftest import tiny_cfg

HEADS = ("PerPixelBaselineHead", "PerPixelBaselinePlusHead")


def baseline(name: str, num_classes: int = 5, opts: tuple = ()) -> torch.nn.Module:
    torch.manual_seed(0)
    options: list[object] = ["MODEL.META_ARCHITECTURE", "SemanticSegmentor"]
    # Another number of queries than classes: the head must not use it.
    options += ["MODEL.SEM_SEG_HEAD.NAME", name, "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", 7, *opts]
    return build_model(tiny_cfg("MaskFormer", num_classes, options))


def batch(ignored: bool = False) -> list[dict]:
    generator = torch.Generator().manual_seed(0)
    items = []
    for _ in range(2):
        labels = torch.randint(0, 5, (64, 96), generator=generator)
        labels[:, 70:] = 255
        if ignored:
            labels[:] = 255
        image = torch.randint(0, 255, (3, 64, 96), generator=generator, dtype=torch.uint8)
        items.append({"image": image, "sem_seg": labels, "height": 33, "width": 50})
    return items


@pytest.mark.parametrize("name", HEADS)
def test_a_baseline_trains_and_predicts(name: str) -> None:
    model = baseline(name)
    losses = model(batch())
    expected = {"loss_sem_seg"} if name == HEADS[0] else {"loss_sem_seg_0", "loss_sem_seg"}
    assert set(losses) == expected
    sum(losses.values()).backward()
    without = [key for key, value in model.named_parameters() if value.grad is None]
    assert without == []
    model.eval()
    with torch.no_grad():
        result = model(batch())[0]
    assert result["sem_seg"].shape == (5, 33, 50)


@pytest.mark.parametrize("name", HEADS)
def test_the_loss_is_the_mean_cross_entropy_of_labelled_pixels(name: str) -> None:
    model = baseline(name).eval()
    labels = torch.stack([item["sem_seg"] for item in batch()])
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        features = model.backbone(images)
        logits, _ = model.sem_seg_head(features)
        model.train()
        model.sem_seg_head.predictor.eval()
        _, losses = model.sem_seg_head(features, labels)
    total, count = 0.0, 0
    log_probability = logits.log_softmax(1)
    for image, y, x in (labels != 255).nonzero().tolist():
        total -= float(log_probability[image, labels[image, y, x], y, x])
        count += 1
    assert losses["loss_sem_seg"].item() == pytest.approx(total / count, rel=1e-4)


@pytest.mark.parametrize("name", HEADS)
def test_a_batch_without_labelled_pixels_has_no_loss(name: str) -> None:
    losses = baseline(name)(batch(ignored=True))
    assert all(loss.item() == 0 for loss in losses.values())


def test_a_query_of_the_plus_baseline_is_a_class() -> None:
    model = baseline("PerPixelBaselinePlusHead").eval()
    assert model.sem_seg_head.predictor.query_embed.weight.shape == (5, 16)
    features = model.backbone(torch.randn(1, 3, 64, 96))
    with torch.no_grad():
        logits, _ = model.sem_seg_head(features)
        pixels = model.sem_seg_head.pixel_decoder.forward_features(features).mask_features
        _, embeddings = model.sem_seg_head.predictor(features["p5"])
    small = torch.stack([(pixels[0] * e[:, None, None]).sum(0) for e in embeddings[-1, 0]])
    expected = F.interpolate(small[None], scale_factor=4, mode="bilinear")
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)


def test_sides_that_the_stride_does_not_divide() -> None:
    """detectron2's SemanticSegmentor does not pad where the backbone does not ask for it."""
    features = ["res2", "res3", "res4", "res5"]
    model = baseline(
        "PerPixelBaselineHead",
        opts=(
            *("MODEL.BACKBONE.NAME", "build_resnet_backbone"),
            *("MODEL.SEM_SEG_HEAD.IN_FEATURES", features),
        ),
    )
    image = torch.zeros((3, 61, 83), dtype=torch.uint8)
    labels = torch.zeros((61, 83), dtype=torch.int64)
    losses = model([{"image": image, "sem_seg": labels}] * 2)
    assert losses["loss_sem_seg"].isfinite()
    with torch.no_grad():
        assert model.eval()([{"image": image}])[0]["sem_seg"].shape == (5, 61, 83)
