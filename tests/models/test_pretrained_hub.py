"""Loading weights by a Hugging Face repo id: from a cache folder, and from a server on this host.

Each runs in a process of its own, as huggingface_hub reads its environment when it is imported.
"""

import hashlib
import http.server
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import lucid
from lucid import models
from lucid._extras import install
from tests.models.test_pretrained import timm_state

pytest.importorskip("huggingface_hub")

NAME = "mobilenetv4_conv_small.e3600_r256_in1k"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONFIG = {
    "architecture": "mobilenetv4_conv_small",
    "num_classes": 4,
    "pretrained_cfg": {
        "input_size": [3, 320, 320],
        "crop_pct": 1.0,
        "interpolation": "bilinear",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
    },
}
# Loads, and prints the settings and some logits.
LOAD = """
import json, sys, warnings
warnings.simplefilter("error")
import lucid
model = lucid.models.mobilenet_v4_conv_small(4, weights=sys.argv[1]).eval()
with lucid.no_grad():
    logits = model(lucid.ones(1, 3, 64, 64)).tolist()
print(json.dumps({"cfg": model.pretrained_cfg, "logits": logits}))
"""


def run(home, repo_id, **environment):
    clean = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    return subprocess.run(
        [sys.executable, "-c", LOAD, repo_id],
        env={**clean, "HF_HOME": str(home), "NO_PROXY": "127.0.0.1", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).parents[2],
    )


def loaded(process):
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    lucid.save(timm_state("conv_small"), path)
    return path


@pytest.fixture(scope="module")
def logits(weights):
    model = models.mobilenet_v4_conv_small(4, weights=weights).eval()
    with lucid.no_grad():
        return model(lucid.ones(1, 3, 64, 64)).numpy()


def fill_cache(home, files, repo_id=f"timm/{NAME}"):
    """Lay files out as the hub's cache does: blobs by hash, a snapshot of links, a ref to it."""
    folder = home / "hub" / f"models--{repo_id.replace('/', '--')}"
    snapshot = folder / "snapshots" / COMMIT
    for part in (snapshot, folder / "blobs", folder / "refs"):
        part.mkdir(parents=True)
    (folder / "refs" / "main").write_text(COMMIT)
    for name, content in files.items():
        blob = folder / "blobs" / hashlib.sha256(content).hexdigest()
        blob.write_bytes(content)
        (snapshot / name).symlink_to(os.path.relpath(blob, snapshot))
    return snapshot


@pytest.mark.parametrize("prefix", ["", "hf-hub:", "hf_hub:"])
def test_from_the_cache_without_a_network(tmp_path, weights, logits, prefix):
    config = json.dumps(CONFIG).encode()
    fill_cache(tmp_path, {"model.safetensors": weights.read_bytes(), "config.json": config})
    found = loaded(run(tmp_path, f"{prefix}timm/{NAME}", HF_HUB_OFFLINE="1"))
    np.testing.assert_allclose(found["logits"], logits, rtol=1e-5)
    assert found["cfg"] == {**CONFIG["pretrained_cfg"], "num_classes": 4}


def test_without_a_config_the_table_tells(tmp_path, weights):
    fill_cache(tmp_path, {"model.safetensors": weights.read_bytes()})
    cfg = loaded(run(tmp_path, f"timm/{NAME}", HF_HUB_OFFLINE="1"))["cfg"]
    assert cfg["input_size"] == [3, 256, 256]
    assert cfg["crop_pct"] == 0.95
    assert cfg["mean"] == [0.5, 0.5, 0.5]
    assert cfg["num_classes"] == 4


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {},
            f"FileNotFoundError: weights: there is no file 'timm/{NAME}', and model.safetensors of "
            "the Hugging Face repository of that name is out of reach: HF_HUB_OFFLINE is set",
        ),
        ({"model.safetensors": b"broken"}, "model.safetensors is not a .safetensors file of"),
        (
            {"model.safetensors": None, "config.json": b"{broken"},
            "config.json is not a JSON file of settings: ",
        ),
        (
            {"model.safetensors": None, "config.json": b'{"crop_pct": "all"}'},
            "config.json: 'crop_pct': expected a number over 0 and at most 1, got 'all'",
        ),
    ],
    ids=["missing", "weights", "config", "setting"],
)
def test_what_cannot_be_loaded_from_the_cache(tmp_path, weights, files, message):
    contents = {name: weights.read_bytes() if c is None else c for name, c in files.items()}
    if contents:
        fill_cache(tmp_path, contents)
    process = run(tmp_path, f"timm/{NAME}", HF_HUB_OFFLINE="1")
    assert process.returncode == 1
    last = process.stderr.strip().splitlines()[-1]
    assert message in last
    assert last.startswith(("FileNotFoundError: ", "ValueError: "))


# -- a download -------------------------------------------------------------------------------


@pytest.fixture
def reported():
    """What the hub says of the weights; a test may change it."""
    return {}


@pytest.fixture
def server(weights, reported):
    """A hub on this host with one repository, and the list of what was asked of it."""
    content = weights.read_bytes()
    reported["sum"] = hashlib.sha256(content).hexdigest()
    asked = []

    class Hub(http.server.BaseHTTPRequestHandler):
        def answer(self, with_body):
            asked.append(f"{self.command} {self.path}")
            if self.path == f"/timm/{NAME}/resolve/main/model.safetensors":
                self.send_response(200)
                self.send_header("ETag", f'"{reported.get("sum") or "0" * 64}"')
                self.send_header("X-Linked-Size", str(reported.get("size", len(content))))
                self.send_header("Content-Length", str(len(content)))
                body = content
            else:
                known = self.path.startswith(f"/timm/{NAME}/")
                self.send_response(404)
                self.send_header("X-Error-Code", "EntryNotFound" if known else "RepoNotFound")
                self.send_header("Content-Length", "0")
                body = b""
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        def do_GET(self):
            self.answer(True)

        def do_HEAD(self):
            self.answer(False)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}", asked
        running.shutdown()
        thread.join()


def test_a_download_shows_its_progress_and_stays_in_the_cache(tmp_path, server, logits):
    address, asked = server
    # The bar is for terminals; -1 is how it is had elsewhere.
    process = run(tmp_path, f"timm/{NAME}", HF_ENDPOINT=address, TQDM_POSITION="-1")
    found = loaded(process)
    np.testing.assert_allclose(found["logits"], logits, rtol=1e-5)
    assert found["cfg"]["input_size"] == [3, 256, 256]
    assert "model.safetensors: 100%" in process.stderr
    assert any(line.startswith("GET") for line in asked)
    assert (tmp_path / "hub" / f"models--timm--{NAME}").is_dir()
    asked.clear()
    again = loaded(run(tmp_path, f"timm/{NAME}", HF_HUB_OFFLINE="1", HF_ENDPOINT=address))
    assert again == found
    assert asked == []


def test_a_download_of_another_sum_or_size_is_refused(tmp_path, server, reported):
    right = reported["sum"]
    reported["sum"] = "ab" * 32
    process = run(tmp_path, f"timm/{NAME}", HF_ENDPOINT=server[0])
    last = process.stderr.strip().splitlines()[-1]
    assert "ValueError: weights: " in last
    assert f"is damaged: its sha256 is {right}, the hub's {'ab' * 32}; delete " in last
    reported.update(sum=right, size=10**6)
    process = run(tmp_path / "other", f"timm/{NAME}", HF_ENDPOINT=server[0])
    last = process.stderr.strip().splitlines()[-1]
    assert "FileNotFoundError: weights: " in last
    assert "should be of size 1000000" in last


def test_a_file_that_changed_in_the_cache_is_refused(tmp_path, weights):
    snapshot = fill_cache(tmp_path, {"model.safetensors": weights.read_bytes()})
    path = snapshot / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    last = run(tmp_path, f"timm/{NAME}", HF_HUB_OFFLINE="1").stderr.strip().splitlines()[-1]
    assert "model.safetensors is damaged: its sha256 is " in last


@pytest.mark.parametrize(
    "weights_argument", [NAME.partition(".")[2], NAME, f"timm/{NAME}"], ids=["tag", "name", "id"]
)
def test_by_tag_or_by_name(tmp_path, weights, logits, weights_argument):
    fill_cache(tmp_path, {"model.safetensors": weights.read_bytes()})
    found = loaded(run(tmp_path, weights_argument, HF_HUB_OFFLINE="1"))
    np.testing.assert_allclose(found["logits"], logits, rtol=1e-5)


def test_a_repository_that_does_not_exist(tmp_path, server):
    process = run(tmp_path, "timm/nothing", HF_ENDPOINT=server[0])
    last = process.stderr.strip().splitlines()[-1]
    assert "FileNotFoundError: weights: there is no file 'timm/nothing', and model.safete" in last
    assert "404" in last


def test_without_huggingface_hub_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=re.escape(install("hub"))):
        models.mobilenet_v4_conv_small(weights=f"timm/{NAME}")
