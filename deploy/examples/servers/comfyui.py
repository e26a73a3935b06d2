"""Adapter for ComfyUI, for a workflow in its API format: python3 comfyui.py PORT COMFY WORKFLOW

A field of the input replaces the first input of that name in the workflow's nodes: `seed`, `steps`.
"""
import base64, copy, json, sys, time, urllib.error, urllib.parse, urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT, COMFY = int(sys.argv[1]), sys.argv[2]
with open(sys.argv[3]) as file:
    WORKFLOW = json.load(file)
NAMES = {"prompt": "text", "model": "ckpt_name"}


def call(path, body=None):
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(COMFY + path, data, {"content-type": "application/json"})
    with urllib.request.urlopen(request) as response:
        return response.read()


def generate(job):
    workflow = copy.deepcopy(WORKFLOW)
    for field, value in job.items():
        name = NAMES.get(field, field)
        for inputs in (node["inputs"] for node in workflow.values()):
            if not isinstance(inputs.get(name, []), list):  # a list is a link to another node
                inputs[name] = value
                break
    id = json.loads(call("/prompt", {"prompt": workflow}))["prompt_id"]
    while not (history := json.loads(call(f"/history/{id}"))):
        time.sleep(0.1)
    if history[id]["status"]["status_str"] == "error":
        raise RuntimeError(json.dumps(history[id]["status"]["messages"]))
    images = [image for node in history[id]["outputs"].values() for image in node.get("images", [])]
    files = [base64.b64encode(call("/view?" + urllib.parse.urlencode(image))) for image in images]
    return {"images": [{"url": "data:image/png;base64," + file.decode()} for file in files]}


class Adapter(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(lambda: call("/system_stats") and {})

    def do_POST(self):
        job = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.answer(lambda: generate(job))

    def answer(self, compute):
        try:
            status, result = 200, compute()
        except (urllib.error.HTTPError, RuntimeError) as error:
            status, result = getattr(error, "code", 500), {"detail": str(error)}
        except OSError as error:
            status, result = 503, {"detail": str(error)}
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(result).encode())


ThreadingHTTPServer(("127.0.0.1", PORT), Adapter).serve_forever()
