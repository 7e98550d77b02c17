#!/usr/bin/env python3
"""LoRA with TRL's SFTTrainer and its packing (`bfd`); one JSON line a step, in Greffon's keys.

The settings are those of train_peft.py; one epoch of whole steps: a last step of
fewer rows is dropped, since it would be faster by its shorter attention alone.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", CUDA_VISIBLE_DEVICES="", TQDM_DISABLE="1",
                  HF_HUB_DISABLE_TELEMETRY="1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    import torch

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    import datasets
    import transformers
    from conversations import read
    from peft import LoraConfig
    from train_peft import MODULES
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    transformers.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32, attn_implementation="sdpa")
    model.config.use_cache = False
    samples = datasets.Dataset.from_list(
        [{"prompt": messages[:-1], "completion": messages[-1:]} for messages in read(arguments.data)])
    records = arguments.out.open("w", encoding="utf-8")

    class Timed(SFTTrainer):
        def training_step(self, model, inputs, *rest, **options):
            ids, mask, labels = inputs["input_ids"], inputs.get("attention_mask"), inputs["labels"]
            self.counted = {
                "tokens": ids.numel() if mask is None else int(mask.sum()),
                "supervised_tokens": int((labels != -100).sum()),
                "computed_tokens": ids.numel(),
            }
            loss = super().training_step(model, inputs, *rest, **options)
            self.counted["loss"] = float(loss)
            return loss

    class Clock(transformers.TrainerCallback):
        def on_step_begin(self, *_, **__):
            self.started = time.perf_counter()

        def on_step_end(self, _, state, *__, **___):
            seconds = time.perf_counter() - self.started
            records.write(json.dumps({"step": state.global_step, **trainer.counted, "seconds": seconds}) + "\n")
            records.flush()

    with tempfile.TemporaryDirectory() as folder:
        config = SFTConfig(
            output_dir=folder, per_device_train_batch_size=arguments.batch, num_train_epochs=1,
            max_length=arguments.length, packing=True, packing_strategy="bfd", completion_only_loss=True,
            learning_rate=2e-4, lr_scheduler_type="constant", weight_decay=0.0, max_grad_norm=0.0, bf16=False,
            fp16=False, use_cpu=True, gradient_checkpointing=False, report_to="none", save_strategy="no",
            logging_strategy="no", disable_tqdm=True, seed=0, dataloader_num_workers=0, dataloader_drop_last=True)
        adapter = LoraConfig(r=arguments.rank, lora_alpha=2 * arguments.rank, lora_dropout=0.0, bias="none",
                             task_type="CAUSAL_LM", target_modules=MODULES)
        trainer = Timed(model=model, args=config, train_dataset=samples, processing_class=tokenizer,
                        peft_config=adapter, callbacks=[Clock()])
        trainer.train()
    records.close()


if __name__ == "__main__":
    main()
