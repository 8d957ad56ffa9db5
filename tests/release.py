"""`make release-check`: what is built for the package index, used as a user would.

The distributions are built into dist/. Then the wheel is installed without extras, and with each of
them, into a new environment. There what the pages show for the extra runs, and prints what they
show; and what asks for an extra that is not there ends in one line that names it.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from blocks import ROOT, examples_of

DIST = ROOT / "dist"
ENVIRONMENT = ROOT / ".venv-release"
BIN = ENVIRONMENT / ("Scripts" if os.name == "nt" else "bin")
USED = ENVIRONMENT / "used"
"""Where everything runs, and writes."""
FILES = {
    "wines.csv": "wine,ash,hue\n" + "red,2.4,1.0\nwhite,1.9,0.6\nred,2.5,1.1\nwhite,2.0,0.5\n" * 5,
    "messages.csv": "message,label\n" + "where is it,search\nsend it back,return\n" * 5,
}
FEW = "--epochs 2 --quiet"


class Extra(NamedTuple):
    """What is tried where one extra alone is installed."""

    examples: Sequence[tuple[str, int]] = ()
    """Pages, and which of their examples."""
    commands: Sequence[str] = ()
    lacking: Sequence[tuple[str, str]] = ()
    """Other extras, and Python that asks for them."""


EXTRAS = {
    "": Extra(
        [("README.md", 0)],
        lacking=[
            ("sklearn", "dropmax.DropMaxClassifier"),
            ("sklearn", "from dropmax.integrations.sklearn import DropMaxClassifier"),
            ("train", "dropmax.data.load_data('digits')"),
            ("train", "dropmax.data.load_data('wines.csv')"),
            ("train", "dropmax.metrics.evaluate(-torch.eye(2), torch.arange(2))"),
            ("train", "from dropmax.cli import run; run()"),
            ("onnx", "dropmax.export_onnx(head, torch.ones(1, 4), 'head.onnx')"),
            ("transformers", "from dropmax.integrations.transformers import DropMaxConfig"),
        ],
    ),
    "sklearn": Extra([("README.md", 1)]),
    "train": Extra(
        [("docs/quickstart.md", 0)],
        [
            f"compare --data digits --train-per-class 5 --seeds 2 --jobs 2 --out DIGITS {FEW}",
            f"compare --data wines.csv --label-column wine --seeds 1 --out WINES {FEW}",
        ],
        [("text", "dropmax.data.load_data('messages.csv', text_column='message')")],
    ),
    "text": Extra(
        commands=[
            f"train --data messages.csv --text-column message --out RUN {FEW}",
            "predict RUN messages.csv",
        ]
    ),
    "onnx": Extra([("docs/how-to/onnx.md", 0)]),
    "transformers": Extra([("docs/how-to/transformers.md", 0)]),
}
ASKING = """
import sys, torch, dropmax
head = dropmax.make_head("dropmax", 4, 3)
try: {}
except dropmax.DropmaxError as error: sys.exit(str(error))
"""


def build(folder: Path) -> tuple[Path, Path]:
    """The source distribution, and the wheel that is made of it."""
    command = [sys.executable, "-m", "build", "--outdir", folder, ROOT]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return next(folder.glob("dropmax-*.tar.gz")), next(folder.glob("dropmax-*.whl"))


def install(wheel: Path, extra: str) -> None:
    """Make the environment anew, and put the wheel with an extra into it."""
    subprocess.run([sys.executable, "-m", "venv", "--clear", ENVIRONMENT], check=True)
    options = ["--quiet", "--disable-pip-version-check", "--constraint", ROOT / "constraints.txt"]
    what = f"{wheel}[{extra}]" if extra else wheel
    subprocess.run([BIN / "python", "-m", "pip", "install", *options, what], check=True)
    USED.mkdir()
    for name, text in FILES.items():
        (USED / name).write_text(text, encoding="utf-8")


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """A command of the environment, which knows nothing of this repository."""
    own = {"HF_HUB_OFFLINE": "1", "DROPMAX_CACHE": str(USED / "cache"), "PYTHONUTF8": "1"}
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | own
    whole = [BIN / command[0], *command[1:]]
    return subprocess.run(whole, cwd=USED, env=variables, capture_output=True, encoding="utf-8")


def check(what: str, found: subprocess.CompletedProcess[str], *, right: bool) -> None:
    """Say what is right; where it is not, end with what came."""
    if not right:
        sys.exit(f"WRONG: {what}\n{found.stdout}\n{found.stderr}")
    print(f"  {what}", flush=True)


def check_extra(extra: Extra) -> None:
    """Its examples, its commands, and what it lacks."""
    for page, number in extra.examples:
        code, printed = examples_of(ROOT / page)[number]
        (USED / "example.py").write_text(code, encoding="utf-8")
        found = run("python", "-I", "example.py")
        right = found.returncode == 0 and printed in (None, found.stdout)
        how = "runs" if printed is None else "prints what it shows"
        check(f"{page}, example {number}: {how}", found, right=right)
    for command in extra.commands:
        found = run("dropmax", *command.split())
        check(f"dropmax {command}: runs", found, right=found.returncode == 0)
    for other, code in extra.lacking:
        found = run("python", "-I", "-c", ASKING.format(code))
        one_line = found.stderr.count("\n") == 1
        named = found.stderr.endswith(f"; pip install 'dropmax[{other}]'.\n")
        right = found.returncode > 0 and one_line and named
        check(f"{code}: {found.stderr.strip()}", found, right=right)


def main() -> None:
    """Build, and check everything."""
    began = time.monotonic()
    shutil.rmtree(DIST, ignore_errors=True)
    built = build(DIST)
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *built], check=True)
    for name, extra in EXTRAS.items():
        install(built[1], name)
        minutes = (time.monotonic() - began) / 60
        print(f"With {name or 'no extra'}, after {minutes:.1f} minutes:", flush=True)
        check_extra(extra)
    shutil.rmtree(ENVIRONMENT)
    print(f"All is right, after {(time.monotonic() - began) / 60:.1f} minutes.")


if __name__ == "__main__":
    main()
