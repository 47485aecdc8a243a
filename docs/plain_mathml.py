"""A preprocessor of mdbook, after mdbook-katex: makes its MathML safe from Markdown, which runs on it afterwards.

The TeX source that MathML carries along is dropped, since Markdown would read its underscores and lists; the tilde of an
accent becomes an entity, since two of them would strike out what is between them.
"""

import json
import re
import sys

MATH = re.compile(r"<math.*?</math>", re.DOTALL)
SOURCE = re.compile(r"<annotation.*?</annotation>", re.DOTALL)


def plain(math):
    return SOURCE.sub("", math[0]).replace("~", "&#126;").replace("*", "&#42;").replace("\n", " ")


def walk(node):
    if isinstance(node, dict):
        return {key: MATH.sub(plain, value) if key == "content" and isinstance(value, str) else walk(value) for key, value in node.items()}
    return [walk(value) for value in node] if isinstance(node, list) else node


if __name__ == "__main__":
    if len(sys.argv) > 1:  # "supports RENDERER"
        sys.exit(0)
    _, book = json.load(sys.stdin)
    json.dump(walk(book), sys.stdout)
