"""Runs a command in a terminal of its own, waits for a text on it, then presses keys or sends a
signal. Prints JSON: the exit status, all output, and whether the terminal is as before.

usage: terminal.py TEXT (keys KEYS | signal NUMBER) COMMAND...
"""

import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time

TIMEOUT_S = 60
ROWS, COLUMNS = 40, 160


def read_until(terminal, output, is_done):
    """Appends what the program prints until `is_done`."""
    end = time.monotonic() + TIMEOUT_S
    while not is_done(output):
        if time.monotonic() > end:
            sys.exit(f"timeout; the terminal shows {output.decode(errors='replace')!r}")
        if select.select([terminal], [], [], 0.1)[0]:
            output += os.read(terminal, 65536)


def main():
    text, kind, action, *command = sys.argv[1:]
    terminal, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    before = termios.tcgetattr(side)
    program = subprocess.Popen(command, stdin=side, stdout=side, stderr=side)
    output = bytearray()
    read_until(terminal, output, lambda output: text.encode() in output or program.poll() is not None)
    if kind == "keys":
        os.write(terminal, action.encode())
    else:
        program.send_signal(int(action))
    read_until(terminal, output, lambda _: program.poll() is not None)
    while select.select([terminal], [], [], 0.1)[0]:
        output += os.read(terminal, 65536)
    is_restored = termios.tcgetattr(side) == before
    print(json.dumps({
        "exit": program.returncode,
        "output": output.decode(errors="replace"),
        "restored": is_restored,
    }))


main()
