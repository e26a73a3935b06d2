"""Adapter for servers with OpenAI's `/v1/images/generations` (LocalAI, stable-diffusion.cpp, vLLM):

    --spawn "python3 openai_images.py {port} http://127.0.0.1:8081"
"""
import json
import os
import sys
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT, SERVER = int(sys.argv[1]), sys.argv[2]
HEADERS = {"content-type": "application/json"}
if "UPSTREAM_KEY" in os.environ:
    HEADERS["authorization"] = "Bearer " + os.environ["UPSTREAM_KEY"]


def call(path, body=None):
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(SERVER + path, data, HEADERS)
    with urllib.request.urlopen(request) as response:
        return json.load(response)


def generate(job):
    size = job.pop("image_size", None)
    if isinstance(size, dict):
        job["size"] = f"{size['width']}x{size['height']}"
    if "num_images" in job:
        job["n"] = job.pop("num_images")
    data = call("/v1/images/generations", {**job, "response_format": "b64_json"})["data"]
    return {"images": [{"url": f"data:image/png;base64,{item['b64_json']}"} for item in data]}


class Adapter(BaseHTTPRequestHandler):
    def do_GET(self):
        # Without a header of hints: the worker reports the model that was used last.
        self.answer(lambda: call("/v1/models") and {} if self.path == "/health" else None)

    def do_POST(self):
        job = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.answer(lambda: generate(job) if self.path == "/" else None)

    def answer(self, compute):
        try:
            result = compute()
            status, result = (404, {"detail": "not found"}) if result is None else (200, result)
        except urllib.error.HTTPError as error:
            status, result = error.code, {"detail": error.read().decode()}
        except OSError as error:
            status, result = 503, {"detail": f"the server cannot be reached: {error}"}
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(result).encode())


ThreadingHTTPServer(("127.0.0.1", PORT), Adapter).serve_forever()
