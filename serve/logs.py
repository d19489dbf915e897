"""Logs as one JSON object a line; what was said is not in them unless asked for."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

from serve.settings import LogFormat

logger = logging.getLogger("asr.serve")


def event(name: str, level: int = logging.INFO, **details: Any) -> None:
    """One line: what happened, and its details as keys."""
    logger.log(level, name, extra={"details": details})


class JsonFormatter(logging.Formatter):
    """
    >>> record = logging.makeLogRecord({"msg": "opened", "details": {"protocol": "vosk"}})
    >>> json.loads(JsonFormatter().format(record))["protocol"]
    'vosk'
    """

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        data = {
            "time": f"{stamp}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "details", {}),
        }
        if record.exc_info:
            data["exception"] = self.formatException(record.exc_info)
        return json.dumps(data, ensure_ascii=False, default=str)


class TextFormatter(logging.Formatter):
    """For reading: time, level, event, key=value."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        details = getattr(record, "details", {})
        return " ".join(
            [super().formatMessage(record), *(f"{k}={v!r}" for k, v in details.items())]
        )


def configure(format: LogFormat) -> None:
    """All logs of this process, uvicorn's included, to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if format == "json" else TextFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    # Addresses may hold secrets, and every live stream is logged by the server itself.
    logging.getLogger("uvicorn.access").disabled = True
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
