"""The Modelfile, read as Ollama's parser and Go's templates read it: the model sees exactly the adapter's prompt."""

from __future__ import annotations

import re
from typing import Any

import pytest
from lyra_adapters_server.trainer.errors import TrainerError
from lyra_adapters_server.trainer.formats.ollama import check_specials, modelfile
from numpy_adapter import PROMPT


def parse(text: str) -> dict[str, list[str]]:
    """Ollama's `parser.ParseFile`: comments, names, and values that triple quotes may hold together."""
    commands: dict[str, list[str]] = {}
    while text := text.lstrip("\n"):
        if text.startswith("#"):
            text = text.partition("\n")[2]
            continue
        name, _, rest = text.partition(" ")
        if rest.startswith('"""'):
            value, _, text = rest[3:].partition('"""')
        else:
            value, _, text = rest.partition("\n")
        # It keeps newlines, blanks and tabs; of other characters those that print.
        kept = "".join(c for c in value if c in "\n\t " or (c.isprintable()))
        commands.setdefault(name, []).append(kept)
    return commands


def render(template: str, system: str, prompt: str) -> str:
    """Go's text/template, as far as fields and strings go; an action that it doesn't know fails."""

    def action(match: re.Match[str]) -> str:
        body = match[1].strip()
        if body in (".System", ".Prompt"):
            return system if body == ".System" else prompt
        literal = re.fullmatch(r'"\\U([0-9a-f]{8})"', body)
        assert literal, body
        return chr(int(literal[1], 16))

    return re.sub(r"\{\{(.*?)\}\}", action, template, flags=re.DOTALL)


@pytest.mark.parametrize(
    "template",
    [
        PROMPT["template"],
        "{hypothesis}\n\n{premise} ->",
        '  {{premise}} {{ .System }} "{hypothesis}"\n{"a": 1}\n ',
        "前提：\u3000{premise}\n仮説：{hypothesis}\u00a0答え:",
        "<|im_start|>user\n{premise}\r\n\t{hypothesis}<|im_end|>",
    ],
)
def test_the_model_sees_the_prompt_with_the_pair(template: str) -> None:
    prompt = {**PROMPT, "template": template}
    commands = parse(modelfile(prompt, name="x_v1", source="./base.gguf", adapter="x_v1.gguf"))
    premise, hypothesis = "Naps {{ of }} 90 minutes\nhelped.", 'Naps "help" {hypothesis}.'
    expected = template.replace("{hypothesis}", "\0").replace("{premise}", premise).replace("\0", hypothesis)
    assert render(commands["TEMPLATE"][0], premise, hypothesis) == expected


def test_it_names_base_adapter_and_how_to_answer() -> None:
    text = modelfile(PROMPT, name="x_v1", source="qwen2.5:3b-instruct-fp16", adapter="x_v1.gguf")
    commands = parse(text)
    assert commands["FROM"] == ["qwen2.5:3b-instruct-fp16"]
    assert commands["ADAPTER"] == ["./x_v1.gguf"]
    assert commands["PARAMETER"] == ["temperature 0", "num_predict 1", "num_ctx 520"]
    assert "' yes' means SUPPORTS, ' no' means REFUTES, ' maybe' means NEUTRAL" in text


def test_a_merged_model_needs_no_adapter() -> None:
    commands = parse(modelfile(PROMPT, name="x_v1", source="."))
    assert "ADAPTER" not in commands
    assert commands["FROM"] == ["."]


def test_what_ollama_cannot_hold_is_refused() -> None:
    with pytest.raises(TrainerError) as caught:
        modelfile({**PROMPT, "template": '"""{premise}{hypothesis}'}, name="x_v1", source=".")
    assert caught.value.reason == "FORMAT_NOT_AVAILABLE"


def test_a_prompt_without_special_tokens_is_refused_where_the_tokenizer_has_some() -> None:
    def tokenizer(text: str, add_special_tokens: bool = True) -> Any:
        return {"input_ids": [1, 2] if add_special_tokens else [2]}

    check_specials(PROMPT, tokenizer)
    with pytest.raises(TrainerError, match="special tokens"):
        check_specials({**PROMPT, "add_special_tokens": False}, tokenizer)
