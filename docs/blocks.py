"""The code of the book, tried: every block that begins with `# file: NAME` or `// file: NAME` is written to a folder of
its page, Python is compiled and run where its imports exist, C++ is compiled and run where there is a compiler, CUDA
is compiled and run where there is nvcc, and the commands `sus-oracle ...` of blocks of `sh` are run after them. A
command that has to fail ends with its exit code: `# exit 1`.

    python3 docs/blocks.py target/release/sus-oracle FOLDER

What cannot be run is said, and is no failure.
"""

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
MARK = re.compile(r"^(?:#|//) file: (\S+)$")


def blocks(page):
    """The blocks of a page: (language, first line's number, text)."""
    language, begin, text = None, 0, []
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if line.startswith("```"):
            if language is None:
                language, begin, text = line[3:].split(" ")[0], number + 1, []
            else:
                yield language, begin, "\n".join(text) + "\n"
                language = None
        elif language is not None:
            text.append(line)


def missing(source, folder):
    """The modules that a program imports and that are not there."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module.split(".")[0])
    there = lambda name: (folder / f"{name}.py").exists() or importlib.util.find_spec(name)  # noqa: E731
    absent = {name for name in names if not there(name)}
    for name in names - absent:
        if (folder / f"{name}.py").exists():
            absent |= missing((folder / f"{name}.py").read_text(), folder)
    if "torch" in names - absent and not __import__("torch").cuda.is_available():
        absent.add("a GPU")
    return absent


def run(what, command, folder, environment, code=0):
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode != code:
        print(f"{what}: {' '.join(map(str, command))} ends with {done.returncode}\n{done.stdout}{done.stderr}")
        sys.exit(1)
    return done.stdout


def knows(oracle, command):
    return subprocess.run([oracle, command, "--help"], capture_output=True).returncode == 0


def main(oracle, top):
    oracle, top = Path(oracle).resolve(), Path(top).resolve()
    shutil.rmtree(top, ignore_errors=True)
    (top / "bin").mkdir(parents=True)
    (top / "bin" / "sus-oracle").symlink_to(oracle)
    (top / "fixtures").symlink_to(DOCS.parent / "fixtures")
    paths = [str(top / "bin"), os.environ.get("PATH", "")]
    environment = os.environ | {"PATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"}
    pages = [(page, list(blocks(page))) for page in [*sorted(DOCS.glob("*.md")), DOCS.parent / "README.md"]]

    # Pages may use each other's files, so all of them are written before any is run.
    files = []
    for page, found in pages:
        for language, line, text in found:
            where = f"{page.name}:{line}"
            mark = MARK.match(text.split("\n", 1)[0])
            if language == "python":
                compile(text, where, "exec")
            if mark:
                (top / mark[1]).write_text(text)
                files.append((where, top / mark[1]))
            elif language == "python":
                print(f"compiled  {where}: not a file of its own")

    for where, file in files:
        if file.suffix == ".py":
            absent = missing(file.read_text(), top)
            if absent:
                print(f"compiled  {where}: {file.name}, not run for want of {', '.join(sorted(absent))}")
                continue
            run(where, [sys.executable, file.name], top, environment)
        elif file.suffix == ".cpp" and shutil.which("g++"):
            flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror"]
            run(where, ["g++", *flags, file.name, "-o", file.stem], top, environment)
            run(where, [f"./{file.stem}"], top, environment)
        elif file.suffix == ".cu" and shutil.which("nvcc"):
            run(where, ["nvcc", "-std=c++17", "-arch=native", file.name, "-o", file.stem], top, environment)
            run(where, [f"./{file.stem}"], top, environment)
        else:
            print(f"written   {where}: {file.name}")
            continue
        print(f"ran       {where}: {file.name}")

    for page, found in pages:
        for line, text in ((line, text) for language, line, text in found if language == "sh"):
            for command in text.splitlines():
                words, _, code = command.partition(" # exit ")
                words = words.split()
                if not words or words[0] != "sus-oracle":
                    continue
                where = f"{page.name}:{line}"
                pairs = zip(words[1:], words[2:])
                inputs = [word for before, word in pairs if word.endswith((".safetensors", ".json")) and before not in ("--out", ">")]
                gone = [name for name in inputs if not (top / name).exists()]
                if not knows(oracle, words[1]) or gone:
                    print(f"not run   {where}: {command}")
                    continue
                run(where, words, top, environment, int(code or 0))
                print(f"ran       {where}: {command}")


if __name__ == "__main__":
    main(*sys.argv[1:])
