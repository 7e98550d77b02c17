#!/usr/bin/env python3
"""transformers and PEFT behind the part of OpenAI's completions that `greffon verify --prove` asks, in f32 on the CPU.

It speaks as vLLM does: the base and each adapter are models, an adapter has a `parent`, prompts are token ids, and
log-probabilities come under `token_id:N`. One token is generated. For PEFT folders and merged folders that are proved
in the library that other servers are built on; made for proofs, not for serving.

    python scripts/real/transformers_server.py base/ --port 8000 --adapter mine=adapter/

Prints `listening ADDRESS` once it answers, and runs until it is killed.
"""

import argparse
import json
import os
import warnings
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", CUDA_VISIBLE_DEVICES="", TQDM_DISABLE="1")

MOST_LOGPROBS = 100


class Refused(Exception):
    """A request that cannot be answered, in one line."""


def load(base: Path, adapters: list[str]):
    """The base, from a Hugging Face folder or a GGUF file, with its adapters; the names of both."""
    import torch
    from peft import PeftModel
    from peft.utils.save_and_load import get_peft_model_state_dict, load_peft_weights
    from transformers import AutoModelForCausalLM

    if base.suffix == ".gguf":
        place = {"pretrained_model_name_or_path": base.parent, "gguf_file": base.name}
    else:
        place = {"pretrained_model_name_or_path": base}
    model = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32, attn_implementation="eager").eval()
    names = []
    for adapter in adapters:
        name, separator, path = adapter.partition("=")
        if not separator:
            raise SystemExit(f"transformers_server.py: --adapter {adapter}: expected NAME=FOLDER")
        if names:
            model.load_adapter(path, adapter_name=name)
        else:
            model = PeftModel.from_pretrained(model, path, adapter_name=name)
        # PEFT only warns about tensors that are missing or fit nowhere; here that is an error.
        expected = get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False).keys()
        for odd in expected ^ load_peft_weights(path, device="cpu").keys():
            raise SystemExit(f"transformers_server.py: {path}: tensor {odd} is missing or unknown")
        names.append(name)
    return model.eval(), names


class Service:
    """One model with its adapters."""

    def __init__(self, base: Path, adapters: list[str]):
        import transformers

        self.base = base.resolve().name
        self.model, self.adapters = load(base, adapters)
        self.vocab_size = self.model.config.get_text_config().vocab_size
        self.version = transformers.__version__
        try:
            # A folder's tokenizer.json as it is: by the model's type, transformers 5 gives Qwen rules of its own instead.
            if base.suffix == ".gguf":
                self.tokenizer = transformers.AutoTokenizer.from_pretrained(base.parent, gguf_file=base.name)
            else:
                self.tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(base)
        except (OSError, ValueError):
            self.tokenizer = None

    def models(self) -> dict:
        entry = {"object": "model", "owned_by": "transformers"}
        models = [{"id": self.base, "parent": None, **entry}]
        return {"object": "list", "data": models + [{"id": name, "parent": self.base, **entry} for name in self.adapters]}

    def log_probs(self, name: str, ids: list[int]):
        import torch

        tokens = torch.tensor([ids])
        with torch.no_grad():
            if name in self.adapters:
                self.model.set_adapter(name)
                logits = self.model(input_ids=tokens).logits
            elif self.adapters:
                with self.model.disable_adapter():
                    logits = self.model(input_ids=tokens).logits
            else:
                logits = self.model(input_ids=tokens).logits
        return logits[0, -1].log_softmax(-1)

    def complete(self, request: dict) -> dict:
        name, ids, top = request.get("model"), request.get("prompt"), request.get("logprobs")
        if name != self.base and name not in self.adapters:
            raise Refused(f"there is no model {name!r}, there are {[self.base, *self.adapters]}")
        if not isinstance(ids, list) or not ids or any(type(id) is not int or not 0 <= id < self.vocab_size for id in ids):
            raise Refused(f"prompt: expected token ids below {self.vocab_size}")
        if type(top) is not int or not 1 <= top <= MOST_LOGPROBS:
            raise Refused(f"logprobs: expected 1 to {MOST_LOGPROBS}, got {top!r}")
        if request.get("max_tokens") != 1 or not request.get("return_tokens_as_token_ids"):
            raise Refused("expected max_tokens 1 and return_tokens_as_token_ids")
        best = self.log_probs(name, ids).topk(top)
        ranked = {f"token_id:{id}": value for id, value in zip(best.indices.tolist(), best.values.tolist())}
        first = next(iter(ranked))
        logprobs = {"tokens": [first], "token_logprobs": [ranked[first]], "top_logprobs": [ranked], "text_offset": [0]}
        choice = {"index": 0, "text": "", "finish_reason": "length", "logprobs": logprobs}
        return {"object": "text_completion", "model": name, "choices": [choice]}

    def tokenize(self, request: dict) -> dict:
        if self.tokenizer is None:
            raise Refused("the base has no tokenizer")
        ids = self.tokenizer(request["prompt"], add_special_tokens=request.get("add_special_tokens", True)).input_ids
        return {"count": len(ids), "tokens": ids}


def handler(service: Service):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answers = {"/v1/models": service.models, "/version": lambda: {"version": service.version}}
            self.answer(answers.get(self.path))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            answers = {"/v1/completions": service.complete, "/tokenize": service.tokenize}
            answer = answers.get(self.path)
            self.answer(answer and (lambda: answer(json.loads(body))))

        def answer(self, make) -> None:
            try:
                status, value = (200, make()) if make else (404, {"error": {"message": f"no {self.path} here"}})
            except (Refused, KeyError, ValueError) as error:
                status, value = 400, {"error": {"message": str(error)}}
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_) -> None:
            pass

    return Handler


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path, help="Hugging Face folder or GGUF file")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one (default: %(default)s)")
    parser.add_argument("--adapter", action="append", default=[], metavar="NAME=FOLDER", help="a PEFT folder; again for more")
    parser.add_argument("--threads", type=int, default=2, help="threads of PyTorch (default: %(default)s)")
    arguments = parser.parse_args()
    import torch
    import transformers

    torch.set_num_threads(arguments.threads)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.filterwarnings("ignore")
    service = Service(arguments.base, arguments.adapter)
    server = HTTPServer(("127.0.0.1", arguments.port), handler(service))
    print(f"listening http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
