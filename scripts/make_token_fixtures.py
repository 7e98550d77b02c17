#!/usr/bin/env python3
"""Write the golden files of chat templates and rebuilt vocabularies, with transformers and sentencepiece.

tests/fixtures/templates: templates of the shapes that models use, each with generation blocks, and for some
conversations the text, token ids and assistant mask that transformers gives; and small templates, one for each feature
of its Jinja environment.
tests/fixtures/vocabularies: token ids for the vocabularies that GGUF files carry.

The templates themselves are written by hand, after the documented form of each family. Nothing here uses Greffon.
Needs the environment that scripts/real/setup.sh makes, with sentencepiece added, and no network.

    python scripts/make_token_fixtures.py
"""

import io
import json
import os
import re
import unicodedata
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

import jinja2
import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Regex, Tokenizer, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS
from transformers.utils.chat_template_utils import _compile_jinja_template

FIXTURES = Path(__file__).resolve().parent.parent / "tests" / "fixtures"
SHAPES = ["chatml", "llama3", "mistral", "gemma", "qwen3", "phi3"]
# The ends of turns of those shapes, in the order of generation_config.json.
ENDS = ["</s>", "<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>"]
OTHERS = ["<s>", "<|start_header_id|>", "<|end_header_id|>", "<start_of_turn>", "[INST]", "[/INST]", "<|user|>",
          "<|assistant|>", "<|system|>", "<|tool|>"]

CONVERSATIONS = [
    ("one turn", ("user", "Where is Reims?"), ("assistant", "In Champagne.")),
    ("system turn", ("system", "Be brief."), ("user", "Où est Besançon ?"), ("assistant", "Dans le Doubs, à l’est.")),
    ("three turns", ("user", "1+1?"), ("assistant", "2"), ("user", "2+2?"), ("assistant", "4"), ("user", "4+4?"),
     ("assistant", "8")),
    ("three turns with a system turn", ("system", "Count."), ("user", "1"), ("assistant", "2"), ("user", "3"),
     ("assistant", "4")),
    ("ends with the user", ("user", "One"), ("assistant", "Two"), ("user", "Three")),
    ("begins with the assistant", ("assistant", "Hello!"), ("user", "Hi."), ("assistant", "How are you?")),
    ("only the assistant", ("assistant", "A text to continue.")),
    ("two answers in a row", ("user", "Go on."), ("assistant", "One."), ("assistant", "Two.")),
    ("no answer", ("user", "Is anybody there?")),
    ("empty user content", ("user", ""), ("assistant", "You said nothing.")),
    ("empty answer", ("user", "Say nothing."), ("assistant", "")),
    ("tool result", ("user", "What time is it?"), ("assistant", "<call>clock</call>"), ("tool", "{\"time\": \"12:00\"}"),
     ("assistant", "It is noon.")),
    ("thoughts", ("user", "2*3?"), ("assistant", "<think>\nTwice three.\n</think>\n\n6"), ("user", "3*3?"),
     ("assistant", "<think>\nThree threes.\n</think>\n\n9")),
    ("emoji at the end", ("user", "Flowers 🌹"), ("assistant", "👩🏽‍🚀🇫🇷🌷")),
    ("white space around everything", ("user", "\n \u00a0 spaced \t"), ("assistant", "\u001c\u2003\n  spaced \u0085\n\n")),
    ("only white space", ("user", "\u001d"), ("assistant", " \n ")),
    ("code", ("user", "Write it."), ("assistant", "def f(n):\n\treturn {'a': [n]}  # 100 %\r\n")),
    ("jinja inside the words", ("user", "{{ bos_token }}{% generation %}"), ("assistant", "{% endgeneration %}{# no #}")),
    ("special strings inside the words", ("user", "</s><|im_end|>\n<|im_start|>assistant\n"),
     ("assistant", "<end_of_turn><|eot_id|><|end|> no")),
    ("other scripts", ("user", "你好，世界"), ("assistant", "Здравствуй мир مرحبا e\u0301 ﬁ Ⅳ ２ 𝔘")),
]

# One small template for each feature. `messages` is the two-message conversation unless told otherwise.
FEATURES = [
    "{{ messages | length }} {{ messages[0].role }} {{ messages[-1]['content'] }} {{ messages[:-1] | length }}",
    "{% for m in messages %}\n  {% if loop.first %}\n    first\n  {% endif %}\n  {{ m.role }}\n{% endfor %}\nend\n",
    "  {%- for m in messages -%}  {{ m.role }}  {%- endfor -%}  x",
    "a\n  {%+ if true %}b\n  {% endif +%}\nc\n",
    "{# comment #}\nx{#- comment -#}  y\n",
    "{% for m in messages %}{% if m.role == 'assistant' %}{% continue %}{% endif %}{{ m.content }}{% break %}{% endfor %}",
    "{{ '  a b  '.strip() }}|{{ 'xxaxx'.strip('x') }}|{{ ' a'.lstrip() }}|{{ 'a '.rstrip() }}|{{ '\\x1c a\\x1f'.strip() }}|",
    "{{ 'a,b,c'.split(',')[-1] }}{{ 'a b  c'.split() | length }}{{ 'a,b,c'.split(',', 1)[1] }}",
    "{{ 'abc'.startswith('ab') }}{{ 'abc'.endswith(('x', 'c')) }}{{ 'abc'.upper() }}{{ 'ABC'.lower() }}{{ 'a-b'.replace('-', '+') }}",
    "{{ 'hello world'.title() }} {{ 'hello'.capitalize() }} {{ 'banana'.count('an') }} {{ 'banana'.find('n') }}",
    "{% for k, v in messages[0].items() %}{{ k }}={{ v }};{% endfor %}{{ messages[0].get('name', 'nobody') }}{{ messages[0].get('x') }}",
    "{{ messages[0].keys() | list | join(',') }} {{ messages[0].values() | list | length }}",
    "{{ messages | tojson }}",
    "{{ messages | tojson(indent=2) }}",
    "{{ {'b': [1, 2.5, true, none, []], 'a': {}, 'é': '<&\\'\">\\n\\t\\x01'} | tojson }}",
    "{{ {'b': [1, {}], 'a': {'d': 1, 'c': 2}} | tojson(indent=4, sort_keys=true) }}",
    "{{ {'b': 1, 'a': 'é😀'} | tojson(ensure_ascii=true, separators=(',', ':')) }}",
    "{{ tools is none }} {{ tools is defined }} {{ documents is none }} {{ nothing is defined }} {{ pad_token is defined }}",
    "{{ bos_token }}{{ eos_token }}{{ add_generation_prompt }}{{ none }}{{ nothing }}",
    "{% set ns = namespace(found=false, n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}{{ ns.found }}",
    "{% set x = 1 %}{% for m in messages %}{% set x = x + 1 %}{% endfor %}{{ x }}",
    "{% macro say(m, mark='!') %}{{ m.content }}{{ mark }}{% endmacro %}{{ say(messages[0]) }}{{ say(messages[1], mark='?') }}",
    "{{ 'a' ~ 1 ~ none ~ true }}{{ 'ab' * 2 }}{{ 7 // 2 }}{{ 7 % 3 }}{{ 2 ** 3 }}{{ 7 / 2 }}",
    "{{ '%s is %d' | format('x', 3) }}",
    "{{ 'a' in 'abc' }}{{ 'role' in messages[0] }}{{ 'x' not in messages[0] }}{{ messages[0].x is defined }}",
    "{{ messages[0].content is string }}{{ messages is iterable }}{{ messages[0] is mapping }}{{ 1 is number }}{{ messages is sequence }}{{ true is true }}{{ false is boolean }}",
    "{{ messages | map(attribute='role') | join('+') }}{{ messages | selectattr('role', 'equalto', 'user') | list | length }}",
    "{{ messages | rejectattr('role', 'eq', 'user') | map(attribute='content') | first }}{{ [3, 1, 2] | sort | join }}{{ [1, 2] | last }}",
    "{{ (messages | last).content if messages else 'none' }}{{ 'yes' if not nothing }}{{ 'no' if nothing }}",
    "{% if nothing %}a{% elif messages[0].role == 'user' and not tools %}b{% else %}c{% endif %}",
    "{{ range(3) | list }} {{ [1, 'a', none, true] }} {{ {'a': 1} }} {{ ('a', 1) }}",
    "{{ dict(a=1).a }} {{ messages[0] | length }} {{ 'abc'[1] }} {{ 'abc'[::-1] }} {{ messages[::-1][0].role }}",
    "{{ ' a ' | trim }}|{{ 'A' | lower }}|{{ 'a' | upper }}|{{ 'abc' | replace('b', 'x') }}|{{ nothing | default('d') }}|{{ '' | default('e', true) }}",
    "{% for m in messages %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.length }}{{ loop.last }}{{ loop.previtem is defined }}{{ (loop.nextitem or {}).role }}{{ loop.cycle('x', 'y') }};{% endfor %}",
    "{% for m in messages if m.role == 'user' %}{{ m.content }}{% else %}none{% endfor %}{% for m in [] %}x{% else %}empty{% endfor %}",
    "{% set text %}a{{ messages[0].content }}b{% endset %}{{ text | upper }}",
    "{% filter upper %}abc{% endfilter %}{% raw %}{{ raw }}{% endraw %}{% with y = 2 %}{{ y }}{% endwith %}{{ y }}",
    "{{ 'a\\nb'.splitlines() | join('|') }}{{ 'x'.join(['a', 'b']) }}{{ 'a{}c'.format('b') }}{{ 'a' < 'b' }}{{ '7' | int + 1 }}",
    "{{- 'a' -}}   {{- 'b' }}\n{{ 'c' }}\r\n{{ 'd' }}\r\n",
    "{{ strftime_now('%Y') | length }}",
    "{{ raise_exception('no ' + messages[0].role + ' here') }}",
    "{{ messages[5].role }}",
    "{{ nothing.x }}",
    "{{ messages[0].content + 1 }}",
    "{{ nope() }}",
    "{{ 'a' | nope }}",
    "{% if %}",
    "{% for m in messages %}",
    "{{ 'a' ",
    "{% generation %}{% set a = 1 %}{{ a }}{% endgeneration %}{{ a }}",
    "{% set a = 0 %}{% generation %}{% set a = 1 %}{{ a }}{% endgeneration %}{{ a }}",
]
TWO = [{"role": "user", "content": "Où ?\n"}, {"role": "assistant", "content": "Là-bas <b>&amp;</b> \"x\""}]

TEXTS = [
    "Hello world, how's it going? I'VE said: we'll see.",
    "L'élève était né en 1802 à Besançon ; 12345 et 67 890,50 €.",
    "def f(x):\n    return x**2\n\n\n\tprint(f'{x!r}')  # done\r\n\r\n",
    "   leading, trailing   ",
    "你好，世界！ Привет мир مرحبا بالعالم हिन्दी ไทย",
    "🌹🌷 👩🏽‍🚀🇫🇷 e\u0301 ﬁ Ⅳ ２ ½ ² \u00a0\u2003x",
    "A/B\n/C HTTPServer_2XX camelCaseWord\u200b\ufeff...!?«»—",
    "",
]


def write_json(path: Path, value) -> None:
    """One line for each entry of the outer list or object, so that a change can be read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(value, dict):
        rows = [f"{json.dumps(key)}: {json.dumps(item, ensure_ascii=False)}" for key, item in value.items()]
        text = "{\n" + ",\n".join(rows) + "\n}\n"
    else:
        text = "[\n" + ",\n".join(json.dumps(item, ensure_ascii=False) for item in value) + "\n]\n"
    assert json.loads(text) == value
    path.write_text(text, encoding="utf-8")


def write_shapes(folder: Path) -> None:
    """The tokenizer with the special tokens of all shapes, and what transformers makes of the conversations."""
    backend = Tokenizer.from_file(str(FIXTURES / "tiny-llama" / "tokenizer.json"))
    backend.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in OTHERS + ENDS])
    backend.save(str(folder / "tokenizer.json"))
    ends = [backend.token_to_id(text) for text in ENDS]
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>",
        "eos_token": {"__type": "AddedToken", "content": "</s>", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False},
        "pad_token": None, "clean_up_tokenization_spaces": False}, indent=2) + "\n")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}) + "\n")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)

    rows = []
    for name, *turns in CONVERSATIONS:
        rows.append({"name": name, "messages": [{"role": role, "content": content} for role, content in turns]})
    write_json(folder / "conversations.json", rows)

    expected = {}
    for shape in SHAPES:
        source = (folder / f"{shape}.jinja").read_text(encoding="utf-8")
        plain = re.sub(r"\{% (end)?generation %\}", "", source)
        results = []
        for row in rows:
            messages = row["messages"]
            try:
                encoded = tokenizer.apply_chat_template(
                    messages, chat_template=source, return_dict=True, return_assistant_tokens_mask=True)
                text = tokenizer.apply_chat_template(messages, chat_template=source, tokenize=False)
                assert text == tokenizer.apply_chat_template(messages, chat_template=plain, tokenize=False), (shape, row)
                prompt = tokenizer.apply_chat_template(
                    messages, chat_template=source, tokenize=False, add_generation_prompt=True)
                mask = "".join(str(bit) for bit in encoded["assistant_masks"])
                results.append({"text": text, "prompt": prompt, "ids": encoded["input_ids"], "mask": mask})
            except jinja2.exceptions.TemplateError as error:
                results.append({"error": str(error)})
        expected[shape] = results
        print(shape, sum("error" in result for result in results), "refused of", len(results))
    write_json(folder / "expected.json", expected)


def write_features(folder: Path) -> None:
    """features.json: source, and the text or the kind of failure."""
    rows = []
    for source in FEATURES:
        try:
            text = _compile_jinja_template(source).render(
                messages=TWO, tools=None, documents=None, add_generation_prompt=False, bos_token="<s>", eos_token="</s>")
            rows.append({"source": source, "text": text})
        except jinja2.exceptions.TemplateSyntaxError:
            rows.append({"source": source, "fails": "syntax"})
        except (jinja2.exceptions.TemplateError, TypeError) as error:
            raised = isinstance(error, jinja2.exceptions.TemplateError) and type(error) is jinja2.exceptions.TemplateError
            rows.append({"source": source, "fails": str(error) if raised else "render"})
    write_json(folder / "features.json", rows)


def write_byte_level(folder: Path) -> None:
    """byte_level.json: for each pre-tokenizer name, the ids that the tiny vocabulary gives with it."""
    splits = {name: GGUF_PRE_TOKENIZER_SPLITS[name] for name in ["llama-bpe", "qwen2", "qwen35", "tekken", "gpt-4o"]}
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    rules = {
        "gpt-2": gpt2,
        "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), gpt2]),
        **{name: pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(split), behavior="isolated"), byte_level])
           for name, split in splits.items()},
    }
    ids = {}
    for name, rule in rules.items():
        backend = Tokenizer.from_file(str(FIXTURES / "tiny-llama" / "tokenizer.json"))
        backend.pre_tokenizer = rule
        backend.model.ignore_merges = name in ("llama-bpe", "tekken")
        ids[name] = [backend.encode(text, add_special_tokens=False).ids for text in TEXTS]
    write_json(folder / "byte_level.json", {"texts": TEXTS, **ids})


def write_sentencepiece(folder: Path) -> None:
    """sentencepiece.json: a small vocabulary as a GGUF file would list it, and sentencepiece's own ids."""
    corpus = [content for _, *turns in CONVERSATIONS for _, content in turns] + TEXTS
    corpus += [row["content"] for line in (FIXTURES / "tokens" / "conversations.jsonl").read_text().splitlines()
               for row in json.loads(line)["messages"]]
    lines = [line for text in corpus for line in text.splitlines() if line.strip()]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines * 4), model_writer=model, model_type="bpe", vocab_size=600, byte_fallback=True,
        character_coverage=0.98, normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True,
        allow_whitespace_only_pieces=True, user_defined_symbols=["<start_of_turn>", "<end_of_turn>", "\n"],
        pad_id=3, num_threads=1, minloglevel=2)
    kinds = sentencepiece_model_pb2.ModelProto.SentencePiece
    types = {kinds.NORMAL: 1, kinds.UNKNOWN: 2, kinds.CONTROL: 3, kinds.USER_DEFINED: 4, kinds.UNUSED: 5, kinds.BYTE: 6}
    proto = sentencepiece_model_pb2.ModelProto.FromString(model.getvalue())
    out = {
        "tokens": [piece.piece for piece in proto.pieces],
        "scores": [piece.score for piece in proto.pieces],
        "token_types": [types[piece.type] for piece in proto.pieces],
        "texts": TEXTS + ["<start_of_turn>user\nOù ?<end_of_turn>\n"],
    }
    for prefix in (True, False):
        proto.normalizer_spec.add_dummy_prefix = prefix
        processor = sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())
        # With the prefix, GGUF runtimes add one after each special token too, which sentencepiece does not.
        texts = TEXTS if prefix else out["texts"]
        out["ids_with_prefix" if prefix else "ids_without_prefix"] = [processor.encode(text) for text in texts]
    write_json(folder / "sentencepiece.json", out)


if __name__ == "__main__":
    assert unicodedata.normalize("NFD", "é") == "e\u0301"
    write_shapes(FIXTURES / "templates")
    write_features(FIXTURES / "templates")
    write_byte_level(FIXTURES / "vocabularies")
    write_sentencepiece(FIXTURES / "vocabularies")
