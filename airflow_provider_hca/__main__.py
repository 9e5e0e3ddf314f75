"""Run `python -m airflow_provider_hca ...`: the commands of `airflow hca`, for Airflow before 3.2."""

from __future__ import annotations

import argparse


def main(arguments: list[str] | None = None) -> None:
    """Run a command.

    :param arguments: Arguments of the command; those of the process by default
    """
    from airflow_provider_hca.cli.definition import ACTIONS

    parser = argparse.ArgumentParser("airflow_provider_hca", description="The commands of `airflow hca`.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for action in ACTIONS:
        command = commands.add_parser(action.name, help=action.help, description=action.description)
        for option in action.args:
            option.add_to_parser(command)
        command.set_defaults(func=action.func)
    options = parser.parse_args(arguments)
    options.func(options)


if __name__ == "__main__":
    main()
