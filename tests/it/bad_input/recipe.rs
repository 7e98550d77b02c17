//! Recipes and overrides that cannot be meant.

use super::Case;

#[test]
fn a_misspelt_key_is_refused_with_its_line_and_the_key_that_was_meant() {
    let case = Case::new(&[]);
    case.edit("recipe.yaml", "  learning_rate:", "  learning_rat:");
    let line = 1 + case.read("recipe.yaml").lines().position(|line| line.contains("learning_rat:")).unwrap();
    let place = format!("recipe.yaml:{line}:3: unknown key `learning_rat` in `train`");
    for verb in ["train", "check"] {
        case.command_refused(&[verb, &case.recipe], &[&place, "did you mean `learning_rate`?"]);
    }
}

#[test]
fn a_rank_of_0_is_refused_with_its_line_and_range() {
    let case = Case::new(&[]);
    case.edit("recipe.yaml", "  rank: 4\n", "  rank: 0\n");
    let line = 1 + case.read("recipe.yaml").lines().position(|line| line == "  rank: 0").unwrap();
    let place = format!("recipe.yaml:{line}:9: lora.rank: expected a whole number from 1 to");
    for verb in ["train", "check"] {
        case.command_refused(&[verb, &case.recipe], &[&place, "got 0"]);
    }
}

#[test]
fn a_learning_rate_as_text_is_refused_with_the_remedy() {
    let case = Case::new(&[]);
    case.edit("recipe.yaml", "  learning_rate: 0.01\n", "  learning_rate: \"2e-4\"\n");
    let words = ["recipe.yaml:", "train.learning_rate: expected a number", "the text \"2e-4\"", "remove the quotes"];
    for verb in ["train", "check"] {
        case.command_refused(&[verb, &case.recipe], &words);
    }
}

#[test]
fn overrides_against_the_schema_are_named_in_one_error() {
    let case = Case::new(&[]);
    // What no type takes: the first one.
    let words = ["--set lora.rank=many: lora.rank: expected a whole number", "got the text \"many\""];
    case.refused(&["lora.rank=many", "train.learning_rate=fast"], &words);
    // Values out of range: both, a line each.
    let words = ["--set lora.rank=0: lora.rank: expected", "--set train.max_steps=0: train.max_steps: expected"];
    case.refused(&["lora.rank=0", "train.max_steps=0"], &words);
    // The second one asks for a key inside the value of the first.
    case.refused(&["lora.rank=4", "lora.rank.alpha=8"], &["--set lora.rank.alpha=8: `lora.rank` is the number 4"]);
}

#[test]
fn methods_that_the_modules_have_no_form_for_are_refused() {
    let case = Case::new(&[]);
    case.refused(&["lora.targets=nothing\\.here"], &["lora.targets: there are no modules like nothing\\.here in "]);
    let pissa = "lora.init=pissa";
    case.refused(&[pissa, "lora.rank=33"], &["lora.rank is 33 for model.layers.0.self_attn.k_proj", "smaller side"]);
    let expected = "expected linear modules of the blocks, since lora.init is pissa";
    case.refused(&[pissa, "lora.targets=[q_proj, lm_head]"], &["lora.targets", "lm_head", expected]);
    case.refused(&[pissa, "lora.targets=.*(q_proj|lm_head)"], &["lora.targets is lm_head", expected]);
    let words = ["lora.targets", "embed_tokens", "expected linear modules, since lora.use_dora is on"];
    case.refused(&["lora.use_dora=true", "lora.targets=[embed_tokens]"], &words);
    case.refused(&["lora.init=pizza"], &["lora.init", "pissa"]);
}

#[test]
fn a_recipe_that_is_not_there_or_names_files_that_are_not_is_refused_with_the_place() {
    let case = Case::new(&[]);
    let missing = case.path("missing.yaml");
    case.command_refused(&["train", missing.to_str().unwrap()], &["missing.yaml", "No such file"]);
    case.refused(
        &["data.train[0].path=nowhere.jsonl"],
        &["--set data.train[0].path=nowhere.jsonl", "nowhere.jsonl: no such file", "expected a file of conversations"],
    );
    case.refused(&["model.base=./nowhere"], &["model.base", "nowhere", "expected a Hugging Face folder"]);
    case.refused(&["device=abacus"], &["--set device=abacus: device: expected", "got \"abacus\""]);
    case.refused(&["device=cuda"], &["device \"cuda\"", "--features cuda"]);
}

#[test]
fn init_refuses_data_that_it_cannot_read() {
    let case = Case::new(&[]);
    let missing = case.path("missing.jsonl");
    let arguments = ["init", "--model", "owner/name", "--data", missing.to_str().unwrap()];
    case.command_refused(&arguments, &["missing.jsonl", "No such file"]);
}
