"""A fake Kaggle on the loopback for the real `kaggle` package; pushed kernels really run.

    with FakeKaggle(tmp_path / "kaggle", session_env=hub.env) as kaggle:
        kaggle.environment(monkeypatch)
        api = KaggleApi()
        api.authenticate()
        api.kernels_push(str(folder))
        assert kaggle.sessions[0].wait().status == "COMPLETE"
        # a command line in its own process
        subprocess.run(["chexvision", "runs", "status"], env=kaggle.subprocess_env(), check=True)

A session's root is `root/sessions/<n>`: the script is its `kaggle/src/script.py` and starts in
`kaggle/working` or the folder `starts_in`. Sources are mounted by `nested_inputs`:

    nested (today)   input/datasets/<owner>/<slug>, input/notebooks/<owner>/<slug> for a kernel's output and
                     input/datasets/organizations/<owner>/<slug> for datasets of `organizations`
    flat (earlier)   input/<slug>

(public notebooks show all of them: /kaggle/input/datasets/organizations/nih-chest-xrays/data/Data_Entry_2017.csv,
/kaggle/input/notebooks/<owner>/<slug>, /kaggle/input/<slug>). `kaggle_secrets` can be imported as in Kaggle's
image, and `nvidia-smi -L` lists a T4 in a session that asked for a GPU (one of Kaggle's two: with a second, the
session would have to ask torch, which takes seconds here). Outputs and logs are there once a session
has ended; while it runs, its log can only be streamed.

Without `phone_verified` pushes are accepted and the quota shows 30 hours, but sessions get neither GPU nor internet,
as instructlab/instructlab#355 and fastai/course-v3#347 report for accounts without a verified phone number.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from .kaggle_datasets import DatasetStore
from .kaggle_kernels import KaggleKernels

if TYPE_CHECKING:
    import pytest

_SITE = '''\
"""Points the Kaggle client of this process at the address in FAKE_KAGGLE_ENDPOINT.

The client takes its address from a table in `kagglesdk.kaggle_env` and lets no variable change it.
"""

import os
import sys
from importlib.machinery import PathFinder


class _Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name != "kagglesdk.kaggle_env":
            return None
        spec = PathFinder.find_spec(name, path, target)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            module._env_to_endpoint[module.KaggleEnv.PROD] = os.environ["FAKE_KAGGLE_ENDPOINT"]

        spec.loader.exec_module = exec_module
        return spec


if "FAKE_KAGGLE_ENDPOINT" in os.environ:
    sys.meta_path.insert(0, _Finder)
'''


class FakeKaggle(KaggleKernels):
    """A Kaggle at `url`; sessions and datasets below `root`.

    Args:
        root: Folder for everything kept; made when missing.
        user: The one user.
        token: The user's access token.
        key: The user's legacy key.
        python: The interpreter of sessions.
        session_env: More environment for sessions, for instance a fake Hub's `env`.
        secrets: What `kaggle_secrets` gives to sessions, by label.
        nested_inputs: Mount by kind and owner, as above, instead of by slug alone.
        organizations: Owners of datasets that are organizations.
        starts_in: The folder below `kaggle` that scripts start in, "working" or the read-only "src"; public sources
            name either.
        phone_verified: Whether sessions get the GPU and the internet that they ask for.
        dataset_polls: How often a new dataset's status is "not ready".
        record_bodies: Keep the bodies of requests in `bodies`, introspection apart.
    """

    def __init__(
        self,
        root: Path,
        *,
        user: str = "chex",
        token: str = "KGAT_right",
        key: str = "0123456789abcdef",
        python: str = sys.executable,
        session_env: Mapping[str, str] | None = None,
        secrets: Mapping[str, str] | None = None,
        nested_inputs: bool = True,
        organizations: frozenset[str] = frozenset({"nih-chest-xrays"}),
        starts_in: str = "working",
        phone_verified: bool = True,
        dataset_polls: int = 1,
        record_bodies: bool = False,
    ) -> None:
        super().__init__(user=user, token=token, key=key, record_bodies=record_bodies)
        self.root = root
        self.python = python
        self.session_env = dict(session_env or {})
        self.session_secrets = dict(secrets or {})
        self.nested_inputs = nested_inputs
        self.organizations = organizations
        self.starts_in = starts_in
        self.phone_verified = phone_verified
        self.dataset_polls = dataset_polls
        self.sessions = []
        self.datasets = DatasetStore(root / "datasets")
        self.home = root / "home"
        (self.home / ".kaggle").mkdir(parents=True)
        self.site_dir = root / "site"
        self.site_dir.mkdir()
        (self.site_dir / "sitecustomize.py").write_text(_SITE, encoding="utf-8")
        self.url = self.listen()
        self.storage_url = self.listen()

    def close(self) -> None:
        """End every session, then stop answering."""
        for session in self.sessions:
            if session.status == "RUNNING":
                session.kill()
                with suppress(TimeoutError):
                    session.wait(10)
        super().close()

    def environment(self, monkeypatch: pytest.MonkeyPatch, *, token: str | None = None) -> None:
        """Connect the `kaggle` of this process to this server until the test ends, with the user's token or another.

        An empty `token` leaves no credentials at all.
        """
        from kagglesdk import kaggle_env

        for name in [name for name in os.environ if name.startswith("KAGGLE_")]:
            monkeypatch.delenv(name)
        for name, value in self._client_env(token).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, self.url)
        # The package fixes its folder at import: remove it if it was imported before, so that it uses this one.
        from kaggle.api.kaggle_api_extended import KaggleApi

        monkeypatch.setattr(KaggleApi, "config_dir", str(self.home / ".kaggle"))
        monkeypatch.setattr(KaggleApi, "config", str(self.home / ".kaggle" / "kaggle.json"))
        monkeypatch.setattr(KaggleApi, "config_values", {})

    def subprocess_env(self, *, token: str | None = None, base: Mapping[str, str] | None = None) -> dict[str, str]:
        """A complete environment that connects the `kaggle` of another process; `token` as above."""
        env = {k: v for k, v in (base or os.environ).items() if not k.startswith("KAGGLE_")}
        paths = [str(self.site_dir), *filter(None, [env.get("PYTHONPATH")])]
        env |= {"PYTHONPATH": os.pathsep.join(paths), "FAKE_KAGGLE_ENDPOINT": self.url}
        return env | self._client_env(token)

    def _client_env(self, token: str | None) -> dict[str, str]:
        env = {"HOME": str(self.home), "KAGGLE_CONFIG_DIR": str(self.home / ".kaggle")}
        value = self.token if token is None else token
        return {**env, "KAGGLE_API_TOKEN": value} if value else env
