"""Install an extra of halobench into a virtual environment, or say in one line why that failed.

Usage: install.py FOLDER EXTRA [CONSTRAINTS]. It must run on any Python 3, to say which one is needed.
"""

import os
import re
import shutil
import subprocess
import sys

ROOM = 3e9  # bytes that everything takes with torch for processors
MEANINGS = {  # what pip and venv say -> what it means
    "No space left on device|Disk quota exceeded": "the disk is full",
    r"connection broken by|\(from versions: none\)": "pip reaches no package index: check the network",
    "ensurepip is not available|No module named venv": "Python lacks its package venv: e.g. apt install python3-venv",
}


def reason(said):
    """Return the line that explains a failure, or all that was said."""
    for pattern, meaning in MEANINGS.items():
        if re.search(pattern, said):
            return meaning
    return said.rstrip() + "\nthe installation failed"


def run(command, **variables):
    """Run a command in silence; if it fails, end with the reason."""
    done = subprocess.run(
        command, env=dict(os.environ, **variables), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        sys.exit("halobench: {}; then run the same command again".format(reason(done.stdout)))


def main(folder, extra, constraints=""):
    """Make the environment if there is none, and install the extra."""
    if sys.version_info < (3, 11):
        sys.exit("halobench: Python 3.11 or newer is needed: make PYTHON=python3.12 ...")
    print("Installing into {}: this takes a few minutes the first time.".format(folder), flush=True)
    python = os.path.join(folder, "bin", "python")
    pip = [python, "-m", "pip"]
    if not os.path.exists(python) or subprocess.run([*pip, "--version"], capture_output=True).returncode:
        os.makedirs(folder, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if free < ROOM:
            sys.exit("halobench: the disk has {:.1f} GB free, and {:.0f} GB are needed".format(free / 1e9, ROOM / 1e9))
        run([sys.executable, "-m", "venv", folder])
    # What builds packages is bound by the second variable, or by the first if pip is older than 25.3.
    bound = {"PIP_CONSTRAINT": constraints, "PIP_BUILD_CONSTRAINT": constraints} if constraints else {}
    options = ["--quiet", "--disable-pip-version-check", "--no-compile"]
    run([*pip, "install", *options, "--editable", ".[{}]".format(extra)], **bound)
    # pip compiles on one core, and tests of other packages too, some of which no Python can compile.
    compiles = [python, "-m", "compileall", "-q", "-j", "0", "-x", "/tests?/", os.path.join(folder, "lib")]
    subprocess.run(compiles, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


main(*sys.argv[1:])
