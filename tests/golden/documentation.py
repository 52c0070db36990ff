"""What the lines of JAX in the documentation print."""

import contextlib
import io
import pathlib
import re

from encoding import write


def gen_documentation():
    page = pathlib.Path(__file__).parents[2] / "docs" / "same-numbers-as-jax.md"
    lines = re.search(r"```python\n(.*?)```", page.read_text(), re.DOTALL).group(1)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(lines, {})
    write("documentation.json", {"same_numbers": {"lines": lines, "printed": printed.getvalue()}})
