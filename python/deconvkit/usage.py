"""What is wrong with a command line, in the words of all errors: what, expected, got, and how to mend it."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Sequence

# The restrictions of numbers that jsonargparse names.
_NUMBERS = {
    "PositiveInt": "an int above 0",
    "NonNegativeInt": "an int of at least 0",
    "PositiveFloat": "a number above 0",
    "Seed": "an int from 0 to 2^63 - 1",
}


def told(error: Exception, parser: argparse.ArgumentParser) -> str:
    """The message of argparse, or of jsonargparse, as one line of ours.

    Args:
        error: theirs.
        parser: whose arguments are meant.
    """
    message = " ".join(str(error).split())
    actions = {
        name: action
        for action in parser._actions
        for name in (*action.option_strings, str(action.metavar or action.dest))
    }
    if match := re.fullmatch(r"argument (?:\S+/)?(\S+): (.*)", message):
        name, problem = match.groups()
        action = actions.get(name)
        if problem in ("expected one argument", "expected at least one argument"):
            return f"{name}: expected {_wanted(action)}, got none"
        if (value := re.match(r"invalid choice: '?(.*?)'? \(", problem)) and action and action.choices:
            return f"{name}: expected one of {', '.join(map(str, action.choices))}, got {value[1]!r}"
        if value := re.fullmatch(r"ignored explicit argument (.*)", problem):
            return f"{name}: expected no value, got {value[1]}"
    if match := re.fullmatch(r"unrecognized arguments: (.*)", message):
        options = [action.option_strings[-1] for action in parser._actions if action.option_strings]
        return unknown(match[1].split()[0], options)
    if match := re.fullmatch(r'Parser key "([\w.]+)": Not of type (\w+): (.*)', message):
        key, kind, problem = match.groups()
        value = re.match(r"(.*) does not conform", problem) or re.search(r": '?(.*?)'?$", problem)
        return f"--{key}: expected {_NUMBERS.get(kind, kind)}, got {value[1] if value else problem}"
    if match := re.fullmatch(r"the following arguments are required: (\w+)\.(.+)", message):
        return f"expected --{match[2].replace(f'{match[1]}.', '--')}, got none"
    if message.startswith('expected "command" to be one of'):
        return f"COMMAND: expected one of {', '.join(actions['COMMAND'].choices or ())}, got none"
    return message


def unknown(word: str, options: Sequence[str]) -> str:
    """What to say of a word that is no option, or of an option that is none of those."""
    listed = ", ".join(options)
    if not word.startswith("-"):
        return f"expected options ({listed}), got {word!r}"
    near = difflib.get_close_matches(word.partition("=")[0], options, 1, 0.75)
    return f"{word}: expected one of {listed}" + (f"; did you mean {near[0]}?" if near else "")


def _wanted(action: argparse.Action | None) -> str:
    if action is None:
        return "a value"
    if action.choices:
        return f"one of {', '.join(map(str, action.choices))}"
    kind = _NUMBERS.get(getattr(action.type, "__name__", ""))
    return kind or str(action.metavar or action.dest.upper())
