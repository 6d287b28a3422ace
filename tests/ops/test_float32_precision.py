"""Every way in which torch can be told, each in a process of its own: the settings are global."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from solo_family.ops.float32_precision import tf32_allowed

from ..forked import Forked

NEW = "torch.backends.cuda.matmul.fp32_precision = "
ALL = "torch.backends.fp32_precision = "
OLD = "torch.backends.cuda.matmul.allow_tf32 = "
# Statements, and whether torch's products may use TensorFloat-32 after them.
OLD_SETTINGS = {
    "pass": False,
    f"{OLD}True": True,
    f"{OLD}True; {OLD}False": False,
    "torch.set_float32_matmul_precision('high')": True,
    "torch.set_float32_matmul_precision('medium')": True,
    "torch.set_float32_matmul_precision('highest')": False,
    "torch.backends.cudnn.allow_tf32 = True": False,
}
NEW_SETTINGS = {
    f"{NEW}'tf32'": True,
    f"{NEW}'tf32'; {NEW}'ieee'": False,
    f"{ALL}'tf32'": True,
    f"{ALL}'tf32'; {NEW}'ieee'": False,
    f"{ALL}'ieee'; {NEW}'tf32'": True,
    "torch.backends.cudnn.conv.fp32_precision = 'tf32'": False,
}
# The later setting counts.
MIXED_SETTINGS = {
    f"{OLD}True; {NEW}'ieee'": False,
    f"{NEW}'tf32'; {OLD}False": False,
    f"{ALL}'tf32'; {OLD}False": False,
    f"{ALL}'ieee'; torch.set_float32_matmul_precision('high')": True,
}
HAS_NEW = hasattr(torch.backends.cuda.matmul, "fp32_precision")


def tell(settings: list[str]) -> int:
    """Print what each setting leads to, in a fork of its own."""
    for setting in settings:
        child = os.fork()
        if not child:
            exec(setting)
            print(json.dumps([setting, tf32_allowed()]), flush=True)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0, setting
    return 0


@pytest.mark.slow
def test_every_way_of_setting_it(tmp_path: Path) -> None:
    expected = OLD_SETTINGS | (NEW_SETTINGS | MIXED_SETTINGS if HAS_NEW else {})
    with Forked(tell, list(expected), tmp_path) as process:
        assert process.status() == 0, process.printed
    assert dict(map(json.loads, process.printed.splitlines())) == expected


@pytest.mark.parametrize("allowed", [False, True])
def test_a_torch_that_has_the_older_settings_only(
    monkeypatch: pytest.MonkeyPatch, allowed: bool
) -> None:
    monkeypatch.setattr(torch.backends.cuda, "matmul", SimpleNamespace(allow_tf32=allowed))
    assert tf32_allowed() is allowed
