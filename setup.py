"""How colcon and pip install robollm. The version lives in robollm/__init__.py."""

import re
from pathlib import Path

from setuptools import find_packages, setup

NAME = "robollm"
ROOT = Path(__file__).resolve().parent

VERSION = re.search(r'^__version__ = "(.+)"$', (ROOT / NAME / "__init__.py").read_text(), re.M)[1]


def shared(folder: str, pattern: str = "*") -> list[tuple[str, list[str]]]:
    """Return data_files entries that put `folder`, with its subfolders, into share/robollm."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / folder).rglob(pattern)):
        name = path.relative_to(ROOT)
        if path.is_file() and not any(p == "__pycache__" or p[0] == "." for p in name.parts):
            found.setdefault(f"share/{NAME}/{name.parent.as_posix()}", []).append(name.as_posix())
    return list(found.items())


RUNTIME = [
    "numpy>=1.21,<2.3",
    "opencv-python-headless>=4.5",
    "faiss-cpu>=1.7.4",
    "pyyaml>=5.4",
    "rich>=12",
    "click>=8.1",
]

EXTRAS = {
    # One of cpu and gpu, never both: they install the same module.
    "cpu": ["onnxruntime>=1.17"],
    "gpu": ["onnxruntime-gpu>=1.17"],
    # The plugin of ONNX Runtime serves Intel's processors, OpenVINO's own runtime all x86 ones.
    "openvino": ["onnxruntime>=1.23", "onnxruntime-ep-openvino>=1.8", "openvino>=2025.0"],
    "eval": ["rosbags>=0.10.10", "pycocotools>=2.0.7", "matplotlib>=3.6", "jinja2>=3.1"],
    "ray": ["ray[data]>=2.51"],  # galleries built on several machines
    "sim": ["mujoco>=3.2", "pillow>=9.1", "rosbags>=0.10.10"],
    # MMDetection's own requirements don't fit together, so after this extra:
    #   pip install --no-deps onedl-mmengine==0.10.12 mmcv-lite==2.1.0 mmdet==3.3.0
    "train": [
        "torch==2.13.0",
        "onnx>=1.16",
        "onnxscript>=0.5",
        "addict",
        "matplotlib>=3.6",
        "packaging",
        "pillow",
        "platformdirs",
        "pycocotools>=2.0.7",
        "scikit-learn>=1.3",
        "scipy",
        "shapely",
        "six",
        "tensorboard",
        "termcolor",
        "terminaltables",
        "tqdm",
        "yapf",
    ],
    "dev": [
        "codespell>=2.2",
        "colcon-common-extensions>=0.3",
        "hypothesis>=6.80",
        "import-linter>=2.1",
        "mypy>=1.11",
        "onnx>=1.16",
        "packaging",
        "psutil>=5.9",
        "pycocotools>=2.0.7",
        "pytest>=7.4",
        "pytest-randomly>=3.15",
        "pytest-timeout>=2.2",
        "pytest-xdist>=3.3",
        "rosbags>=0.10.10",
        "ruff>=0.9",
        "scikit-learn>=1.3",
        "selenium>=4.20",
        "setuptools>=64",
        "types-psutil",
        "types-PyYAML",
    ],
}

setup(
    name=NAME,
    version=VERSION,
    description="Masks, product identities and defect flags for a pick-and-place cell, on ROS 2.",
    license="Apache-2.0",
    maintainer="robollm maintainers",
    maintainer_email="maintainers@robollm.invalid",
    python_requires=">=3.10",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={
        NAME: [
            "py.typed",
            "train/configs/*.py",
            "train/configs/*/*.py",
            "eval/report/*.j2",
            "eval/report/*.css",
            "eval/report/*.js",
        ]
    },
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        *shared("launch", "*.py"),
        *shared("config"),
        *shared("models"),
    ],
    zip_safe=False,  # training configs are read as files
    install_requires=RUNTIME,
    extras_require=EXTRAS,
    entry_points={
        "console_scripts": [
            "robollm = robollm.cli.main:main",
            "perception = robollm.nodes.perception:main",
            "segmentation_node = robollm.nodes.segmentation_node:main",
            "identification_node = robollm.nodes.identification_node:main",
            "defect_node = robollm.nodes.defect_node:main",
            "bag_player = robollm.nodes.bag_player:main",
            "eval_replay = robollm.nodes.eval_recorder:main",
            "verdict_monitor = robollm.nodes.verdict_monitor:main",
        ],
    },
)
