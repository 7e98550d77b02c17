"""From a conversation to token ids and labels, as the peer's users write it."""

import json
from pathlib import Path

IGNORED = -100


def encode(tokenizer, messages: list[dict], length: int) -> tuple[list[int], list[int]]:
    """The first `length` token ids, and labels that leave the prompt out of the loss."""
    whole = tokenizer.apply_chat_template(messages, tokenize=False)
    prompt = tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True)
    if not whole.startswith(prompt):
        raise SystemExit("the chat template's prompt is not the beginning of the conversation")
    ids = tokenizer(whole, add_special_tokens=False).input_ids
    answer_from = len(tokenizer(prompt, add_special_tokens=False).input_ids)
    # The line break after the end of the turn is learned by neither side.
    answer_to = len(ids) - ids[::-1].index(tokenizer.eos_token_id)
    labels = [token if answer_from <= place < answer_to else IGNORED for place, token in enumerate(ids)]
    return ids[:length], labels[:length]


def read(path: Path) -> list[list[dict]]:
    return [json.loads(line)["messages"] for line in path.read_text(encoding="utf-8").splitlines()]
