"""What a classifier takes along to the hub, so that those who trust it need no import of ours."""

import json
from pathlib import Path

from dropmax._files import write_whole

MODULE = "modeling_dropmax"
CODE = '''"""What loads this model where the package dropmax is installed."""

from dropmax.integrations.transformers import DropMaxConfig, DropMaxForClassification

__all__ = ["DropMaxConfig", "DropMaxForClassification"]
'''
AUTO_MAP = {
    "AutoConfig": f"{MODULE}.DropMaxConfig",
    **dict.fromkeys(
        (
            "AutoModelForSequenceClassification",
            "AutoModelForTokenClassification",
            "AutoModelForImageClassification",
        ),
        f"{MODULE}.DropMaxForClassification",
    ),
}


def add_code(folder: Path) -> None:
    """Put into a saved classifier the code by which the Auto classes load it, if it is trusted."""
    file = folder / "config.json"
    described = json.loads(file.read_text(encoding="utf-8"))
    write_whole(folder / f"{MODULE}.py", CODE)
    write_whole(file, json.dumps({**described, "auto_map": AUTO_MAP}, indent=2) + "\n")
