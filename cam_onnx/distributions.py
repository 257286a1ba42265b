"""What is installed, by the records of pip: who owns a folder, which version, and what cam_onnx requires.

A folder may have two owners (onnxruntime and onnxruntime-gpu, the OpenCVs): pip does not notice. Standard library
only.
"""

from __future__ import annotations

import re
from importlib import metadata

__all__ = ["installed", "meets", "owners", "required", "version"]


def installed() -> list[str]:
    """Return the names of all distributions, in lower case with dashes."""
    names = (found.metadata["Name"] for found in metadata.distributions())
    return sorted({re.sub(r"[-_.]+", "-", name).lower() for name in names if name})


def owners(package: str) -> dict[str, str | None]:
    """Return the distributions that hold a top-level package, with their versions."""
    return {name: version(name) for name in sorted(set(metadata.packages_distributions().get(package, [])))}


def version(distribution: str) -> str | None:
    """Return the installed version, or None."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def required() -> dict[str, str]:
    """Return what the installed cam-onnx requires, without its extras: version specifiers by name."""
    try:
        lines = metadata.requires("cam-onnx") or []
    except metadata.PackageNotFoundError:  # runs from the tree
        return {}
    matches = (re.match(r"([\w.-]+)\s*([^;]*)", line) for line in lines if ";" not in line)
    return {match[1]: match[2].strip() for match in matches if match}


def meets(found: str, specifier: str) -> bool:
    """Say whether a version lies within ``>=a,<b``; other operators count as met."""
    bounds = re.findall(r"(>=|<)\s*([\d.]+)", specifier)
    return all((_numbers(found) >= _numbers(bound)) == (operator == ">=") for operator, bound in bounds)


def _numbers(text: str) -> list[int]:
    parts = [int(part) for part in re.findall(r"\d+", text)[:3]]
    return parts + [0] * (3 - len(parts))
