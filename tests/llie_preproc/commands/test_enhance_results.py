"""``llie enhance`` never overwrites an input, resumes after an interrupt, and shares its work between processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from llie_preproc.enhancers import CollaBA, Identity
from llie_preproc.pictures import read_picture
from llie_preproc.registry import MODELS
from tests.support.command import Run, one_line
from tests.support.films import plain_film
from tests.support.picture_files import files_below, make_picture
from tests.support.processes import Programs
from tests.support.programs import command_line
from tests.support.random_pictures import levels

# Inputs are never overwritten.


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("form", ["same", "spelled differently", "symlink", "hard link", "folder"])
def test_a_picture_is_never_overwritten_by_its_result(llie: Run, tmp_path: Path, form: str, overwrite: bool) -> None:
    source = make_picture(tmp_path / "in.png")
    before = source.read_bytes()
    target = {"same": source, "folder": tmp_path, "spelled differently": tmp_path / "x" / ".." / "in.png"}.get(
        form, tmp_path / "other.png"
    )
    (tmp_path / "x").mkdir()
    if form == "symlink":
        target.symlink_to(source)
    if form == "hard link":
        target.hardlink_to(source)
    flags = ["--overwrite"] if overwrite else []
    one_line(llie("enhance", source, "--out", target, "--enhancer", "GammaCorrection", *flags), "is an input")
    assert source.read_bytes() == before


@pytest.mark.parametrize("form", ["same", "symlink", "dots"])
def test_a_folder_is_never_its_own_output(llie: Run, tmp_path: Path, form: str) -> None:
    source = make_picture(tmp_path / "in" / "a.png").parent
    target = {"same": source, "symlink": tmp_path / "link", "dots": source / ".." / "in"}[form]
    if form == "symlink":
        target.symlink_to(source)
    before = (source / "a.png").read_bytes()
    one_line(
        llie("enhance", source, "--out", target, "--enhancer", "GammaCorrection", "--overwrite"), str(target), "inputs"
    )
    assert (source / "a.png").read_bytes() == before


def test_a_result_that_is_another_input_is_refused(llie: Run, tmp_path: Path) -> None:
    make_picture(tmp_path / "in" / "a.png")
    make_picture(tmp_path / "in" / "in" / "a.png", levels(1))
    result = llie("enhance", tmp_path / "in" / "in", "--out", tmp_path / "in", "--enhancer", "Identity", "--overwrite")
    assert result.code == 0
    make_picture(tmp_path / "in" / "in" / "in" / "a.png", levels(2))
    result = llie("enhance", tmp_path / "in" / "in", "--out", tmp_path / "in", "--enhancer", "Identity", "--overwrite")
    one_line(result, "is an input")


def test_results_inside_the_source_are_not_read_again(llie: Run, tmp_path: Path) -> None:
    make_picture(tmp_path / "a.png")
    make_picture(tmp_path / "b" / "c.png")
    for _ in range(2):
        assert llie("enhance", tmp_path, "--out", tmp_path / "out", "--enhancer", "Identity", "--overwrite").code == 0
    assert files_below(tmp_path / "out") == ["a.png", "b/c.png"]


def test_links_to_files_are_followed_and_links_into_the_tree_are_not(llie: Run, tmp_path: Path) -> None:
    make_picture(tmp_path / "elsewhere" / "a.png")
    make_picture(tmp_path / "in" / "sub" / "b.png")
    (tmp_path / "in" / "linked.png").symlink_to(tmp_path / "elsewhere" / "a.png")
    (tmp_path / "in" / "again").symlink_to(tmp_path / "in" / "sub")
    (tmp_path / "in" / "back").symlink_to(tmp_path / "in")
    assert llie("enhance", tmp_path / "in", "--out", tmp_path / "out", "--enhancer", "Identity").code == 0
    assert files_below(tmp_path / "out") == ["linked.png", "sub/b.png"]


def test_two_inputs_of_one_result_are_reported_before_anything_starts(llie: Run, tmp_path: Path) -> None:
    make_picture(tmp_path / "in" / "a.png")
    make_picture(tmp_path / "in" / "a.jpg")
    result = llie("enhance", tmp_path / "in", "--out", tmp_path / "out", "--enhancer", "Identity", "--format", "png")
    one_line(result, "a.jpg", "a.png")
    assert not (tmp_path / "out").exists()


def test_existing_results_need_resume_or_overwrite(llie: Run, tmp_path: Path) -> None:
    for seed, name in enumerate(["a.png", "b.png", "c.png"]):
        make_picture(tmp_path / "in" / name, levels(seed))
    old = make_picture(tmp_path / "out" / "b.png", np.zeros((12, 16, 3), np.uint8)).read_bytes()
    call = ("enhance", tmp_path / "in", "--out", tmp_path / "out", "--enhancer", "Identity")
    one_line(llie(*call), "b.png", "--resume", "--overwrite")
    assert files_below(tmp_path / "out") == ["b.png"]
    result = llie(*call, "--resume")
    assert result.code == 0
    assert "2 enhanced; 1 existed already" in result.out
    assert (tmp_path / "out" / "b.png").read_bytes() == old
    assert llie(*call, "--overwrite").code == 0
    assert np.array_equal(read_picture(tmp_path / "out" / "b.png").pixels, levels(1))
    assert llie(*call, "--resume").out.startswith("0 enhanced; 3 existed already")
    assert llie(*call, "--resume", "--overwrite").code == 2


# Interrupts.


@pytest.fixture
def interrupting(monkeypatch: pytest.MonkeyPatch, ctrl_c_is_heard: None) -> SimpleNamespace:
    """An enhancer that sends a signal to this process at its third batch."""
    state = SimpleNamespace(signal=signal.SIGTERM, batches=0)

    class Interrupting(Identity):
        def forward(self, image: Tensor) -> Tensor:
            # The command first calls the network with one pixel.
            state.batches += 1
            if state.batches == 4:
                os.kill(os.getpid(), state.signal)
            return image

    monkeypatch.setitem(MODELS._module_dict, "Interrupting", Interrupting)
    return state


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_run_can_be_resumed(
    llie: Run, tmp_path: Path, interrupting: SimpleNamespace, number: signal.Signals
) -> None:
    interrupting.signal = number
    before = signal.getsignal(signal.SIGTERM)
    for seed in range(6):
        make_picture(tmp_path / "in" / f"{seed}.png", levels(seed))
    call = ("enhance", tmp_path / "in", "--out", tmp_path / "out", "--enhancer", "Interrupting", "--batch-size", 1)
    result = llie(*call)
    assert result.code == 130
    assert "interrupted" in result.err
    assert "--resume" in result.out
    assert signal.getsignal(signal.SIGTERM) is before
    done = files_below(tmp_path / "out")
    assert done == ["0.png", "1.png"]
    assert llie(*call, "--resume").code == 0
    assert files_below(tmp_path / "out") == [f"{seed}.png" for seed in range(6)]
    for seed in range(6):
        assert np.array_equal(read_picture(tmp_path / "out" / f"{seed}.png").pixels, levels(seed))


def test_an_interrupted_video_leaves_nothing(llie: Run, tmp_path: Path, interrupting: SimpleNamespace) -> None:
    source = plain_film(tmp_path / "in.mp4", frames=8)
    result = llie(
        "enhance", source, "--out", tmp_path / "out" / "v.mp4", "--enhancer", "Interrupting", "--batch-size", 1
    )
    assert result.code == 130
    assert interrupting.batches == 4
    assert files_below(tmp_path / "out") == []


@pytest.mark.slow
def test_an_interrupted_process_ends_with_130_and_whole_pictures(tmp_path: Path, programs: Programs) -> None:
    picture = make_picture(tmp_path / "in" / "0.png", levels(size=(256, 256)))
    for number in range(1, 600):
        (tmp_path / "in" / f"{number}.png").symlink_to(picture)
    options = ["--enhancer", "CLAHE", "--batch-size", "1"]
    process = programs.start(*command_line("enhance", tmp_path / "in", "--out", tmp_path / "out", *options))
    deadline = time.monotonic() + 100
    while not (tmp_path / "out" / "0.png").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    done = files_below(tmp_path / "out")
    assert 0 < len(done) < 600
    assert all(read_picture(tmp_path / "out" / name).pixels.shape == (256, 256, 3) for name in done)


# Several processes.


_SHARING = """
import sys
from pathlib import Path
from llie_preproc.commands.llie import main
from llie_preproc.work_sharing import join_ranks

folder, checkpoint = Path(sys.argv[1]), sys.argv[2]
options = ["--enhancer", f"CollaBA@{checkpoint}", "--batch-size", "3", "--launcher", "pytorch"]
call = ["enhance", str(folder / "in"), "--out", str(folder / "out"), *options]
codes = [main(call)]
with join_ranks("pytorch") as ranks:
    if ranks.main:
        (folder / "out" / "4.png").unlink()
codes += [main([*call, "--resume"]), main(call)]
film = ["enhance", str(folder / "in.avi"), "--out", str(folder / "out.avi")]
film += ["--enhancer", "Identity", "--launcher", "pytorch"]
codes += [main(film)]
(folder / f"codes{ranks.rank}").write_text(str(codes))
"""


@pytest.mark.slow
def test_two_processes_write_what_one_writes(llie: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.manual_seed(0)
    save_file(CollaBA().state_dict(), tmp_path / "collaba.safetensors")
    for seed in range(9):
        # With 16 bits, the rounding of this network shows which pictures shared a batch: only equal batches give equal
        # files.
        make_picture(tmp_path / "in" / f"{seed}.png", levels(seed, (16, 16 + 8 * (seed % 2))).astype(np.uint16) * 257)
    broken = tmp_path / "in" / "2.png"
    broken.write_bytes(broken.read_bytes()[:200])
    plain_film(tmp_path / "in.avi")
    script = tmp_path / "sharing.py"
    script.write_text(_SHARING)
    call = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    done = subprocess.run(
        [*call, str(tmp_path), str(tmp_path / "collaba.safetensors")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert [(tmp_path / f"codes{rank}").read_text() for rank in range(2)] == ["[1, 1, 2, 0]"] * 2
    # Each call prints one report about the pictures of both processes, and both processes return the same status.
    reports = ["8 enhanced; 1 failed", "1 enhanced; 1 failed; 7 existed already", "7 frames enhanced"]
    assert all(report in line for report, line in zip(reports, done.stdout.splitlines(), strict=True))
    assert done.stderr.count("1 of 9 failed:") == 1
    assert done.stderr.count("1 of 2 failed:") == 1
    single = torch.get_num_threads()
    torch.set_num_threads(1)
    options = ["--enhancer", f"CollaBA@{tmp_path}/collaba.safetensors", "--batch-size", 3]
    one = llie("enhance", tmp_path / "in", "--out", tmp_path / "one", *options)
    torch.set_num_threads(single)
    assert one.code == 1
    assert files_below(tmp_path / "one") == files_below(tmp_path / "out") == [f"{n}.png" for n in range(9) if n != 2]
    shared = {name: (tmp_path / "out" / name).read_bytes() for name in files_below(tmp_path / "one")}
    # The picture that was enhanced again ran in another batch.
    different = [name for name in shared if (tmp_path / "one" / name).read_bytes() != shared[name]]
    assert set(different) <= {"4.png"}


def test_a_launcher_that_did_not_start_the_command_is_refused(
    llie: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLURM_PROCID", raising=False)
    source = make_picture(tmp_path / "in.png")
    result = llie("enhance", source, "--out", tmp_path / "out.png", "--enhancer", "Identity", "--launcher", "slurm")
    one_line(result, "SLURM_PROCID is not set", "srun")
    assert not (tmp_path / "out.png").exists()
