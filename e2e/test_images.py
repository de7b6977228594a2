"""The images: what the Dockerfiles say, and what is in the archives of `make images` where they were made."""
import io
import json
import os
import pathlib
import re
import tarfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
ARCHIVES = pathlib.Path(os.environ.get("KB_IMAGE_ARCHIVES", ROOT / "build/images"))
PROGRAMS = ("operator", "worker")
VERSION = re.search(r'KB_VERSION "(.*)"', (ROOT / "common/contract/version.h").read_text())[1]


@pytest.mark.parametrize("program", PROGRAMS)
def test_dockerfile_builds_on_debian_and_ends_in_nothing_but_the_program(program):
    stages = re.split(r"^FROM ", (ROOT / f"Dockerfile.{program}").read_text(), flags=re.M)
    assert "ARG BASE=docker.io/library/debian:trixie-slim" in stages[0]
    assert stages[1].startswith("${BASE} AS build")
    final = stages[-1]
    assert final.startswith("scratch")
    assert "\nRUN" not in final and "\nUSER 1000:1000" in final
    assert f'ENTRYPOINT ["/usr/bin/kafka-backup-{program}"]' in final
    assert f"ARG VERSION={VERSION}\n" in final
    for label in ("title", "description", "version", "revision", "licenses"):
        assert f"org.opencontainers.image.{label}=" in final


def test_dockerfiles_share_the_layers_that_cost_most():
    first = [(ROOT / f"Dockerfile.{program}").read_text().split("COPY . .")[0].split("ARG BASE")[1]
             for program in PROGRAMS]
    assert first[0] == first[1]


def read_archive(path):
    """(configuration, names of all files)"""
    with tarfile.open(path) as archive:
        manifest = json.load(archive.extractfile("manifest.json"))[0]
        config = json.load(archive.extractfile(manifest["Config"]))
        names = set()
        for layer in manifest["Layers"]:
            with tarfile.open(fileobj=io.BytesIO(archive.extractfile(layer).read())) as files:
                names.update(entry.name.removeprefix("./").rstrip("/") for entry in files)
    return config, names


@pytest.mark.parametrize("program", PROGRAMS)
def test_archive_holds_program_libraries_and_no_shell(program):
    path = ARCHIVES / f"{program}.tar"
    if not path.exists():
        pytest.skip("make images was not run")
    config, names = read_archive(path)
    assert config["config"]["User"] == "1000:1000"
    assert config["config"]["Entrypoint"] == [f"/usr/bin/kafka-backup-{program}"]
    assert config["config"]["Labels"]["org.opencontainers.image.version"] == VERSION
    assert f"usr/bin/kafka-backup-{program}" in names
    assert "etc/ssl/certs/ca-certificates.crt" in names and "usr/share/zoneinfo/Europe/Berlin" in names
    programs = {name for name in names if re.match(r"(usr/)?s?bin/.", name)}
    assert programs == {f"usr/bin/kafka-backup-{program}"}
    assert any(re.search(r"/libc\.so\.6$", name) for name in names)
    # a scanner finds the package of each library
    assert {"var/lib/dpkg/status.d/libc6", "usr/share/doc/libc6/copyright"} <= names
    assert ("var/lib/dpkg/status.d/liblz4-1" in names) == (program == "worker")
