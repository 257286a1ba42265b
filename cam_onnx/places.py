"""Where every result of one command goes, settled before anything is loaded: a wrong name must not cost a run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cam_onnx import files
from cam_onnx.errors import InputError, WriteFailed, shown

__all__ = ["PICTURES", "Place", "check_figure", "plan"]

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


@dataclass(frozen=True)
class Place:
    """Where one picture's explanation goes: `file` for the overlay alone, else all files into `folder`.

    Where tensors are explained, `picture` is the first one's file, and `file` is for the heatmap.
    """

    picture: str
    file: Path | None = None
    folder: Path | None = None

    @property
    def stem(self) -> str:
        return stem(self.picture)


def stem(picture: str) -> str:
    """Return what the results of a picture are called."""
    return "stdin" if picture == "-" else Path(picture).stem


def plan(pictures: Sequence[str], out: str | None, several: bool = False) -> list[Place]:
    """Say where every result goes, before anything is loaded. A folder with a trailing slash is created.

    Raises
    ------
    InputError
        A file for several pictures, an unknown suffix, two results at one path, a picture overwritten.
    WriteFailed
        A missing or read-only folder.
    """
    if out is None:
        places = [Place(picture, file=Path(f"{stem(picture)}.cam.png")) for picture in pictures]
        if several:
            raise InputError("several targets or samples: give -o a folder, such as -o out/")
    elif out.endswith(("/", os.sep)) or os.path.isdir(out):
        folder = Path(out)
        if not folder.is_dir():
            files.check_writable(folder)  # its parent must be there
            try:
                folder.mkdir()
            except OSError as error:
                raise WriteFailed(f"cannot create {shown(folder)}/: {error.strerror}") from None
        places = [Place(picture, folder=folder) for picture in pictures]
    else:
        if len(pictures) > 1 or several:
            raise InputError(f"{shown(out)} is one file for several overlays: give a folder, {shown(out)}/")
        if Path(out).suffix.lower() not in PICTURES:
            raise InputError(
                f"{shown(out)}: no picture's suffix ({', '.join(PICTURES)}); for a folder write {shown(out)}/"
            )
        places = [Place(pictures[0], file=Path(out))]
    _check_places(places)
    return places


def check_figure(figure: str, places: Sequence[Place], targets: int) -> None:
    """Raise where the figure of all explanations cannot be drawn or written.

    Raises
    ------
    InputError
        A suffix that no figure has, too many rows, a name that another file has.
    RunFailed
        matplotlib is not installed.
    WriteFailed
        A missing or read-only folder.
    """
    from cam_onnx.render.figure import MOST, check_file, require

    check_file(figure)
    count = len(places) * targets
    if count > MOST:
        raise InputError(f"--figure has room for {MOST} explanations, these are {count}: fewer pictures or targets")
    path = os.path.realpath(figure)
    if path in {os.path.realpath(name) for place in places for name in (place.picture, place.file) if name}:
        raise InputError(f"{shown(figure)} is a picture or an overlay as well: choose another name with --figure")
    files.check_writable(figure)
    require()


def _check_places(places: Sequence[Place]) -> None:
    taken: dict[str, str] = {}
    for place in places:
        path = place.file or place.folder / place.stem  # type: ignore[operator]
        key = os.path.realpath(path)
        if key in taken:
            raise InputError(
                f"{shown(taken[key])} and {shown(place.picture)} would both be written to {shown(path)}: explain them "
                "one by one, or rename one"
            )
        taken[key] = place.picture
        if place.file is not None:
            files.check_writable(place.file)
            if key in {os.path.realpath(p.picture) for p in places}:
                raise InputError(f"{shown(place.file)} is a picture to be explained: choose another name with -o")
