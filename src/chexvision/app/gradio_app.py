"""A Gradio app for one model: a page, an API for `gradio_client`, and tools for MCP."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import gradio as gr
from gradio.utils import get_upload_folder

from chexvision.app import answer_page
from chexvision.app.answer_page import About
from chexvision.app.uploads import (
    MOST_IMAGES,
    Examination,
    as_json,
    examine_upload,
    explain_upload,
    predict_archive,
    predict_upload,
)
from chexvision.errors import ChexError
from chexvision.explain.overlay import blend
from chexvision.labels import ABNORMAL
from chexvision.predict.predictor import Predictor
from chexvision.predict.result_files import writer_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL.Image import Image

LARGEST_UPLOAD = "256mb"  # that of `chexvision.images.sources.LARGEST`
WAITING = 20  # requests in the queue; further ones are refused
KEPT = 600  # seconds that results are kept for download
_WAITING_TEXT = "<p>Choose an image. It is deleted as soon as it has been read.</p>"
_FONT = ["system-ui", "sans-serif"]  # none is fetched from elsewhere
THEME = gr.themes.Base(font=_FONT, font_mono=["ui-monospace", "monospace"])


def build_app(predictor: Predictor, about: About) -> gr.Blocks:
    """The app of a model; `chexvision.app.gradio_server.launch` starts it."""
    app = gr.Blocks(title="CheXVision", analytics_enabled=False, delete_cache=(60, KEPT))
    app.queue(max_size=WAITING, default_concurrency_limit=1)
    with app:
        gr.Markdown("# CheXVision")
        gr.HTML(answer_page.header_html(about))
        with gr.Tab("One image"):
            _one_image(predictor, about)
        with gr.Tab("Many images"):
            _many_images(predictor, about)
        with gr.Tab("Model"):
            gr.HTML(answer_page.model_html(about))
    return app


def _one_image(predictor: Predictor, about: About) -> None:
    outputs = predictor.engine.label_space.outputs
    state = gr.State(None, time_to_live=KEPT)
    with gr.Row():
        with gr.Column():
            # Many DICOM files have no ending, so none is asked for.
            file = gr.File(label="Radiograph: PNG, JPEG or DICOM", type="filepath")
            any_view = gr.Checkbox(label="Any view: also read DICOM files that are not frontal chest radiographs")
            overlay = gr.ImageSlider(
                label="Without and with the map", interactive=False, slider_position=10, height=480
            )
            finding = gr.Dropdown([*outputs], value=ABNORMAL, label="Finding on the map")
            opacity = gr.Slider(0, 1, 1, label="Opacity of the map")
            scale = gr.HTML()
        with gr.Column():
            answered = gr.HTML(_WAITING_TEXT, label="Answer")

    def examine(path: str, anything: bool) -> tuple[Any, ...]:
        with received(path) as image:
            found = examine_upload(predictor, image, anything)
        shown = _notable(found)
        return found, answer_page.answer_html(found.answer, about), shown, *_drawn(found, shown, 1.0, outputs)

    def draw(found: Examination | None, name: str, strength: float) -> tuple[Any, ...]:
        return (None, "") if found is None else _drawn(found, name, strength, outputs)

    file.upload(examine, [file, any_view], [state, answered, finding, overlay, scale], api_visibility="private")
    file.clear(
        lambda: (None, _WAITING_TEXT, None, ""), None, [state, answered, overlay, scale], api_visibility="private"
    )
    for control in (finding.input, opacity.release):
        control(draw, [state, finding, opacity], [overlay, scale], api_visibility="private", show_progress="hidden")
    _endpoints(predictor, outputs)


def _endpoints(predictor: Predictor, outputs: tuple[str, ...]) -> None:
    """What programs call; nothing of it is on the page."""
    with gr.Group(visible=False):
        image, any_view = gr.File(label="image", type="filepath"), gr.Checkbox(label="any_view")
        findings = gr.Dropdown([*outputs], multiselect=True, allow_custom_value=True, label="findings")
        top = gr.Number(3, precision=0, label="top")
        answered, explained = gr.JSON(label="answer"), gr.JSON(label="maps")
        overlays = gr.Gallery(label="overlays", format="png")
        ask, show = gr.Button(), gr.Button()

    def predict(image: str, any_view: bool = False) -> dict[str, Any]:
        """Classify a chest radiograph. Research only.

        Args:
            image: a PNG, JPEG or DICOM file.
            any_view: also read DICOM files that are not frontal chest radiographs.

        Returns:
            Calibrated probabilities, thresholds, calls, warnings and the model, as `chexvision predict --json`.
        """
        with received(image) as path:
            return as_json(predict_upload(predictor, path, any_view))

    def explain(
        image: str, findings: list[str] | None = None, top: int = 3, any_view: bool = False
    ) -> tuple[dict[str, Any], list[tuple[Image, str]]]:
        """Show which regions of a chest radiograph raise findings. Research only.

        Args:
            image: a PNG, JPEG or DICOM file.
            findings: which; the most probable ones where empty.
            top: how many, where none are named.
            any_view: also read DICOM files that are not frontal chest radiographs.

        Returns:
            The maps' largest values and where they are, and an image for each.
        """
        with received(image) as path:
            entry, drawn = explain_upload(predictor, path, findings or [], top, any_view)
        return entry, [(one, of["finding"]) for one, of in zip(drawn, entry["overlays"], strict=True)]

    ask.click(predict, [image, any_view], answered, api_name="predict")
    show.click(explain, [image, findings, top, any_view], [explained, overlays], api_name="explain")


def _many_images(predictor: Predictor, about: About) -> None:
    gr.Markdown(f"A ZIP archive with at most {MOST_IMAGES} images. It is deleted as soon as it has been read.")
    archive = gr.File(label="ZIP archive", type="filepath")
    any_view = gr.Checkbox(label="Any view")
    run = gr.Button("Predict", variant="primary")
    summary = gr.HTML(label="summary")
    table = gr.File(label=f"Results as CSV, deleted after {KEPT // 60} minutes", interactive=False)
    rows = gr.JSON(visible=False, label="rows")

    def predict_batch(
        archive: str,
        any_view: bool = False,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 - Gradio's way
    ) -> tuple[str, list[dict[str, Any]], str]:
        """Classify all chest radiographs in a ZIP archive. Research only.

        Args:
            archive: a .zip file of PNG, JPEG or DICOM files.
            any_view: also read DICOM files that are not frontal chest radiographs.

        Returns:
            A summary as HTML, one row per image as `chexvision predict --json`, and the same rows as a CSV file.
        """
        with received(archive) as path:
            results = []
            for count, result in predict_archive(predictor, path, any_view):
                results.append(result)
                progress((len(results), count), unit="images")
            out = Path(tempfile.mkdtemp(dir=get_upload_folder())) / "results.csv"  # deleted by Gradio after `KEPT`
            writer_for(out)(out, predictor.engine.label_space.outputs, results)
        return answer_page.rows_html(results, about.facts), [as_json(one) for one in results], str(out)

    run.click(predict_batch, [archive, any_view], [summary, rows, table], api_name="predict_batch")


@contextmanager
def received(file: str | None) -> Iterator[Path]:
    """An upload, which is deleted at the end; what goes wrong with it becomes one sentence, which is not logged."""
    if file is None:
        raise gr.Error("No file was sent.", print_exception=False)
    if not Path(file).is_file():
        raise gr.Error("The file is not there any more, it was read before; send it again.", print_exception=False)
    try:
        yield Path(file)
    except ChexError as error:
        text = escape(str(error), quote=False)  # Gradio shows it as HTML
        raise gr.Error(f"{text[:1].upper()}{text[1:]}.", print_exception=False, duration=None) from None
    finally:
        Path(file).unlink(missing_ok=True)


def _notable(found: Examination) -> str:
    """The finding whose map is shown first: of those at or above their threshold the one farthest above it."""
    answer = found.answer
    above = [name for name, called in answer.calls.items() if called and name != ABNORMAL]
    return max(
        above, key=lambda name: answer.probabilities[name] / max(answer.thresholds[name], 1e-9), default=ABNORMAL
    )


def _drawn(found: Examination, name: str, strength: float, outputs: tuple[str, ...]) -> tuple[Any, str]:
    """The image without and with the map of an output, and its scale in words."""
    gray = cv2.cvtColor(found.pixels, cv2.COLOR_GRAY2RGB)
    heat = found.maps.values[0, outputs.index(name)]
    colored = blend(found.pixels, heat, found.scale)
    shown = cv2.addWeighted(gray, 1 - strength, colored, strength, 0)
    return (gray, shown), answer_page.scale_html(name, found.maps.method, float(heat.max()), found.scale)
