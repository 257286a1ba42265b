"""``python -m tools.exporters [NAME...]``: export the seeded network with what is installed, explain the files with no
option, and put the differences into docs/exporters.md. What is not installed is taken from build/exporters/, where
``python -m tools.exporters.make`` keeps what another Python made; rows of what is not there either stay as they are.

Exit 1 where a map is not that of the spellings to 1e-4.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError

import numpy as np

from cam_onnx import Explainer
from models.exporters import SPELLINGS, pixels
from tools.exporters import page
from tools.exporters.make import MAKERS, kept, made

HEADER = "| exporter | of | opset | layer | score | map: largest difference |\n|---|---|---:|---|---|---:|\n"
NEAR = 1e-4


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tools.exporters", description=__doc__, allow_abbrev=False)
    parser.add_argument("names", nargs="*", metavar="NAME", help="of exporters (default: what is installed)")
    options = parser.parse_args(argv)
    expected = Explainer(SPELLINGS["torch_script"].build()).explain(pixels()).saliency_map[0]
    rows: dict[str, str] = {}
    far = False
    for name in MAKERS:
        if options.names and name not in options.names:
            continue
        try:
            model, of = made(name)
        except PackageNotFoundError as error:
            before = kept(name)
            if before is None:
                print(f"{name}: {error}", file=sys.stderr)
                continue
            model, of = before
        explainer = Explainer(model)
        difference = float(np.abs(np.subtract(explainer.explain(pixels()).saliency_map[0], expected)).max())
        far |= not difference <= NEAR
        contract, opset = explainer.contract, next(o.version for o in model.opset_import if not o.domain)
        cells = [name, of, str(opset), f"`{contract.layers[0].name}`", f"`{contract.score}`", f"{difference:.0e}"]
        rows[name] = f"| {' | '.join(cells)} |"
        print(rows[name], flush=True)
    page.put("real", HEADER, list(MAKERS), rows)
    return int(far)


if __name__ == "__main__":
    sys.exit(main())
