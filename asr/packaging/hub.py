"""Models on the Hugging Face Hub: `hf://owner/name`, or `hf://owner/name@revision`.

A bundle is a folder of files with checksums, and is uploaded as it is. What was downloaded is
checked as any bundle. Needs the extra `hub`.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from types import ModuleType

from asr.errors import BundleError, ConfigError, MissingDependencyError

_ADDRESS = re.compile(r"^hf:/{1,2}([\w.-]+/[\w.-]+)(?:@([\w./-]+))?$")  # a Path has one slash


def download(address: str | os.PathLike[str]) -> Path:
    """The folder of a model of the Hub, fetched unless it is here already.

    Raises ConfigError for an address that is none, BundleError if it cannot be fetched,
    MissingDependencyError without huggingface_hub.
    """
    repository, revision = _parse(address)
    hub = _library()
    try:
        return Path(hub.snapshot_download(repository, revision=revision or None))
    except (hub.errors.HfHubHTTPError, hub.errors.LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise BundleError(
            f"hf://{repository}: cannot be fetched: {reason}",
            "check the name and the network; `hf auth login` for private models",
        ) from error


def upload(folder: Path, repository: str) -> str:
    """Upload the files of a folder to `owner/name`; returns the address. Raises as `download`."""
    name, _ = _parse(f"hf://{repository.removeprefix('hf://')}")
    hub = _library()
    api = hub.HfApi()
    try:
        api.create_repo(name, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder, commit_message="Upload model")
    except (hub.errors.HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise BundleError(
            f"hf://{name}: cannot be uploaded: {reason}", "`hf auth login`, and check the name"
        ) from error
    return f"hf://{name}"


def downloaded() -> list[tuple[str, Path]]:
    """Addresses and folders of what was fetched: models, and what other programs fetched."""
    hub = _library()
    try:
        repositories = hub.scan_cache_dir().repos
    except hub.errors.CacheNotFound:
        return []
    return sorted(
        (f"hf://{repository.repo_id}", Path(revision.snapshot_path))
        for repository in repositories
        for revision in repository.revisions
    )


def hub_card(card: str, language: str) -> str:
    """The card below the header that the Hub reads; a card that has a header stays as it is.

    >>> print(hub_card("# Mine", "en"))
    ---
    language: "en"
    library_name: blstm-ctc-asr
    pipeline_tag: automatic-speech-recognition
    tags: [speech recognition, CTC, BLSTM]
    ---
    <BLANKLINE>
    # Mine
    """
    if card.startswith("---\n"):
        return card
    header = [
        f"language: {json.dumps(language)}",
        "library_name: blstm-ctc-asr",
        "pipeline_tag: automatic-speech-recognition",
        "tags: [speech recognition, CTC, BLSTM]",
    ]
    return "\n".join(["---", *header, "---", "", card])


def _parse(address: str | os.PathLike[str]) -> tuple[str, str]:
    found = _ADDRESS.match(os.fspath(address))
    if found is None:
        raise ConfigError(
            f"{address}: no address of a model",
            "write hf://owner/name, or hf://owner/name@revision",
        )
    return found[1], found[2] or ""


def _library() -> ModuleType:
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "models of the Hub need huggingface_hub", "pip install 'blstm-ctc-asr[hub]'"
        ) from error
    return huggingface_hub
