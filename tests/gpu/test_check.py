"""The check's runner, with stages that are a line of Python each; no GPU is needed."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest

from . import check
from .runner import Runner, Stage
from .stages import rows
from .stages.rows import Row

ROOT = Path(__file__).resolve().parents[2]
# A stage without torch: a row of its own, then what the test is about.
_ROW = (
    "import json, os, sys, time; r = dict(stage=os.environ['GPU_CHECK_STAGE'], name='row', ok=True,"
    "value=1.5, unit='ms', note=os.environ['OMP_NUM_THREADS']);"
    "print(json.dumps(r), file=open(os.environ['GPU_CHECK_ROWS'], 'a'), flush=True);"
)


def stage(name: str, code: str = "", limit: float = 30, timed: bool = False) -> Stage:
    return Stage(name, limit, timed, 2, (sys.executable, "-S", "-c", _ROW + code))


def run(folder: Path, *stages: Stage, words: tuple[str, ...] = ()) -> int:
    return check.main(["--out", str(folder), "--seed", "5", *words], stages)


def failures(folder: Path) -> dict[str, str]:
    return {row.stage: row.note for row in rows.read(folder / "rows.jsonl") if not row.ok}


def test_stages_that_succeed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, stage("one"), stage("two", timed=True)) == 0
    found = rows.read(tmp_path / "rows.jsonl")
    assert found[0] == Row("check", "seed 5", True, note=f"--out {tmp_path} --seed 5")
    assert found[1:3] == [Row(name, "row", True, 1.5, "ms", "2") for name in ("one", "two")]
    printed = capsys.readouterr().out
    assert (tmp_path / "table.txt").read_text() in printed
    assert "4 rows, 0 not ok" in printed


def test_a_stage_that_crashes_is_a_row_and_the_others_go_on(tmp_path: Path) -> None:
    crash = stage("crash", "print('an illegal access'); os.abort()")
    assert run(tmp_path, crash, stage("next"), stage("timed", timed=True)) == 1
    assert "exit status -6" in failures(tmp_path)["crash"]
    assert "an illegal access" in failures(tmp_path)["crash"]
    names = [row.stage for row in rows.read(tmp_path / "rows.jsonl") if row.name == "row"]
    assert sorted(names) == ["crash", "next", "timed"]


def test_a_stage_whose_time_is_over_ends_with_what_it_started(tmp_path: Path) -> None:
    """Its grandchild would hold the GPU."""
    grandchild = "import subprocess; p = subprocess.Popen(['sleep', '60']);"
    keep = f"open({str(tmp_path / 'pid')!r}, 'w').write(str(p.pid)); time.sleep(60)"
    start = time.monotonic()
    assert run(tmp_path, stage("late", grandchild + keep, limit=1), stage("next")) == 1
    assert time.monotonic() - start < 20
    assert "its time was over after 1 s" in failures(tmp_path)["late"]
    assert not is_running(int((tmp_path / "pid").read_text()))


def is_running(pid: int) -> bool:
    """A process that has ended and waits to be collected isn't."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_what_a_stage_that_has_ended_left_behind_is_ended(tmp_path: Path) -> None:
    leave = "import subprocess; p = subprocess.Popen(['sleep', '60']);"
    keep = f"open({str(tmp_path / 'pid')!r}, 'w').write(str(p.pid))"
    assert run(tmp_path, stage("one", leave + keep)) == 0
    assert not is_running(int((tmp_path / "pid").read_text()))


def test_the_budget_ends_the_run_and_says_what_was_not_started(tmp_path: Path) -> None:
    stages = [stage(str(number), "time.sleep(60)", timed=number == 5) for number in range(6)]
    start = time.monotonic()
    assert run(tmp_path, *stages, words=("--budget", "1")) == 6
    assert time.monotonic() - start < 20
    ended = {name for name, note in failures(tmp_path).items() if "its time was over" in note}
    # Four side by side had a part of the budget, the timed stage had the rest.
    assert ended >= {"0", "1", "2", "3"}
    assert failures(tmp_path)["4"] == "not started: the time of the run was over"


def test_at_most_four_run_side_by_side_and_what_is_timed_alone(tmp_path: Path) -> None:
    note = (
        "t = time.time; a = t(); time.sleep(0.3);"
        "open(os.environ['GPU_CHECK_STAGE'] + '.times', 'w').write(f'{a} {t()}')"
    )
    stages = [stage(f"s{number}", note) for number in range(6)]
    stages += [stage(f"t{number}", note, timed=True) for number in range(2)]
    environment = dict(os.environ)
    runner = Runner(tmp_path, environment, tmp_path, 60)
    runner.run(stages[:6], at_once=4, seconds=60)
    runner.run(stages[6:], at_once=1, seconds=60)
    times = {
        file.stem: tuple(map(float, file.read_text().split())) for file in tmp_path.glob("*.times")
    }
    assert len(times) == 8
    assert 1 < max(overlaps(times, name) for name in times) <= 4
    assert [overlaps(times, name) for name in ("t0", "t1")] == [1, 1]


def overlaps(times: dict[str, tuple[float, ...]], name: str) -> int:
    """How many run when this one starts, itself among them."""
    moment = times[name][0]
    return sum(start <= moment < end for start, end in times.values())


def test_only_some_stages(tmp_path: Path) -> None:
    run(tmp_path, stage("one"), stage("two"), words=("--only", "two"))
    assert {row.stage for row in rows.read(tmp_path / "rows.jsonl")} == {"check", "two"}


def test_an_unknown_stage_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(tmp_path, stage("one"), words=("--only", "three"))
    assert "invalid choice: 'three' (choose from" in capsys.readouterr().err


def test_a_cpu_s_environment(tmp_path: Path) -> None:
    note = "import json; json.dump(dict(os.environ), open('environment.json', 'w'))"
    code = note.replace("environment.json", str(tmp_path / "environment.json"))
    run(tmp_path, stage("one", code), words=("--device", "cpu", "--tiny"))
    found = json.loads((tmp_path / "environment.json").read_text())
    assert found["TRITON_INTERPRET"] == "1"
    assert found["CUDA_VISIBLE_DEVICES"] == ""
    names = ("GPU_CHECK_DEVICE", "GPU_CHECK_TINY", "GPU_CHECK_SEED")
    assert [found[name] for name in names] == ["cpu", "1", "5"]


def test_the_archive_has_everything(tmp_path: Path) -> None:
    run(tmp_path, stage("one"))
    with tarfile.open(tmp_path / "check.tgz") as archive:
        assert sorted(archive.getnames()) == ["one.log", "rows.jsonl", "table.txt"]


def test_rows_of_an_earlier_run_are_gone(tmp_path: Path) -> None:
    assert run(tmp_path, stage("crash", "sys.exit(3)")) == 1
    assert run(tmp_path, stage("one")) == 0


def test_the_table_keeps_a_stage_s_rows_together() -> None:
    found = [
        Row("a", "x", True),
        Row("b", "y", False, 0.25, "ms", "why"),
        Row("a", "z", True),
    ]
    first, second, third, last = check.table(found).splitlines()
    assert [line.split() for line in (first, second)] == [["ok", "a", "x"], ["ok", "a", "z"]]
    assert third.split() == ["FAIL", "b", "y", "0.25", "ms", "why"]
    assert last == "3 rows, 1 not ok"


def test_the_exit_status_is_never_that_of_a_signal(tmp_path: Path) -> None:
    write = "w = lambda r: print(json.dumps(r), file=open(os.environ['GPU_CHECK_ROWS'], 'a'));"
    loop = "[(r.update(name=str(n), ok=False), w(r)) for n in range(150)]"
    assert run(tmp_path, stage("bad", write + loop)) == 100


def _script_in(folder: Path) -> Path:
    """A copy of the script in a repository of its own, without wheels."""
    script = folder / "tests/gpu/run_all.sh"
    script.parent.mkdir(parents=True)
    shutil.copy(ROOT / "tests/gpu/run_all.sh", script)
    return script


def test_the_script_passes_its_arguments_on(tmp_path: Path) -> None:
    """And counts its own seconds."""
    process = subprocess.run(
        [_script_in(tmp_path), "results", "--only", "waits"],
        cwd=tmp_path,
        env={**os.environ, "PYTHON": "echo", "BUDGET": "200"},
        capture_output=True,
        text=True,
        check=True,
    )
    *words, budget, only, name = process.stdout.split()
    assert words == ["-m", "tests.gpu.check", "--out", f"{tmp_path.resolve()}/results", "--budget"]
    assert 190 <= int(budget) <= 200
    assert (only, name) == ("--only", "waits")


@pytest.mark.slow
def test_the_script_takes_wheels_along(tmp_path: Path) -> None:
    """The ones that pip installs, and detectron2's, which it would refuse, without its binaries."""
    script = tmp_path / "tests" / "gpu" / "run_all.sh"
    script.parent.mkdir(parents=True)
    shutil.copy(ROOT / "tests/gpu/run_all.sh", script)
    (tmp_path / ".whl").mkdir()
    make_wheel(tmp_path / ".whl" / "small-1.0-py3-none-any.whl", "small.py")
    other = tmp_path / ".whl" / "sal_detectron2-1.0-cp310-none-any.whl"
    make_wheel(other, "detectron2/__init__.py", "detectron2/_C.cpython-310.so")
    python = tmp_path / "python"
    show = "import detectron2, os, small; print(os.listdir(os.path.dirname(detectron2.__file__)))"
    python.write_text(
        f'#!/bin/sh\nif [ "$2" = tests.gpu.check ]; then exec {sys.executable} -c "{show}"; fi\n'
        f'exec {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    environment = {**os.environ, "PYTHON": str(python), "PYTHONDONTWRITEBYTECODE": "1"}
    # What this process imports from must not come before what the script installs.
    environment.pop("PYTHONPATH", None)
    process = subprocess.run([script], env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert process.stdout == "['__init__.py']\n"


def make_wheel(path: Path, *files: str) -> None:
    name, version, _ = path.name.split("-", 2)
    folder = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        for file in files:
            archive.writestr(file, "")
        about = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        archive.writestr(f"{folder}/METADATA", about)
        tag = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        archive.writestr(f"{folder}/WHEEL", tag)
        archive.writestr(f"{folder}/RECORD", "")


def test_every_stage_has_a_module_and_every_module_a_place() -> None:
    folder = Path(check.__file__).parent / "stages"
    names = {
        file.stem for file in folder.glob("*.py") if "\ndef run() -> None:" in file.read_text()
    }
    assert names == {one.name for one in check.STAGES}


def test_what_is_timed_is_not_run_beside_others() -> None:
    timed = {one.name for one in check.STAGES if one.timed}
    assert timed == {"machine", "operators", "speed", "compiled", "alternatives"}


@pytest.mark.slow
def test_the_cheap_stages_on_a_cpu(tmp_path: Path) -> None:
    """The script itself: what needs a GPU says so, the others find nothing."""
    names = ("machine", "alternatives", "compiled", "sanitizer", "kernels", "operators")
    words = ["--device", "cpu", "--tiny", "--only", *names]
    status = check.main(["--out", str(tmp_path), *words])
    found = rows.read(tmp_path / "rows.jsonl")
    assert status == 0, [str(row) for row in found if not row.ok]
    assert {row.stage for row in found} == {"check", *names}
    for name in names[:4]:
        assert [row.name for row in found if row.stage == name] == ["needs a GPU"]
