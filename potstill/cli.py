"""The command line: `potstill VERB …`; each verb's flags are the fields of a dataclass, or a recipe's parameters.

Nothing here imports torch before something runs.
"""

import difflib
import os
import sys
from collections.abc import Callable, Sequence

from potstill import __version__
from potstill.errors import RunFailed, UserError

HELP = """\
usage: potstill VERB ...

Knowledge distillation for image classifiers: train, compare, report.

  run RECIPE [flags]      train every arm and seed of a recipe; started again, it continues
  tune RECIPE [flags]     the values of a recipe's flags that are best on its validation images
  show RECIPE [flags]     the plan of a recipe: runs, sizes, steps, what it will use, about how long
  cache RECIPE [flags]    what a recipe's teachers will be asked, computed and stored ahead
  cache --list            the stores: what they hold, their size, and whether they are still their teachers' answers
  cache --drop KEY        remove one
  list [--json]           recipes, methods, models and data sets
  watch [RUNS...]         how far runs are, as a table that goes on while they do
  report RUNS... [flags]  tables and figures from run folders, as HTML, Markdown, CSV and LaTeX
  analyze RUNS... [flags] looks again at finished runs, so that their report shows images and layers too
  compare RUN RUN         two trained networks on the same test images, by McNemar's test
  plan [RUNS...] [flags]  how many seeds it takes to show a difference, from the spread that runs have

RECIPE is family:name (see `potstill list`) or path/to/file.py:function. `potstill VERB --help` tells the flags,
`potstill run RECIPE --help` the recipe's own too.
Exit status: 0 done, 1 a run failed (the others finished), 2 something was asked for that cannot be.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        status = _dispatch(words)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # Whoever read the output has gone, as `head` does; nothing of it is to be written when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # What a shell says of a process that a closed pipe ended.
    except OSError as error:
        if error.filename is None:
            raise
        place = error.filename2 or error.filename  # Where a file was to be moved to.
        print(f"potstill: {place} cannot be read or written: {error.strerror}.", file=sys.stderr)
        return 2
    except UserError as mistake:
        print(f"potstill: {mistake}", file=sys.stderr)
        return 2
    except RunFailed as failure:
        print(f"potstill: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("potstill: interrupted; start the same command again to continue.", file=sys.stderr)
        return 130


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(HELP, end="")
        return 0
    if words[0] == "--version":
        print(f"potstill {__version__}")
        return 0
    verb, rest = words[0], words[1:]
    verbs = _verbs()
    if verb not in verbs:
        near = difflib.get_close_matches(verb, verbs, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(verbs)}."
        raise UserError(f"There is no verb {verb!r}; {hint}")
    return verbs[verb](rest)


def _verbs() -> dict[str, Callable[[list[str]], int]]:
    from potstill.verbs import analyze, cache, evidence, listing, report, run, show, tune, watch

    return {
        "run": run.run,
        "tune": tune.tune,
        "show": show.show,
        "cache": cache.cache,
        "list": listing.listing,
        "watch": watch.watch,
        "report": report.report,
        "analyze": analyze.analyze,
        "compare": evidence.compare,
        "plan": evidence.plan,
    }


if __name__ == "__main__":
    sys.exit(main())
