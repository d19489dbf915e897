"""A model on disk: one folder that says everything about itself, and can prove that it is intact.

    config.json        what it is: name, language, features, network, decoder settings, provenance
    vocabulary.json    the network's output classes
    model.onnx         the network, for transcribing
    model.safetensors  its weights, for training on
    lm.bin             word n-gram language model (optional)
    lexicon.bin        the words the decoder may spell (optional; else those of the model)
    rescorer.onnx      recurrent language model that ranks the texts found (optional)
    punctuation.onnx   restores case and punctuation (optional)
    README.md          the model card
    checksums.json     SHA-256 of every other file

All of it is plain data: loading a bundle runs no code of it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asr.config import build, to_dict
from asr.errors import ASRError, BundleError, ConfigError, MissingDependencyError
from asr.features import FeatureConfig
from asr.files import open_binary, replacing
from asr.text.vocabulary import Vocabulary

FORMAT, VERSION = "asr-bundle", 1
CONFIG, VOCABULARY, CHECKSUMS, CARD = (
    "config.json",
    "vocabulary.json",
    "checksums.json",
    "README.md",
)
ONNX, WEIGHTS, LM, LEXICON = "model.onnx", "model.safetensors", "lm.bin", "lexicon.bin"
SECOND_VOCABULARY = "second-vocabulary.json"
RESCORER, PUNCTUATION = "rescorer.onnx", "punctuation.onnx"
REQUIRED = {CONFIG, VOCABULARY, ONNX, CARD}
MAX_JSON_BYTES = 16 << 20
MAX_FILE_BYTES = 4 << 30  # more than any file of a model; a sparse file may claim any size
IN_USE = frozenset({".onnx", ".bin", ".safetensors", ".json"})  # endings of what a program reads
_DAMAGE = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, MemoryError)
BUNDLED = Path(__file__).parents[1] / "bundled"  # models that come with the package


@dataclass(frozen=True)
class BundleConfig:
    """What `config.json` holds.

    `frame_shift` is the time (s) from one row of the network's output to the next. `model`,
    `decoder` and `training` are the settings of the network and the decoder, and where it all came
    from (data, command, code version); rooms that understand them read them.
    """

    name: str
    language: str
    features: FeatureConfig
    frame_shift: float
    model: Mapping[str, Any] = field(default_factory=dict)
    decoder: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.name or not self.language or not 0 < self.frame_shift < 1:
            raise ConfigError(
                f"name {self.name!r}, language {self.language!r}, frame_shift {self.frame_shift}:"
                " the first two may not be empty, the last is in seconds"
            )


@dataclass(frozen=True)
class Bundle:
    """An intact bundle; `files` are the sizes of its files in bytes."""

    folder: Path
    config: BundleConfig
    vocabulary: Vocabulary
    files: Mapping[str, int]

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Bundle:
        """Read and check a bundle, in a folder or at `hf://owner/name` (`asr.packaging.hub`).

        Raises BundleError, with the reason, for what is no bundle, was made by a newer version,
        differs from its checksums, or holds a model's file that they do not list.
        """
        if os.fspath(folder).startswith("hf:/"):  # a Path has one slash
            from asr.packaging.hub import download  # here: most models are folders

            folder = download(folder)
        folder = Path(folder)
        try:
            is_folder, has_config = folder.is_dir(), (folder / CONFIG).is_file()
        except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
            reason = getattr(error, "strerror", None) or error
            raise BundleError(f"{folder}: cannot be read: {reason}", "check the name") from error
        if not is_folder:
            raise BundleError(
                f"{folder}: no such folder", "give the folder of a model, or none for the bundled"
            )
        if not has_config:
            raise BundleError(
                f"{folder}: not a model: no {CONFIG} in it", "make one with `asr export`"
            )
        data = _read_object(folder / CONFIG)
        _check_format(folder, data)
        files = _check_files(folder)
        try:
            config = _parse_config(data)
            vocabulary = Vocabulary.load(folder / VOCABULARY)
        except ASRError as error:
            raise BundleError(
                f"{folder}: {error.cause}", error.remedy or "copy or export it again"
            ) from error
        return cls(folder, config, vocabulary, files)

    @classmethod
    def create(
        cls,
        folder: str | os.PathLike[str],
        config: BundleConfig,
        vocabulary: Vocabulary,
        files: Mapping[str, Path | bytes],
        card: str,
    ) -> Bundle:
        """Write a bundle; it appears at once and whole.

        Args:
            files: contents, or a file to copy, for the network, its weights and so on, by name.
            card: the model card, in Markdown.

        Raises BundleError if the folder exists and is not empty, or `model.onnx` is missing.
        """
        folder = Path(folder)
        if folder.exists() and any(folder.iterdir()):
            raise BundleError(f"{folder}: exists already", "choose another name or remove it")
        with replacing(folder) as temporary:
            temporary.mkdir()
            header = {"format": FORMAT, "version": VERSION}
            _write_object(temporary / CONFIG, header | to_dict(config))
            vocabulary.save(temporary / VOCABULARY)
            (temporary / CARD).write_text(card, encoding="utf-8")
            for name, content in files.items():
                if isinstance(content, bytes):
                    (temporary / name).write_bytes(content)
                else:
                    shutil.copyfile(content, temporary / name)
            sums = {path.name: _sha256(path) for path in sorted(temporary.iterdir())}
            _write_object(temporary / CHECKSUMS, sums)
            cls.load(temporary)
        return cls.load(folder)

    def with_decoder(self, settings: Mapping[str, Any]) -> Bundle:
        """Write other settings of the decoder into the bundle's folder, and read it again."""
        config = _read_object(self.folder / CONFIG) | {"decoder": dict(settings)}
        return self.with_file(CONFIG, _json(config))

    def with_file(self, name: str, content: bytes) -> Bundle:
        """Replace or add one file of the bundle, and read the bundle again."""
        sums = _read_object(self.folder / CHECKSUMS)
        with replacing(self.folder / name) as temporary:
            temporary.write_bytes(content)
            sums[name] = _sha256(temporary)
        with replacing(self.folder / CHECKSUMS) as temporary:
            _write_object(temporary, sums)
        return Bundle.load(self.folder)

    @property
    def model_path(self) -> Path:
        return self.folder / ONNX

    @property
    def weights_path(self) -> Path | None:
        return self._path(WEIGHTS)

    @property
    def lm_path(self) -> Path | None:
        return self._path(LM)

    @property
    def lexicon_path(self) -> Path | None:
        return self._path(LEXICON)

    @property
    def second_vocabulary(self) -> Vocabulary | None:
        """What the network's second head spells, if it has one: see `asr.decode.decoder`."""
        path = self._path(SECOND_VOCABULARY)
        return Vocabulary.load(path) if path else None

    @property
    def head_kind(self) -> str:
        """`ctc`, `transducer` or `attention`: what turns the network's output into text."""
        heads: Any = self.config.model.get("heads", {})
        heads = heads if isinstance(heads, Mapping) else {}
        described = [head for head in heads.values() if isinstance(head, Mapping)]
        return described[0].get("kind", "ctc") if described else "ctc"

    def check_ctc(self, purpose: str) -> None:
        """Raise BundleError if the network is none that gives each frame its probabilities."""
        if self.head_kind != "ctc":
            raise BundleError(
                f"{self.folder}: {purpose} needs a CTC head, this model is a {self.head_kind}",
                "export a CTC head of the same run (asr export --head)",
            )

    @property
    def rescorer_path(self) -> Path | None:
        return self._path(RESCORER)

    @property
    def punctuation_path(self) -> Path | None:
        return self._path(PUNCTUATION)

    @property
    def fingerprint(self) -> str:
        """The same for no other model: a hash of all that it consists of."""
        return _sha256(self.folder / CHECKSUMS)[:16]

    @property
    def card(self) -> str:
        return (self.folder / CARD).read_text(encoding="utf-8")

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Load parts of the bundle: what is wrong with them is a BundleError that names it."""
        try:
            yield
        except (BundleError, ConfigError, MissingDependencyError):
            raise
        except ASRError as error:
            raise BundleError(
                error.cause if str(self.folder) in error.cause else f"{self.folder}: {error.cause}",
                error.remedy or "copy or export it again",
            ) from error
        except _DAMAGE as error:
            raise BundleError(
                f"{self.folder}: damaged, its parts do not fit together: {error!r}",
                "copy or export it again",
            ) from error

    def path(self, name: str) -> Path:
        """Where a file of the bundle is; BundleError if the checksums do not list it."""
        if name not in self.files:
            raise BundleError(f"{self.folder}: lacks {name}", "export it again")
        return self.folder / name

    def _path(self, name: str) -> Path | None:
        return self.folder / name if name in self.files else None


def bundled(language: str = "en") -> Path:
    """The folder of the model that comes with the package.

    Raises BundleError if there is none for this language.
    """
    folder = BUNDLED / language
    if not (folder / CONFIG).is_file():
        raise BundleError(
            f"no model for {language!r} comes with this installation",
            "name the folder of a model, or train one with `asr train`",
        )
    return folder


def _check_format(folder: Path, data: dict[str, Any]) -> None:
    if data.get("format") != FORMAT:
        raise BundleError(
            f"{folder}: not a model of ours: its {CONFIG} has format {data.get('format')!r}",
            "make one with `asr export`",
        )
    version = data.get("version")
    if not isinstance(version, int) or version < 1:
        raise BundleError(
            f"{folder}: damaged: {CONFIG} has version {version!r}", "copy the folder again"
        )
    if version > VERSION:
        raise BundleError(
            f"{folder}: a model of version {version}, this program reads up to {VERSION}",
            "pip install --upgrade blstm-ctc-asr",
        )


def _check_files(folder: Path) -> dict[str, int]:
    """Sizes of the files that the checksums list, all of which are there and unchanged."""
    sums = _read_object(folder / CHECKSUMS)
    if missing := REQUIRED - sums.keys():
        raise BundleError(
            f"{folder}: damaged: {CHECKSUMS} lacks {', '.join(sorted(missing))}",
            "copy the folder again",
        )
    _check_nothing_else(folder, sums)
    sizes = {}
    for name, expected in sums.items():
        if Path(name).name != name or name in ("", "..") or "\0" in name:
            raise BundleError(
                f"{folder}: {CHECKSUMS} names {name!r}, which is outside the folder",
                "do not use this model: get it from who made it",
            )
        path = folder / name
        try:
            actual = _sha256(path)
        except OSError as error:
            reason = error.strerror or error
            raise BundleError(
                f"{folder}: damaged: {name} cannot be read: {reason}", "copy the folder again"
            ) from error
        if actual != expected:
            raise BundleError(
                f"{folder}: damaged: {name} is not the file that its checksum was made of",
                "copy the folder again",
            )
        sizes[name] = path.stat().st_size
    return sizes


def _check_nothing_else(folder: Path, sums: Mapping[str, Any]) -> None:
    """Files that a program would read, and that nobody has vouched for, are no part of a model.

    Notes, pictures and hidden files may lie beside it.
    """
    foreign = sorted(
        path.name
        for path in folder.iterdir()
        if path.suffix in IN_USE and path.name not in sums and path.name != CHECKSUMS
        if not path.name.startswith(".")
    )
    if foreign:
        raise BundleError(
            f"{folder}: {', '.join(foreign)}: not in {CHECKSUMS}, so it cannot be verified",
            "move it out of the folder, or export the model with it",
        )


def _parse_config(data: dict[str, Any]) -> BundleConfig:
    known = {"format", "version", *BundleConfig.__dataclass_fields__}
    if foreign := data.keys() - known:
        raise BundleError(
            f"damaged: {CONFIG} has unknown settings: {', '.join(sorted(foreign))}",
            "copy the folder again",
        )
    groups = {name: data.get(name, {}) for name in ("features", "model", "decoder", "training")}
    name, language, frame_shift = (data.get(key) for key in ("name", "language", "frame_shift"))
    if (
        not all(isinstance(group, dict) for group in groups.values())
        or not (isinstance(name, str) and isinstance(language, str))
        or not isinstance(frame_shift, int | float)
    ):
        raise BundleError(
            f"damaged: {CONFIG} lacks a name, a language, a frame_shift or a group",
            "copy the folder again",
        )
    features = build(FeatureConfig, groups.pop("features"), "features")
    return BundleConfig(name, language, features, float(frame_shift), **groups)


def _read_object(path: Path) -> dict[str, Any]:
    try:
        with open_binary(path) as file:
            content = file.read(MAX_JSON_BYTES + 1)
        if len(content) > MAX_JSON_BYTES:
            raise BundleError(
                f"{path}: damaged: more than {MAX_JSON_BYTES} bytes of settings",
                "copy the folder again",
            )
        data = json.loads(content.decode("utf-8"))
    except OSError as error:
        raise BundleError(
            f"{path}: cannot be read: {error.strerror or error}", "copy the folder again"
        ) from error
    except (ValueError, RecursionError) as error:
        raise BundleError(
            f"{path}: damaged: not JSON ({error})", "copy the folder again"
        ) from error
    if not isinstance(data, dict):
        raise BundleError(f"{path}: damaged: not a JSON object", "copy the folder again")
    return data


def _write_object(path: Path, data: Mapping[str, Any]) -> None:
    path.write_bytes(_json(data))


def _json(data: Mapping[str, Any]) -> bytes:
    return (json.dumps(data, ensure_ascii=False, indent=1) + "\n").encode()


def _sha256(path: Path) -> str:
    with open_binary(path) as file:
        if os.fstat(file.fileno()).st_size > MAX_FILE_BYTES:
            raise OSError(errno.EFBIG, "too large for a file of a model", str(path))
        return hashlib.file_digest(file, "sha256").hexdigest()
