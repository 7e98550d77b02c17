//! Adapters for another base, and folders that are in the way of an export.

use std::fs;

use super::{Case, assert_error, assert_same_files, files, greffon_with_limit};
use crate::support::{fixture, greffon};

#[test]
fn an_adapter_for_another_base_is_refused_with_the_module_and_both_sizes() {
    let case = Case::new(&[]);
    let other = fixture("peft");
    let words =
        ["tests/fixtures/peft: module model.layers.0.", "16 to 16 in the adapter", "in the base", "another base"];
    case.refused(&[&format!("model.adapter={}", other.display())], &words);
    let base = fixture("tiny-llama");
    let (base, other) = (base.to_str().unwrap(), other.to_str().unwrap());
    case.command_refused(&["generate", "--model", base, "--adapter", other, "hello"], &words);
    let merged = case.path("merged");
    let arguments = ["merge", "--model", base, "--adapter", other, "--to", merged.to_str().unwrap()];
    let first = "down_proj is 24 to 16 in the adapter and 160 to 64 in the base";
    case.command_refused(&arguments, &[words[0], first, words[3]]);
}

#[test]
fn a_module_that_the_base_does_not_have_is_refused_by_name() {
    let case = Case::new(&[]);
    let (config, mut pairs) = adapters::read_peft(&fixture("parity/adapter_init")).expect("the fixture");
    let pair = pairs.pop_last().expect("a module").1;
    pairs.insert("model.layers.77.self_attn.q_proj".to_owned(), pair);
    let folder = case.path("adapter");
    adapters::write_peft(&folder, &config, &pairs, false).expect("it is a sound adapter");
    let words = ["the base has no module model.layers.77.self_attn.q_proj", "belongs to another base"];
    case.refused(&[&format!("model.adapter={}", folder.display())], &words);
}

#[test]
fn a_folder_that_is_no_adapter_is_refused_with_its_place_in_the_recipe() {
    let case = Case::new(&[]);
    let folder = fixture("tiny-llama");
    let set = format!("model.adapter={}", folder.display());
    case.refused(&[&set], &[&format!("--set {set}"), "no adapter_config.json", "expected a PEFT folder"]);
}

#[test]
fn export_and_merge_do_not_write_over_a_folder_without_force() {
    let case = Case::new(&["train.max_steps=2"]);
    let run = case.train(&[]);
    let run = run.to_str().unwrap();
    let base = fixture("tiny-llama");
    let adapter = format!("{run}/adapter");
    let to = case.path("there");
    let to = to.to_str().unwrap();
    let export = ["export", run, "--to", to];
    let merge = ["merge", "--model", base.to_str().unwrap(), "--adapter", &adapter, "--to", to];
    for (arguments, product) in [(&export[..], "adapter_config.json"), (&merge[..], "model.safetensors")] {
        fs::create_dir(to).expect("a folder");
        fs::write(case.path("there/precious.txt"), "a person's own").expect("a file");
        case.command_refused(arguments, &[to, "exists already and is not overwritten", "--force"]);
        // What the program did not write is not replaced, even with --force.
        let mut forced = arguments.to_vec();
        forced.push("--force");
        case.command_refused(&forced, &[to, "is not empty and has no", "not replaced", "choose another folder"]);

        fs::remove_dir_all(to).expect("it is there");
        assert!(greffon(arguments).status.success());
        assert!(case.path("there").join(product).is_file());
        case.command_refused(arguments, &[to, "exists already and is not overwritten", "--force"]);
        // The card and the manifest tell what the run has taken, with the export before.
        let weights = || fs::read(case.path("there").join(product)).expect("a file");
        let before = weights();
        assert!(greffon(&forced).status.success());
        assert_eq!(weights(), before);
        fs::remove_dir_all(to).expect("it is there");
    }
}

#[test]
fn an_export_on_a_full_disk_leaves_the_one_before() {
    let case = Case::new(&["train.max_steps=2"]);
    let run = case.train(&[]);
    let (run, to) = (run.to_str().unwrap(), case.path("there"));
    let base = fixture("tiny-llama");
    let adapter = format!("{run}/adapter");
    let export = ["export", run, "--force", "--to", to.to_str().unwrap()];
    let base = base.to_str().unwrap();
    let merge = ["merge", "--model", base, "--adapter", &adapter, "--force", "--to", to.to_str().unwrap()];
    for (arguments, file) in [(&export[..], "adapter_model.safetensors"), (&merge[..], "model.safetensors")] {
        assert!(greffon(arguments).status.success());
        let before = files(case.folder.path());
        let out = greffon_with_limit("-f 20", arguments).output().expect("bash starts");
        assert_error(&out, 1, &["cannot write", file, "File too large"]);
        assert_same_files(&files(case.folder.path()), &before);
        fs::remove_dir_all(&to).expect("it is there");
    }
}

#[test]
fn an_export_onto_a_file_is_refused() {
    let case = Case::new(&["train.max_steps=2"]);
    let run = case.train(&[]);
    case.write("file", "a person's own");
    let to = case.path("file");
    for force in [&[][..], &["--force"][..]] {
        let mut arguments = vec!["export", run.to_str().unwrap(), "--to", to.to_str().unwrap()];
        arguments.extend(force);
        assert_error(&greffon(&arguments), 2, &["file", "is a file, expected a folder"]);
        assert_eq!(case.read("file"), "a person's own");
    }
}
