"""Every way in which torch can be told, each in a process of its own: the settings are global."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from solo_family.ops.float32_precision import tf32_allowed

from ..conftest import ROOT

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


def test_every_way_of_setting_it() -> None:
    """Statements run in forked children of one process, since importing torch takes seconds."""
    expected = OLD_SETTINGS | (NEW_SETTINGS | MIXED_SETTINGS if HAS_NEW else {})
    code = f"""
import json, os, torch
from solo_family.ops.float32_precision import tf32_allowed
for setting in {list(expected)!r}:
    child = os.fork()
    if not child:
        exec(setting)
        print(json.dumps([setting, tf32_allowed()]), flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, setting
"""
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert dict(map(json.loads, process.stdout.splitlines())) == expected


@pytest.mark.parametrize("allowed", [False, True])
def test_a_torch_that_has_the_older_settings_only(
    monkeypatch: pytest.MonkeyPatch, allowed: bool
) -> None:
    monkeypatch.setattr(torch.backends.cuda, "matmul", SimpleNamespace(allow_tf32=allowed))
    assert tf32_allowed() is allowed
