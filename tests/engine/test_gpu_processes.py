"""What the processes of a machine with several GPUs ask for; no GPU is used."""

import argparse
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from detectron2.utils import comm
from torch import nn

from solo_family.engine import led, processes, wrappers
from solo_family.errors import ConfigError


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A machine of two GPUs, and what is asked of it."""
    asked: list[Any] = []

    def init_process_group(backend: str, **options: Any) -> None:
        asked.append((backend.lower(), options.get("rank"), options.get("world_size")))

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: asked.append(f"cuda:{device}"))
    monkeypatch.setattr(dist, "init_process_group", init_process_group)
    monkeypatch.setattr(dist, "destroy_process_group", lambda: None)
    monkeypatch.setattr(comm, "create_local_process_group", lambda count: asked.append(count))
    monkeypatch.setattr(comm, "synchronize", lambda: None)
    for module in (led, processes):
        monkeypatch.setattr(module, "end_with_parent", lambda parent: None)
    return asked


@pytest.mark.parametrize("local_rank", [0, 1])
def test_our_launcher_s_process_takes_the_gpu_of_its_number(
    calls: list[Any], monkeypatch: pytest.MonkeyPatch, local_rank: int
) -> None:
    monkeypatch.setattr(led, "_led", False)
    monkeypatch.setattr(led, "leave", lambda report, sender: calls.append(report.status))
    args = argparse.Namespace(num_gpus=2, num_machines=3, machine_rank=1)
    senders: Any = [SimpleNamespace(send=lambda report: None)] * 2
    led.run_process(local_rank, 1, lambda args: calls.append("run"), args, "tcp://a:1", senders)
    assert calls == [("nccl", 2 + local_rank, 6), 2, f"cuda:{local_rank}", "run", 0]


def test_torchrun_s_process_takes_the_gpu_of_its_number(
    calls: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr(dist, "is_torchelastic_launched", lambda: True)
    args = argparse.Namespace(num_gpus=1, num_machines=1)
    processes.start(lambda args: calls.append("run"), args)
    assert calls == ["cuda:1", ("nccl", None, None), 2, "run"]


def test_torchrun_s_process_without_a_gpu_is_refused(
    calls: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    monkeypatch.setattr(dist, "is_torchelastic_launched", lambda: True)
    args = argparse.Namespace(num_gpus=1, num_machines=1)
    with pytest.raises(ConfigError, match=r"started 4 processes .* sees 2\. .*per-node 2 at most"):
        processes.start(lambda args: calls.append("run"), args)
    assert calls == []


@pytest.mark.parametrize(("is_cuda", "device_ids"), [(True, [1]), (False, None)])
def test_a_model_is_wrapped_for_the_device_that_it_is_on(
    monkeypatch: pytest.MonkeyPatch, is_cuda: bool, device_ids: list[int] | None
) -> None:
    model = nn.Linear(2, 2)
    parameter = argparse.Namespace(is_cuda=is_cuda)
    monkeypatch.setattr(model, "parameters", lambda: iter([parameter]))
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(comm, "get_local_rank", lambda: 1)
    monkeypatch.setattr(wrappers, "DistributedDataParallel", lambda model, **options: options)
    options: Any = wrappers.distributed(model)
    assert options["device_ids"] == device_ids


def test_more_processes_than_gpus_are_refused(calls: list[Any]) -> None:
    args = argparse.Namespace(num_gpus=4, num_machines=1, dist_url="auto")
    with pytest.raises(ConfigError, match="--num-gpus is 4, but this machine has 2"):
        processes.start(lambda args: calls.append("run"), args)
    assert calls == []


def test_an_old_launcher_needs_gpus(calls: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """As with detectron2 0.6, whose hooks have no `after_backward`."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(processes, "HookBase", object)
    args = argparse.Namespace(num_gpus=2, num_machines=1, dist_url="auto")
    with pytest.raises(ConfigError, match=r"--num-gpus is 2, but .* no GPU, and detectron2 0\.6"):
        processes.start(lambda args: calls.append("run"), args)
    assert calls == []


@pytest.fixture
def current(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The GPUs that were made current."""
    asked: list[str] = []
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: asked.append(str(device)))
    return asked


@pytest.mark.parametrize(("name", "chosen"), [("cuda:1", ["cuda:1"]), ("cuda", []), ("cpu", [])])
def test_the_gpu_of_the_config_is_the_current_one(
    current: list[str], name: str, chosen: list[str]
) -> None:
    """What is logged of memory is that of the current one, and so is what torch waits for."""
    processes.take_device(name, trains=True)
    assert current == chosen


@pytest.mark.parametrize(("name", "trains"), [("cuda:0", True), ("cuda:1", False), ("cpu", True)])
def test_several_processes_have_their_own_gpus(
    current: list[str], monkeypatch: pytest.MonkeyPatch, name: str, trains: bool
) -> None:
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "get_backend", lambda: "nccl")
    with pytest.raises(ConfigError, match=f"MODEL.DEVICE is {name}, but each of 2 processes"):
        processes.take_device(name, trains=trains)
    assert current == []
    for allowed, training in (("cuda", True), ("cuda", False), ("cpu", False)):
        processes.take_device(allowed, trains=training)
    monkeypatch.setattr(dist, "get_backend", lambda: "gloo")
    processes.take_device("cpu", trains=True)
    assert current == []
