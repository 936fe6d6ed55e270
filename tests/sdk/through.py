"""Runs SDK checks against Tollgate in front of the stand-in provider.

usage: python through.py DIRECTORY_OF_BINARIES CHECKS.py…

Both servers take free ports and end with this script. What the checks print is printed;
the exit code is 1 if a check failed or Tollgate did not end well.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import threading

ANY_PORT = "127.0.0.1:0"
PATIENCE_S = 60


def start_tollgate(binary, upstream, data_dir):
    """The process and its listener's address, read from the line that says it serves."""
    options = ["--upstream", upstream, "--data-dir", data_dir]
    for name in ("--listen", "--admin", "--metrics"):
        options += [name, ANY_PORT]
    process = subprocess.Popen([binary, "run", *options], stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if "listeners" in line:
            address = json.loads(line)["listeners"]
            # Its later lines are not waited for, but the pipe must not fill up.
            threading.Thread(target=process.stderr.read, daemon=True).start()
            return process, address
        print(line, end="")
    sys.exit(f"tollgate ended with {process.wait()} before it served")


def main():
    binaries, checks = pathlib.Path(sys.argv[1]), sys.argv[2:]
    here = pathlib.Path(__file__).parent
    # It serves until its standard input is closed: also when this script is killed.
    provider = subprocess.Popen(
        [binaries / "examples" / "provider"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    upstream = provider.stdout.readline().strip()
    failed = False
    with tempfile.TemporaryDirectory() as data_dir:
        tollgate, address = start_tollgate(binaries / "tollgate", upstream, data_dir)
        try:
            for check in checks:
                ended = subprocess.run([sys.executable, here / check, f"http://{address}"])
                failed |= ended.returncode != 0
        finally:
            tollgate.terminate()
            code = tollgate.wait(PATIENCE_S)
            provider.stdin.close()
            provider.wait(PATIENCE_S)
    if code != 0:
        failed = True
        print(f"tollgate ended with {code}, wanted 0")
    sys.exit(1 if failed else 0)


main()
