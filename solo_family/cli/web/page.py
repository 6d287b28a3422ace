"""The page: its parts and their places, and which of them calls what."""

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from ...predictor.result import metadata_names
from ..addresses import MEGABYTE
from .downloads import KINDS, NAMED, PNG
from .flags import Serving
from .handlers import COCO, HEADERS, WELCOME, Handlers, message, title
from .session import MOST_FILES
from .sessions import Sessions
from .words import Choice

_CSS = """
.gradio-container { max-width: 1500px !important; }
#title h1 { margin: 0; font-size: 1.4rem; }
#title p { margin: 0; color: var(--body-text-color-subdued); overflow-wrap: anywhere; }
#message .html-container, #title .html-container { padding: 0; }
#message .line { padding: 8px 12px; border-radius: 4px; overflow-wrap: anywhere;
  background: var(--background-fill-secondary); }
#message .problem { margin-top: 6px; color: #991b1b; background: #fee2e2; }
#picture img { max-height: 75vh; }
#file { position: absolute; left: -10000px; }
footer { display: none !important; }
"""
# A file is made when it is asked for: then the hidden link that has it is clicked.
_CLICK = "() => (document.querySelector('#file a') || document.querySelector('#file'))?.click()"


def build_page(sessions: Sessions, serving: Serving) -> Any:
    """Return the page, gradio's Blocks.

    Args:
        sessions: of the pages that are open.
        serving: how the page begins, and what it takes.
    """
    import gradio as gr

    with gr.Blocks(title=f"solo_family: {sessions.model.name}", analytics_enabled=False) as page:
        parts = _place(gr, sessions, serving)
        _connect(gr, page, parts, sessions)
    return page


def look() -> dict[str, Any]:
    """Return gradio's arguments for how the page looks, with fonts of the user's machine."""
    import gradio as gr

    fonts = ["system-ui", "sans-serif"], ["ui-monospace", "monospace"]
    return {"theme": gr.themes.Default(font=fonts[0], font_mono=fonts[1]), "css": _CSS}


def _place(gr: Any, sessions: Sessions, serving: Serving) -> dict[str, Any]:
    """Make the parts of the page where they are to be seen, and return them by name."""
    gr.HTML(title(sessions.model.name), elem_id="title", padding=False)
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            parts = _place_choices(gr, sessions, serving) | _place_downloads(gr)
        with gr.Column(scale=3, min_width=500):
            parts |= _place_results(gr)
    return parts | {"index": gr.State(0)}


def _place_choices(gr: Any, sessions: Sessions, serving: Serving) -> dict[str, Any]:
    names = metadata_names(sessions.model.model.metadata)
    megabytes = serving.max_upload / MEGABYTE
    files = gr.File(
        label=f"Pictures, at most {MOST_FILES} of {megabytes:g} MB",
        file_count="multiple",
        height=180,
    )
    files.async_move_resource_to_block_cache = uploads_only(
        files.async_move_resource_to_block_cache
    )
    threshold = gr.Slider(
        0, 1, serving.threshold, step=0.01, label="Lowest score", elem_id="threshold"
    )
    labels = gr.Dropdown(
        [(name, label) for label, name in enumerate(names)],
        value=list(serving.labels),
        multiselect=True,
        label="Classes (none chosen: all)",
        visible=bool(names),
        elem_id="classes",
    )
    return {"files": files, "threshold": threshold, "labels": labels}


def _place_downloads(gr: Any) -> dict[str, Any]:
    kinds = [(KINDS[NAMED], NAMED)]
    with gr.Column(visible=False) as column:
        with gr.Row():
            png = gr.Button("Download PNG", elem_id="png", size="sm", min_width=130)
            coco = gr.Button("Download COCO", elem_id="coco", size="sm", min_width=130)
        kind = gr.Dropdown(kinds, value=NAMED, label="Other formats", elem_id="kind")
        other = gr.Button("Download this format", elem_id="other", size="sm")
    file = gr.DownloadButton("file", elem_id="file")
    return {
        "downloads": column,
        "png": png,
        "coco": coco,
        "kind": kind,
        "other": other,
        "file": file,
    }


def _place_results(gr: Any) -> dict[str, Any]:
    line = gr.HTML(message(WELCOME), elem_id="message", padding=False)
    image = gr.Image(
        show_label=False,
        interactive=False,
        format="jpeg",
        buttons=["fullscreen"],
        elem_id="picture",
        visible=False,
    )
    thumbnails = gr.Gallery(
        show_label=False,
        columns=8,
        height=150,
        fit_columns=False,
        object_fit="contain",
        allow_preview=False,
        interactive=False,
        buttons=[],
        visible=False,
        elem_id="thumbnails",
    )
    table = gr.Dataframe(
        headers=HEADERS,
        datatype=["html", "str", "number", "number", "str"],
        interactive=False,
        buttons=["copy"],
        visible=False,
        elem_id="table",
    )
    return {"message": line, "image": image, "thumbnails": thumbnails, "table": table}


def uploads_only(move: Callable[[Any], Awaitable[Any]]) -> Callable[[Any], Awaitable[Any]]:
    """Return gradio's function that takes a file in, but for addresses, which it would fetch.

    Args:
        move: takes the path of an upload, or an address.
    """

    async def moved(path: Any) -> Any:
        if "://" in str(path):
            raise ValueError(f"{path} is no uploaded file.")
        return await move(path)

    return moved


def _connect(gr: Any, page: Any, parts: dict[str, Any], sessions: Sessions) -> None:
    """Let the parts call the handlers."""
    handlers = Handlers(sessions)
    choice, every = [parts["threshold"], parts["labels"]], list(parts.values())
    # The message says what is being done.
    quiet = {"concurrency_limit": 1, "api_visibility": "private", "show_progress": "hidden"}

    def new(values: dict[str, Any]) -> dict[Any, Any]:
        return {parts[name]: _update(gr, name, value) for name, value in values.items()}

    def segment(
        files: list[str] | None, threshold: float, labels: list[int], request: gr.Request
    ) -> Iterator[dict[Any, Any]]:
        chosen = Choice(threshold, tuple(labels))
        yield from map(new, handlers.segment(request.session_hash, files, chosen))

    def show(
        index: int, threshold: float, labels: list[int], request: gr.Request
    ) -> dict[Any, Any]:
        return new(handlers.show(request.session_hash, index, Choice(threshold, tuple(labels))))

    def pick(
        event: gr.SelectData, threshold: float, labels: list[int], request: gr.Request
    ) -> dict[Any, Any]:
        return {parts["index"]: event.index} | show(event.index, threshold, labels, request)

    def save(kind: str, threshold: float, labels: list[int], request: gr.Request) -> dict[Any, Any]:
        return new(handlers.save(request.session_hash, kind, Choice(threshold, tuple(labels))))

    def close(request: gr.Request) -> None:
        sessions.close(request.session_hash)

    files = [parts["files"], *choice]
    parts["files"].change(segment, files, every, concurrency_id="model", **quiet)
    shown = {"concurrency_id": "show", **quiet}
    for part in choice:
        part.change(show, [parts["index"], *choice], every, trigger_mode="always_last", **shown)
    parts["thumbnails"].select(pick, choice, every, **shown)
    downloads = [parts["file"], parts["message"]]
    kinds = {"png": gr.State(PNG), "coco": gr.State(COCO), "other": parts["kind"]}
    for name, kind in kinds.items():
        working = {"show_progress": "minimal", "show_progress_on": parts[name]}
        saved = parts[name].click(
            save, [kind, *choice], downloads, concurrency_id="save", **quiet | working
        )
        saved.then(None, None, None, js=_CLICK)
    page.unload(close)


def _update(gr: Any, name: str, value: Any) -> Any:
    """Return the new value of a part, which is to be seen only if it has any."""
    if name == "image":
        return gr.update(value=value, visible=value is not None)
    if name == "table":
        return gr.update(value=value, visible=bool(value))
    if name == "thumbnails":
        return gr.update(value=value, visible=len(value) > 1, selected_index=None)
    if name == "kind":
        return gr.update(choices=value, value=NAMED) if value else gr.update()
    if name in ("downloads", "coco", "threshold"):
        return gr.update(visible=value)
    return value
