"""The benchmarks, each a subcommand."""

from __future__ import annotations

import argparse

from scripts.benchmarks import batch, checksums, download, local, parse, triggers, upload

_BENCHMARKS = {
    "upload": upload,
    "download": download,
    "batch": batch,
    "checksums": checksums,
    "triggers": triggers,
    "sensor": triggers,
    "parse": parse,
    "local": local,
}


def main() -> None:
    """Run the benchmark that the command line names."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="BENCHMARK")
    for name, module in _BENCHMARKS.items():
        summary = (module.__doc__ or "").partition("\n")[0]
        command = commands.add_parser(name, help=summary, description=module.__doc__)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
