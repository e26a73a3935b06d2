"""A model server in Python's standard library: python3 stdlib.py PORT"""
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(BaseHTTPRequestHandler):
    def do_POST(self):
        job = json.loads(self.rfile.read(int(self.headers["content-length"])))
        result = json.dumps({"text": job.get("prompt", "").upper()}).encode()
        self.send_response(200)
        self.send_header("x-fal-runner-hints", "upper")  # the models that it holds now
        self.end_headers()
        self.wfile.write(result)


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Server).serve_forever()
