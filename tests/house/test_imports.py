"""Imports load no slow or optional package without need, and an error names the extra that is missing."""

import subprocess
import sys
import textwrap

import pytest

import llie_preproc
from llie_preproc.errors import MissingExtraError
from tests.support.programs import hiding

OPTIONAL = (
    "mmengine",
    "mmcv",
    "mmdet",
    "segment_anything",
    "facenet_pytorch",
    "mamba_ssm",
    "pycocotools",
    "torchmetrics",
)


@pytest.fixture
def run_without(bare_programs):
    """A function that runs ``code`` in a process in which ``modules`` cannot be imported."""

    def run(modules, code):
        return bare_programs.run("-c", hiding(modules) + textwrap.dedent(code))

    return run


def test_the_core_works_without_any_extra(run_without):
    done = run_without(
        OPTIONAL,
        """
        import numpy as np, llie_preproc
        out = llie_preproc.enhance(np.full((9, 8, 3), 40, np.uint8), "PSENet")
        print(out.shape, out.dtype)
        from llie_preproc.enhancers.names import enhancer_classes
        print(sorted(enhancer_classes()))
    """,
    )
    assert done.returncode == 0, done.stderr
    assert "(9, 8, 3) uint8" in done.stdout
    assert "PSENet" in done.stdout


@pytest.mark.examples(3)
@pytest.mark.parametrize(
    ("code", "cure"),
    [
        ("import llie_preproc.detection", 'pip install "llie-preproc[mm]"'),
        ("from llie_preproc.registry import MODELS; MODELS.get('EnhancedDetector')", 'pip install "llie-preproc[mm]"'),
        ("import llie_preproc.faces.dsfd", 'pip install "llie-preproc[mm]"'),
        ("from llie_preproc.faces import MMDetFaceDetector", 'pip install "llie-preproc[mm]"'),
        ("from llie_preproc.faces import MTCNN; MTCNN()", 'pip install "llie-preproc[face]"'),
        (
            "from training.feature_encoders import FrozenDetector; FrozenDetector(config='a.py', checkpoint=None)",
            'pip install "llie-preproc[mm]"',
        ),
    ],
)
def test_a_missing_extra_is_named_with_the_line_that_installs_it(code, cure, run_without):
    done = run_without(["mmdet", "facenet_pytorch"], code)
    assert done.returncode != 0
    assert cure in done.stderr
    assert "MissingExtraError" in done.stderr


def test_a_missing_location_is_named_when_an_unknown_name_is_looked_up(run_without):
    code = """
        from llie_preproc.registry import Registry
        registry = Registry("visualizer", ["json.methods"])  # json can be imported, json.methods cannot
        registry.register_module(name="Known")(dict)
        print(registry.get("Known").__name__)
        registry.get("Unknown")
    """
    done = run_without([], code)
    assert done.stdout.split() == ["dict"]
    assert "ModuleNotFoundError: No module named 'json.methods'" in done.stderr


def test_enhancing_imports_no_detector(run_without):
    done = run_without(
        [], "import sys, llie_preproc; llie_preproc.build_enhancer('Identity'); print('mmdet' in sys.modules)"
    )
    assert done.stdout.split() == ["False"]


# Packages that enhancing a picture does not need, and whose import takes a tenth of a second or more.
SLOW = (
    "torch._dynamo",
    "torchvision",
    "triton",
    "sympy",
    "numba",
    "mmcv",
    "mmdet",
    "matplotlib",
    "scipy",
    "onnx",
    "pycocotools",
    "torchmetrics",
    "training",
    "detection_eval",
)


def modules_after(code):
    """Names of the modules that a new process has imported after it ran ``code``."""
    command = [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_the_public_functions_import_nothing_slow_but_pytorch():
    loaded = modules_after("from llie_preproc import build_enhancer, enhance")
    assert "torch" in loaded
    assert sorted(loaded & set(SLOW)) == []


def test_the_package_and_its_program_start_without_pytorch():
    loaded = modules_after("import llie_preproc, llie_preproc.commands.program, llie_preproc.commands.llie")
    assert sorted(loaded & {"torch", "numpy", "cv2", "PIL", "mmengine", "tqdm", *SLOW}) == []


@pytest.mark.further
def test_the_choice_of_a_scan_backend_can_be_compiled():
    modules_after("""
import sys, torch
from llie_preproc.ops.scan.backends import choose_backend
assert "torch._dynamo" not in sys.modules
length = torch.compile(lambda x: x * len(choose_backend(None, x.device.type)), fullgraph=True, backend="eager")
assert length(torch.ones(())).item() == len(choose_backend(None, "cpu"))
""")


def test_missing_extra_error_names_packages_without_an_extra():
    assert "pip install nonesuch" in str(MissingExtraError("nonesuch.part", "this"))


def test_the_scope_in_a_type_is_enough_to_find_a_class(run_without):
    pytest.importorskip("mmengine", reason="needs the extra 'mm'")
    done = run_without(
        [], "from mmengine.registry import MODELS; print(MODELS.build(dict(type='llie_preproc.PSENet')).scale)"
    )
    assert done.stdout.split()[-1] == "1", done.stderr


def test_the_version_equals_that_of_the_distribution():
    from importlib.metadata import version

    assert version("llie-preproc") == llie_preproc.__version__
