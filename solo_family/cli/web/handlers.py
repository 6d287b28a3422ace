"""What the page's parts do, in plain Python: values in, new values of parts out."""

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from ...errors import SoloFamilyError, first_line
from .downloads import KINDS, PNG, kinds_for
from .rows import Row
from .session import Choice, Session
from .sessions import Sessions

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
        """Predict new files, and show the first of them."""
        session = self._sessions.of(key)
        before = {id(picture) for picture in session.pictures}
        for text in session.segment(files or []):
            yield {"message": message(text, session.problems)}
        pictures = session.pictures
        new = [place for place, picture in enumerate(pictures) if id(picture) not in before]
        index = new[0] if new else 0
        kinds = kinds_for(pictures[0].predictions) if pictures else []
        yield self.show(key, index, choice) | {
            "index": index,
            "thumbnails": [(picture.small, picture.name) for picture in pictures],
            "kind": [(KINDS[kind], kind) for kind in kinds if kind not in (PNG, COCO)],
            "downloads": bool(pictures),
            "coco": COCO in kinds,
            "threshold": not kinds or COCO in kinds,
        }

    def show(self, key: str, index: int, choice: Choice) -> dict[str, Any]:
        """Show a picture with what the choice leaves of its predictions."""
        session = self._sessions.of(key)
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
        except (SoloFamilyError, OSError) as error:
            return nothing | {"message": message("", [*session.problems, first_line(error)])}
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
        except (SoloFamilyError, OSError) as error:
            return {"file": None, "message": message("", [first_line(error)])}
