"""``launch`` ends programs with the right status, whatever signal comes before, during or after their work."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.support.places import ROOT
from tests.support.signals import SIGNALS

pytestmark = pytest.mark.usefixtures("ctrl_c_is_heard")

# Environment of a user who has not asked for unbuffered output.
BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


def start(*command: str, folder: Path | None = None, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *command],
        stdout=options.pop("stdout", subprocess.PIPE),
        stderr=subprocess.PIPE,
        text=True,
        env={**BUFFERED, "PYTHONPATH": os.pathsep.join([*([str(folder)] if folder else []), str(ROOT)])},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **options,
    )


def module(folder: Path, text: str) -> Path:
    (folder / "made_program.py").write_text(textwrap.dedent(text))
    return folder


LAUNCH = """
    from llie_preproc.commands.program import launch
    if __name__ == "__main__":
        launch("made_program", "made")
"""


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_while_importing_ends_the_program(tmp_path, number):
    folder = module(
        tmp_path,
        LAUNCH
        + f"""
    import os, time
    try:
        os.kill(os.getpid(), {int(number)})
        time.sleep(10)
    except BaseException:  # some libraries catch everything when they try an import
        pass
    def main():
        print("went on")
    """,
    )
    process = start("-m", "made_program", folder=folder)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "made: interrupted\n")


INTERRUPTED_AT_EACH_LINE = """
    import os, signal, sys
    from llie_preproc.commands.program import launch

    def interrupt_at(line):
        count = 0
        def step(frame, event, argument):
            nonlocal count
            watched = frame.f_code.co_filename.endswith(("program.py", "contextlib.py", "made_work.py"))
            count += watched and callable(signal.getsignal(signal.SIGTERM))
            if watched and count == line:
                count += 1
                os.kill(os.getpid(), signal.SIGTERM)
            return step
        sys.settrace(step)

    def run(line):
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.dup2(writer, 2)
            interrupt_at(line)
            launch("made_work", "made")
        os.close(writer)
        with open(reader) as errors:
            text = errors.read()
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), text

    ends = []
    while ends[-5:] != [(0, "")] * 5:
        ends.append(run(len(ends) + 1))
    for end in ends:
        print(end)
"""


def test_a_signal_at_any_line_is_reported_or_comes_too_late(tmp_path):
    """One forked program is interrupted at the first line after signals are handled, one at the second, and so on."""
    folder = module(tmp_path, INTERRUPTED_AT_EACH_LINE)
    (folder / "made_work.py").write_text("def main():\n    return 0\n")
    process = start("-m", "made_program", folder=folder)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    ends = [ast.literal_eval(line) for line in out.splitlines()]
    interrupted = [end for end in ends if end != (0, "")]
    assert interrupted == [(130, "made: interrupted\n")] * len(interrupted)
    assert len(interrupted) > 20


def test_a_module_runs_once_and_under_its_own_name(tmp_path):
    folder = module(tmp_path, LAUNCH + "\n    print(__name__)\n    def main():\n        return 3\n")
    process = start("-m", "made_program", folder=folder)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (3, "made_program\n", "")


def test_a_failed_import_is_reported_in_one_line(tmp_path):
    folder = module(
        tmp_path, LAUNCH + "\n    from llie_preproc.errors import require\n    require('nonesuch', 'this')\n"
    )
    process = start("-m", "made_program", folder=folder)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert err == "made: error: this needs the package 'nonesuch', which is not installed: pip install nonesuch\n"


@pytest.mark.parametrize(
    "work",
    [
        "print('x' * 100)",
        "[print(i, flush=True) for i in range(100000)]",
        "__import__('argparse').ArgumentParser().parse_args(['--help'])",
    ],
)
def test_a_closed_output_causes_no_traceback(tmp_path, work):
    folder = module(tmp_path, LAUNCH + f"\n    def main():\n        {work}\n")
    read, write = os.pipe()
    os.close(read)
    process = start("-m", "made_program", folder=folder, stdout=write)
    os.close(write)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (141, "")


def test_a_third_signal_ends_at_once(tmp_path):
    folder = module(
        tmp_path,
        LAUNCH
        + """
    import os, signal, time
    def main():
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)
        finally:
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)
                sum(range(1000))
            time.sleep(100)
    """,
    )
    process = start("-m", "made_program", folder=folder)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert err.splitlines()[-1] == "made: ended at once: temporary files may be left"


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("status", [0, 1])
def test_a_signal_after_the_work_changes_no_status(tmp_path, number, status):
    """The signal comes in ``atexit``, and again when the interpreter is torn down and runs no handlers any more."""
    folder = module(
        tmp_path,
        LAUNCH
        + f"""
    import atexit, os, sys, time
    class Late:
        def __del__(self, kill=os.kill, pid=os.getpid(), sleep=time.sleep, write=os.write):
            kill(pid, {int(number)})
            sleep(0.1)
            write(1, b"late ")
    def at_exit():
        os.kill(os.getpid(), {int(number)})
        time.sleep(0.1)
        os.write(1, b"exit ")
    atexit.register(at_exit)
    sys.kept_to_the_end = Late()
    def main():
        return {status}
    """,
    )
    process = start("-m", "made_program", folder=folder)
    assert process.communicate(timeout=60) == ("exit late ", "")
    assert process.returncode == status


def test_a_second_signal_after_the_work_hastens_the_end(tmp_path):
    folder = module(
        tmp_path,
        LAUNCH
        + """
    import atexit, os, signal, time
    def at_exit():
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            sum(range(1000))
        time.sleep(100)
    atexit.register(at_exit)
    def main():
        return 1
    """,
    )
    process = start("-m", "made_program", folder=folder)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (1, "")


# Other names of llie and its commands.
ALIASES = {
    "llie_preproc.__main__": "start()",
    "detection_eval.__main__": "start(renamed={'convert': 'annotations'})",
    "training.train": "start('train')",
}


def test_every_module_that_runs_calls_launch():
    """No module of the packages has another way to run as a program."""
    guarded = {}
    for path in sorted(
        p for name in ("llie_preproc", "training", "detection_eval", "benchmarks") for p in (ROOT / name).rglob("*.py")
    ):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.If) and "__main__" in ast.unparse(node.test):
                guarded[path] = [ast.unparse(each) for each in node.body]
    assert len(guarded) > 10
    for path, body in guarded.items():
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        assert body in ([f"launch('{name}')"], [ALIASES.get(name)]), path
    # ``launch`` must come before imports that take seconds, so that it handles a signal during them.
    for path in guarded:
        imports = [
            n
            for n in ast.parse(path.read_text(encoding="utf-8")).body
            if isinstance(n, ast.Import | ast.ImportFrom | ast.If)
        ]
        first = next(i for i, n in enumerate(imports) if isinstance(n, ast.If))
        assert all(getattr(n, "module", None) in _LIGHT or isinstance(n, ast.Import) for n in imports[:first]), path


_LIGHT = {
    "__future__",
    "llie_preproc.commands.llie",
    "llie_preproc.commands.program",
    "commands.program",
    "llie_preproc.errors",
    "collections.abc",
    "functools",
    "importlib",
}


def test_signals_are_handled_before_heavy_imports():
    code = "import sys, training, detection_eval, llie_preproc.commands.llie\n"
    code += "print({'torch', 'numpy', 'mmengine', 'cv2'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_the_installed_command_runs():
    """The entry point of pyproject.toml, which pip installs as ``llie``, can be called."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    name, function = project.partition('\nllie = "')[2].partition('"')[0].split(":")
    process = start("-c", f"import sys; sys.argv[1:] = ['--version']; from {name} import {function}; {function}()")
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    assert out.startswith("llie ")
