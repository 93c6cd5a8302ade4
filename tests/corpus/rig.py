"""Starts what a replay needs: the recordings' own server and the gateway in front of it."""

import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time

# Providers that the gateway's catalog knows, with the variables of their key and base URL and what their SDKs append.
KNOWN = {
    "anthropic": ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", ""),
    "google": ("GEMINI_API_KEY", "GEMINI_BASE_URL", ""),
    "huggingface": ("HF_TOKEN", "HUGGINGFACE_BASE_URL", "/v1"),
    "ollama": ("OLLAMA_API_KEY", "OLLAMA_BASE_URL", ""),
    "cohere": ("COHERE_API_KEY", "COHERE_BASE_URL", ""),
    "azure": ("AZURE_OPENAI_API_KEY", "AZURE_OPENAI_ENDPOINT", ""),
    "bedrock": ("BEDROCK_API_KEY", "BEDROCK_BASE_URL", ""),
    "vertex": ("VERTEX_API_KEY", "VERTEX_BASE_URL", ""),
}
# Nothing may interfere: no retries, no breaker, no limits. The clocks are short, so that a hang is a failure and not a wait.
CONFIG = """
[retry]
max = 0
[breaker]
enabled = false
[limits]
bad_key_per_minute = 1000000
[timeouts]
first_output = "60s"
idle = "30s"
total = "120s"
[telemetry]
log_level = "warn"
"""
# Ollama's own format, beside the OpenAI-compatible side that is its default.
OLLAMA_NATIVE = """
[[provider]]
id = "ollama_native"
dialect = "ollama"
base_url = "{base_url}"
"""
KEY = "gateway-key-of-the-replay"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def unpack(corpus, work):
    """Lays the recordings out below `work`, once for each state of the archive; returns the folder."""
    os.makedirs(work, exist_ok=True)
    archive = os.stat(os.path.join(corpus, "open.tar.xz"))
    folder = os.path.join(work, f"open-{archive.st_size}-{int(archive.st_mtime)}")
    if not os.path.exists(os.path.join(folder, "index.json")):
        subprocess.run([sys.executable, os.path.join(corpus, "unpack.py"), folder], check=True)
    return folder


def wait_for(process, port, path, what):
    """Waits until a server answers."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{what} ended with status {process.returncode}")
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", path)
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise RuntimeError(f"{what} did not answer in a minute")


class Child:
    """A server that lives as long as the `with` block."""

    process = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class ReplayServer(Child):
    """The recordings' own server."""

    def __init__(self, corpus, folder):
        self.port = free_port()
        command = [sys.executable, os.path.join(corpus, "replay.py"), "--dir", folder, "--port", str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        self.url = f"http://127.0.0.1:{self.port}"
        wait_for(self.process, self.port, "/healthz", "the replay server")

    def received(self, exchange):
        """What arrived for an exchange."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("GET", f"/received/{exchange}")
        return json.loads(connection.getresponse().read())


class Gateway(Child):
    """The gateway, with every provider moved to the replay server."""

    def __init__(self, binary, replay_url, work, names):
        self.port, self.connections = free_port(), threading.local()
        self.folder = tempfile.TemporaryDirectory()
        self.log = open(os.path.join(work, "gateway.log"), "w", encoding="utf-8")
        config = os.path.join(self.folder.name, "orbyt.toml")
        with open(config, "w", encoding="utf-8") as file:
            file.write(CONFIG + OLLAMA_NATIVE.format(base_url=replay_url))
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": self.folder.name,
            "ORBYT_LISTEN": f"127.0.0.1:{self.port}",
            "ORBYT_CONSOLE_LISTEN": f"127.0.0.1:{free_port()}",
            "ORBYT_DEVTOOLS_LISTEN": "off",
            "ORBYT_DATA_DIR": self.folder.name,
            "ORBYT_API_KEYS": KEY,
            **providers(replay_url, names),
        }
        command = [os.path.abspath(binary), "serve", "-c", config]
        self.process = subprocess.Popen(command, env=environment, cwd=self.folder.name, stdout=self.log, stderr=self.log)
        wait_for(self.process, self.port, "/livez", "the gateway")

    def __exit__(self, *exception):
        super().__exit__(*exception)
        self.log.close()
        self.folder.cleanup()

    def check_alive(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"the gateway ended with status {self.process.returncode}")

    def ask(self, path, body, headers=None):
        """Sends a body (bytes, or a value as JSON) over a connection of its own; returns status, headers, body, and whether HTTP broke off."""
        headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"} if headers is None else headers
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=150)
        try:
            connection.request("POST", path, body if isinstance(body, bytes) else json.dumps(body).encode(), headers)
            response = connection.getresponse()
            try:
                return response.status, response.headers, response.read(), False
            except http.client.IncompleteRead as partial:
                return response.status, response.headers, partial.partial, True
        finally:
            connection.close()

    def post(self, request):
        """Sends a chat request; returns status, content type, body, and whether HTTP broke off. A connection is kept for each thread."""
        body = json.dumps(request).encode()
        headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
        for attempt in (1, 2):
            connection = getattr(self.connections, "kept", None) or http.client.HTTPConnection("127.0.0.1", self.port, timeout=150)
            self.connections.kept = None
            try:
                connection.request("POST", "/v1/chat/completions", body, headers)
                response = connection.getresponse()
                break
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                if attempt == 2:
                    raise
        cut = False
        try:
            said = response.read()
            self.connections.kept = connection
        except http.client.IncompleteRead as partial:
            said, cut = partial.partial, True
        except OSError:
            said, cut = b"", True
        return response.status, response.getheader("content-type") or "", said, cut


def providers(url, names):
    """The environment that moves every provider to one place; a name that the catalog does not know makes a provider of its own."""
    environment = {}
    for name in set(names) - {"ollama_native"}:
        key, base, path = KNOWN.get(name, (f"{name.upper()}_API_KEY", f"{name.upper()}_BASE_URL", "/v1"))
        environment |= {key: f"provider-key-{name}", base: url + path}
    # A region's pair of keys, so that every request is signed; a project, which stands in the paths.
    environment |= {"BEDROCK_API_KEY": "AKIDOFTHEREPLAY:provider-key-bedrock", "GOOGLE_CLOUD_PROJECT": "replay"}
    return environment
