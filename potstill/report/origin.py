"""Where runs come from: commit, versions and machine, as their records say, whatever else stands there."""

from typing import Any, cast

from potstill.record import Json
from potstill.report.entry import Entry, Group
from potstill.report.find import Notice

NAMES = {"potstill": "Potstill", "python": "Python", "torch": "PyTorch"}

Facts = tuple[tuple[str, str], ...]


def environment(entry: Entry) -> str:
    """Versions, device and commit of a run in one line; what its record does not hold is left out."""
    env = entry.record.environment
    versions = _versions(env)
    parts = [f"{NAMES[key]} {versions[key]}" for key in NAMES if key in versions]
    commit = _commit(env, digits=12)
    parts += [_machine(env), f"commit {commit}" if commit else ""]
    return ", ".join(part for part in parts if part) or "not recorded"


def environments(group: Group) -> tuple[str, ...]:
    """The distinct environments of a group's runs, with how many runs each has where there are several."""
    counts: dict[str, int] = {}
    for entry in group.entries:
        line = environment(entry)
        counts[line] = counts.get(line, 0) + 1
    if len(counts) == 1:
        return tuple(counts)
    return tuple(f"{line} ({n} of {len(group.entries)} runs)" for line, n in counts.items())


def origins(group: Group) -> tuple[Facts, ...]:
    """The distinct origins of a group's runs, each as facts with their names, that of most runs first."""
    counts: dict[Facts, int] = {}
    for entry in group.entries:
        facts = _facts(entry.record.environment)
        counts[facts] = counts.get(facts, 0) + 1
    if len(counts) == 1:
        return tuple(counts)
    ordered = sorted(counts, key=lambda facts: -counts[facts])
    return tuple((("runs", f"{counts[facts]} of {len(group.entries)}"), *facts) for facts in ordered)


def _facts(env: Json) -> Facts:
    software = ", ".join(f"{NAMES.get(key, key)} {version}" for key, version in _versions(env).items())
    facts = (("commit", _commit(env)), ("software", software), ("machine", _machine(env)))
    return tuple((name, text) for name, text in facts if text) or (("environment", "not recorded"),)


def remarks(group: Group) -> tuple[Notice, ...]:
    """Runs that count, and yet were not one uninterrupted training on one machine."""
    found: list[Notice] = []
    for entry in group.entries:
        for change in _listed(entry.record.environment.get("resumed")):
            if not isinstance(change, dict):
                continue
            values = cast(Json, change)
            what = ", ".join(str(difference) for difference in _listed(values.get("differences"))) or "unlike machine"
            exact = "not bitwise from there" if not entry.outcome.bitwise else "still bitwise"
            sentence = f"It was continued at step {values.get('step')} elsewhere ({what}); {exact}."
            found.append(Notice(f"{entry.arm}, seed {entry.outcome.seed}", sentence))
    return tuple(found)


def _commit(env: Json, digits: int | None = None) -> str:
    """Its first digits, or all of them, and whether that is not quite what ran; empty where none is recorded."""
    commit = _text(env, "commit")[:digits]
    return commit + (" with uncommitted changes" if commit and env.get("uncommitted_changes") else "")


def _machine(env: Json) -> str:
    """Device, threads, and how numbers are computed on it."""
    device, name = _text(env, "device"), _text(env, "device_name") or _text(env, "cpu")
    devices, threads = _count(env, "devices"), _count(env, "threads")
    several = f"{devices} × " if devices > 1 else ""
    parts = [f"{several}{device} ({name})" if device and name else device]
    parts.append(f"{threads} {'thread' if threads == 1 else 'threads'}" if threads else "")
    parts.append(_text(env, "precision"))
    parts.append("compiled" if env.get("compile") is True else "")
    parts.append("deterministic" if env.get("deterministic") else "")
    return ", ".join(part for part in parts if part)


def _versions(env: Json) -> dict[str, str]:
    found = env.get("versions")
    known = cast(Json, found) if isinstance(found, dict) else {}
    return {key: str(version) for key, version in known.items() if version}


def _text(env: Json, key: str) -> str:
    value = env.get(key)
    return value if isinstance(value, str) else ""


def _count(env: Json, key: str) -> int:
    value = env.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _listed(value: Any) -> list[Any]:
    return cast(list[Any], value) if isinstance(value, list) else []
