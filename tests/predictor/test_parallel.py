"""Pictures that are predicted at the same time are what they are one after another."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.structures import Instances

from solo_family import METHODS
from solo_family.predictor.parallel import on_one_core_each
from solo_family.predictor.sources import from_config

from ..conftest import ROOT, eager_to_find, picture, tiny_cfg, tiny_model


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_as_many_at_once_as_torch_has_threads(two_threads: None) -> None:
    running: list[int] = []
    most: list[int] = []

    def work(item: int) -> tuple[int, int, bool]:
        running.append(item)
        most.append(len(running))
        time.sleep(0.02)
        running.remove(item)
        return item, torch.get_num_threads(), torch.is_grad_enabled()

    expected = [(item, 1, False) for item in range(6)]
    assert on_one_core_each(work, range(7)) == [*expected, (6, 2, True)]
    assert max(most) == 2
    assert torch.get_num_threads() == 2
    assert on_one_core_each(lambda _: threading.current_thread(), [0]) == [threading.main_thread()]
    with pytest.raises(ZeroDivisionError):
        on_one_core_each(lambda item: 1 // item, [1, 0, 1])
    assert torch.get_num_threads() == 2


POOL = """
import multiprocessing, sys
import numpy as np, torch
from solo_family.predictor.sources import from_config
from tests.conftest import tiny_cfg

def predict(_):
    return torch.get_num_threads(), len(source.predict(images)), torch.get_num_threads()

torch.set_num_threads(2)
source = from_config(tiny_cfg(opts=["MODEL.WEIGHTS", sys.argv[1]]))
images = [np.zeros((64, 96, 3), np.uint8)] * 2
source.predict(images)
with multiprocessing.get_context("fork").Pool(1) as pool:
    print(pool.apply_async(predict, (0,)).get(60))
source.predict(images)
print(torch.get_num_threads())
"""


def test_a_fork_computes_with_one_thread(tmp_path: Path) -> None:
    """It would wait without end for the threads that torch has started in the other process.

    That is a process of its own, because one that has run other tests may have other threads, too,
    whose locks a fork never gets.
    """
    weights = tmp_path / "model.pth"
    torch.save({"model": tiny_model().state_dict()}, weights)
    command = [sys.executable, "-W", "ignore", "-c", POOL, str(weights)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[-2:] == ["(2, 2, 1)", "2"], done.stderr


def test_threads_that_overlap_leave_torch_its_threads(two_threads: None) -> None:
    """The second finds one thread, the first's, and kept it for all that it did later."""
    left: list[int] = []
    first_is_in, second_is_in = threading.Event(), threading.Event()

    def call(here: threading.Event, other: threading.Event) -> None:
        def work(item: int) -> int:
            here.set()
            assert other.wait(60)
            return item

        assert on_one_core_each(work, range(2)) == [0, 1]
        left.append(torch.get_num_threads())

    first = threading.Thread(target=call, args=(first_is_in, second_is_in))
    first.start()
    assert first_is_in.wait(60)
    second = threading.Thread(target=call, args=(second_is_in, first_is_in))
    second.start()
    for thread in (first, second):
        thread.join()
    assert left == [2, 2]
    assert torch.get_num_threads() == 2


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_models_predict_the_same_at_the_same_time(
    method: str, two_threads: None, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = ["INPUT.MIN_SIZE_TEST", 64, "INPUT.MAX_SIZE_TEST", 96, "INPUT.FORMAT", "BGR"]
    weights = eager_to_find(tiny_model(method, opts=sizes)).state_dict()
    torch.save({"model": weights}, tmp_path / "model.pth")
    opts = [*sizes, "MODEL.WEIGHTS", str(tmp_path / "model.pth")]
    source = from_config(tiny_cfg(method, opts=opts))
    assert source.batch == 4
    images = [
        np.ascontiguousarray(picture(*size, seed=index)["image"].permute(1, 2, 0).numpy())
        for index, size in enumerate([(64, 96), (64, 96), (96, 64), (48, 64)])
    ]
    together = source.predict(images)
    torch.set_num_threads(1)
    for image, one in zip(images, together):
        (alone,) = source.predict([image])
        assert one.keys() == alone.keys()
        for key, value in alone.items():
            if isinstance(value, Instances):
                assert len(value) == len(one[key])
                torch.testing.assert_close(one[key].scores, value.scores)
                assert torch.equal(one[key].pred_masks, value.pred_masks)
            elif key == "sem_seg":
                torch.testing.assert_close(one[key], value)
            else:
                assert torch.equal(one[key][0], value[0])
