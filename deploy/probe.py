#!/usr/bin/env python3
"""Asks a server whether it is there and lets us in, in its own protocol: no client needs to be installed.

    deploy/probe.py amqp://guest:guest@127.0.0.1:5672/%2f
    deploy/probe.py redis://127.0.0.1:6379/0
    deploy/probe.py http://127.0.0.1:8080/readyz

Prints one line (never the password). Exit status:
    0  it answers
    1  nothing listens, and a server with its package's defaults on this machine would answer this URL
    2  nothing listens, and the URL names something else than that default
    3  something listens, but it is not that server or refuses us
"""

import socket
import ssl
import struct
import sys
import urllib.error
import urllib.parse
import urllib.request

PORTS = {"amqp": 5672, "amqps": 5671, "redis": 6379, "rediss": 6379}
SECONDS = 5


class Refused(Exception):
    """The server is there and says no."""


def rabbitmq(stream, url):
    """Logs in and opens the virtual host: a login that works is what the router will need."""
    user = urllib.parse.unquote(url.username or "guest")
    password = urllib.parse.unquote(url.password or "guest")
    vhost = urllib.parse.unquote(url.path[1:]) or "/"

    def short(text):
        return bytes([len(text.encode())]) + text.encode()

    def send(class_id, method_id, arguments):
        payload = struct.pack(">HH", class_id, method_id) + arguments
        stream.write(struct.pack(">BHI", 1, 0, len(payload)) + payload + b"\xce")
        stream.flush()

    def expect(method, otherwise):
        try:
            header = stream.read(7)
        except ConnectionError:  # RabbitMQ hangs up on a wrong login, after three seconds
            header = b""
        if header[:4] == b"AMQP":
            raise Refused("it speaks another version of AMQP")
        if len(header) < 7:
            raise Refused(otherwise)
        kind, _, size = struct.unpack(">BHI", header)
        payload = stream.read(min(size, 1 << 20) + 1)
        got = struct.unpack(">HH", payload[:4]) if kind == 1 and len(payload) > 4 else None
        if got == (10, 50):  # connection.close: code, then a short string that says why
            raise Refused(payload[7 : 7 + payload[6]].decode(errors="replace"))
        if got != method:
            raise Refused(otherwise)

    stream.write(b"AMQP\x00\x00\x09\x01")
    stream.flush()
    expect((10, 10), "it does not speak AMQP 0-9-1")  # start
    plain = f"\0{user}\0{password}".encode()
    start_ok = struct.pack(">I", 0) + short("PLAIN") + struct.pack(">I", len(plain)) + plain
    send(10, 11, start_ok + short("en_US"))
    expect((10, 30), f"it refuses the login of user {user}")  # tune
    send(10, 31, struct.pack(">HIH", 1, 131072, 0))
    send(10, 40, short(vhost) + short("") + b"\0")
    expect((10, 41), f"it does not open the virtual host {vhost}")  # open-ok
    send(10, 50, struct.pack(">H", 200) + short("") + struct.pack(">HH", 0, 0))
    expect((10, 51), "it does not close")  # close-ok: a polite end leaves no warning in its log


def redis(stream, url):
    def command(*words):
        parts = [word.encode() for word in words]
        stream.write(b"*%d\r\n" % len(parts))
        for part in parts:
            stream.write(b"$%d\r\n%s\r\n" % (len(part), part))
        stream.flush()
        answer = stream.readline(4096).decode(errors="replace").strip()
        if not answer.startswith("+"):
            raise Refused(answer.removeprefix("-") or "it does not speak the Redis protocol")

    if url.password:
        user = [urllib.parse.unquote(url.username)] if url.username else []
        command("AUTH", *user, urllib.parse.unquote(url.password))
    command("PING")


def http(url):
    try:
        with urllib.request.urlopen(url.geturl(), timeout=SECONDS):
            return 0, "answers"
    except urllib.error.HTTPError as error:
        return 3, f"answers {error.code}: {error.read(200).decode(errors='replace').strip()}"
    except (urllib.error.URLError, OSError) as error:
        return 2, f"does not answer ({error})"


def is_package_default(url, port):
    """Whether this is where, and how, a freshly installed server on this machine listens."""
    default_login = {"amqp": [None, "guest"], "redis": [None, ""]}
    return (
        url.hostname in ("127.0.0.1", "localhost", "::1")
        and port == PORTS[url.scheme]
        and url.username in default_login.get(url.scheme, [])
        and url.password in default_login.get(url.scheme, [])
        and (url.scheme != "amqp" or urllib.parse.unquote(url.path) in ("", "/", "//"))
    )


def probe(text):
    url = urllib.parse.urlsplit(text)
    if url.scheme in ("http", "https"):
        return http(url)
    if url.scheme not in PORTS or not url.hostname:
        return 3, f"cannot be checked: the URL begins with none of {', '.join(PORTS)}"
    port = url.port or PORTS[url.scheme]
    where = f"{url.hostname}:{port}"
    try:
        connection = socket.create_connection((url.hostname, port), timeout=SECONDS)
    except OSError as error:
        return 1 if is_package_default(url, port) else 2, f"nothing answers at {where} ({error})"
    try:
        if url.scheme in ("amqps", "rediss"):
            context = ssl.create_default_context()
            connection = context.wrap_socket(connection, server_hostname=url.hostname)
        with connection, connection.makefile("rwb") as stream:
            (rabbitmq if url.scheme.startswith("amqp") else redis)(stream, url)
    except (Refused, OSError) as error:
        return 3, f"{where} is there, but: {error}"
    return 0, f"answers at {where}"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    status, line = probe(sys.argv[1])
    print(line)
    sys.exit(status)
