"""`python -m chexvision` is the `chexvision` command."""

from __future__ import annotations

from chexvision.cli import main

if __name__ == "__main__":
    main()
