"""Opens the page of `sus-oracle check --html` in a headless Chromium without scripts, and clicks in it.

    python3 tests/browser/check_page.py COMMAND BROWSER [PICTURES]

COMMAND is the built `sus-oracle`, BROWSER a Chromium that has `--headless`. With PICTURES, a folder, it leaves screenshots there to
look at. It needs Python alone: the browser is told what to do through a pair of pipes, by the DevTools protocol.
"""

import base64
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
HOSTILE = "<script>document.title='x'<&\"'.safetensors"


class Browser:
    """A browser process, and one page in it."""

    def __init__(self, program, profile):
        to_read, to_write = os.pipe(), os.pipe()
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-pipe", f"--user-data-dir={profile}"]
        # The browser reads from descriptor 3 and writes to 4; the numbers of ours may be the same, so a shell moves them.
        shell = ["sh", "-c", 'exec "$@" 3<&%d 4>&%d' % (to_read[0], to_write[1]), "sh", program, *flags, "about:blank"]
        self.process = subprocess.Popen(shell, pass_fds=(to_read[0], to_write[1]), stderr=subprocess.DEVNULL)
        os.close(to_read[0])
        os.close(to_write[1])
        self.to_browser, self.from_browser = os.fdopen(to_read[1], "wb", 0), os.fdopen(to_write[0], "rb", 0)
        self.buffer, self.count, self.session, self.events = b"", 0, None, []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ["Page", "DOM", "Network", "Log"]:
            self.ask(domain + ".enable")
        self.ask("Emulation.setScriptExecutionDisabled", value=True)

    def message(self):
        while b"\0" not in self.buffer:
            part = self.from_browser.read(1 << 16)
            if not part:
                raise SystemExit("the browser has stopped")
            self.buffer += part
        text, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(text)

    def ask(self, method, **parameters):
        self.count += 1
        request = {"id": self.count, "method": method, "params": parameters}
        if self.session:
            request["sessionId"] = self.session
        self.to_browser.write(json.dumps(request).encode() + b"\0")
        while True:
            answer = self.message()
            if answer.get("id") == self.count:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]
            self.events.append(answer)

    def open(self, path):
        self.events.clear()
        self.ask("Page.navigate", url=path.as_uri())
        # Its load event, and not that of the page before it.
        while not self.is_loaded(path.as_uri()):
            self.events.append(self.message())
        # Once for each page: asking again makes all earlier numbers of nodes invalid.
        self.root = self.ask("DOM.getDocument", depth=0)["root"]["nodeId"]

    def is_loaded(self, url):
        methods = [event.get("method") for event in self.events]
        navigated = [n for n, event in enumerate(self.events) if methods[n] == "Page.frameNavigated" and event["params"]["frame"]["url"] == url]
        return bool(navigated) and "Page.loadEventFired" in methods[navigated[0] :]

    def requests(self):
        return [e["params"]["request"]["url"] for e in self.events if e.get("method") == "Network.requestWillBeSent"]

    def complaints(self):
        return [e["params"]["entry"]["text"] for e in self.events if e.get("method") == "Log.entryAdded"]

    def nodes(self, selector):
        return self.ask("DOM.querySelectorAll", nodeId=self.root, selector=selector)["nodeIds"]

    def text(self, node):
        """The text of an element, its tags removed."""
        markup = self.ask("DOM.getOuterHTML", nodeId=node)["outerHTML"]
        text = re.sub(r"<[^>]*>", "", markup)
        for name, sign in [("&lt;", "<"), ("&gt;", ">"), ("&nbsp;", "\xa0"), ("&quot;", '"'), ("&amp;", "&")]:
            text = text.replace(name, sign)
        return text

    def is_visible(self, node):
        try:
            box = self.ask("DOM.getBoxModel", nodeId=node)["model"]
            return box["width"] > 0 and box["height"] > 0
        except RuntimeError:
            return False

    def click(self, node):
        self.ask("DOM.scrollIntoViewIfNeeded", nodeId=node)
        quad = self.ask("DOM.getContentQuads", nodeId=node)["quads"][0]
        x, y = sum(quad[0::2]) / 4, sum(quad[1::2]) / 4
        for kind in ["mousePressed", "mouseReleased"]:
            self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def picture(self, path, width, dark, whole=True):
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        data = self.ask("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))

    def width(self):
        """The width of the contents and that of the window."""
        metrics = self.ask("Page.getLayoutMetrics")
        return metrics["cssContentSize"]["width"], metrics["cssLayoutViewport"]["clientWidth"]

    def close(self):
        self.process.terminate()
        self.process.wait()


def page(command, folder, name, case, candidates, code, options=()):
    """The page of a check, and its report as JSON."""
    out = folder / f"{name}.html"
    arguments = [command, "check", case, *candidates, "--html", out, "--json", *options]
    run = subprocess.run(list(map(str, arguments)), capture_output=True, text=True)
    assert run.returncode == code, (name, run.returncode, run.stdout, run.stderr)
    return out, json.loads(run.stdout)


def pages(command, folder):
    """One page for each kind of verdict."""
    broken, hostile = ROOT / "fixtures/broken", folder / HOSTILE
    shutil.copy(broken / "candidate.safetensors", hostile)
    case = broken / "case.safetensors"
    yield "fail", *page(command, folder, "fail", case, [hostile], 1)
    right = folder / "right.safetensors"
    subprocess.run([command, "grad", case, "--dense", "--dtype", "f32", "--out", right], check=True, capture_output=True)
    yield "pass", *page(command, folder, "pass", case, [right], 0)
    yield "refused", *page(command, folder, "refused", case, [right], 3, ["--recipe", vague(folder)])
    runs = [folder / f"run-{seed}.safetensors" for seed in range(3)]
    for seed, run in enumerate(runs):
        draw = ["--c", "4", "--seed", str(seed)]
        subprocess.run([command, "grad", case, *draw, "--dtype", "f32", "--out", run], check=True, capture_output=True)
        without_mask(run)
    yield "statistical", *page(command, folder, "statistical", case, runs, 4, ["--c", "4", "--law", "--recipe", "f32"])
    yield "runs", *page(command, folder, "runs", case, [hostile, hostile], 1, ["--dense"])


def without_mask(path):
    """Takes the mask out of a safetensors file: several runs have none, or a dense one."""
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header, numbers, out = json.loads(data[8:end]), data[end:], b""
    for name in [name for name in header if name.startswith("mask/")]:
        del header[name]
    for name, tensor in header.items():
        if name != "__metadata__":
            first, last = tensor["data_offsets"]
            tensor["data_offsets"] = [len(out), len(out) + last - first]
            out += numbers[first:last]
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + out)


def vague(folder):
    """A recipe whose bounds are too wide to judge by."""
    path = folder / "vague.toml"
    path.write_text('base = "f32"\nexp_ulp = 1e7\n')
    return path


def check(browser, name, path, report):
    browser.open(path)
    assert browser.requests() == [path.as_uri()], browser.requests()
    assert not browser.complaints(), browser.complaints()
    assert not browser.nodes("script") and not browser.nodes("[onload], [onclick], [onerror]")
    (badge,) = browser.nodes("h1 .badge")
    assert browser.text(badge).split()[-1] == report["verdict"], (name, browser.text(badge))
    body = browser.text(browser.nodes("body")[0])
    assert report["command"] in body, name
    for finding in report["findings"][:100]:
        assert finding["message"] in body, (name, finding)
    if report["verdict"] == "FAIL":
        assert report["diagnosis"] in browser.text(browser.nodes("#diagnosis")[0])
    for tensor in report["tensors"]:
        zoom_to_the_worst_element(browser, tensor)
    # No sideways scrolling of the page itself, wide or narrow.
    for width in [1200, 400]:
        browser.ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        contents, window = browser.width()
        assert contents <= window, (name, width, contents, window)
    browser.ask("Emulation.clearDeviceMetricsOverride")
    pdf = base64.b64decode(browser.ask("Page.printToPDF")["data"])
    assert pdf.startswith(b"%PDF") and len(pdf) > 10_000


def zoom_to_the_worst_element(browser, tensor):
    """A click on the part of the map that holds the worst element shows its numbers, and nothing else before it does."""
    worst = tensor["worst"]
    if not tensor["shape"] or worst is None or worst["found"] is None:
        return
    index = "[" + ", ".join(map(str, worst["index"])) + "]"
    sentence = f"The worst here, {index}: "
    zooms = browser.nodes(f"#{tensor['name']} .zoom")
    (at,) = [n for n, node in enumerate(zooms) if sentence in browser.text(node)]
    links = browser.nodes(f"#{tensor['name']} .head .map a")
    if links:
        open_all = browser.nodes(f"#{tensor['name']} .open .zoom")
        assert open_all or not browser.is_visible(zooms[at])
        browser.click(links[at])
    assert browser.is_visible(zooms[at]), (tensor["name"], at)
    numbers = re.search(r"found (\S+), expected (\S+); the error (\S+)", browser.text(zooms[at]))
    assert (float(numbers[1]), float(numbers[2])) == (worst["found"], worst["expected"]), tensor["name"]
    if not browser.nodes(f"#{tensor['name']} .open .zoom"):
        visible = [node for node in zooms if browser.is_visible(node)]
        assert visible == [zooms[at]], "a click opens one part alone"


def main():
    command, program = sys.argv[1], sys.argv[2]
    pictures = pathlib.Path(sys.argv[3]) if len(sys.argv) > 3 else None
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        browser = Browser(program, folder / "profile")
        try:
            for name, path, report in pages(os.path.abspath(command), folder):
                check(browser, name, path, report)
                print(f"{name}: {path.stat().st_size} bytes, {len(report['tensors'])} tensors, clicked")
                if pictures:
                    pictures.mkdir(exist_ok=True)
                    for kind, width, dark in [("light", 1200, False), ("dark", 1200, True), ("narrow", 400, False)]:
                        browser.picture(pictures / f"{name}-{kind}.png", width, dark)
                    shutil.copy(path, pictures)
        finally:
            browser.close()


if __name__ == "__main__":
    main()
