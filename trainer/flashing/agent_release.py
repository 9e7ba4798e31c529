"""The agent as a release that carts update to: the same environment as in its Debian package, for a slot."""

from __future__ import annotations

import tempfile
from pathlib import Path

from edge import __version__
from edge.bundle.target import Release, Target
from edge.update.package import PROGRAM, pack_agent
from trainer.flashing.wheels import install

__all__ = ["agent_release"]

# It finds its modules beside itself, wherever the slot is; PYTHONPATH is for the processes that it starts.
_LAUNCH = """\
#!/usr/bin/python{python}
import os
import sys
from pathlib import Path

site = str(Path(__file__).resolve().parents[1] / "site")
os.environ["PYTHONPATH"] = site
sys.path.insert(1, site)

from edge.cli import main

sys.exit(main())
"""


def agent_release(wheels: Path, board: Target, release: Release, out: Path) -> Path:
    """Make ``agent-VERSION-TARGET.swa`` in the folder ``out``; the same wheels give the same bytes.

    Raises:
        BadInputError: a wheel does not fit (see :func:`trainer.flashing.wheels.install`).
        ScanwrightError: a requirement is not among the wheels.
    """
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        install(wheels, board, release, tree / "site")
        program = tree / PROGRAM
        program.parent.mkdir()
        program.write_text(_LAUNCH.format(python=release.python))
        program.chmod(0o755)
        return pack_agent(tree, __version__, board.name, out)
