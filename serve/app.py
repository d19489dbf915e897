"""The addresses, all on one port.

GET  /                          the web page            WS /              Vosk
POST /v1/audio/transcriptions   OpenAI                  WS /v1/realtime   OpenAI
GET  /v1/models                 OpenAI                  WS /v1/listen     Deepgram
POST /v1/listen                 Deepgram                WS /ws            our own
POST /inference, /load          whisper.cpp             WS /v2/listen     Deepgram Flux
POST /asr                       whisper-asr-webservice  WS /v3/ws         AssemblyAI
PUT  /client/dynamic/recognize  Kaldi GStreamer server  WS /client/ws/speech
                                                        WS /sherpa-onnx, /twilio
GET  /healthz /readyz /metrics
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

import asr
from asr.errors import ASRError
from serve import recordings
from serve.guard import check_key, fault, guarded
from serve.hub import Hub
from serve.limits import Refused
from serve.protocols import openai_rest
from serve.protocols.asr_webservice import AsrProtocol, no_detection
from serve.protocols.assemblyai import AssemblyProtocol
from serve.protocols.base import LiveProtocol, RecordingProtocol
from serve.protocols.deepgram import DeepgramProtocol
from serve.protocols.deepgram_flux import FluxProtocol
from serve.protocols.deepgram_rest import ListenProtocol
from serve.protocols.gst_server import GstRecognizeProtocol, GstServerProtocol
from serve.protocols.native import NativeProtocol
from serve.protocols.openai_realtime import RealtimeProtocol, create_session
from serve.protocols.openai_rest import TranscriptionsProtocol
from serve.protocols.sherpa import SherpaProtocol
from serve.protocols.twilio import TwilioProtocol
from serve.protocols.vosk import VoskProtocol
from serve.protocols.whisper_cpp import InferenceProtocol, load_model

PAGE = Path(__file__).parent / "page"
LIVE: dict[str, type[LiveProtocol]] = {
    "/": VoskProtocol,
    "/ws": NativeProtocol,
    "/v1/realtime": RealtimeProtocol,
    "/v1/listen": DeepgramProtocol,
    "/v2/listen": FluxProtocol,
    "/v3/ws": AssemblyProtocol,
    "/client/ws/speech": GstServerProtocol,
    "/sherpa-onnx": SherpaProtocol,
    "/twilio": TwilioProtocol,
}
RECORDINGS: dict[str, type[RecordingProtocol]] = {
    "/v1/audio/transcriptions": TranscriptionsProtocol,
    "/v1/listen": ListenProtocol,
    "/inference": InferenceProtocol,
    "/asr": AsrProtocol,
    "/client/dynamic/recognize": GstRecognizeProtocol,
}


def create_app(hub: Hub) -> ASGIApp:
    """The application of one worker: all but the live streams."""
    # The pages of documentation that FastAPI brings load their scripts from elsewhere.
    app = FastAPI(title="blstm-ctc-asr", version=asr.__version__, docs_url=None, redoc_url=None)
    app.state.hub = hub
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(ASRError, _unusable)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, fault)
    for path, kind in RECORDINGS.items():
        app.add_api_route(path, recordings.endpoint(kind), methods=[*kind.methods])
    app.add_api_route("/v1/models", _models, methods=["GET"])
    app.add_api_route("/v1/models/{name:path}", _model, methods=["GET"])
    app.add_api_route("/v1/audio/translations", _translations, methods=["POST"])
    app.add_api_route("/v1/realtime/client_secrets", _client_secret, methods=["POST"])
    app.add_api_route("/v1/realtime/transcription_sessions", _client_secret, methods=["POST"])
    app.add_api_route("/load", _load, methods=["POST"])
    app.add_api_route("/detect-language", _detect_language, methods=["POST"])
    app.add_api_route("/healthz", _health, methods=["GET"])
    app.add_api_route("/readyz", _readiness, methods=["GET"])
    app.add_api_route("/metrics", _metrics, methods=["GET"])
    app.add_api_route("/", _page, methods=["GET", "HEAD"], include_in_schema=False)
    app.mount("/page", StaticFiles(directory=PAGE), name="page")
    return guarded(app, hub)


async def _page() -> Response:
    return FileResponse(PAGE / "index.html", headers={"cache-control": "no-cache"})


async def _health() -> dict[str, str]:
    """The process is alive."""
    return {"status": "ok"}


async def _readiness(request: Request) -> Response:
    """The model is loaded and warmed, and the server does not shut down."""
    hub: Hub = request.app.state.hub
    hub.check_open()
    return JSONResponse({"status": "ready", "model": hub.info.name, "free_places": hub.places.free})


async def _models(request: Request) -> dict[str, Any]:
    check_key(request, request.app.state.hub)
    return openai_rest.list_models(request.app.state.hub.info)


async def _model(request: Request, name: str) -> dict[str, Any]:
    check_key(request, request.app.state.hub)
    return openai_rest.retrieve_model(name)


async def _translations(request: Request) -> Response:
    check_key(request, request.app.state.hub)
    raise openai_rest.no_translation()


async def _client_secret(request: Request) -> dict[str, Any]:
    """OpenAI's, as today and as in the beta."""
    hub: Hub = request.app.state.hub
    check_key(request, hub)
    in_beta = request.url.path.endswith("transcription_sessions")
    wanted = await recordings.read_json(request, hub)
    return create_session(hub.info, wanted, hub.client_secrets, in_beta)


async def _load(request: Request) -> Response:
    """whisper.cpp's; the form holds names only."""
    hub: Hub = request.app.state.hub
    check_key(request, hub)
    fields = await recordings.read_fields(request, hub)
    return load_model(hub.info, fields.get("model"))


async def _detect_language(request: Request) -> Response:
    check_key(request, request.app.state.hub)
    raise no_detection(request.app.state.hub.info)


async def _metrics(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    return Response(hub.metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    if request.url.path != "/readyz":  # asked again and again while the model loads
        request.app.state.hub.reject(error, path=request.url.path)
    return _answer(request, error)


async def _unusable(request: Request, error: Exception) -> Response:
    refused = Refused("unusable_audio", str(error))
    request.app.state.hub.reject(refused, path=request.url.path)
    return _answer(request, refused)


def _answer(request: Request, refused: Refused) -> Response:
    """In the words of the protocol that is spoken there."""
    kind = RECORDINGS.get(request.url.path)
    return refused.response() if kind is None else kind.render_error(refused)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = Refused("http_error", str(error.detail), status=error.status_code).response()
    response.headers.update(error.headers or {})
    return response
