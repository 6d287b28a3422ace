"""What the page's parts do, in plain Python: values in, new values of parts out."""

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from ...errors import SoloFamilyError, first_line
from .downloads import KINDS, PNG, kinds_for
from .rows import Row
from .session import Session
from .sessions import Sessions
from .words import Choice, unexpected

HEADERS = ["#", "class", "score", "area (px)", "box: x0, y0, x1, y1"]
COCO = "coco"
WELCOME = "Drop pictures on the left, or click there to choose some."


def title(model: str) -> str:
    """Return the HTML of the page's title."""
    return f"<h1>solo_family</h1><p>{escape(model)}</p>"


def message(text: str, problems: Sequence[str] = ()) -> str:
    """Return the HTML of a line, and of a line for each problem."""
    lines = [f'<div class="line">{escape(text)}</div>'] if text else []
    lines += [f'<div class="line problem">{escape(problem)}</div>' for problem in problems]
    return "".join(lines)


def table(rows: Sequence[Row]) -> list[list[Any]]:
    """Return the cells of the table; the first has the colour on the picture."""
    return [
        [
            f'<span style="color:rgb{row.colour[::-1]}">■</span> {row.number}',
            row.name,
            None if row.score is None else round(row.score, 3),
            row.area,
            ", ".join(map(str, row.box)),
        ]
        for row in rows
    ]


class Handlers:
    """What the page's parts do; each returns new values of parts, by name.

    Args:
        sessions: of the pages that are open.
    """

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def segment(
        self, key: str, files: list[str] | None, choice: Choice
    ) -> Iterator[dict[str, Any]]:
        """Predict new files, and show the first of them as soon as it is there."""
        session = self._sessions.of(key)
        before = {id(picture) for picture in session.pictures}
        index = None
        for text in session.segment(files or []):
            values: dict[str, Any] = {}
            if index is None:
                index = _first_new(session, before)
                values = {} if index is None else self._shown(session, index, choice)
            yield values | {"message": message(text, session.problems)}
        if index is None:
            index = _first_new(session, before) or 0
        kinds = kinds_for(session.pictures[0].predictions) if session.pictures else []
        yield self._newest(session, index, choice) | {
            "index": index,
            "thumbnails": [(picture.small, picture.name) for picture in session.pictures],
            "kind": [(KINDS[kind], kind) for kind in kinds if kind not in (PNG, COCO)],
            "downloads": bool(kinds),
            "coco": COCO in kinds,
            "threshold": not kinds or COCO in kinds,
        }

    def show(self, key: str, index: int, choice: Choice) -> dict[str, Any]:
        """Show a picture with what the choice leaves of its predictions."""
        return self._newest(self._sessions.of(key), index, choice)

    def _newest(self, session: Session, index: int, choice: Choice) -> dict[str, Any]:
        while True:
            pictures = session.pictures
            values = self._shown(session, index, choice)
            if session.pictures is pictures:
                return values  # else other pictures came, or went, meanwhile

    def _shown(self, session: Session, index: int, choice: Choice) -> dict[str, Any]:
        nothing: dict[str, Any] = {"image": None, "table": []}
        if not session.pictures:
            text = "" if session.problems else WELCOME
            return nothing | {"message": message(text, session.problems)}
        try:
            shown = session.show(min(index, len(session.pictures) - 1), choice)
        except Exception as error:
            return nothing | {"message": message("", [*session.problems, _line(error)])}
        return {
            "image": shown.image,
            "table": table(shown.rows),
            "message": message(shown.text, session.problems),
        }

    def save(self, key: str, kind: str, choice: Choice) -> dict[str, Any]:
        """Write a file for download."""
        session = self._sessions.of(key)
        try:
            return {"file": str(session.save(kind, choice))}
        except Exception as error:
            return {"file": None, "message": message("", [_line(error)])}


def _first_new(session: Session, before: set[int]) -> int | None:
    """Return the place of the first picture that was not there before; None if there is none."""
    places = enumerate(session.pictures)
    return next((place for place, picture in places if id(picture) not in before), None)


def _line(error: Exception) -> str:
    return first_line(error) if isinstance(error, SoloFamilyError) else unexpected(error)
