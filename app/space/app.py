"""The Space: the model in models/0, as models.json describes it."""

from pathlib import Path

from chexvision.app.space_files import serve_space

if __name__ == "__main__":
    serve_space(Path(__file__).parent)
