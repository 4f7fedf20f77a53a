"""Make the gallery that a bundle ships: the products of the demo, compared as the demo does.

python tools/demo_gallery.py --bundle models/tote-small
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from robollm.gallery.store import open_writer
from robollm.runtime.bundle import load_bundle
from robollm.runtime.enroll import RECORD

ROOT = Path(__file__).resolve().parent.parent


def robollm(*args: str) -> None:
    """Run a verb of the CLI; its error is this program's error."""
    subprocess.run([sys.executable, "-m", "robollm.cli.main", *args], check=True)


def main() -> int:
    """Make it anew; 0 if it is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, default=ROOT / "models" / "tote-small")
    bundle = load_bundle(parser.parse_args().bundle)
    out = bundle.folder / "gallery"
    shutil.rmtree(out, ignore_errors=True)
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "data"
        robollm("demo-data", "--out", str(data))
        robollm(
            *("gallery", "build", "--bundle", str(bundle.folder), "--out", str(out)),
            *("--images", str(data / "references"), "--products", str(data / "manifest.json")),
        )
    # The record of the build names a folder that exists on no other machine.
    with open_writer(out) as writer:
        writer.remove_record(*RECORD)
        writer.commit()
    robollm("gallery", "compact", str(out))
    for lock in out.glob("*.lock"):
        lock.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
