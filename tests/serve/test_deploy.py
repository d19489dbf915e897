"""The files for containers and services, checked as far as they can be without either."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from serve.metrics import Metrics
from serve.settings import ServeSettings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()


def test_the_image_copies_what_is_there_and_installs_the_server():
    lines = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    named = [name for line in lines for name in line.split()]
    assert named
    ignore = (DEPLOY / "Dockerfile.dockerignore").read_text().split()
    for name in named:
        assert (ROOT / name).exists(), name
        assert f"!{name}" in ignore
    assert "ARG EXTRAS=serve\n" in DOCKERFILE
    assert re.search(r"^USER (?!root)", DOCKERFILE, re.MULTILINE)
    packages = re.search(r"^packages = \[(.*)\]$", (ROOT / "pyproject.toml").read_text(), re.M)
    assert {name.strip('" ') for name in packages[1].split(",")} <= set(named)


@pytest.mark.parametrize("path", sorted(DEPLOY.iterdir()), ids=lambda path: path.name)
def test_variables_are_settings(path):
    if path.is_dir():
        return
    known = {f"ASR_SERVE_{name.upper()}" for name in ServeSettings.__dataclass_fields__}
    assert set(re.findall(r"ASR_SERVE_\w+", path.read_text())) <= known


def test_compose():
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    services = compose["services"]
    assert (DEPLOY / services["asr"]["build"]["context"]).resolve() == ROOT
    assert (ROOT / services["asr"]["build"]["dockerfile"]).is_file()
    for service in services.values():
        for volume in service.get("volumes", ()):
            assert (DEPLOY / volume.split(":")[0]).is_file(), volume
        for port in service["ports"]:
            assert port.startswith("127.0.0.1:")  # whoever opens it to others means to
    grace = int(services["asr"]["stop_grace_period"].removesuffix("s"))
    assert grace > ServeSettings().drain_seconds
    scraped = yaml.safe_load((DEPLOY / "prometheus.yaml").read_text())["scrape_configs"][0]
    assert scraped["static_configs"][0]["targets"] == [f"asr:{ServeSettings().port}"]


def test_clusters_have_settings_that_there_are():
    ray = pytest.importorskip("ray", reason="ray is not installed (extra [cluster])")
    from serve.cluster import app

    compose = yaml.safe_load((DEPLOY / "compose-cluster.yaml").read_text())
    command = compose["services"]["head"]["command"][0]
    arguments = re.search(r"serve\.cluster:app (.*)$", command)[1].split()
    assert app(dict(argument.split("=") for argument in arguments))
    for service in compose["services"].values():
        for volume in service.get("volumes", ()):
            assert (DEPLOY / volume.split(":")[0]).is_file(), volume
    kuberay = yaml.safe_load((DEPLOY / "kuberay.yaml").read_text())["spec"]
    (application,) = yaml.safe_load(kuberay["serveConfigV2"])["applications"]
    assert application["import_path"] == "serve.cluster:app"
    assert app(application["args"])
    assert kuberay["rayClusterConfig"]["rayVersion"] == ray.__version__


def test_the_board_shows_numbers_that_there_are():
    board = json.loads((DEPLOY / "grafana" / "board.json").read_text())
    told = Metrics().render().decode()
    known = set(re.findall(r"^# TYPE (\S+)", told, re.MULTILINE))
    known |= {f"{name}_{part}" for name in known for part in ("bucket", "sum", "count")}
    shown = {
        name
        for panel in board["panels"]
        for target in panel["targets"]
        for name in re.findall(r"(?:asr_serve|process)_\w+", target["expr"])
    }
    assert len(shown) > 8
    assert shown <= known
    sources = yaml.safe_load((DEPLOY / "grafana" / "datasources.yaml").read_text())
    uids = {panel["datasource"]["uid"] for panel in board["panels"]}
    assert uids == {sources["datasources"][0]["uid"]}


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_the_unit(tmp_path):
    text = (DEPLOY / "asr-serve.service").read_text()
    assert int(re.search(r"TimeoutStopSec=(\d+)", text)[1]) > ServeSettings().drain_seconds
    unit = tmp_path / "asr-serve.service"
    unit.write_text(text.replace("/opt/asr/bin/asr-serve", shutil.which("true") or ""))
    result = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    assert str(unit) not in result.stderr
