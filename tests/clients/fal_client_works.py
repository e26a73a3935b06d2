"""Tests of fal's unmodified Python client against a router with one `timed` worker.

    python fal_client_works.py http://127.0.0.1:8080 [Sync | Async | Uploads]

or, by fal's own variables alone, to a router that speaks HTTPS:

    FAL_RUN_HOST=127.0.0.1:8443/run FAL_QUEUE_RUN_HOST=127.0.0.1:8443/queue SSL_CERT_FILE=authority.pem \\
        python fal_client_works.py environment [Sync | Async | Uploads]
"""

import asyncio
import base64
import hashlib
import http.server
import json
import os
import queue
import sys
import tempfile
import threading
import time
import unittest
import unittest.mock
import urllib.error
import urllib.request

os.environ.setdefault("FAL_KEY", "any")  # the client does not start without one

import fal_client
import fal_client.client as settings
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

APP = "bench/timed"
SHORT = "bench/short"
ROUTER = sys.argv.pop(1)
if ROUTER == "environment":
    ROUTER = "https://" + os.environ["FAL_QUEUE_RUN_HOST"].removesuffix("/queue")
else:
    settings.QUEUE_URL_FORMAT = f"{ROUTER}/queue/"
    settings.RUN_URL_FORMAT = f"{ROUTER}/run/"
settings.REST_URL = settings.CDN_URL = ROUTER

QUICK = {"run_ms": 100, "load_ms": 10, "output": {"text": "schön 猫"}}
RESULT = {"text": "schön 猫"}
WRONG = {"run_ms": 10, "load_ms": 10, "fail": "no such colour"}
LONG = {"run_ms": 600_000, "load_ms": 10}


class Receiver:
    """A web server that receives webhooks."""

    def __init__(self):
        told = self.told = queue.Queue()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                told.put((dict(self.headers), self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/webhook?order=7"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def verify_webhook(headers, body):
    """fal's documented verification, with the router's keys."""
    headers = {name.lower(): value for name, value in headers.items()}
    request_id, user_id, timestamp, signature = (
        headers[f"x-fal-webhook-{name}"] for name in ("request-id", "user-id", "timestamp", "signature")
    )
    if abs(int(time.time()) - int(timestamp)) > 300:
        return False
    message = "\n".join([request_id, user_id, timestamp, hashlib.sha256(body).hexdigest()]).encode()
    with urllib.request.urlopen(f"{ROUTER}/.well-known/jwks.json") as answer:
        keys = json.load(answer)["keys"]
    for key in keys:
        try:
            VerifyKey(base64.urlsafe_b64decode(key["x"])).verify(message, bytes.fromhex(signature))
            return True
        except BadSignatureError:
            continue
    return False


class Promises:
    """Tests of both the synchronous and the asynchronous client."""

    def assert_told(self, receiver, request_id, status):
        headers, body = receiver.told.get(timeout=30)
        self.assertTrue(verify_webhook(headers, body))
        self.assertFalse(verify_webhook(headers, body + b" "))
        told = json.loads(body)
        self.assertEqual((told["request_id"], told["gateway_request_id"]), (request_id, request_id))
        self.assertEqual(told["status"], status)
        return told

    def assert_events(self, events):
        *before, last = events
        self.assertTrue(before)
        for event in before:
            self.assertIsInstance(event, (fal_client.Queued, fal_client.InProgress))
        self.assertIsInstance(last, fal_client.Completed)
        self.assertIsNone(last.error)
        self.assertGreaterEqual(last.metrics["inference_time"], 0.1)
        self.assertIn("succeeded", last.logs[-1]["message"])
        for entry in last.logs:
            self.assertEqual(set(entry), {"message", "timestamp", "level", "source", "labels"})

    def assert_streamed(self, events):
        *before, last = events
        self.assertEqual(last, RESULT)
        self.assertIn("IN_PROGRESS", [event["status"] for event in before])

    def assert_model_error(self, error):
        self.assertEqual(error.status_code, 422)
        self.assertEqual(error.message[0]["msg"], "no such colour")

    def assert_cancelled(self, status, error):
        self.assertIsInstance(status, fal_client.Completed)
        self.assertEqual(status.error_type, "client_cancelled")
        self.assertEqual((error.status_code, error.error_type), (499, "client_cancelled"))


class Sync(Promises, unittest.TestCase):
    def test_a_job_is_submitted_and_its_result_fetched_by_its_id(self):
        handle = fal_client.submit(APP, QUICK, hint="m", priority="low", path="/turbo", start_timeout=60)
        self.assertEqual(handle.get(), RESULT)
        self.assertEqual(fal_client.result(APP, handle.request_id), RESULT)
        self.assertIsInstance(fal_client.status(APP, handle.request_id), fal_client.Completed)

    def test_events_are_iterated(self):
        handle = fal_client.submit(APP, {**QUICK, "run_ms": 500})
        self.assert_events(list(handle.iter_events(with_logs=True, interval=0.05)))

    def test_subscribing_tells_each_update_and_gives_the_result(self):
        ids, updates = [], []
        result = fal_client.subscribe(
            APP, QUICK, with_logs=True, interval=0.02, on_enqueue=ids.append, on_queue_update=updates.append
        )
        self.assertEqual(result, RESULT)
        self.assertEqual(len(ids), 1)
        self.assert_events(updates)

    def test_subscribing_with_a_timeout_cancels(self):
        with self.assertRaises(fal_client.FalClientTimeoutError) as raised:
            fal_client.subscribe(APP, LONG, client_timeout=1.5)
        status = fal_client.status(APP, raised.exception.request_id)
        self.assertEqual(status.error_type, "client_cancelled")

    def test_a_cancelled_job_ends(self):
        handle = fal_client.submit(APP, LONG)
        handle.cancel()
        *_, last = handle.iter_events()
        with self.assertRaises(fal_client.FalClientHTTPError) as raised:
            handle.get()
        self.assert_cancelled(last, raised.exception)

    def test_a_failed_job_raises_its_error(self):
        handle = fal_client.submit(APP, WRONG)
        with self.assertRaises(fal_client.FalClientHTTPError) as raised:
            handle.get()
        self.assert_model_error(raised.exception)
        self.assertEqual(handle.status().error, "no such colour")

    def test_a_job_that_took_too_long_raises_at_once(self):
        handle = fal_client.submit(SHORT, LONG)
        *_, last = handle.iter_events(interval=0.05)
        completed = time.monotonic()
        with self.assertRaises(fal_client.FalClientHTTPError) as raised:
            handle.get()
        self.assertLess(time.monotonic() - completed, 1)
        self.assertEqual((raised.exception.status_code, last.error_type), (504, "request_timeout"))

    def test_running_gives_the_result_or_raises(self):
        self.assertEqual(fal_client.run(APP, QUICK, hint="m", path="turbo"), RESULT)
        with self.assertRaises(fal_client.FalClientHTTPError) as raised:
            fal_client.run(APP, WRONG)
        self.assert_model_error(raised.exception)

    def test_streaming_gives_progress_and_at_last_the_result(self):
        self.assert_streamed(list(fal_client.stream(APP, {**QUICK, "run_ms": 1000})))

    def test_a_webhook_is_told_and_its_signature_verified(self):
        receiver = Receiver()
        handle = fal_client.submit(APP, QUICK, webhook_url=receiver.url)
        self.assertEqual(self.assert_told(receiver, handle.request_id, "OK")["payload"], RESULT)
        handle = fal_client.submit(APP, WRONG, webhook_url=receiver.url)
        told = self.assert_told(receiver, handle.request_id, "ERROR")
        self.assertEqual(told["error"], "no such colour")
        self.assertEqual(told["payload"]["detail"][0]["msg"], "no such colour")


class Async(Promises, unittest.IsolatedAsyncioTestCase):
    def setUp(self):
        # The module's own client belongs to the event loop of the first test.
        self.client = fal_client.AsyncClient()

    async def test_a_job_is_submitted_and_its_result_fetched_by_its_id(self):
        handle = await self.client.submit(APP, QUICK, hint="m", priority="low", start_timeout=60)
        self.assertEqual(await handle.get(), RESULT)
        self.assertEqual(await self.client.result(APP, handle.request_id), RESULT)

    async def test_events_are_iterated(self):
        handle = await self.client.submit(APP, {**QUICK, "run_ms": 500})
        self.assert_events([event async for event in handle.iter_events(with_logs=True, interval=0.05)])

    async def test_subscribing_tells_each_update_and_gives_the_result(self):
        updates = []
        result = await self.client.subscribe(
            APP, QUICK, with_logs=True, interval=0.02, on_queue_update=updates.append
        )
        self.assertEqual(result, RESULT)
        self.assert_events(updates)

    async def test_a_cancelled_job_ends(self):
        handle = await self.client.submit(APP, LONG)
        await handle.cancel()
        with self.assertRaises(fal_client.FalClientHTTPError) as raised:
            await handle.get()
        self.assert_cancelled(await handle.status(), raised.exception)

    async def test_a_failed_job_raises_its_error(self):
        with self.assertRaises(fal_client.FalClientHTTPError) as raised:
            await self.client.subscribe(APP, WRONG)
        self.assert_model_error(raised.exception)

    async def test_many_who_run_at_once_get_each_their_own(self):
        outputs = [{"number": number} for number in range(20)]
        runs = [self.client.run(APP, {**QUICK, "run_ms": 1, "output": output}) for output in outputs]
        self.assertEqual(await asyncio.gather(*runs), outputs)

    async def test_streaming_gives_progress_and_at_last_the_result(self):
        self.assert_streamed([event async for event in self.client.stream(APP, {**QUICK, "run_ms": 1000})])

    async def test_a_webhook_is_told_and_its_signature_verified(self):
        receiver = Receiver()
        handle = await self.client.submit(APP, QUICK, webhook_url=receiver.url)
        told = await asyncio.to_thread(self.assert_told, receiver, handle.request_id, "OK")
        self.assertEqual(told["payload"], RESULT)


class Uploads(unittest.IsolatedAsyncioTestCase):
    """Files are uploaded, named in a job's input, and read again, byte for byte, without silent fallbacks."""

    CONTENT = bytes(range(256)) * 1000
    WAYS = [{"repository": way, "fallback_repository": []} for way in ("fal_v3", "fal")]

    def setUp(self):
        self.client = fal_client.AsyncClient()

    def read(self, url):
        with urllib.request.urlopen(url) as response:
            return response.read(), response.headers

    def assert_reaches_a_job(self, url, content):
        self.assertEqual(self.read(url)[0], content)
        result = fal_client.subscribe(APP, {**QUICK, "output": {"images": [{"url": url}]}})
        self.assertEqual(self.read(result["images"][0]["url"])[0], content)

    def test_bytes_are_uploaded(self):
        for way in self.WAYS:
            url = fal_client.upload(self.CONTENT, "image/png", **way)
            self.assert_reaches_a_job(url, self.CONTENT)
            self.assertEqual(self.read(url)[1]["content-type"], "image/png")

    def test_a_file_is_uploaded_under_its_name(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "my cat.webp")
            with open(path, "wb") as file:
                file.write(self.CONTENT)
            for way in self.WAYS:
                url = fal_client.upload_file(path, **way)
                self.assertTrue(url.endswith("/my_cat.webp"), url)
                self.assert_reaches_a_job(url, self.CONTENT)

    def test_an_image_is_uploaded(self):
        class Picture:
            """The part of a Pillow image that the client uses."""

            def save(self, buffer, format):
                buffer.write(f"picture as {format}".encode())

        for way in self.WAYS:
            url = fal_client.upload_image(Picture(), format="jpeg", **way)
            self.assert_reaches_a_job(url, b"picture as jpeg")

    def test_a_large_file_is_uploaded_in_parts(self):
        content = os.urandom(1 << 20) * 25
        with unittest.mock.patch.object(settings, "MULTIPART_THRESHOLD", 20 << 20):
            url = fal_client.upload(content, "video/mp4", "clip.mp4")
            self.assert_reaches_a_job(url, content)

    def test_a_link_expires_when_its_uploader_wished(self):
        for way in self.WAYS:
            lifecycle = fal_client.StorageSettings(expires_in=1)
            url = fal_client.upload(b"x", "text/plain", lifecycle=lifecycle, **way)
            with self.assertRaises(urllib.error.HTTPError) as raised:
                while True:
                    self.read(url)
            self.assertEqual(raised.exception.code, 403)

    async def test_bytes_files_and_parts_are_uploaded_asynchronously(self):
        for way in self.WAYS:
            url = await self.client.upload(self.CONTENT, "image/png", **way)
            self.assertEqual(self.read(url)[0], self.CONTENT)
        content = os.urandom(1 << 20) * 25
        with unittest.mock.patch.object(settings, "MULTIPART_THRESHOLD", 20 << 20):
            url = await self.client.upload(content, "video/mp4", "clip.mp4")
        self.assertEqual(self.read(url)[0], content)


if __name__ == "__main__":
    unittest.main(verbosity=2)
