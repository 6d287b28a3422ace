import pytest
import torch

from solo_family.modeling.matching_costs import sparse_inst_cost


@pytest.mark.parametrize(("alpha", "beta"), [(0.8, 0.2), (0.5, 1.0)])
def test_the_cost_of_sparseinst_is_the_formula(alpha: float, beta: float) -> None:
    torch.manual_seed(0)
    class_logits, mask_logits = torch.randn(4, 3), torch.randn(4, 5, 6) * 3
    classes, masks = torch.tensor([2, 0]), torch.rand(2, 5, 6)
    found = sparse_inst_cost(class_logits, mask_logits, classes, masks, alpha=alpha, beta=beta)
    assert found.shape == (4, 2)
    for n in range(4):
        for g in range(2):
            p, q = mask_logits[n].double().sigmoid(), masks[g].double()
            dice = 2 * (p * q).sum() / ((p * p).sum() + (q * q).sum() + 1e-4)
            probability = class_logits[n, classes[g]].double().sigmoid()
            expected = -(dice**alpha) * probability**beta
            assert found[n, g].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    # Areas above float16's largest number.
    class_logits, mask_logits = (
        torch.randn(2, 3).to(dtype),
        (torch.randn(2, 300, 300) + 9).to(dtype),
    )
    classes, masks = torch.tensor([1]), torch.ones(1, 300, 300, dtype=torch.bool)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = sparse_inst_cost(class_logits, mask_logits, classes, masks)
    wide = sparse_inst_cost(class_logits.float(), mask_logits.float(), classes, masks)
    assert found.dtype == torch.float32
    assert torch.equal(found, wide)


def test_no_objects_cost_nothing() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    cost = sparse_inst_cost(torch.zeros(4, 3), torch.zeros(4, 5, 5), none, torch.zeros(0, 5, 5))
    assert cost.shape == (4, 0)
