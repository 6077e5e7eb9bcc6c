"""TensorBoard's event files, written with the messages that TensorBoard brings along and without its writers.

Those write from a thread of their own, and cost twice the import. A file is a row of records: length, checksum,
message, checksum. Every start of a run makes a file; what earlier ones say beyond the checkpoint is withdrawn by the
first record of the next, as readers know it from `purge_step`.
"""

import struct
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.plugins.hparams import plugin_data_pb2

from potstill.live.outlet import ABOUT_CONFUSION, CONFUSION, Outlet, Setting, Start

FILES = "events.out.tfevents.*"
"""What readers take for event files."""

# The messages' types are made when they are imported, so a type checker cannot know them.
_events: Any = event_pb2
_summaries: Any = summary_pb2
_plugin: Any = plugin_data_pb2


class Events(Outlet):
    """The event files in a run folder; the step of a point is its epoch."""

    def __init__(self, start: Start):
        numbers = [_number(path) for path in start.folder.glob(FILES)]
        self._path = start.folder / f"events.out.tfevents.{max(numbers, default=0) + 1:010d}.potstill"
        self.reached = start.epoch if numbers else 0
        now = time.time()
        first = [_events.Event(wall_time=now, file_version="brain.Event:2")]
        if numbers:
            again = _events.SessionLog(status=_events.SessionLog.START)
            first.append(_events.Event(wall_time=now, step=start.epoch + 1, session_log=again))
        first.append(_event(0, now, [_hyperparameters(start.name, start.settings, now)]))
        self._write(first)

    def tell(self, epoch: int, time: float, values: Mapping[str, float]) -> None:
        """As scalars."""
        self._write([_event(epoch, time, [_scalar(name, value) for name, value in values.items()])])

    def show(self, epoch: int, picture: bytes) -> None:
        """As an image."""
        width, height = struct.unpack(">II", picture[16:24])  # A PNG's header begins with them.
        image = _summaries.Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=picture)
        plugin = _summaries.SummaryMetadata.PluginData(plugin_name="images")
        about = _summaries.SummaryMetadata(plugin_data=plugin, summary_description=ABOUT_CONFUSION)
        value = _summaries.Summary.Value(tag=CONFUSION, image=image, metadata=about)
        self._write([_event(epoch, time.time(), [value])])

    def end(self, epoch: int, values: Mapping[str, float], finished: bool) -> None:
        """As scalars of the last epoch, and the end of the session among the hyper-parameters."""
        now = time.time()
        # STATUS_SUCCESS or STATUS_FAILURE of the plugin.
        ended = _plugin.SessionEndInfo(status=1 if finished else 2, end_time_secs=now)
        scalars = [_scalar(name, value) for name, value in values.items()]
        self._write([_event(epoch, now, [*scalars, _of_plugin("session_end_info", session_end_info=ended)])])

    def _write(self, events: Sequence[Any]) -> None:
        """Append, in one piece; the file is closed in between, for a cohort has hundreds."""
        with open(self._path, "ab") as file:
            file.write(b"".join(_record(event.SerializeToString()) for event in events))


def _number(path: Path) -> int:
    """Which start of the run made the file; 0 where something else did."""
    number = path.name.split(".")[3]
    return int(number) if number.isdecimal() and path.name.endswith(".potstill") else 0


def _event(step: int, wall_time: float, of: Sequence[Any]) -> Any:
    return _events.Event(step=step, wall_time=wall_time, summary=_summaries.Summary(value=of))


def _scalar(name: str, value: float) -> Any:
    return _summaries.Summary.Value(tag=name, simple_value=value)


def _hyperparameters(name: str, settings: Mapping[str, Setting], now: float) -> Any:
    begun = _plugin.SessionStartInfo(group_name=f"{name}, seed {settings['seed']}", start_time_secs=now)
    for key, value in settings.items():
        if isinstance(value, bool):
            begun.hparams[key].bool_value = value
        elif isinstance(value, str):
            begun.hparams[key].string_value = value
        else:
            begun.hparams[key].number_value = value
    return _of_plugin("session_start_info", session_start_info=begun)


def _of_plugin(name: str, **content: Any) -> Any:
    """A message to the plugin of hyper-parameters."""
    payload = _plugin.HParamsPluginData(version=0, **content).SerializeToString()
    data = _summaries.SummaryMetadata.PluginData(plugin_name="hparams", content=payload)
    metadata = _summaries.SummaryMetadata(plugin_data=data)
    return _summaries.Summary.Value(tag=f"_hparams_/{name}", metadata=metadata)


def _record(message: bytes) -> bytes:
    length = struct.pack("<Q", len(message))
    return length + _checksum(length) + message + _checksum(message)


def _table() -> tuple[int, ...]:
    """The checksums of single bytes: CRC-32C, Castagnoli's polynomial, lowest bit first."""
    rows: list[int] = []
    for row in range(256):
        for _ in range(8):
            row = (row >> 1) ^ (0x82F63B78 if row & 1 else 0)
        rows.append(row)
    return tuple(rows)


_TABLE = _table()


def _checksum(payload: bytes) -> bytes:
    """The CRC-32C, rotated and shifted by a constant, as these files have it."""
    crc = 0xFFFFFFFF
    for byte in payload:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    rotated = (crc >> 15) | (crc << 17)
    return struct.pack("<I", (rotated + 0xA282EAD8) & 0xFFFFFFFF)
