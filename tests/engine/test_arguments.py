"""The help of train_net.py tells what its flags do here."""

import sys

import pytest

from solo_family.engine.arguments import argument_parser
from solo_family.engine.main import main


def test_every_flag_of_detectron2s_is_explained_for_this_package(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["train_net.py"])
    with pytest.raises(SystemExit):
        main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    for word in ("LazyConfig", "DefaultTrainer", "weight.pth"):
        assert word not in text
    for word in ("zoo:NAME", "newest intact checkpoint", "auto takes a free port", "(default: 1)"):
        assert word in text


def test_the_examples_can_be_parsed() -> None:
    examples = str(argument_parser().epilog).replace("\\\n", " ").splitlines()[1:]
    assert len(examples) == 5
    for example in examples:
        python, script, *words = example.split()
        assert (python, script) == ("python", "train_net.py")
        args = argument_parser().parse_args(words)
        assert args.config_file
        assert all(not word.startswith("--") for word in args.opts)
