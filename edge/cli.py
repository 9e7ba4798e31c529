"""The ``scanwright`` command: its commands are found by entry point and imported only when one is used."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from types import SimpleNamespace

import click

from edge import __version__
from edge.errors import ScanwrightError, shown

__all__ = ["cli", "main"]

ENTRY_POINTS = "scanwright.commands"

# The order and the lines of `scanwright --help`, kept here so that help imports no command.
SUMMARIES = {
    "demo": "Run the whole path on generated images, with a broker and the cart's screen.",
    "train": "Train, prune and quantize a network; leaves a RUN folder with a report.",
    "package": "Make a bundle for a target from a RUN.",
    "publish": "Sign bundles and agents into the release repository that carts update from.",
    "inspect": "Check a bundle and print what it says of itself.",
    "evaluate": "Measure a bundle on labelled images, through the device's own path.",
    "bench": "Time a bundle on this machine.",
    "keys": "Make and take back the certificates of a site, and the keys that releases are signed with.",
    "flash": "Make a cart's card, or its packages, from SITE.yaml.",
    "agent-package": "Make the agent a file that carts update to.",
    "gateway": "Write what runs a site's broker.",
    "agent": "Run and look after the service on a cart.",
    "monitor": "Store the findings of all carts and give the receipts.",
    "rollout": "Bring a new version to all carts, in stages.",
    "courier": "Carry updates to carts that no network reaches, and what they found back, by stick.",
    "targets": "List the boards that bundles are made for.",
}

# Import name of an optional dependency -> the extra that brings it.
EXTRAS = {
    "matplotlib": "trainer",
    "segno": "flash",
    "sklearn": "trainer",
    "tensorflow": "trainer",
    "tensorflow_model_optimization": "trainer",
    "tf_keras": "trainer",
    "tflite_runtime": "tflite-runtime",
}


class _LazyGroup(click.Group):
    """A group whose commands are the entry points of one group, each loaded when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        found = _entry_points()
        return [name for name in SUMMARIES if name in found] + sorted(set(found) - set(SUMMARIES))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = _entry_points().get(cmd_name)
        if found is None:
            return None
        command: click.Command = found.load()
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, SUMMARIES.get(name, "")) for name in self.list_commands(ctx)])


def _entry_points() -> dict[str, EntryPoint]:
    return {found.name: found for found in entry_points(group=ENTRY_POINTS)}


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="scanwright")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_obj
def cli(settings: SimpleNamespace, debug: bool) -> None:
    """Put medical-imaging AI on portable X-ray and ultrasound carts, offline.

    Not a medical device: findings are decision support.
    """
    settings.debug = debug


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 the job failed, 2 bad arguments or input, 130 interrupted.

    Whatever goes wrong becomes one line on standard error; ``scanwright --debug …`` adds the traceback.
    A reader that closes the pipe early is no error worth a line (click sees to that).
    """
    settings = SimpleNamespace(debug=False)
    try:
        status = cli.main(args, prog_name="scanwright", standalone_mode=False, obj=settings)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(130)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except Exception as error:  # noqa: BLE001  the last border before the user: no traceback passes it
        if settings.debug:
            traceback.print_exc()
        click.echo("error: " + shown(" ".join(_explain(error).splitlines())), err=True)
        sys.exit(error.exit_code if isinstance(error, (ScanwrightError, click.ClickException)) else 1)
    sys.exit(status if isinstance(status, int) else 0)


def _explain(error: Exception) -> str:
    if isinstance(error, ScanwrightError):
        return str(error)
    if isinstance(error, click.ClickException):
        usage = isinstance(error, click.UsageError) and error.ctx
        message = error.format_message()
        return f"{message.rstrip('.')}. See '{usage.command_path} --help'." if usage else message
    if isinstance(error, ImportError):
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        if extra:
            return f"{error}; this needs an extra: pip install 'scanwright[{extra}]'"
        return f"{error}; scanwright is not completely installed"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return f"unexpected {type(error).__name__}; run again with 'scanwright --debug …' to see where"


if __name__ == "__main__":
    main()
