"""From a bucket to a bucket, by pyarrow's own client and a server of S3 on this machine."""

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from solo_family.cli.many import run as run_module

from ..test_demo import _scene
from .test_predict_many import Model, run

moto = pytest.importorskip("moto.server", reason="needs a server of S3: pip install moto[server]")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setattr(logging.getLogger("werkzeug"), "disabled", True)
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"endpoint_override={host}:{port}&scheme=http&region=us-east-1"
    server.stop()


def files(bucket: Any, folder: str) -> dict[str, bytes]:
    from pyarrow import fs

    found = bucket.get_file_info(fs.FileSelector(folder))
    keys = [one.path for one in found if one.type == fs.FileType.File]
    return {Path(key).name: bucket.open_input_file(key).read() for key in keys}


def test_from_a_bucket_to_a_bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyarrow import fs

    bucket, _ = fs.FileSystem.from_uri(f"s3://pictures?{server}&allow_bucket_creation=true")
    bucket.create_dir("pictures")
    for index in range(5):
        content = io.BytesIO()
        Image.fromarray(_scene(150 + index)).save(content, "PNG")
        with bucket.open_output_stream(f"pictures/in/{'z/' * (index % 2)}{index} #.png") as file:
            file.write(content.getvalue() if index != 2 else b"broken")
    model = Model(monkeypatch)
    words = ["--input", f"s3://pictures/in?{server}", "--recursive", "--shard-size", "2"]
    words += ["--save", "coco-rle", "--output", f"s3://pictures/results/of in?{server}"]
    monkeypatch.setattr(run_module, "_CHUNK", 2)
    model.limit = 3
    assert run(*words) == 130
    assert "00000.parquet" in files(bucket, "pictures/results/of in/shards")
    assert "coco_rle.json" not in files(bucket, "pictures/results/of in")
    model.limit = 10**9
    assert run(*words) == 1
    assert len(model.seen) == 4  # none twice
    after = files(bucket, "pictures/results/of in")
    assert sorted(after) == ["coco_rle.json", "inputs.txt", "manifest.json"]
    rows = pq.read_table("pictures/results/of in/shards", filesystem=bucket).to_pylist()
    places = ["0 #", "2 #", "4 #", "z/1 #", "z/3 #"]
    names = [f"s3://pictures/in/{place}.png" for place in places]
    assert [row["file_name"] for row in rows] == names
    assert [row["error"] is not None for row in rows] == [place == "2 #" for place in places]
    coco = json.loads(after["coco_rle.json"])
    assert [image["file_name"] for image in coco["images"]] == [names[0], *names[2:]]
    scores = [round(row["scores"][0] * 255) for row in rows if not row["error"]]
    assert np.abs(np.subtract(scores, [150, 154, 151, 153])).max() <= 1
    assert b"endpoint" not in after["inputs.txt"] + after["manifest.json"]
