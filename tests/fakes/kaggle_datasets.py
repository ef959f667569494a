"""The fake Kaggle's datasets: uploads, versions, and the time until one is ready."""

from __future__ import annotations

import re
import shutil
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from .kaggle_access import KaggleAccess
from .messages import HttpError, Request, Response, json_response
from .wire import route

_SERVICE = r"/v1/datasets\.DatasetApiService"


@dataclass(slots=True)
class Dataset:
    """A dataset; `folder` holds the files of its last version, `pending` the polls until it is ready."""

    ref: str
    title: str
    private: bool
    folder: Path
    version: int = 1
    pending: int = 0


@dataclass(slots=True)
class _Upload:
    name: str
    size: int
    content: bytes | None = None


@dataclass(slots=True)
class DatasetStore:
    """Stored datasets, below `root`."""

    root: Path
    known: dict[str, Dataset] = field(default_factory=dict)
    uploads: dict[str, _Upload] = field(default_factory=dict)

    def write(self, dataset: Dataset, tokens: list[str]) -> None:
        """Make the uploaded files the dataset's content."""
        dataset.folder = self.root / dataset.ref / str(dataset.version)
        dataset.folder.mkdir(parents=True)
        for token in tokens:
            upload = self.uploads.get(token)
            if upload is None or upload.content is None:
                raise HttpError(400, "Failed to resolve the necessary information from the request.")
            (dataset.folder / Path(upload.name).name).write_bytes(upload.content)


class KaggleDatasets(KaggleAccess):
    """Routes of the dataset and blob services."""

    datasets: DatasetStore
    storage_url: str
    dataset_polls = 1

    def add_dataset(self, ref: str, folder: Path) -> Dataset:
        """Add a dataset that is ready, with the files of `folder` (not copied)."""
        dataset = Dataset(ref, ref, private=False, folder=folder)
        self.datasets.known[ref] = dataset
        return dataset

    @route("POST", r"/v1/blobs\.BlobApiService/StartBlobUpload")
    def start_blob_upload(self, request: Request) -> Response:
        self.require_user(request)
        body, token = request.json(), uuid.uuid4().hex
        self.datasets.uploads[token] = _Upload(body["name"], body.get("contentLength", 0))
        url = f"{self.storage_url}/blobs/{token}?upload_id={uuid.uuid4().hex}"
        return json_response({"token": token, "createUrl": url})

    @route("PUT", r"/blobs/(?P<token>\w+)")
    def put_blob(self, request: Request, token: str) -> Response:
        upload = self.datasets.uploads.get(token)
        if upload is None:
            return Response(404)
        if re.match(r"bytes \*/", request.headers.get("Content-Range", "")):
            # A client that lost the connection asks how much has arrived; here it is all or nothing.
            return Response(308 if upload.content is None else 200)
        if len(request.body) != upload.size:
            return Response(400)
        upload.content = request.body
        return json_response({"name": upload.name})

    @route("POST", f"{_SERVICE}/CreateDataset")
    def create_dataset(self, request: Request) -> Response:
        self.require_user(request)
        body = request.json()
        ref, title = f"{body.get('ownerSlug')}/{body.get('slug')}", body.get("title", "")
        if body.get("ownerSlug") != self.user:
            return self._refuse("You are not allowed to create a dataset as this owner.")
        if ref in self.datasets.known:
            reason = f'The requested title "{title}" is already in use by a dataset'
            return self._refuse(f"{reason}. Please choose another title.")
        private = body.get("isPrivate", False)
        dataset = Dataset(ref, title, private, self.datasets.root, pending=self.dataset_polls)
        self.datasets.write(dataset, [file["token"] for file in body.get("files", [])])
        self.datasets.known[ref] = dataset
        return self._accept(dataset)

    @route("POST", f"{_SERVICE}/CreateDatasetVersion")
    def create_dataset_version(self, request: Request) -> Response:
        body = request.json()
        dataset = self._own(request)
        dataset.version += 1
        dataset.pending = self.dataset_polls
        self.datasets.write(dataset, [file["token"] for file in body["body"].get("files", [])])
        return self._accept(dataset)

    @route("POST", f"{_SERVICE}/GetDatasetStatus")
    def get_dataset_status(self, request: Request) -> Response:
        dataset = self._own(request)
        ready = dataset.pending == 0
        dataset.pending = max(dataset.pending - 1, 0)
        return json_response({"status": "READY" if ready else "BLOBS_RECEIVED"})

    @route("POST", f"{_SERVICE}/GetDataset")
    def get_dataset(self, request: Request) -> Response:
        dataset = self._own(request)
        answer = {"ref": dataset.ref, "title": dataset.title, "isPrivate": dataset.private}
        return json_response({**answer, "currentVersionNumber": dataset.version})

    @route("POST", f"{_SERVICE}/DeleteDataset")
    def delete_dataset(self, request: Request) -> Response:
        dataset = self._own(request)
        del self.datasets.known[dataset.ref]
        shutil.rmtree(self.datasets.root / dataset.ref, ignore_errors=True)
        return json_response({})

    def _own(self, request: Request) -> Dataset:
        self.require_user(request)
        body = request.json()
        dataset = self.datasets.known.get(f"{body.get('ownerSlug')}/{body.get('datasetSlug')}")
        if dataset is None:
            raise HttpError(403, "Permission 'datasets.get' was denied")
        return dataset

    def _accept(self, dataset: Dataset) -> Response:
        url = f"https://www.kaggle.com/datasets/{dataset.ref}"
        return json_response({"ref": dataset.ref, "url": url, "status": "ok", "error": ""})

    def _refuse(self, error: str) -> Response:
        return json_response({"ref": "", "url": "", "status": "error", "error": error})
