//! What is changed of a recipe, one thing at a time.

use std::path::Path;

use adapters::Init;

use super::Arm;
use crate::kernels::Kernels;
use crate::recipe::{DeviceName, Recipe, Schedule};
use crate::train::replay::per_step;

/// The examples of a family that come together at most, where a recipe does not say.
const FAMILY: usize = 8;

/// What makes a recipe's steps cheaper and changes its numbers by rounding alone; nothing where it has that already.
/// `has_bf16` says whether this machine multiplies bfloat16 faster than float32.
pub fn same_numbers(recipe: &Recipe, has_bf16: bool) -> Arm {
    let mut changes = Vec::new();
    if recipe.data.share_prefix.is_none() && recipe.data.packing {
        changes.push(("beginnings shared", format!("data.share_prefix={FAMILY}")));
    }
    if has_bf16 && recipe.kernels == Kernels::Fused && recipe.device.parse() == Ok(DeviceName::Flex) {
        changes.push(("products in bfloat16", "kernels=bf16".to_owned()));
    }
    if changes.is_empty() {
        return Arm::plain();
    }
    let (names, set): (Vec<&str>, Vec<String>) = changes.into_iter().unzip();
    Arm { name: names.join(" + "), set }
}

/// The changes that may make a recipe cheaper or better, of those that it has not made already. `blocks` is how many the
/// base has.
pub fn arms(recipe: &Recipe, blocks: usize) -> Vec<Arm> {
    let arm = |name: &str, set: &[String]| Arm { name: name.to_owned(), set: set.to_vec() };
    let value = |key: &str, value: String| format!("{key}={value}");
    let mut arms = Vec::new();
    // Cheaper steps.
    if blocks >= 2 && recipe.lora.targets == adapters::Targets::AllLinear {
        arms.push(arm("upper half of the blocks", &[value("lora.targets", upper_half(blocks))]));
    }
    if recipe.lora.targets == adapters::Targets::AllLinear {
        arms.push(arm("attention alone", &[value("lora.targets", "[q_proj, k_proj, v_proj, o_proj]".to_owned())]));
    }
    if recipe.lora.rank > 4 {
        let rank = recipe.lora.rank / 4;
        let alpha = recipe.lora.alpha / 4.0;
        arms.push(arm(
            "a quarter of the rank",
            &[value("lora.rank", rank.to_string()), value("lora.alpha", alpha.to_string())],
        ));
    }
    if let Some(replay) = recipe.forgetting.replay.as_ref().filter(|replay| per_step(recipe, replay) >= 2) {
        arms.push(arm(
            "half of what is replayed",
            &[value("forgetting.replay.share", (replay.share / 2.0).to_string())],
        ));
    }
    // More from each example.
    if recipe.train.global_batch_size >= 2 {
        let half = recipe.train.global_batch_size / 2;
        arms.push(arm("half the batch", &[value("train.global_batch_size", half.to_string())]));
    }
    for (name, factor) in [("twice the learning rate", 2.0), ("four times the learning rate", 4.0)] {
        arms.push(arm(name, &[value("train.learning_rate", (recipe.train.learning_rate * factor).to_string())]));
    }
    if recipe.train.schedule == Schedule::Cosine {
        // Bergsma et al. 2025, <https://arxiv.org/abs/2502.15938>: straight to zero is best for short runs too.
        arms.push(arm("a straight fall of the learning rate", &[value("train.schedule", "linear".to_owned())]));
    }
    if recipe.lora.loraplus_lr_ratio <= 1.0 {
        // Its paper's 16 goes with a lower rate of A than recipes have that were made without it.
        arms.push(arm("LoRA+", &[value("lora.loraplus_lr_ratio", "4".to_owned())]));
    }
    if recipe.lora.init == Init::Default && !recipe.lora.use_dora && recipe.model.adapter.is_none() {
        let mut set = vec![value("lora.init", "pissa".to_owned())];
        if Path::new(&recipe.model.base).extension().is_some_and(|end| end.eq_ignore_ascii_case("gguf")) {
            // The parts are taken out of the weights, which must not be in blocks for it.
            set.push(value("model.dtype", "f32".to_owned()));
        }
        arms.push(arm("PiSSA", &set));
    }
    // Fewer examples of the same kind.
    if recipe.data.dedup.is_none() {
        arms.push(arm("near-duplicates left out", &["data.dedup={}".to_owned()]));
    }
    // Which examples, where not all are seen.
    if recipe.data.select.is_none() {
        for by in ["embedding", "gradient", "hardest", "middle"] {
            arms.push(arm(&format!("examples by {by}"), &[value("data.select", format!("{{by: {by}}}"))]));
        }
    }
    arms
}

/// The linear modules of the upper half of so many blocks, as a pattern: the backward pass ends at the lowest of them.
fn upper_half(blocks: usize) -> String {
    let numbers: Vec<String> = (blocks / 2..blocks).map(|block| block.to_string()).collect();
    // Single quotes: YAML takes what is inside as it is.
    format!("'model\\.layers\\.({})\\..*'", numbers.join("|"))
}

/// All of these at once, each of which has what is `always` set: of those that set the same key besides the first counts.
/// `None` where that is not more than one of them.
pub fn combined(always: &Arm, arms: &[&Arm]) -> Option<Arm> {
    let mut taken: Vec<Arm> = Vec::new();
    for arm in arms {
        let own = arm.set.iter().filter(|value| !always.set.contains(value)).cloned().collect();
        let own = Arm { name: arm.name.clone(), set: own };
        let is_free = own.keys().all(|key| taken.iter().all(|other| other.keys().all(|taken| taken != key)));
        if is_free && !own.set.is_empty() {
            taken.push(own);
        }
    }
    if taken.len() < 2 {
        return None;
    }
    let name = taken.iter().map(|arm| arm.name.as_str()).collect::<Vec<_>>().join(" + ");
    Some(always.with(&Arm { name, set: taken.into_iter().flat_map(|arm| arm.set).collect() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arm(name: &str, set: &[&str]) -> Arm {
        Arm { name: name.to_owned(), set: set.iter().map(|value| (*value).to_owned()).collect() }
    }

    #[test]
    fn arms_that_set_the_same_key_are_not_combined() {
        let (share, twice, four) = (
            arm("share", &["data.share_prefix=8"]),
            arm("twice", &["train.learning_rate=2"]),
            arm("four", &["train.learning_rate=4"]),
        );
        let plain = Arm::plain();
        let both = combined(&plain, &[&plain, &twice, &share, &four]).unwrap();
        assert_eq!(both, arm("twice + share", &["train.learning_rate=2", "data.share_prefix=8"]));
        assert_eq!(combined(&plain, &[&twice, &four]), None);
        assert_eq!(combined(&plain, &[&plain, &share]), None);
        assert_eq!(combined(&share, &[&share, &share.with(&four), &share.with(&twice)]), None);
    }

    #[test]
    fn the_upper_half_is_that_of_the_later_blocks() {
        assert_eq!(upper_half(5), "'model\\.layers\\.(2|3|4)\\..*'");
    }
}
