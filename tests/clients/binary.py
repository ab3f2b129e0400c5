"""The binary under test, and what a run installs: for tests/clients and tests/openapi."""

import contextlib
import hashlib
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import checks

CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "ligand-check"
BINARY = os.environ.get("LIGAND_BIN") or str(pathlib.Path(__file__).resolve().parents[2] / "target/release/ligand")


def installed(kind, pins, install):
    """A folder in the cache for exactly these `pins`, filled by `install(folder)` if it is new.

    It gets its name only when the installation is complete, so a broken one is never used.
    """
    key = hashlib.sha256("\0".join([sys.version, *pins]).encode()).hexdigest()[:16]
    folder = CACHE / f"{kind}-{key}"
    mark = folder / ".complete"
    if not mark.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        install(folder)
        mark.touch()
    return folder


def python_packages(requirements):
    """A virtual environment with what the file `requirements` pins."""

    def install(folder):
        subprocess.run([sys.executable, "-m", "venv", folder], check=True, stdout=sys.stderr)
        pip = [folder / "bin/python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        subprocess.run([*pip, "--requirement", requirements], check=True, stdout=sys.stderr)

    return installed("venv", [requirements.read_text()], install)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def healthy(url):
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def plain_environment():
    """Without a developer's own settings, which would change what is tested."""
    return {key: value for key, value in os.environ.items() if not key.startswith("LIGAND_")}


@contextlib.contextmanager
def serving(name, url, env, folder):
    """A server at `url` while the body runs; yields whether it came up. Ends and judges it."""
    log_path = pathlib.Path(folder) / "server.log"
    with open(log_path, "wb") as log:
        process = subprocess.Popen([BINARY, "serve"], env=env, cwd=folder,
                                   stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        checks.wait_until(lambda: process.poll() is not None or healthy(url), 30)
        yield checks.check(f"{name}: the server starts and is healthy", healthy(url))
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        checks.check(f"{name}: SIGTERM ends the server with code 0", code == 0, f"code {code}")
        said = log_path.read_text(errors="replace")
        checks.check(f"{name}: no panic in the server's log", "panicked at" not in said)
        if checks.failed:
            print(f"--- {name}: the end of the server's log\n{said[-4000:]}", flush=True)


def add_user(name, password, env, folder, *options):
    """Adds a user beside the running server, with the command line."""
    command = [BINARY, "user", "add", name, "--password-stdin", *options]
    return subprocess.run(command, env=env, cwd=folder, input=password + "\n", capture_output=True, text=True)
