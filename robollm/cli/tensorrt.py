"""`robollm tensorrt`: engines for a GPU, or the script that builds them there."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import click

from robollm.core.errors import ModelFileError


@click.command(
    help="Check a bundle's graphs against TensorRT's operator list, write a script that builds "
    "engines with trtexec, and run it if trtexec is here. Commands go to stdout."
)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--precision",
    type=click.Choice(["fp16", "fp32", "int8"]),
    default="fp16",
    show_default=True,
    help="Variant of the bundle: the file says what is computed in which type.",
)
@click.option(
    "--batch-max", type=click.IntRange(1), default=16, show_default=True, help="Crops in a batch."
)
@click.option(
    "--totes", type=click.IntRange(1), default=1, show_default=True, help="Totes in a batch."
)
@click.option(
    "--static/--no-static",
    default=False,
    show_default=True,
    help="An engine of its own for tote images, without dynamic shapes.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("engines"),
    show_default=True,
    help="Folder of the script and the engines.",
)
@click.option("--dry-run", is_flag=True, help="Write the script, build nothing.")
def command(
    bundle: Path,
    precision: str,
    batch_max: int,
    totes: int,
    static: bool,
    out: Path,
    dry_run: bool,
) -> None:
    """Check, write, build."""
    from robollm.export.tensorrt import engines
    from robollm.runtime.bundle import load_bundle

    b = load_bundle(bundle, allow_untrained=True)
    plan = engines.plan(b, precision, batch_max=batch_max, totes=totes, static=static)
    for role, findings in plan.findings.items():
        built = role in (*engines.TRUNK, *engines.HEADS)
        click.echo(
            f"{role}: {len(findings)} findings" + ("" if built else ", stays with CUDA"), err=True
        )
        for finding in findings if built else ():
            click.echo(f"  {finding}", err=True)
    refused = [role for role in engines.TRUNK if plan.findings[role]]
    if refused:
        raise ModelFileError(
            f"TensorRT does not take {' and '.join(refused)} of {b.title} in {precision}",
            fix="export the bundle again with this version of robollm, or take provider cuda",
        )
    if precision == "int8":
        click.echo(
            "int8: activations were made symmetric, as TensorRT wants them: the losses in the "
            "card are those of another arithmetic. Measure before you use it.",
            err=True,
        )
    script = engines.write_script(plan, b, out)
    for engine in plan.engines:
        click.echo(shlex.join(engine.command(b.folder, out)))
    click.echo(f"wrote {script}", err=True)
    if dry_run:
        return
    if shutil.which("trtexec") is None:
        raise ModelFileError(
            "trtexec is not on the PATH: no engine was built",
            fix=f"run {script} on the machine with the GPU, or add TensorRT's bin folder to PATH",
        )
    for engine in plan.engines:
        call = engine.command(b.folder, out)
        if code := subprocess.run(call, check=False).returncode:
            raise ModelFileError(
                f"trtexec ended with {code} for {engine.name}: {shlex.join(call)}",
                fix="read its last [E] line above; --verbose tells more",
            )
