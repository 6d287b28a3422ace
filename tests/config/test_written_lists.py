"""Lists that configs write as code: those of the published files are evaluated, nothing else is."""

from pathlib import Path

import pytest

from solo_family.config import setup_cfg
from solo_family.config.written_lists import evaluate
from solo_family.errors import ConfigError

TAG = "!!python/object/apply:eval"


@pytest.mark.parametrize(
    "code",
    [
        "[int(x * 0.1 * 512) for x in range(5, 21)]",
        "[int(x * 0.1 * 640) for x in range(5, 16)]",
        "[round(y / 3) for y in range(0, 30, 4)]",
        "[640, 2 * 320, -7 // 2, 7 % 4, 1.5 + 2 - 3]",
        "int(0.1 * 512)",
    ],
)
def test_the_value_is_python_s(code: str) -> None:
    assert evaluate(code) == eval(code)


@pytest.mark.parametrize(
    "code",
    [
        "__import__('os').mkdir('sprung')",
        "[open('sprung', 'w') for x in range(3)]",
        "[x.real for x in range(3)]",
        "[x for x in [1, 2]]",
        "[x for x in range(3) if x]",
        "[x + y for x in range(3) for y in range(3)]",
        "[[x for x in range(3)] for y in range(3)]",
        "[y for x in range(3)]",
        "9 ** 9 ** 9",
        "'a' * 10",
        "[x for x in range(10**9)]",
        "[0] * 9",
        "int('1')",
        "range(3)",
        "lambda: 1",
        "1 / 0",
        "int(1, base=2)",
        "True",
        "(1, 2)",
        "1 if 1 else 2",
        "x",
        "[1",
        "",
        "1 + " * 500 + "1",
    ],
)
def test_anything_else_is_refused_and_not_run(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r".+"):
        evaluate(code)
    assert not list(tmp_path.iterdir())


def test_a_published_file_loads_unchanged_and_what_inherits_from_it(tmp_path: Path) -> None:
    (tmp_path / "Base-ADE20K.yaml").write_text(
        f'INPUT:\n  MIN_SIZE_TRAIN: {TAG} ["[int(x * 0.1 * 512) for x in range(5, 21)]"]\n'
        '  MIN_SIZE_TRAIN_SAMPLING: "choice"\n'
    )
    (tmp_path / "mine.yaml").write_text("_BASE_: Base-ADE20K.yaml\nSOLVER:\n  MAX_ITER: 7\n")
    cfg = setup_cfg(str(tmp_path / "mine.yaml"))
    sizes = [256, 307, 358, 409, 460, 512, 563, 614, 665, 716, 768, 819, 870, 921, 972, 1024]
    assert list(cfg.INPUT.MIN_SIZE_TRAIN) == sizes
    assert cfg.SOLVER.MAX_ITER == 7


@pytest.mark.parametrize("value", [f'{TAG} ["exit()"]', f"{TAG} 3", f'{TAG} ["1", "2"]'])
def test_the_refusal_says_what_is_allowed(value: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"INPUT:\n  MIN_SIZE_TRAIN: {value}\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml has .*apply:eval with .*Write the value"):
        setup_cfg(str(path))


def test_yaml_itself_stays_as_it_is(tmp_path: Path) -> None:
    import yaml

    path = tmp_path / "mine.yaml"
    path.write_text(f'INPUT:\n  MIN_SIZE_TRAIN: {TAG} ["[640, 672]"]\n')
    setup_cfg(str(path))
    with pytest.raises(yaml.constructor.ConstructorError):
        yaml.safe_load(path.read_text())
