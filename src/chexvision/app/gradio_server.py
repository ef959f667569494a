"""Serving the Gradio app: on this machine, or in a Space. Nothing is sent anywhere else."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from ipaddress import ip_address
from tempfile import TemporaryDirectory

from chexvision.app.answer_page import STYLE, About
from chexvision.app.page_files import Entry
from chexvision.errors import UsageError
from chexvision.files.json_files import read_record
from chexvision.hub.reference import RepoRef, parse_reference
from chexvision.hub.repo_files import model_file
from chexvision.inference.load_predictor import load_predictor
from chexvision.predict.predictor import Predictor
from chexvision.runtime.export_info import INFO, ExportInfo

# Read by Gradio and the Hub's client when they are imported.
_QUIET = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}


def load_app_model(text: str, shown: Entry | None = None) -> tuple[Predictor, About]:
    """A published model, and what the app says about it.

    Args:
        text: a folder or ``USER/REPO[@REV]``.
        shown: name and revision of a model whose files were copied into the folder.

    Raises:
        UsageError: there is no such folder.
        ChexError: it cannot be reached, or is damaged.
    """
    reference = parse_reference(text)
    predictor = load_predictor(reference)
    facts = predictor.facts
    if isinstance(reference, RepoRef):
        reference = RepoRef(reference.repo_id, facts.revision)
    if shown is not None:
        facts = replace(facts, model=shown.name, revision=shown.revision or facts.revision)
        predictor = replace(predictor, facts=facts)
    path = model_file(reference, INFO)
    info = None if path is None else read_record(path, ExportInfo)
    url = shown.url if shown else None
    if isinstance(reference, RepoRef):
        from huggingface_hub import constants

        url = f"{constants.ENDPOINT}/{reference.repo_id}/tree/{facts.revision}"
    return predictor, About(facts, info, url)


def launch(
    predictor: Predictor, about: About, host: str, port: int, started: Callable[[str], None] = lambda url: None
) -> None:
    """Serve the app until Ctrl-C.

    Args:
        predictor: what answers.
        about: the model, for readers.
        host: to listen on.
        port: 0 for any that is free.
        started: called with the address once the app answers.

    Raises:
        UsageError: the port is in use, or the host is not an address of this machine.
    """
    port = _free(host, port)
    with TemporaryDirectory(prefix="chexvision-app-") as folder:
        os.environ.update({**_QUIET, "GRADIO_TEMP_DIR": folder})
        from chexvision.app.gradio_app import LARGEST_UPLOAD, THEME, build_app

        app = build_app(predictor, about)
        with redirect_stdout(StringIO()):  # Gradio prints the address of its MCP server even if it is to be quiet
            _, url, _ = app.launch(
                server_name=host,
                server_port=port,
                prevent_thread_lock=True,
                quiet=True,
                share=False,
                show_error=False,
                max_file_size=LARGEST_UPLOAD,
                mcp_server=True,
                ssr_mode=False,
                run_history=False,  # browsers would keep images and answers
                enable_monitoring=False,
                footer_links=["api"],
                theme=THEME,
                css=STYLE,
                app_kwargs={"middleware": _for_this_machine(host)},
            )
        try:
            started(url)
            threading.Event().wait()
        except KeyboardInterrupt:
            pass
        finally:
            app.close(verbose=False)


def _free(host: str, port: int) -> int:
    """The port to listen on."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            return int(probe.getsockname()[1])
    except OverflowError:
        raise UsageError(f"port {port} is not in 0…65535") from None
    except socket.gaierror:
        raise UsageError(f"--host {host} is not an address of this machine; leave it out for 127.0.0.1") from None
    except OSError as error:
        raise UsageError(
            f"cannot listen on {host} port {port} ({error.strerror}); choose another with --port"
        ) from None


def _for_this_machine(host: str) -> list[object]:
    """On a loopback address, only requests for this machine's own names: other sites may point theirs here."""
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    try:
        loopback = ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    return [Middleware(TrustedHostMiddleware, allowed_hosts=["localhost", "127.0.0.1", host])] if loopback else []
