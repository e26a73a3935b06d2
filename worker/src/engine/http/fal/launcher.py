"""Serves a class of fal's package outside of fal's cloud; `warmq-worker --fal FILE::CLASS` runs it.

    launcher.py FILE::CLASS --describe     prints the settings of the class as a line of JSON
    launcher.py FILE::CLASS --port PORT    serves its endpoints on 127.0.0.1

WARMQ_URL and WARMQ_KEY name the router: what the app submits by `fal_client` and stores by
`fal.toolkit` goes there. The last line of output says why the app does not run.
"""

import argparse
import asyncio
import importlib.util
import inspect
import json
import os
import re
import socket
import sys
import traceback
import urllib.request
from pathlib import Path

# The API of fal's storage, which the package addresses by host name and HTTPS only.
STORAGE_HOST = "storage.warmq.invalid"


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("app", metavar="FILE::CLASS")
    arguments.add_argument("--describe", action="store_true")
    arguments.add_argument("--port", type=int)
    arguments = arguments.parse_args()
    use_router(
        os.environ.get("WARMQ_URL") or "http://127.0.0.1:8080",
        os.environ.get("WARMQ_KEY") or os.environ.get("FAL_KEY") or "no:key",
    )
    app_class = load(arguments.app)
    if arguments.describe:
        print(json.dumps(describe(app_class)))
        return
    for endpoint in endpoints(app_class):
        take_arguments_from_body(endpoint)
    serve(app_class, arguments.port)


def use_router(url, key):
    """Makes fal's packages use the router. Before the app is imported: it may copy constants."""
    url = url.rstrip("/")
    os.environ.update(FAL_KEY=key, FAL_REST_HOST=STORAGE_HOST, FAL_CDN_V3_HOST=url)
    urllib.request.install_opener(urllib.request.build_opener(StorageOf(url)))
    try:
        import fal_client.client
    except ModuleNotFoundError:
        return  # The app cannot use it, either.
    client = fal_client.client
    client.QUEUE_URL_FORMAT, client.RUN_URL_FORMAT = f"{url}/queue/", f"{url}/run/"
    client.REST_URL = client.CDN_URL = url


class StorageOf(urllib.request.BaseHandler):
    """Sends requests for STORAGE_HOST to the router."""

    handler_order = 100  # Before the one that writes the header Host.

    def __init__(self, url):
        self.url = url

    def https_request(self, request):
        if request.host == STORAGE_HOST:
            request.full_url = self.url + request.selector
        return request


def load(app):
    """Imports the file and returns the class; exits with a sentence if there is none."""
    file, _, name = app.partition("::")
    path = Path(file).resolve()
    if not name:
        sys.exit(f"'{app}' names no class: FILE::CLASS is expected")
    if not path.is_file():
        sys.exit(f"{path} does not exist")
    try:
        import fal
    except ModuleNotFoundError as error:
        if error.name != "fal":
            raise
        sys.exit(f"fal is not installed: {sys.executable} -m pip install fal")
    # Modules beside the file can be imported, as with `fal run`.
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        traceback.print_exc()
        sys.exit(f"{path.name} cannot be imported: {one_line(error)}")
    found = getattr(module, name, None)
    if inspect.isclass(found) and issubclass(found, fal.App):
        return found
    classes = (value for value in vars(module).values() if inspect.isclass(value))
    names = [value.__name__ for value in classes if issubclass(value, fal.App)]
    names = ", ".join(name for name in names if name != "App")
    sys.exit(f"{path.name} has no fal.App named '{name}'; it has: {names or 'none'}")


def describe(app_class):
    """Returns the settings of the class that a runner takes over, `null` where it has none."""
    settings = app_class.host_kwargs
    machine = app_class.machine_type
    return {
        "machine_type": ", ".join(machine) if isinstance(machine, list) else machine,
        "max_multiplexing": settings.get("max_multiplexing"),
        "request_timeout": settings.get("request_timeout"),
        "startup_timeout": settings.get("startup_timeout"),
    }


def endpoints(app_class):
    functions = (function for _, function in inspect.getmembers(app_class, inspect.isfunction))
    return [function for function in functions if getattr(function, "route_signature", None)]


def take_arguments_from_body(endpoint):
    """Makes plain arguments, `prompt: str, width: int = 1024`, fields of a JSON body.

    FastAPI makes query parameters of them. An endpoint with a model or another parameter that
    FastAPI knows keeps its signature.
    """
    from fastapi import Body

    signature = inspect.signature(endpoint, eval_str=True)
    in_path = re.findall(r"{(\w+)", endpoint.route_signature.path)
    parameters = list(signature.parameters.values())
    plain = [each for each in parameters[1:] if each.name not in in_path]
    if endpoint.route_signature.is_websocket or not all(map(is_plain, plain)):
        return
    fields = [
        each.replace(
            kind=inspect.Parameter.KEYWORD_ONLY,
            default=Body(... if each.default is each.empty else each.default, embed=True),
        )
        for each in plain
    ]
    kept = [each for each in parameters if each not in plain]
    endpoint.__signature__ = signature.replace(parameters=kept + fields)


def is_plain(parameter):
    """Whether its value is JSON without a model: a text, a number, a list of them."""
    import fastapi.params
    import pydantic
    import starlette.background
    import starlette.requests
    import starlette.responses

    if isinstance(parameter.default, (fastapi.params.Param, fastapi.params.Depends)):
        return False
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        return False
    annotation = parameter.annotation
    if hasattr(annotation, "__metadata__"):  # Annotated[…]: FastAPI's own notation.
        return False
    known = (
        pydantic.BaseModel,
        starlette.background.BackgroundTasks,
        starlette.requests.HTTPConnection,
        starlette.responses.Response,
    )
    return not (inspect.isclass(annotation) and issubclass(annotation, known))


def serve(app_class, port):
    """Serves the app until it is signalled; exits with a sentence if it cannot start."""
    from fal.ref import set_current_app

    failures = []
    app_class.setup = remembering(app_class.setup, failures)
    listen_on_loopback()
    app = app_class(_allow_init=True)
    set_current_app(app)
    try:
        asyncio.run(app.serve(port=port, metrics_port=free_port()))
    except KeyboardInterrupt:
        return
    except SystemExit:
        if not failures:
            raise
    if failures:
        traceback.print_exception(failures[0])
        reason = f"setup() of {app_class.__name__} failed: {one_line(failures[0])}"
        print(reason, file=sys.stderr, flush=True)
        # At once: asyncio would report its own end after the reason.
        os._exit(1)


def remembering(setup, failures):
    """Wraps `setup` so that what it raises is kept: the server only logs it."""

    async def wrapped(self):
        try:
            result = setup(self)
            return await result if inspect.isawaitable(result) else result
        except Exception as error:
            failures.append(error)
            raise

    return wrapped


def listen_on_loopback():
    """Keeps the app's ports, which need no key, from other machines."""
    import uvicorn

    class Config(uvicorn.Config):
        def __init__(self, *args, **settings):
            super().__init__(*args, **{**settings, "host": "127.0.0.1"})

    uvicorn.Config = Config


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def one_line(error):
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


if __name__ == "__main__":
    main()
