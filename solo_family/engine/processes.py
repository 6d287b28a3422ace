"""Start of a run's processes, by this package's launcher or by torchrun."""

import argparse
import os
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import torch
import torch.distributed as dist
from detectron2.engine import HookBase
from detectron2.utils import comm

from ..errors import ConfigError
from ..lifetime import end_with_parent
from ..threads import choose as choose_threads
from .launcher import lead

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def start(
    run: Callable[[argparse.Namespace], Any],
    args: argparse.Namespace,
    check: Callable[[argparse.Namespace], Any] | None = None,
) -> None:
    """Call `run(args)` in each process of the run, and return when all have ended.

    Args:
        run: the body of one process.
        args: detectron2's flags. Under torchrun, which has already started the processes, the flags
            for the number of processes and machines must be omitted.
        check: raises what every process would raise at once. It is called here before several
            processes share the CPU's cores: their imports alone may take them minutes.

    Raises:
        ConfigError: the flags contradict each other, or there are too few GPUs.
    """
    if dist.is_torchelastic_launched():
        _join(run, args)
        return
    _check_gpus(args)
    _check_address(args)
    if args.num_gpus > 1:
        choose_threads(processes=args.num_gpus)  # which they read when they import torch
    if args.num_machines * args.num_gpus > 1:
        # On a machine with GPUs it would keep memory of one in use as long as the run lasts.
        if check is not None and not torch.cuda.is_available():
            check(args)
        lead(run, args)
    else:
        run(args)


def _join(run: Callable[[argparse.Namespace], Any], args: argparse.Namespace) -> None:
    """Run in a process that torchrun has started and described in environment variables."""
    if args.num_gpus > 1 or args.num_machines > 1:
        raise ConfigError(
            "torchrun has started the processes already: remove --num-gpus and --num-machines, and "
            "give torchrun --nproc-per-node and --nnodes instead."
        )
    end_with_parent(os.getppid())
    cuda = torch.cuda.is_available()
    if cuda:
        rank, count = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if rank >= count:
            raise ConfigError(
                f"torchrun has started {os.environ['LOCAL_WORLD_SIZE']} processes on this machine, "
                f"each of which takes a GPU, but sees {count}. Give it --nproc-per-node {count} at "
                "most, or allow more devices in CUDA_VISIBLE_DEVICES; with an empty one the "
                "processes run on the CPU."
            )
        torch.cuda.set_device(rank)
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        comm.create_local_process_group(int(os.environ["LOCAL_WORLD_SIZE"]))
        comm.synchronize()
        run(args)
    finally:
        dist.destroy_process_group()


def take_device(name: str, *, trains: bool) -> None:
    """Make the GPU that `MODEL.DEVICE` names this process's current one, if it names one.

    torch and detectron2 measure the memory of the current GPU, wait for it, and take some of its
    memory for themselves, whichever one the model is on.

    Args:
        name: `MODEL.DEVICE`.
        trains: whether the process trains, and so exchanges gradients with the others.

    Raises:
        ConfigError: there are several processes on GPUs, each of which has one already.
    """
    device, count = torch.device(name), comm.get_world_size()
    on_gpus = count > 1 and dist.get_backend() == "nccl"
    if on_gpus and (device.index is not None or (trains and device.type == "cpu")):
        raise ConfigError(
            f"MODEL.DEVICE is {name}, but each of {count} processes takes a GPU of its own. Leave "
            "MODEL.DEVICE cuda, and choose the GPUs in the environment variable "
            "CUDA_VISIBLE_DEVICES; with an empty one the processes run on the CPU."
        )
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)


def _check_address(args: argparse.Namespace) -> None:
    """Refuse an address that other machines can't reach: they would wait half an hour for it.

    Raises:
        ConfigError: there are several machines, and `--dist-url` is missing or a loopback address.
    """
    if args.num_machines > 1 and urlsplit(args.dist_url).hostname in (None, *_LOOPBACK):
        raise ConfigError(
            f"--dist-url is {args.dist_url}, at which {args.num_machines} machines can't connect. "
            "Give all of them --dist-url tcp://ADDRESS:PORT, with the address of the machine that "
            "has --machine-rank 0, and a free port of that machine."
        )


def _check_gpus(args: argparse.Namespace) -> None:
    """Refuse more processes than there are GPUs, each of which takes one.

    Raises:
        ConfigError: names both numbers; or there is no GPU, and detectron2's launcher needs some.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if 0 < count < args.num_gpus:
        raise ConfigError(
            f"--num-gpus is {args.num_gpus}, but this machine has {count}. Give at most {count}, "
            "or allow more devices in CUDA_VISIBLE_DEVICES."
        )
    if not count and args.num_gpus > 1 and not hasattr(HookBase, "after_backward"):
        raise ConfigError(
            f"--num-gpus is {args.num_gpus}, but this machine has no GPU, and detectron2 0.6 "
            "starts several processes on GPUs alone. Leave it out, or install a later detectron2."
        )
