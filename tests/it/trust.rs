//! Manifests, signatures, reproduction and drafts, through the program.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Output;

use adapters::signing::{Envelope, SecretKey};
use serde_json::{Value, json};
use tempfile::TempDir;
use trainer::trust::PAYLOAD_TYPE;

use crate::support::{copy, fixture, greffon, tiny_recipe};

fn text(path: &Path) -> &str {
    path.to_str().expect("plain path")
}

fn said(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

#[track_caller]
fn done(arguments: &[&str]) -> Output {
    let out = greffon(arguments);
    assert!(out.status.success(), "{arguments:?}: {}", said(&out));
    out
}

/// Runs the program, which must end with the code and say all the words.
#[track_caller]
fn ends(arguments: &[&str], code: i32, words: &[&str]) {
    let out = greffon(arguments);
    assert_eq!(out.status.code(), Some(code), "{arguments:?}: {}", said(&out));
    for word in words {
        assert!(said(&out).contains(word), "{word} is not in {}", said(&out));
    }
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn write_json(path: &Path, value: &Value) {
    fs::write(path, serde_json::to_vec_pretty(value).unwrap()).unwrap();
}

/// What is done to an export in a folder.
type Change = fn(&Path);

/// A run of the tiny model, and its export.
struct Exported {
    folder: TempDir,
    to: PathBuf,
}

impl Exported {
    fn new(more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let recipe = tiny_recipe(folder.path(), &["train.max_steps=3", "train.seed=11"]);
        done(&["train", &recipe]);
        let to = folder.path().join("exported");
        let run = folder.path().join("run");
        let mut arguments = vec!["export", text(&run), "--to", text(&to)];
        arguments.extend(more);
        done(&arguments);
        Self { folder, to }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes a key and gives its name.
    fn key(&self, name: &str) -> [String; 2] {
        let name = self.path(name);
        done(&["keys", "new", "--to", text(&name)]);
        [".key", ".pub"].map(|ending| format!("{}{ending}", name.display()))
    }
}

#[test]
fn keys_are_for_their_owner_and_never_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let name = folder.path().join("alice");
    let made: Value = serde_json::from_slice(&done(&["keys", "new", "--to", text(&name), "--json"]).stdout).unwrap();
    let secret = folder.path().join("alice.key");
    assert_eq!(secret.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let before = fs::read(&secret).unwrap();
    for file in ["alice.key", "alice.pub"] {
        let shown = done(&["keys", "show", text(&folder.path().join(file))]).stdout;
        assert_eq!(String::from_utf8(shown).unwrap().trim(), made["id"].as_str().unwrap());
    }
    ends(&["keys", "new", "--to", text(&name)], 2, &["alice.key: is there already", "never replaced"]);
    assert_eq!(fs::read(&secret).unwrap(), before);
    ends(&["keys", "show", text(folder.path())], 2, &["is a folder"]);
}

#[test]
fn what_an_evaluation_found_is_in_the_manifest_the_card_and_the_drafts() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = tiny_recipe(folder.path(), &["train.max_steps=3", "energy.country=FRA"]);
    let asked = format!("eval.test=[{{path: {}}}]", text(&folder.path().join("train.jsonl")));
    done(&["train", &recipe, "--set", &asked, "--set", "eval.limit=4"]);
    let (run, to) = (folder.path().join("run"), folder.path().join("exported"));
    done(&["eval", text(&run)]);
    done(&["export", text(&run), "--to", text(&to)]);
    let found = read_json(&run.join("eval.json"))["metrics"].clone();
    assert_eq!(found.as_array().unwrap().len(), 3, "{found:#}");
    assert_eq!(read_json(&to.join("manifest.json"))["predicate"]["run"]["metrics"]["evaluation"], found);
    let card = fs::read_to_string(to.join("README.md")).unwrap();
    for part in ["model-index:", "exact match", "co2_eq_emissions:"] {
        assert!(card.contains(part), "{part} is not in {card}");
    }
    let drafts = folder.path().join("drafts");
    done(&["document", text(&run), "--to", text(&drafts)]);
    let draft = fs::read_to_string(drafts.join("annex-iv.md")).unwrap();
    assert!(draft.contains("| exact match |"), "{draft}");
}

#[test]
fn a_manifest_says_what_the_run_knows_and_names_no_folder_of_the_machine() {
    let exported = Exported::new(&[]);
    let raw = fs::read_to_string(exported.to.join("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_str(&raw).unwrap();
    assert_eq!(manifest["_type"], "https://in-toto.io/Statement/v1");
    let names: Vec<&str> =
        manifest["subject"].as_array().unwrap().iter().map(|file| file["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["README.md", "adapter_config.json", "adapter_model.safetensors", "data-card.md"]);
    for file in manifest["subject"].as_array().unwrap() {
        let path = exported.to.join(file["name"].as_str().unwrap());
        assert_eq!(file["digest"]["sha256"], datasets::sha256_files([path]).unwrap());
    }
    let facts = &manifest["predicate"];
    let info = read_json(&exported.path("run/run.json"));
    let run = &facts["run"];
    assert_eq!(facts["base"], json!({ "name": "tiny-llama", "revision": null, "sha256": info["base_digest"] }));
    assert_eq!((&run["code"]["greffon"], &run["code"]["burn"]), (&info["greffon_version"], &info["burn_version"]));
    assert_eq!(run["environment"]["instructions"], info["instructions"]);
    assert_eq!((&run["topology"]["ranks"], &run["metrics"]["steps"]), (&json!(1), &json!(3)));
    assert_eq!(run["metrics"]["best_validation_loss"], info["best"][0]);
    assert_eq!((&run["metrics"]["evaluation"], &facts["forgetting"]), (&Value::Null, &Value::Null));
    assert!(run["energy"]["kwh"].as_f64().unwrap() > 0.0, "{run:#}");
    assert_eq!(
        (&run["recipe"]["train"]["seed"], &run["recipe"]["data"]["train"][0]["path"]),
        (&json!(11), &json!("train.jsonl"))
    );
    assert_eq!(facts["data"]["runs"][0]["sources"][0]["path"], "train.jsonl");
    assert_eq!(facts["data"]["runs"][0]["counts"]["conversations"], 20);
    let adapter = exported.path("run/adapter/adapter_model.safetensors");
    assert_eq!(facts["made_of"][0]["files"]["adapter_model.safetensors"], datasets::sha256_files([adapter]).unwrap());
    assert!(!raw.contains(text(exported.folder.path())) && !raw.contains(text(&fixture(""))), "{raw}");

    // An export again replaces it; a file's lies beside the file; what is merged from it keeps the run.
    let gguf = exported.path("adapter.gguf");
    done(&["export", text(&exported.path("run")), "--as", "gguf-lora", "--to", text(&gguf)]);
    let beside = read_json(&exported.path("adapter.gguf.manifest.json"));
    assert_eq!(beside["subject"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&beside["subject"][0]["name"], &beside["predicate"]["form"]),
        (&json!("adapter.gguf"), &json!("gguf-lora"))
    );
    let merged = exported.path("merged");
    done(&["merge", "--model", text(&fixture("tiny-llama")), "--adapter", text(&exported.to), "--to", text(&merged)]);
    let merged = read_json(&merged.join("manifest.json"));
    assert_eq!(merged["predicate"]["run"], *run);
    assert_eq!(merged["predicate"]["base"]["sha256"], info["base_digest"]);
    assert!(merged["subject"].as_array().unwrap().len() > 3, "{merged:#}");
}

#[test]
fn what_is_not_known_of_an_import_is_null() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("imported");
    done(&["import", text(&fixture("parity/adapter_final")), "--to", text(&to)]);
    let facts = read_json(&to.join("manifest.json"))["predicate"].clone();
    assert_eq!((&facts["run"], &facts["base"]["sha256"], &facts["proofs"]), (&Value::Null, &Value::Null, &json!([])));
    assert_eq!(facts["made_of"][0]["name"], "adapter_final");
}

/// What an export must not be taken for, by its name, with the words of the refusal.
const CHANGES: [(&str, Change, &[&str]); 14] = [
    (
        "an altered file",
        |at| {
            let path = at.join("adapter_model.safetensors");
            let mut bytes = fs::read(&path).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(path, bytes).unwrap();
        },
        &["adapter_model.safetensors: was altered"],
    ),
    ("an altered card", |at| fs::write(at.join("README.md"), "mine").unwrap(), &["README.md: was altered"]),
    (
        "an altered manifest",
        |at| {
            let path = at.join("manifest.json");
            let text = fs::read_to_string(&path).unwrap().replace("\"seed\": 11", "\"seed\": 12");
            fs::write(path, text).unwrap();
        },
        &["manifest.json: is not the manifest that was signed"],
    ),
    (
        "an altered payload",
        |at| {
            let mut envelope = read_json(&at.join("manifest.dsse.json"));
            envelope["payload"] = json!("e30=");
            write_json(&at.join("manifest.dsse.json"), &envelope);
        },
        &["manifest.dsse.json: says that the key", "it was altered"],
    ),
    (
        "another type",
        |at| {
            let mut envelope = read_json(&at.join("manifest.dsse.json"));
            envelope["payloadType"] = json!("text/plain");
            write_json(&at.join("manifest.dsse.json"), &envelope);
        },
        &["manifest.dsse.json: holds a payload of type \"text/plain\""],
    ),
    (
        "broken JSON",
        |at| fs::write(at.join("manifest.dsse.json"), "{").unwrap(),
        &["manifest.dsse.json: is no DSSE envelope"],
    ),
    (
        "a huge envelope",
        |at| fs::File::create(at.join("manifest.dsse.json")).unwrap().set_len(65 << 20).unwrap(),
        &["manifest.dsse.json: is larger than"],
    ),
    (
        "a huge manifest",
        |at| fs::File::create(at.join("manifest.json")).unwrap().set_len(65 << 20).unwrap(),
        &["manifest.json: is larger than"],
    ),
    ("a missing file", |at| fs::remove_file(at.join("data-card.md")).unwrap(), &["data-card.md: is missing"]),
    ("no manifest", |at| fs::remove_file(at.join("manifest.json")).unwrap(), &["manifest.json: is missing"]),
    (
        "an extra file",
        |at| {
            fs::create_dir(at.join("more")).unwrap();
            fs::write(at.join("more/code.py"), "").unwrap();
        },
        &["more/code.py: is not in the signed manifest"],
    ),
    (
        "a link that leaves",
        |at| {
            fs::rename(at.join("README.md"), at.with_extension("md")).unwrap();
            symlink(at.with_extension("md"), at.join("README.md")).unwrap();
        },
        &["README.md: is a link that leaves the folder"],
    ),
    (
        "an altered record",
        |at| {
            let mut record = read_json(&at.join("greffon.json"));
            record["data"]["runs"][0]["step"] = json!(2);
            write_json(&at.join("greffon.json"), &record);
        },
        &["greffon.json: `data` is not what was signed"],
    ),
    (
        "altered samples",
        |at| fs::write(at.join("samples.jsonl"), "").unwrap(),
        &["samples.jsonl: the record of samples was altered"],
    ),
];

#[test]
fn a_signed_export_is_told_from_everything_else() {
    let exported = Exported::new(&[]);
    let ([key, public], [_, other]) = (exported.key("alice"), exported.key("bob"));
    ends(&["verify", text(&exported.to), "--signed-by", &public], 3, &["manifest.dsse.json: is missing"]);
    done(&["sign", text(&exported.to), "--key", &key]);
    ends(
        &["verify", text(&exported.to), "--signed-by", &public],
        0,
        &["as it was signed; files: 4", "of the run run, 3 steps"],
    );
    let report = done(&["verify", text(&exported.to), "--signed-by", &public, "--json"]).stdout;
    let report: Value = serde_json::from_slice(&report).unwrap();
    assert_eq!(report["files"].as_array().unwrap().len(), 4);

    for (name, change, words) in CHANGES {
        let at = exported.path("changed");
        copy(&exported.to, &at);
        change(&at);
        let arguments = ["verify", text(&at), "--signed-by", &public];
        let out = greffon(&arguments);
        assert_eq!(out.status.code(), Some(3), "{name}: {}", said(&out));
        for word in words {
            assert!(said(&out).contains(word), "{name}: {word} is not in {}", said(&out));
        }
        fs::remove_dir_all(&at).unwrap();
    }
    ends(
        &["verify", text(&exported.to), "--signed-by", &other],
        3,
        &["manifest.dsse.json: has no signature of the key"],
    );
    ends(&["verify", text(&exported.to), "--signed-by", &key], 2, &["alice.key: is a secret key"]);
    // The hub's own file and the samples that stay at home make no difference.
    fs::write(exported.to.join(".gitattributes"), "").unwrap();
    fs::remove_file(exported.to.join("samples.jsonl")).unwrap();
    ends(&["verify", text(&exported.to), "--signed-by", &public], 0, &[]);
}

#[test]
fn a_manifest_that_names_what_is_no_file_of_the_export_is_refused_even_signed() {
    let exported = Exported::new(&[]);
    let key = SecretKey::generate().unwrap();
    let [_, public] = key.write(&exported.path("carol")).unwrap();
    let manifest = read_json(&exported.to.join("manifest.json"));
    let check = |change: &dyn Fn(&mut Value), words: &[&str]| {
        let mut changed = manifest.clone();
        change(&mut changed);
        let bytes = serde_json::to_vec(&changed).unwrap();
        fs::write(exported.to.join("manifest.json"), &bytes).unwrap();
        let envelope = Envelope::sign(PAYLOAD_TYPE, &bytes, &key).to_json();
        fs::write(exported.to.join("manifest.dsse.json"), envelope).unwrap();
        ends(&["verify", text(&exported.to), "--signed-by", text(&public)], 3, words);
    };
    let digest = json!({ "sha256": "0".repeat(64) });
    for name in ["/etc/hostname", "../run/run.json", "a/../../x", "./README.md", "a//b", ""] {
        let subject = json!({ "name": name, "digest": digest });
        let words = ["manifest.dsse.json: names the file", "expected one inside"];
        check(&|manifest| manifest["subject"].as_array_mut().unwrap().push(subject.clone()), &words);
    }
    check(
        &|manifest| {
            let first = manifest["subject"][0].clone();
            manifest["subject"].as_array_mut().unwrap().push(first);
        },
        &["names the file \"README.md\" twice"],
    );
    check(&|manifest| manifest["subject"] = json!([]), &["names no file"]);
    check(&|manifest| manifest["subject"][0]["digest"] = json!({ "sha256": "XY" }), &["a SHA-256 that is none"]);
    check(&|manifest| manifest["subject"][0]["digest"] = json!({ "md5": "00" }), &["is no manifest of an export"]);
    check(&|manifest| manifest["predicateType"] = json!("other"), &["predicateType is \"other\", expected"]);
    check(&|manifest| manifest["_type"] = json!("other"), &["_type is \"other\", expected"]);
}

#[test]
fn what_changes_an_export_asks_for_a_new_signature() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("dave");
    done(&["keys", "new", "--to", text(&key)]);
    let [secret, public] = [".key", ".pub"].map(|ending| format!("{}{ending}", key.display()));
    let exported = Exported::new(&["--sign-with", &secret]);
    let checked = |code, words: &[&str]| ends(&["verify", text(&exported.to), "--signed-by", &public], code, words);
    checked(0, &[]);
    // A card that a person fills in is told and signed anew; weights that are not those of the export are not.
    fs::write(exported.to.join("README.md"), "# Mine\n").unwrap();
    checked(3, &["README.md: was altered"]);
    ends(&["sign", text(&exported.to), "--key", &secret], 0, &["made anew: README.md", "signed"]);
    checked(0, &[]);
    ends(&["sign", text(&exported.to), "--key", &public], 2, &["is a public key, which cannot sign"]);
    let weights = exported.to.join("adapter_model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&weights, bytes).unwrap();
    ends(
        &["sign", text(&exported.to), "--key", &secret],
        3,
        &["adapter_model.safetensors: is not the file that", "export it again"],
    );
    // What is exported over it has no signature of what was there.
    done(&["export", text(&exported.path("run")), "--to", text(&exported.to), "--force"]);
    checked(3, &["manifest.dsse.json: is missing"]);
    let gguf = exported.path("adapter.gguf");
    let run = exported.path("run");
    let export = ["export", text(&run), "--as", "gguf-lora", "--to", text(&gguf), "--force"];
    done(&[&export[..], &["--sign-with", &secret]].concat());
    ends(&["verify", text(&gguf), "--signed-by", &public], 0, &["files: 1"]);
    done(&export);
    ends(&["verify", text(&gguf), "--signed-by", &public], 3, &["adapter.gguf.manifest.dsse.json: is missing"]);
    ends(&["verify", text(&gguf), "--sign-with", &secret], 2, &["--sign-with signs what --prove writes"]);
}

#[test]
fn a_run_is_made_again_with_the_same_bytes_or_the_difference_is_told() {
    let exported = Exported::new(&[]);
    let (manifest, base) = (exported.to.join("manifest.json"), fixture("tiny-llama"));
    let reproduce = |manifest: &Path, to: &str, more: &[&str]| {
        let to = exported.path(to);
        let mut arguments =
            vec!["reproduce", text(manifest), "--base", text(&base), "--files", text(exported.folder.path())];
        arguments.extend(["--to", text(&to)]);
        arguments.extend(more);
        greffon(&arguments)
    };
    let out = reproduce(&manifest, "again", &["--json"]);
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    let report: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!((&report["same"], &report["differences"]), (&json!(true), &json!([])));
    let files = json!([
        { "name": "adapter_config.json", "verdict": "same" },
        { "name": "adapter_model.safetensors", "verdict": "same" },
    ]);
    assert_eq!(report["files"], files);
    // A new folder each time; the export's folder stands for its manifest; a base elsewhere changes its path alone.
    let out = reproduce(&manifest, "again", &[]);
    assert_eq!(out.status.code(), Some(2), "{}", said(&out));
    assert!(said(&out).contains("is there already"), "{}", said(&out));
    let moved = exported.path("tiny-llama");
    copy(&base, &moved);
    let there = exported.path("moved");
    let out = done(&["reproduce", text(&exported.to), "--files", text(exported.folder.path()), "--to", text(&there)]);
    assert!(said(&out).contains("adapter_config.json: the same but for the path of the base"), "{}", said(&out));

    let changed = |change: &dyn Fn(&mut Value)| {
        let mut statement = read_json(&manifest);
        change(&mut statement["predicate"]);
        let path = exported.to.join("changed.json");
        write_json(&path, &statement);
        path
    };
    // Another recipe gives other bytes, and how far off they are is told.
    let other = changed(&|facts| facts["run"]["recipe"]["train"]["seed"] = json!(12));
    let out = reproduce(&other, "other", &[]);
    assert_eq!(out.status.code(), Some(3), "{}", said(&out));
    for word in ["adapter_model.safetensors: not the same", "not the same bytes: base_model.model.", "is off by up to"]
    {
        assert!(said(&out).contains(word), "{word} is not in {}", said(&out));
    }
    // What cannot give the same bytes is told before anything is trained.
    let told = |change: &dyn Fn(&mut Value), code: i32, words: &[&str]| {
        let out = reproduce(&changed(change), "never", &[]);
        assert_eq!(out.status.code(), Some(code), "{}", said(&out));
        for word in words {
            assert!(said(&out).contains(word), "{word} is not in {}", said(&out));
        }
        assert!(!exported.path("never").exists(), "nothing was trained");
    };
    told(&|f| f["base"]["sha256"] = json!("00"), 3, &["base, SHA-256 of its weights: 00, now", "--anyway"]);
    told(&|f| f["run"]["code"]["greffon"] = json!("0.0.1"), 3, &["greffon: 0.0.1, now", "cannot come out the same"]);
    told(&|f| f["run"]["code"]["burn"] = json!("0.1"), 3, &["burn: 0.1, now"]);
    told(&|f| f["run"]["environment"]["instructions"] = json!("abacus"), 3, &["instruction set: abacus, now"]);
    told(
        &|f| {
            // Trained on and held out: the file stands there twice.
            for source in f["data"]["runs"][0]["sources"].as_array_mut().unwrap() {
                source["sha256"] = json!("00");
            }
        },
        3,
        &["train.jsonl: 00, now"],
    );
    told(&|f| f["run"]["template_clock"] = json!("2026-01-01"), 3, &["date in the chat template: 2026-01-01"]);
    told(&|f| f["run"]["topology"]["ranks"] = json!(2), 3, &["made by 2 processes", "greffon launch -n 2 reproduce"]);
    told(&|f| f["run"]["status"] = json!("interrupted"), 2, &["had not finished"]);
    told(&|f| f["run"] = Value::Null, 2, &["names no run that trained the export"]);
    told(&|f| f["run"]["recipe"]["lora"]["colour"] = json!(1), 2, &["its recipe is none of this version"]);
    told(
        &|f| f["run"]["recipe"]["data"]["train"][0]["path"] = json!("gone.jsonl"),
        2,
        &["`data.train[0].path` is gone.jsonl", "--files"],
    );
    for path in ["../train.jsonl", "/etc/hostname"] {
        let data = |f: &mut Value| f["run"]["recipe"]["data"]["train"][0]["path"] = json!(path);
        told(&data, 3, &[path, "leaves the folder"]);
    }
    // Whoever runs it again reports to nobody.
    let anyway = changed(&|facts| {
        facts["run"]["code"]["greffon"] = json!("0.0.1");
        facts["run"]["recipe"]["tracking"]["mlflow"] = json!({ "url": "http://127.0.0.1:9", "experiment": "theirs" });
    });
    let out = reproduce(&anyway, "anyway", &["--anyway"]);
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    assert!(!said(&out).contains("MLflow") && !exported.path("anyway/mlflow.json").exists(), "{}", said(&out));
}

#[test]
fn a_draft_is_filled_from_the_run_and_its_blanks_are_listed() {
    let exported = Exported::new(&[]);
    let run = exported.path("run");
    for (lang, mark, heading, word) in [
        (
            "en",
            "[to be filled: ",
            "## What is left open",
            "was fine-tuned with a low-rank adapter (LoRA, rank 4, alpha 8",
        ),
        (
            "fr",
            "[à compléter : ",
            "## Ce qui reste à compléter",
            "a été affiné par un adaptateur de rang faible (LoRA, rang 4",
        ),
    ] {
        let to = exported.path(lang);
        done(&["document", text(&run), "--lang", lang, "--to", text(&to)]);
        for (file, sections) in [("annex-iv.md", 9), ("annex-xi.md", 2)] {
            let draft = fs::read_to_string(to.join(file)).unwrap();
            let (body, list) = draft.split_once(heading).unwrap_or_else(|| panic!("no list in {draft}"));
            assert_eq!(body.matches(mark).count(), list.matches("\n- ").count(), "{draft}");
            assert!(body.matches("\n## ").count() >= sections, "{draft}");
            assert!(body.contains("train.jsonl") && !draft.contains("{{") && !draft.contains("{%"), "{draft}");
            assert!(!draft.contains(text(exported.folder.path())), "no path of this machine: {draft}");
        }
        let annex = fs::read_to_string(to.join("annex-iv.md")).unwrap();
        assert!(annex.contains(word) && annex.contains("kWh"), "{annex}");
        let card = fs::read_to_string(to.join("data-card.md")).unwrap();
        for part in ["| train.jsonl | train | ", "| conversations read | 20 |", "not stated", "Not screened"] {
            assert!(card.contains(part), "{part} is not in {card}");
        }
        ends(&["document", text(&run), "--lang", lang, "--to", text(&to)], 2, &["is there already", "--force"]);
        done(&["document", text(&run), "--lang", lang, "--to", text(&to), "--force"]);
    }
    ends(&["document", text(&exported.to), "--to", text(&exported.path("x"))], 2, &["is not a run folder"]);
}
