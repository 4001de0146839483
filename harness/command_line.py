"""The commands, their options, and an example of each."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any, get_args

from harness.spec import Device

Handler = Callable[[argparse.Namespace], int]


def _positive(text: str, most: int = 10**6) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {most}")
    return int(text)


def _port(text: str) -> int:
    return _positive(text, 65_535)


ARGUMENTS: dict[str, dict[str, Any]] = {
    "study": {"nargs": "?", "default": "navigation", "help": "a study's name or file (default: navigation)"},
    "--scale": {"default": "paper", "help": "a size that the study names, such as paper or smoke (default: paper)"},
    "--seeds": {"help": "training seeds, such as 0-4 or 0,2,7 (default: the study's own)"},
    "--results": {"default": "results", "help": "folder for all results (default: results)"},
    "--tracking-uri": {"help": "MLflow store (default: MLFLOW_TRACKING_URI, else SQLite in the results folder)"},
    "tuning": {
        "nargs": "?",
        "default": "tuning_navigation",
        "help": "a tuning's name or file (default: tuning_navigation)",
    },
    "--storage": {"metavar": "URL", "help": "database of the trials (default: a journal in --results)"},
    "--workers": {"type": _positive, "help": "runs side by side (default: cores, or all that a cluster has room for)"},
    "--address": {"help": "Ray cluster, auto or HOST:PORT (default: RAY_ADDRESS, else this machine)"},
    "--checkpoints": {
        "metavar": "URL",
        "help": "folder or fsspec URL that all machines reach, such as s3://bucket/prefix, through which runs go on "
        "elsewhere (default: METAREPRO_CHECKPOINTS, else none)",
    },
    "--device": {"choices": get_args(Device), "help": "where runs compute (default: what the study says, else cpu)"},
    "--export": {"nargs": "?", "const": "", "metavar": "FOLDER", "help": "write the evidence as well"},
}
"""Arguments of several commands."""
OF_A_STUDY = ("study", "--scale", "--seeds", "--results", "--tracking-uri")
OF_EXECUTION = ("--workers", "--address", "--checkpoints", "--device")
OF_A_TUNING = ("tuning", "--scale", "--results", "--storage")
Add = Callable[..., argparse.ArgumentParser]
"""``add(name, text, example, *arguments)``: a command with some of the arguments above."""


def command_parser(handlers: Mapping[str, Handler]) -> argparse.ArgumentParser:
    """The parser; every command's handler by its name."""
    parser = argparse.ArgumentParser(
        prog="metarepro",
        description="Rerun published meta-RL experiments and say what replicates.",
        epilog="example: metarepro reproduce navigation --seeds 0-4",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, text: str, example: str, *arguments: str) -> argparse.ArgumentParser:
        epilog = f"example: metarepro {name} {example}".rstrip()
        command = commands.add_parser(name, help=text, description=text, epilog=epilog)
        command.set_defaults(handler=handlers[name])
        for argument in arguments:
            command.add_argument(argument, **ARGUMENTS[argument])
        return command

    _add_studies(add)
    _add_reports(add)
    _add_searches(add)
    ui = add("ui", "open MLflow on 127.0.0.1", "--port 5000", "--results", "--tracking-uri")
    ui.add_argument("--port", type=_port, default=5000, help="port (default: 5000)")
    return parser


def _add_studies(add: Add) -> None:
    """Running studies, and what there is to run."""
    add(
        "reproduce",
        "run what is missing of a study, write its page",
        "navigation --seeds 0-4",
        *OF_A_STUDY,
        *OF_EXECUTION,
    )
    add("run", "run what is missing of a study", "navigation --seeds 0-4 --workers 2", *OF_A_STUDY, *OF_EXECUTION)
    text = "run what is missing of every study, every tuning and the audit, cheapest first, and write the report"
    everything = add("all", text, "--scale smoke --workers 2", *OF_A_STUDY[1:], *OF_EXECUTION)
    everything.add_argument("--dry-run", action="store_true", help="only say what is left and how long it takes")
    add("status", "list the runs of a study and their states", "navigation", *OF_A_STUDY[:4])
    add("list", "list the studies and tunings", "", "--scale")


def _add_reports(add: Add) -> None:
    """What recorded runs and committed evidence say."""
    text = "write the report on all studies, or on one, from the recorded runs"
    report = add("report", text, "navigation", *OF_A_STUDY[1:])
    report.add_argument("study", nargs="?", default="all", help="a study's name or file (default: all that were run)")
    report.set_defaults(scale=None)
    report.add_argument("--compare", metavar="A,B", help="two results folders: what differs between them, side by side")
    text = "draw what trained policies do before and after they adapt, as strips and animations"
    films = add("films", text, "locomotion --scale quick", "--scale", "--results")
    films.add_argument("study", nargs="?", default="locomotion", help="a study's name or file (default: locomotion)")
    films.add_argument("--seeds", default="0", help="training seeds, such as 0-4 or 0,2,7 (default: 0)")
    verdicts = add("verdicts", "print the verdict on everything published", "ulm.fomaml_at_least_maml")
    verdicts.add_argument("study", nargs="?", metavar="ID", help="everything behind one verdict, down to its runs")
    verdicts.add_argument("--results", help="folder of recorded runs (default: the committed evidence)")
    verdicts.add_argument("--markdown", action="store_true", help="the counts as a table for a README")
    export = add("export", "write the evidence of a study as CSV", "navigation --seeds 0-19", *OF_A_STUDY)
    export.add_argument("--to", help="folder (default: reports/evidence of the project, at paper scale)")
    text = "take runs that the store lacks from other evidence in the same folder, by their run_id"
    export.add_argument("--adopt", action="store_true", help=text)
    text = "print the headline table of a study or a tuning, in Markdown"
    table = add("table", text, "navigation", "study", "--scale")
    table.add_argument("--evidence", help="evidence file (default: the committed one)")


def _add_searches(add: Add) -> None:
    """What is measured beside the studies: estimators, and searches for hyperparameters."""
    text = "measure meta-gradient estimators against the exact meta-gradient"
    add("estimators", text, "--scale smoke", "--scale", "--results", "--export")
    text = "rerun a search for hyperparameters, write its page"
    further = ("--tracking-uri", *OF_EXECUTION[:3], "--export")
    add("tune", text, "tuning_navigation --workers 2", *OF_A_TUNING, *further)
    board = add("tune-ui", "open optuna-dashboard on 127.0.0.1", "tuning_navigation --port 8080", *OF_A_TUNING)
    board.add_argument("--port", type=_port, default=8080, help="port (default: 8080)")
