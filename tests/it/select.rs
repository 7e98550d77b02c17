//! Training on a part of the examples.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use burn::tensor::Device;
use datasets::{Cache, Criterion, Hub, Prepared, prepare};
use serde_json::Value;
use trainer::cluster::Single;
use trainer::eval::{Subject, logits};
use trainer::model::{BaseModel, Decoder};
use trainer::recipe::Recipe;
use trainer::train::batch::Layout;
use trainer::train::selection::{Reader, Selection};

use crate::support::{assert_close, assert_near, base, greffon, tiny_recipe};

/// What a run trains on, by the record that it leaves: the names of the conversations that came, and how many there are.
fn seen(run: &Path) -> (HashSet<String>, usize) {
    let record = fs::read_to_string(run.join("samples.jsonl")).unwrap();
    let lines: Vec<Value> = record.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let train: Vec<&Value> = lines.iter().filter(|line| line["split"] == "train").collect();
    let seen = train.iter().filter(|line| line["seen"].as_u64().unwrap() > 0);
    (seen.map(|line| line["id"].to_string()).collect(), train.len())
}

/// A tiny recipe with its data, and the base that is asked about them.
struct Asked {
    recipe: Recipe,
    base: BaseModel,
    data: Prepared,
    device: Device,
    decoder: Decoder,
}

impl Asked {
    fn new(set: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = tiny_recipe(folder.path(), set);
        let recipe = Recipe::load(Path::new(&path), &[]).unwrap().recipe;
        let base = base("tiny-llama");
        let (cache, seed) = (Cache::at(folder.path().join("cache")), recipe.train.seed);
        let data = prepare(&recipe.data, &base.tokenizer, seed, &Hub::from_env(), &cache, &mut |_| {}).unwrap();
        let device = Device::flex();
        let decoder = base.decoder(&device).unwrap();
        Self { recipe, base, data, device, decoder }
    }

    fn subject(&self) -> Subject<'_> {
        let Self { base, device, decoder, .. } = self;
        Subject { decoder, tokenizer: &base.tokenizer, device, collective: &Single }
    }
}

#[test]
fn a_run_trains_on_the_part_that_is_asked_for_and_says_which() {
    for by in ["random", "embedding", "gradient", "hardest", "middle"] {
        let folder = tempfile::tempdir().unwrap();
        let select = format!("data.select={{by: {by}, share: 0.5}}");
        let recipe = tiny_recipe(folder.path(), &["train.epochs=2", &select]);
        let run = folder.path().join("run");
        let done = greffon(&["train", &recipe]);
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "{said}");
        let info: Value = serde_json::from_slice(&fs::read(run.join("run.json")).unwrap()).unwrap();
        let (trained, all) = seen(&run);
        assert!(said.contains(&format!("{} training and 4 validation examples", all.div_ceil(2))), "{said}");
        let note = format!("{} of {all} training examples are trained on, chosen by {by}", all.div_ceil(2));
        assert!(info["data"]["notes"].as_array().unwrap().contains(&note.into()), "{info}");
        let selection = &info["data"]["selection"];
        assert_eq!(selection["of"], all);
        assert_eq!(selection["examples"], all.div_ceil(2));
        assert_eq!(trained.len(), all.div_ceil(2), "{by}");
        // Each of them twice.
        assert_eq!(info["step"], (2 * trained.len()).div_ceil(5));

        // Resumed, it takes what was chosen; where that is of other data it says so.
        let kept = run.join("selected.json");
        let before = fs::read(&kept).unwrap();
        fs::remove_dir_all(run.join("adapter")).unwrap();
        let resume = || greffon(&["train", "--resume", run.to_str().unwrap()]);
        assert!(resume().status.success());
        assert_eq!(fs::read(&kept).unwrap(), before);
        fs::write(&kept, br#"{"by":"random","places":[99],"of":7,"seconds":0.0}"#).unwrap();
        let refused = String::from_utf8_lossy(&resume().stderr).into_owned();
        assert!(refused.contains("selected.json: it chooses among 7 examples"), "{refused}");
    }
}

#[test]
fn without_a_share_the_steps_say_how_many_and_without_both_it_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = tiny_recipe(folder.path(), &["train.max_steps=2", "data.select={by: hardest}"]);
    let planned = greffon(&["plan", &recipe, "--json"]);
    let plan: Value = serde_json::from_slice(&planned.stdout).unwrap();
    assert!(plan["time"]["selection_seconds"].as_f64().unwrap() > 0.0, "{plan}");
    assert!(greffon(&["train", &recipe]).status.success());
    assert_eq!(seen(&folder.path().join("run")).0.len(), 10);
    for (set, expected) in [
        (
            "data.select={by: hardest, share: 0}",
            "data.select.share: expected a number above 0 and at most 1, or null for what the steps see once, got 0",
        ),
        ("data.select={by: size}", "data.select.by: expected one of random, embedding, gradient, hardest, middle, got"),
    ] {
        let refused = greffon(&["check", &recipe, "--set", set]);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains(expected), "{said}");
    }
    let refused = greffon(&["train", &recipe, "--force", "--set", "train.max_steps=null"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("data.select.share: expected the share of the examples to train on, such as 0.5"), "{said}");
}

/// Source of the closed form: Ash et al. 2020, section 3, for the last layer's input in the place of its weights.
#[test]
fn what_the_base_says_of_an_example_is_its_loss_and_the_gradient_by_the_last_hidden_states() {
    let asked = Asked::new(&[]);
    let (subject, Asked { recipe, data, device, decoder, .. }) = (asked.subject(), &asked);
    let units: Vec<Vec<usize>> = vec![vec![3], vec![0, 7], vec![5]];
    let layout = Layout::of(recipe);
    let reader = Reader { data, base: &subject, layout, gradients: true };
    let known = reader.read(&units, &AtomicBool::new(false), &mut |_, _| {}).unwrap();

    let head = decoder.head().clone();
    let (vocab, width) = (decoder.config.vocab_size, decoder.config.hidden_size);
    let rows = trainer::device::indices((0..vocab).map(|id| u32::try_from(id).unwrap()), device);
    let head: Vec<f32> = head.rows(rows).into_data().try_into_vec().unwrap();
    for (unit, (loss, gradient)) in units.iter().zip(&known) {
        let (mut losses, mut expected, mut count) = (0.0_f64, vec![0.0_f32; width], 0.0_f32);
        for &place in unit {
            let example = data.train.get(place);
            let logits = logits(decoder, example.input_ids, device);
            for target in (1..example.input_ids.len()).filter(|&target| example.loss_mask[target]) {
                let row = &logits[(target - 1) * vocab..target * vocab];
                let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let total: f32 = row.iter().map(|logit| (logit - most).exp()).sum();
                let answer = usize::try_from(example.input_ids[target]).unwrap();
                losses += f64::from(most + total.ln() - row[answer]);
                for (id, logit) in row.iter().enumerate() {
                    let error = (logit - most).exp() / total - if id == answer { 1.0 } else { 0.0 };
                    expected.iter_mut().zip(&head[id * width..]).for_each(|(sum, value)| *sum += error * value);
                }
                count += 1.0;
            }
        }
        assert_near("loss", *loss, losses / f64::from(count), 1e-5);
        let expected: Vec<f32> = expected.into_iter().map(|value| value / count).collect();
        assert_close("gradient", gradient, &expected, 1e-4);
    }
}

#[test]
fn examples_that_are_drawn_together_are_chosen_together() {
    let asked = Asked::new(&["data.share_prefix=3", "data.select={by: embedding, share: 0.4}"]);
    let (subject, Asked { recipe, data, .. }) = (asked.subject(), &asked);
    let config = recipe.data.select.unwrap();
    assert_eq!(config.by, Criterion::Embedding);
    let units = data.units();
    assert!(units.iter().any(|unit| unit.len() == 3), "{units:?}");
    let selection = Selection::make(recipe, config, data, &subject, &AtomicBool::new(false), &mut |_, _| {}).unwrap();
    let chosen: HashSet<usize> = selection.places.iter().copied().collect();
    assert!(
        units.iter().all(|unit| unit.iter().all(|p| chosen.contains(p)) || unit.iter().all(|p| !chosen.contains(p)))
    );
    assert_eq!(chosen.len(), selection.places.len());
}
