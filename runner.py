"""Train, evaluate and profile: `python runner.py app:<experiment> [--key value ...]`."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from genutil.cli import command_line, notices, subcommands, usage
from genutil.errors import UserError
from genutil.saved.sources import Sources
from genutil.system import waiting
from genutil.system.interruption import Interrupted


def main(words: Sequence[str] | None = None) -> int:
    """Do what the words of a command line ask for, those of this process where none are given; the exit status.

    0: done. 1: done, but for files that `predict` had to leave out. 2: a mistake of the user, told on standard error,
    or a failure in one of several experiments. 130: interrupted by Ctrl-C; 143, 129, 138: by SIGTERM, SIGHUP, SIGUSR1.
    141: nobody reads the output any more.
    """
    words = sys.argv[1:] if words is None else words
    waiting.sleep_soon()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a locale may not have every letter
    try:
        if words and words[0] in subcommands.SUBCOMMANDS:
            return subcommands.execute(words[0], words[1:])
        line = command_line.parse(words)
        if line.help:
            details = [usage.data_sets(), usage.all_keys()] if words else []
            print(usage.overview(), *details, sep="\n\n", flush=True)
            return 0
        if command_line.documents(line) > 1:
            from genutil.cli.series import run_series

            return run_series(line)
        if command_line.is_sweep(line):
            from genutil.cli.sweep import run_sweep

            return run_sweep(line)
        sources = Sources()
        experiment = command_line.resolve(line, sources=sources)
        from genutil.run import run  # imports torch, which help and mistakes in settings do without

        notices.tell(experiment, line)
        run(experiment, sources)
        return 0
    except UserError as mistake:
        with suppress(OSError):  # nobody reads it
            print(mistake, file=sys.stderr, flush=True)
        return 2
    except Interrupted as stop:
        return stop.status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


if __name__ == "__main__":
    sys.exit(main())
