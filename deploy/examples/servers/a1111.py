"""Adapter for the API of Automatic1111's and Forge's web UI (`--api`):

    --spawn "python3 a1111.py {port} http://127.0.0.1:7860"

The input's model is the name of a checkpoint; other fields are those of txt2img.
"""
import json
import sys
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT, UI = int(sys.argv[1]), sys.argv[2]


def call(path, body=None):
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(UI + path, data, {"content-type": "application/json"})
    with urllib.request.urlopen(request) as response:
        return json.load(response)


def generate(job):
    model = job.pop("model", None)
    if model:
        job["override_settings"] = {"sd_model_checkpoint": model}
        job["override_settings_restore_afterwards"] = False
    if "num_images" in job:
        job["batch_size"] = job.pop("num_images")
    result = call("/sdapi/v1/txt2img", job)
    return {"images": [{"url": f"data:image/png;base64,{image}"} for image in result["images"]]}


class Adapter(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(lambda: {} if self.path == "/health" else None)

    def do_POST(self):
        job = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.answer(lambda: generate(job) if self.path == "/" else None)

    def answer(self, compute):
        hints, status = [], 200
        try:
            result = compute()
            hints = [("x-fal-runner-hints", call("/sdapi/v1/options")["sd_model_checkpoint"])]
            if result is None:
                status, result = 404, {"detail": "not found"}
        except urllib.error.HTTPError as error:
            status, result = error.code, {"detail": error.read().decode()}
        except OSError as error:
            status, result = 503, {"detail": f"the web UI cannot be reached: {error}"}
        self.send_response(status)
        for header in [("content-type", "application/json"), *hints]:
            self.send_header(*header)
        self.end_headers()
        self.wfile.write(json.dumps(result).encode())


ThreadingHTTPServer(("127.0.0.1", PORT), Adapter).serve_forever()
