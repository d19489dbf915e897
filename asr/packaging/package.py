"""A training run's folder made into a bundle: weights, ONNX graph, settings and model card.

And a bundle made into another with another network, or into that network alone.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import onnx
import torch
from safetensors.torch import load_file
from safetensors.torch import save as save_tensors
from torch import Tensor

from asr.config import build, to_dict
from asr.errors import BundleError, ConfigError, TrainingError
from asr.features import FeatureConfig
from asr.files import replacing
from asr.lexicon import Lexicon
from asr.lm.ngram import NGram
from asr.lm.recurrent import RecurrentLM
from asr.models.acoustic import AcousticModel, HeadConfig
from asr.models.encoders import encoder_config
from asr.packaging.bundle import (
    CARD,
    CHECKSUMS,
    CONFIG,
    LEXICON,
    LM,
    ONNX,
    PUNCTUATION,
    RESCORER,
    SECOND_VOCABULARY,
    VOCABULARY,
    WEIGHTS,
    Bundle,
    BundleConfig,
)
from asr.packaging.export import Precision, in_precision, to_onnx
from asr.packaging.export.graph import halve
from asr.packaging.export.heads import step_graphs
from asr.packaging.hub import hub_card, upload
from asr.punctuation.punctuator import Punctuator
from asr.text.phones import read_lexicon
from asr.text.vocabulary import SPECIAL, Vocabulary
from asr.train import checkpoint
from asr.train.checkpoint import BEST, LAST, MODEL_FILE

_WRITTEN = {CONFIG, VOCABULARY, CARD, CHECKSUMS}  # by whoever makes a bundle


def package_run(
    run: Path,
    output: Path,
    *,
    name: str,
    language: str = "en",
    head: str | None = None,
    second: str | None = None,
    precision: Precision = "int8",
    lm: Path | None = None,
    lexicon: Path | None = None,
    rescorer: Path | None = None,
    punctuation: Path | None = None,
    decoder: Mapping[str, Any] | None = None,
    right_context: int | Literal["all", "trained"] = "trained",
    card: str = "",
) -> Bundle:
    """Write the bundle of `run` into the new folder `output`.

    The weights are those of the finished run, or of its last checkpoint while it is still running
    (their moving average). `head` chooses what transcribes (default: the run's first head); one of
    phones needs a `lexicon` in CMUdict's format, of which the language model's words are kept.
    `second` is the head that may help to rank what the first one found (`asr.decode.decoder`),
    `rescorer` a recurrent language model that may (`asr.decode.decoder`), by `asr lm export`;
    `punctuation` is what `asr punctuation export` wrote. `right_context` (rows of features) is for
    networks in chunks; "all" reads whole utterances. The weights to train on from are kept in
    float16; the graph is made from the exact ones, in its own `precision`.

    Raises TrainingError if the folder holds no run.
    """
    description = read_description(run)
    if second is not None:
        _check_head(run, description, second)
    model, vocabulary, facts = load_run(run, head)
    if right_context != "trained":
        model.chunked_encoder().look_ahead(None if right_context == "all" else right_context)
    kind = model.head_configs[model.primary].kind
    if kind != "ctc":
        if lm is not None or lexicon is not None:
            raise ConfigError(
                f"the search of a {kind} knows neither lexicon nor word n-gram model",
                "leave --lm and --lexicon out; --rescorer takes a recurrent model of its units",
            )
        decoder = {"beam": 8, **(decoder or {})}  # each step runs a network
    if second is not None:
        _check_second(model, description, second)
    files: dict[str, Path | bytes] = {**network_files(model, second, precision)}
    if second is not None:
        files[SECOND_VOCABULARY] = _vocabulary(description, second).to_json().encode()
    if lm is not None:
        NGram.load(lm)  # raises if it is none
        files[LM] = lm
    if rescorer is not None:
        RecurrentLM(rescorer)  # raises if it is none
        files[RESCORER] = rescorer
    if punctuation is not None:
        Punctuator(punctuation)  # raises if it is none
        files[PUNCTUATION] = punctuation
    if lexicon is not None:
        files[LEXICON] = _lexicon(lexicon, vocabulary, lm)
    features = run_features(run)
    config = BundleConfig(
        name=name,
        language=language,
        features=features,
        frame_shift=frame_shift(model, features),
        model=network_description(model, second, precision),
        decoder=dict(decoder or {}),
        training={**facts, "settings": description["training"]},
    )
    return Bundle.create(output, config, vocabulary, files, card or _card(config))


def package_bundle(
    source: Bundle,
    output: Path,
    *,
    name: str,
    precision: Precision | None = None,
    model: AcousticModel | None = None,
    training: Mapping[str, Any] | None = None,
    card: str | None = None,
    lm: Path | None = None,
    lexicon: Path | None = None,
) -> Bundle:
    """Write `source` into the new folder `output`, with a graph of another `precision`.

    That is made of the weights in the bundle, which are float16 (so fp16 loses nothing more), or of
    another `model` that takes and gives the same; `training` and `card` can tell about it. `lm` is
    a language model instead of its own, and `lexicon` such pronunciations (CMUdict's format):
    the words of the lexicon are always those of the language model that can be pronounced.

    Raises ConfigError for a bundle without weights.
    """
    model = model or load_bundle(source)
    second, config = _second(source), source.config
    precision = precision or precision_of(source)
    return Bundle.create(
        output,
        replace(
            config,
            name=name,
            model=network_description(model, second, precision),
            training=config.training if training is None else training,
        ),
        source.vocabulary,
        {
            **{name: source.folder / name for name in source.files if name not in _WRITTEN},
            **network_files(model, second, precision),
            **_language_files(source, lm, lexicon),
        },
        source.card if card is None else card,
    )


def precision_of(bundle: Bundle) -> Precision:
    """How the network of a bundle keeps its weights."""
    weights = bundle.config.model["weights"]
    return "fp32" if weights == "float32" else weights  # as it was called at first


def save_network(bundle: Bundle, output: Path) -> None:
    """Write the network of a bundle as an ONNX file that tells by itself what it takes and gives.

    Its metadata are the settings of the `features`, the `symbols` of the outputs and perhaps
    `second_symbols` (all JSON), `frame_shift` (s), and `precision`; see also
    `asr.packaging.export.to_onnx`.

    Raises BundleError for a head that is not CTC, which is several graphs, and ConfigError for a
    file that is not called .onnx.
    """
    if output.suffix != ".onnx":
        raise ConfigError(f"{output}: its name does not tell its format", "name it *.onnx")
    bundle.check_ctc("a single graph")
    model = onnx.load(bundle.model_path)
    facts = {entry.key: entry.value for entry in model.metadata_props}
    facts["features"] = json.dumps(to_dict(bundle.config.features))
    facts["symbols"] = json.dumps(bundle.vocabulary.symbols)
    if second := bundle.second_vocabulary:
        facts["second_symbols"] = json.dumps(second.symbols)
    facts["frame_shift"] = str(bundle.config.frame_shift)
    facts["precision"] = precision_of(bundle)
    onnx.helper.set_model_props(model, facts)
    with replacing(output) as temporary:
        temporary.write_bytes(model.SerializeToString())


def frame_shift(model: AcousticModel, features: FeatureConfig) -> float:
    """Seconds from one row of the first head's output to the next."""
    layer = model.head_configs[model.primary].layer
    return features.frame_shift * model.encoder.config.rate(layer)


def network_files(
    model: AcousticModel, second: str | None, precision: Precision
) -> dict[str, bytes]:
    """What a bundle holds of a network: its graphs, and its weights for training on."""
    graphs = {ONNX: in_precision(to_onnx(model, second), precision)}
    for name, step in step_graphs(model.head(), small=precision == "int8").items():
        graphs[name] = halve(step) if precision == "fp16" else step
    weights = {k: v.half().contiguous() for k, v in model.state_dict().items()}
    return {
        **{name: graph.SerializeToString() for name, graph in graphs.items()},
        WEIGHTS: save_tensors(weights),
    }


def network_description(
    model: AcousticModel, second: str | None, precision: Precision
) -> dict[str, Any]:
    """What `BundleConfig.model` says of a network."""
    return {
        "encoder": to_dict(model.encoder.config),
        "heads": {n: to_dict(h) for n, h in model.head_configs.items()},
        "second": second,
        "parameters": sum(p.numel() for p in model.parameters()),
        "weights": precision,
    }


def load_bundle(bundle: Bundle) -> AcousticModel:
    """The network of a bundle, from the weights that are kept for training on.

    Raises ConfigError if it has none.
    """
    if bundle.weights_path is None:
        raise ConfigError(f"{bundle.folder} has no weights to continue from", "give the run")
    description = bundle.config.model
    heads = {n: build(HeadConfig, h) for n, h in description["heads"].items()}
    encoder = encoder_config(description["encoder"])
    model = AcousticModel(bundle.config.features.size, encoder, heads)
    model.load_state_dict({k: v.float() for k, v in load_file(bundle.weights_path).items()})
    return model.eval()


def load_run(
    run: Path, head: str | None = None
) -> tuple[AcousticModel, Vocabulary, dict[str, Any]]:
    """The network of a run, its vocabulary, and what is known about how good it is."""
    description = read_description(run)
    primary = head or next(iter(description["heads"]))
    _check_head(run, description, primary)
    heads = {primary: description["heads"][primary], **description["heads"]}
    features = build(FeatureConfig, description["features"])
    model = AcousticModel(
        features.size,
        encoder_config(description["model"]),
        {n: _head_config(h) for n, h in heads.items()},
    )
    weights, facts = _weights(run)
    model.load_state_dict(weights)
    return model.eval(), _vocabulary(description, primary), facts


def run_features(run: Path) -> FeatureConfig:
    """What the network of a run reads, with the statistics of its training set."""
    return build(FeatureConfig, read_description(run)["features"])


def _second(bundle: Bundle) -> str | None:
    """The name of the head that helps to rank, which bundles from before it was noted lack."""
    vocabulary = bundle.second_vocabulary
    if vocabulary is None:
        return None
    heads: Mapping[str, Any] = bundle.config.model["heads"]
    fitting = [name for name, h in list(heads.items())[1:] if h["classes"] == len(vocabulary)]
    noted = bundle.config.model.get("second")
    if noted is None and len(fitting) != 1:
        raise BundleError(f"{bundle.folder} does not tell its second head", "export it again")
    return noted or fitting[0]


def _check_second(model: AcousticModel, description: Mapping[str, Any], second: str) -> None:
    """A second head must be CTC, and spell what an attention decoder spells to be joined with it.

    A transducer has no use for one.
    """
    kind = model.head_configs[model.primary].kind
    symbols = [description["heads"][name]["symbols"] for name in (model.primary, second)]
    if model.head_configs[second].kind != "ctc" or kind == "transducer":
        raise ConfigError(f"a {kind} cannot be joined with the head {second!r}", "leave it out")
    if kind == "attention" and symbols[0] != symbols[1]:
        raise ConfigError(
            f"the head {second!r} spells other symbols than the attention decoder",
            "joint decoding needs the same units in both",
        )


def _head_config(described: Mapping[str, Any]) -> HeadConfig:
    """Runs from before there were heads other than CTC describe only their size and place."""
    plain = {"classes": len(described["symbols"]), "layer": described["layer"]}
    return build(HeadConfig, described.get("config", plain))


def _check_head(run: Path, description: Mapping[str, Any], head: str) -> None:
    if head not in description["heads"]:
        raise TrainingError(f"{run}: no head {head!r}", f"one of {list(description['heads'])}")


def _vocabulary(description: Mapping[str, Any], head: str) -> Vocabulary:
    settings = description["heads"][head]
    return Vocabulary(tuple(settings["symbols"]), settings["kind"])


def _weights(run: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    if (run / BEST).exists():
        tensors, metadata = checkpoint.load(run / BEST)
        facts = {key: metadata[key] for key in ("chosen", "wer", "cer")}
    else:
        tensors, metadata = checkpoint.load(run / LAST)
        tensors, facts = checkpoint.select(tensors, "ema."), {"chosen": "moving average"}
    state = metadata["state"]
    facts |= {"epochs": state["epoch"], "steps": state["step"], "hours": state["seconds"] / 3600}
    return tensors, {**facts, "torch": torch.__version__}


def unspoken_words(bundle: Bundle) -> list[str]:
    """The words of the language model that the lexicon cannot spell: they are never recognised."""
    if bundle.lm_path is None or bundle.lexicon_path is None:
        return []
    spoken = {word for word, _ in Lexicon.load(bundle.lexicon_path).entries()}
    words = NGram.load(bundle.lm_path).words
    return [word for word in words if word not in spoken and word not in SPECIAL]


def _language_files(
    source: Bundle, lm: Path | None, lexicon: Path | None
) -> dict[str, Path | bytes]:
    """Another language model, other pronunciations, or both, with one vocabulary."""
    if lm is None and lexicon is None:
        return {}
    files: dict[str, Path | bytes] = {} if lm is None else {LM: lm}
    words = lm or source.lm_path
    if lexicon is not None:
        files[LEXICON] = _lexicon(lexicon, source.vocabulary, words)
    elif source.lexicon_path is not None and words is not None:
        own = Lexicon.load(source.lexicon_path)
        files[LEXICON] = _bytes_of(own.restricted(NGram.load(words).words))
    return files


def _lexicon(path: Path, vocabulary: Vocabulary, lm: Path | None) -> bytes:
    words = NGram.load(lm).words if lm else None
    return _bytes_of(Lexicon.from_pronunciations(read_lexicon(path), vocabulary, words))


def _bytes_of(built: Lexicon) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        built.save(Path(folder, LEXICON))
        return Path(folder, LEXICON).read_bytes()


def read_description(run: Path) -> dict[str, Any]:
    try:
        return json.loads((run / MODEL_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingError(
            f"{run}: not the folder of a training run ({error})", "give the run=FOLDER of asr train"
        ) from error


def _card(config: BundleConfig) -> str:
    lines = [f"# {config.name}", "", f"Language: {config.language}.", "", "## Training", ""]
    data = config.training["settings"]["data"]
    lines += [f"- {manifest}" for manifest in data["train"]]
    lines += [
        "",
        f"Facts: {json.dumps({k: v for k, v in config.training.items() if k != 'settings'})}",
    ]
    return "\n".join(lines) + "\n"


def publish(bundle: Bundle, repository: str) -> str:
    """Upload a bundle to `owner/name` of the Hugging Face Hub, with its card in the Hub's format.

    Returns its address. Raises as `asr.packaging.hub.upload`.
    """
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary) / "model"
        shutil.copytree(bundle.folder, copy)
        path = copy / CARD
        card = path.read_text(encoding="utf-8") if path.exists() else ""
        card = hub_card(card, bundle.config.language)
        Bundle.load(copy).with_file(CARD, card.encode("utf-8"))
        return upload(copy, repository)
