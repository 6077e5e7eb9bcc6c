"""Write the snapshots anew: `make golden`, after a change that was meant; the difference belongs into the commit."""

import json

from . import FOLDER, SNAPSHOTS

for name, snapshot in SNAPSHOTS.items():
    text = json.dumps(snapshot(), indent=2, ensure_ascii=False) + "\n"
    (FOLDER / f"{name}.json").write_text(text)
