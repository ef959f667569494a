"""What the page's own code says about a file, called in a page that is open."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from playwright.sync_api import Page

_READ = """async ([files, anyView]) => {
  const { readRadiograph } = await import('./chexvision.js')
  const read = async (file) => {
    const bytes = Uint8Array.from(atob(file), (letter) => letter.charCodeAt(0))
    try {
      const { pixels, width, height, notes, warnings } = await readRadiograph(bytes.buffer, { anyView })
      const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', pixels))
      const sha256 = Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('')
      return { pixels: { shape: [height, width], sha256 }, notes, warnings, failed: null, anyViewHelps: false }
    } catch (error) {
      const { name, message, anyViewHelps } = error
      return { pixels: null, notes: [], warnings: [], failed: `${name}: ${message}`, anyViewHelps }
    }
  }
  const found = []
  for (const file of files) found.push(await read(file))
  return found
}"""

_ANSWER = """async ([file, folder]) => {
  const { loadEngine, loadInfo, readRadiograph } = await import('./chexvision.js')
  globalThis.engines ??= {}
  globalThis.engines[folder] ??= await loadEngine(folder, await loadInfo(folder))
  const bytes = Uint8Array.from(atob(file), (letter) => letter.charCodeAt(0))
  const answer = await globalThis.engines[folder].answer(await readRadiograph(bytes.buffer))
  const { maps } = answer
  return { ...answer, maps: maps && { shape: [maps.height, maps.width], values: Array.from(maps.values) } }
}"""


@dataclass(frozen=True, slots=True)
class Read:
    """One file as the page reads it: `pixels` is the digest that `digest_of` gives, or None where `failed`."""

    pixels: dict[str, Any] | None
    notes: list[str]
    warnings: list[str]
    failed: str | None
    anyViewHelps: bool


def digest_of(pixels: NDArray[np.uint8]) -> dict[str, Any]:
    """The shape and the SHA-256 of uint8[H, W]."""
    return {"shape": list(pixels.shape), "sha256": hashlib.sha256(pixels.tobytes()).hexdigest()}


def read_in(page: Page, data: bytes, *, any_view: bool = False) -> Read:
    """Have the page read a file."""
    return read_all_in(page, [data], any_view=any_view)[0]


def read_all_in(page: Page, files: Sequence[bytes], *, any_view: bool = False) -> list[Read]:
    """Have the page read files, one after the other."""
    found = page.evaluate(_READ, [[base64.b64encode(data).decode() for data in files], any_view])
    return [Read(**one) for one in found]


def answer_in(page: Page, data: bytes, folder: str = "models/0") -> dict[str, Any]:
    """Have the page read a file and a model answer about it: see `Answer` of app/web/src/types.ts."""
    answer: dict[str, Any] = page.evaluate(_ANSWER, [base64.b64encode(data).decode(), folder])
    return answer
