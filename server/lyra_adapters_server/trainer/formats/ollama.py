"""A Modelfile for Ollama: the base, the adapter, and the prompt as TEMPLATE, so that callers send the bare pair.

The premise is Ollama's `system` and the hypothesis its `prompt`: its templates know these two texts. The rules are
Ollama's `parser/parser.go` (between triple quotes a text stays as it is, but characters that do not print are dropped)
and `template/template.go` (Go's text/template).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lyra_adapters_server.trainer.errors import TrainerError
from lyra_adapters_server.trainer.formats.source import NOT_AVAILABLE

MODELFILE = "Modelfile"

_PREMISE, _HYPOTHESIS = "{premise}", "{hypothesis}"
# Beside the prompt, room for the answer.
_ANSWER_TOKENS = 8


def modelfile(prompt: Mapping[str, Any], *, name: str, source: str, adapter: str = "") -> str:
    """Writes a Modelfile.

    Args:
        prompt: prompt.json of a causal model's adapter.
        name: What to call the model in Ollama.
        source: What FROM names: a model that Ollama has, a GGUF file, or a directory.
        adapter: The adapter's file, beside the Modelfile; empty where it is merged.

    Raises:
        TrainerError: FORMAT_NOT_AVAILABLE, if Ollama can't hold such a prompt.
    """
    words = ", ".join(f"{word!r} means {label}" for label, word in prompt["label_words"].items())
    lines = [
        f"# ollama create {name} -f Modelfile",
        "# Ask /api/generate with the premise as `system` and the hypothesis as `prompt`. The first token is the",
        f"# answer: {words}.",
        f"FROM {source}",
    ]
    if adapter:
        lines.append(f"ADAPTER ./{adapter}")
    lines += [
        f'TEMPLATE """{_template(str(prompt["template"]))}"""',
        "PARAMETER temperature 0",
        "PARAMETER num_predict 1",
        f"PARAMETER num_ctx {int(prompt['max_length']) + _ANSWER_TOKENS}",
    ]
    return "\n".join(lines) + "\n"


def check_specials(prompt: Mapping[str, Any], tokenizer: Any) -> None:
    """Refuses a prompt that was trained without the special tokens that Ollama puts before every prompt.

    Raises:
        TrainerError: FORMAT_NOT_AVAILABLE.
    """
    added = tokenizer("a")["input_ids"] != tokenizer("a", add_special_tokens=False)["input_ids"]
    if added and not prompt["add_special_tokens"]:
        raise TrainerError(
            NOT_AVAILABLE,
            f"the prompt `{prompt['name']}` goes without the tokenizer's special tokens, and Ollama always adds them",
        )


def _template(text: str) -> str:
    """The prompt as Ollama's template; what the parser or the template would change is written as a Go string."""
    if '"""' in text:
        raise TrainerError(NOT_AVAILABLE, 'its prompt holds """, which a Modelfile can\'t')
    premise, hypothesis = text.index(_PREMISE), text.index(_HYPOTHESIS)
    if premise < hypothesis:
        before, rest = text[:premise], text[premise + len(_PREMISE) :]
        middle, after = rest.split(_HYPOTHESIS)
        first, second = "{{ .System }}", "{{ .Prompt }}"
    else:
        before, rest = text[:hypothesis], text[hypothesis + len(_HYPOTHESIS) :]
        middle, after = rest.split(_PREMISE)
        first, second = "{{ .Prompt }}", "{{ .System }}"
    return f"{_literal(before)}{first}{_literal(middle)}{second}{_literal(after)}"


def _literal(text: str) -> str:
    return "".join(
        character if (character.isprintable() and character != "{") or character in "\n\t" else _go_string(character)
        for character in text
    )


def _go_string(character: str) -> str:
    return f'{{{{ "\\U{ord(character):08x}" }}}}'
