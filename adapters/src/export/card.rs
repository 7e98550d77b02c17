//! The adapter's card, `README.md`: for people, and with the front matter that the hub reads.
//!
//! What servers need is said by the rules of [`crate::serving`], so that the card and `greffon verify` never differ.
//! Source: <https://huggingface.co/docs/hub/model-cards>, and PEFT's own tags.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::serving::{Facts, SERVERS, Verdict};

/// The card's file name.
pub const CARD_FILE: &str = "README.md";

/// What a card says beyond what the adapter's folder holds.
#[derive(Clone, Debug, Default)]
pub struct Card {
    /// Its heading.
    pub title: String,
    /// The base's name on the hub, where it has one.
    pub hub_base: Option<String>,
    /// The licence by the hub's name for it: `apache-2.0`.
    pub license: Option<String>,
    /// The languages by their ISO 639 codes: `fr`.
    pub languages: Vec<String>,
    /// The data sets on the hub that it was trained on.
    pub datasets: Vec<String>,
    /// How it was trained: what, and its value.
    pub training: Vec<(String, String)>,
    /// What it was evaluated with.
    pub results: Vec<EvaluationResult>,
    /// What its training emitted.
    pub emissions: Option<Emissions>,
    /// What is known of its limits, such as what it forgot, a line each.
    pub limits: Vec<String>,
    /// What its training took: what, and its value.
    pub energy: Vec<(String, String)>,
}

/// A figure of an evaluation.
#[derive(Clone, Debug)]
pub struct EvaluationResult {
    /// The metric, such as `token F1`.
    pub metric: String,
    /// Of the adapted model.
    pub value: f64,
    /// Of the base.
    pub base: Option<f64>,
    /// What the questions are from.
    pub dataset: String,
}

/// What a training emitted.
#[derive(Clone, Debug)]
pub struct Emissions {
    /// Grams of CO2e.
    pub grams: f64,
    /// How that is known.
    pub source: String,
}

impl Card {
    /// The file's text.
    pub fn markdown(&self, facts: &Facts) -> String {
        let mut text = self.front_matter();
        let config = &facts.config;
        let base = match (&self.hub_base, &config.base_model_name_or_path) {
            (Some(name), _) => format!("[{name}](https://huggingface.co/{name})"),
            // Of a path only the last part means something to others.
            (None, Some(path)) => format!("`{}`", path.trim_end_matches('/').rsplit('/').next().unwrap_or(path)),
            (None, None) => "a base model that it does not name".to_owned(),
        };
        let revision = config.revision.as_ref().map(|revision| format!(", revision `{revision}`")).unwrap_or_default();
        let kind = if config.use_dora { "DoRA" } else { "LoRA" };
        let _ = writeln!(text, "# {}\n\nA {kind} adapter for {base}{revision}.\n", self.title);
        rows(&mut text, ["adapter", ""], &adapter_rows(facts));
        if !self.training.is_empty() {
            text += "\n## Training\n\n";
            rows(&mut text, ["setting", "value"], &self.training);
        }
        if !self.results.is_empty() {
            text += "\n## Evaluation\n\n| metric | questions | base | adapter |\n|---|---|---|---|\n";
            for result in &self.results {
                let base = result.base.map_or_else(|| "not measured".to_owned(), |base| format!("{base:.4}"));
                let (metric, dataset) = (cell(&result.metric), cell(&result.dataset));
                let _ = writeln!(text, "| {metric} | {dataset} | {base} | {:.4} |", result.value);
            }
        }
        text += "\n## Intended use\n\n[to be filled: what it is for, who uses it, and what it must not be used for]\n";
        text += "\n## Limits\n\n";
        text.extend(self.limits.iter().map(|limit| format!("- {}\n", cell(limit))));
        text += "- It has the limits of its base, and answers may be wrong.\n\
                 - [to be filled: what is known to go wrong]\n";
        if !self.energy.is_empty() {
            text += "\n## Energy\n\n";
            rows(&mut text, ["of the run", ""], &self.energy);
        }
        text += "\n## Use\n\n`ADAPTER` stands for this folder, or for the name of its repository.\n";
        self.usage(&mut text, facts);
        text
    }

    fn front_matter(&self) -> String {
        let mut text = "---\n".to_owned();
        let mut tags = vec!["lora".to_owned(), "greffon".to_owned()];
        if let Some(base) = &self.hub_base {
            let _ = writeln!(text, "base_model: {}", quoted(base));
            tags.insert(0, format!("base_model:adapter:{base}"));
        }
        text += "library_name: peft\npipeline_tag: text-generation\n";
        if let Some(license) = &self.license {
            let _ = writeln!(text, "license: {}", quoted(license));
        }
        for (key, values) in [("language", &self.languages), ("datasets", &self.datasets), ("tags", &tags)] {
            if !values.is_empty() {
                let _ = writeln!(text, "{key}:");
                text.extend(values.iter().map(|value| format!("- {}\n", quoted(value))));
            }
        }
        if let Some(Emissions { grams, source }) = &self.emissions {
            let source = quoted(source);
            let _ = writeln!(
                text,
                "co2_eq_emissions:\n  emissions: {grams}\n  source: {source}\n  training_type: \"fine-tuning\""
            );
        }
        self.model_index(&mut text);
        text + "---\n\n"
    }

    /// The results as the hub lists them; without the base's, which it has no place for.
    fn model_index(&self, text: &mut String) {
        if self.results.is_empty() {
            return;
        }
        let _ = writeln!(text, "model-index:\n- name: {}\n  results:", quoted(&self.title));
        for EvaluationResult { metric, value, dataset, .. } in &self.results {
            let kind = |name: &str| quoted(&name.to_lowercase().replace(|c: char| !c.is_alphanumeric(), "_"));
            let _ = writeln!(
                text,
                "  - task:\n      type: \"text-generation\"\n    dataset:\n      name: {}\n      type: {}\n    metrics:\n    \
                 - name: {}\n      type: {}\n      value: {value}",
                quoted(dataset),
                kind(dataset),
                quoted(metric),
                kind(metric)
            );
        }
    }

    /// How each server takes it.
    fn usage(&self, text: &mut String, facts: &Facts) {
        let base = self.hub_base.as_deref().unwrap_or("BASE");
        for server in SERVERS {
            let verdict = server.judge(facts);
            let (title, code) = match server.name {
                "peft" => ("PEFT", peft(base, facts.config.revision.as_deref())),
                "vllm" => ("vLLM", vllm(base, &verdict)),
                "llama.cpp" => ("llama.cpp", llama_cpp()),
                _ => continue,
            };
            let _ = writeln!(text, "\n### {title}\n");
            match verdict {
                Verdict::Refuses { because, remedy } => {
                    let _ = writeln!(text, "Does not take it: {because}. Remedy: {remedy}.");
                }
                _ => text.push_str(&code),
            }
        }
        let others = SERVERS.iter().filter(|server| !["peft", "vllm", "llama.cpp"].contains(&server.name));
        let rest: Vec<(String, String)> =
            others.map(|server| (server.name.to_owned(), server.judge(facts).to_string())).collect();
        text.push_str("\n### Others\n\n");
        rows(text, ["server", ""], &rest);
    }
}

/// What the folder says of itself.
fn adapter_rows(facts: &Facts) -> Vec<(String, String)> {
    let listed = |values: BTreeSet<String>| values.into_iter().collect::<Vec<_>>().join(", ");
    let names = facts.ranks.keys().map(|module| module.rsplit('.').next().unwrap_or(module).to_owned());
    let ranks: BTreeSet<usize> = facts.ranks.values().copied().collect();
    let scales = facts.ranks.keys().filter_map(|module| facts.config.scaling(module).ok());
    let row = |name: &str, value: String| (name.to_owned(), value);
    vec![
        row("rank", ranks.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")),
        row("scale", listed(scales.map(|scale| format!("{scale}")).collect())),
        row("modules", format!("{}: {}", facts.ranks.len(), listed(names.collect()))),
    ]
}

fn peft(base: &str, revision: Option<&str>) -> String {
    let revision = revision.map(|revision| format!(", revision={}", quoted(revision))).unwrap_or_default();
    format!(
        "```python\nfrom peft import PeftModel\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n\
         tokenizer = AutoTokenizer.from_pretrained({base}{revision})\n\
         model = AutoModelForCausalLM.from_pretrained({base}{revision})\n\
         model = PeftModel.from_pretrained(model, \"ADAPTER\")\n```\n",
        base = quoted(base)
    )
}

fn vllm(base: &str, verdict: &Verdict) -> String {
    let flag = match verdict {
        Verdict::LoadsWith { with } => format!(" {with}"),
        _ => String::new(),
    };
    format!("```bash\nvllm serve {base} --enable-lora --lora-modules adapter=ADAPTER{flag}\n```\n")
}

fn llama_cpp() -> String {
    "It takes the adapter's GGUF form, which `greffon export --as gguf-lora` writes, on a GGUF file of the base:\n\n\
     ```bash\nllama-server -m BASE.gguf --lora ADAPTER.gguf\n```\n"
        .to_owned()
}

/// A table; a bar or a line break in a value would end its cell.
fn rows(text: &mut String, header: [&str; 2], rows: &[(String, String)]) {
    let _ = writeln!(text, "| {} | {} |\n|---|---|", header[0], header[1]);
    for (name, value) in rows {
        let _ = writeln!(text, "| {} | {} |", cell(name), cell(value));
    }
}

fn cell(value: &str) -> String {
    value.replace('|', "\\|").replace(['\n', '\r'], " ")
}

/// A text as YAML, JSON and Python read it alike: without quotes the language `no` would be a false.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{AdapterConfig, LoraConfig};

    fn facts(rank: usize) -> Facts {
        let lora = LoraConfig { rank, alpha: 32.0, ..LoraConfig::default() };
        let base = "HuggingFaceTB/SmolLM2-135M-Instruct";
        Facts {
            config: AdapterConfig::new(&lora, base, Some("12fd25f".into())),
            ranks: ["q_proj", "v_proj"].map(|name| (format!("model.layers.0.self_attn.{name}"), rank)).into(),
            magnitudes: Vec::new(),
            embeddings: Vec::new(),
            other_keys: Vec::new(),
            named_keys: Vec::new(),
        }
    }

    fn card() -> Card {
        Card {
            title: "quickstart".into(),
            hub_base: Some("HuggingFaceTB/SmolLM2-135M-Instruct".into()),
            license: Some("apache-2.0".into()),
            languages: vec!["fr".into(), "no".into()],
            datasets: vec!["owner/questions".into()],
            training: vec![("data".into(), "a|b\nc".into())],
            ..Card::default()
        }
    }

    #[test]
    fn results_emissions_and_limits_are_where_the_hub_and_people_look() {
        let mut card = card();
        card.results = vec![EvaluationResult {
            metric: "token F1".into(),
            value: 0.5,
            base: Some(0.25),
            dataset: "held-out.jsonl".into(),
        }];
        card.emissions = Some(Emissions { grams: 1.5, source: "mean of FRA".into() });
        card.limits = vec!["It forgot\nlittle.".into()];
        card.energy = vec![("energy".into(), "1 Wh".into())];
        let text = card.markdown(&facts(16));
        let front = "co2_eq_emissions:\n  emissions: 1.5\n  source: \"mean of FRA\"\n  training_type: \"fine-tuning\"\n\
            model-index:\n- name: \"quickstart\"\n  results:\n  - task:\n      type: \"text-generation\"\n    dataset:\n      \
            name: \"held-out.jsonl\"\n      type: \"held_out_jsonl\"\n    metrics:\n    - name: \"token F1\"\n      \
            type: \"token_f1\"\n      value: 0.5\n---\n";
        assert!(text.contains(front), "{text}");
        for part in ["| token F1 | held-out.jsonl | 0.2500 | 0.5000 |", "\n- It forgot little.\n", "| energy | 1 Wh |"]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn the_front_matter_is_what_the_hub_reads() {
        let text = card().markdown(&facts(16));
        let expected = "---\nbase_model: \"HuggingFaceTB/SmolLM2-135M-Instruct\"\nlibrary_name: peft\n\
            pipeline_tag: text-generation\nlicense: \"apache-2.0\"\nlanguage:\n- \"fr\"\n- \"no\"\n\
            datasets:\n- \"owner/questions\"\n\
            tags:\n- \"base_model:adapter:HuggingFaceTB/SmolLM2-135M-Instruct\"\n- \"lora\"\n- \"greffon\"\n---\n\n# quickstart\n";
        assert!(text.starts_with(expected), "{text}");
        assert!(text.contains("| data | a\\|b c |"), "{text}");
        assert!(text.contains("| rank | 16 |") && text.contains("| scale | 2 |"), "{text}");
        assert!(text.contains("| modules | 2: q_proj, v_proj |"), "{text}");
        assert!(
            text.contains("from_pretrained(\"HuggingFaceTB/SmolLM2-135M-Instruct\", revision=\"12fd25f\")"),
            "{text}"
        );
    }

    #[test]
    fn servers_get_the_flag_of_their_rules() {
        let text = card().markdown(&facts(16));
        let serve = "vllm serve HuggingFaceTB/SmolLM2-135M-Instruct --enable-lora --lora-modules adapter=ADAPTER";
        assert!(text.contains(&format!("{serve}\n")), "{text}");
        let text = card().markdown(&facts(24));
        assert!(text.contains(&format!("{serve} --max-lora-rank 32\n")), "{text}");
        let mut patterned = facts(16);
        patterned.config.alpha_pattern = BTreeMap::from([("q_proj".to_owned(), 4.0)]);
        let text = card().markdown(&patterned);
        assert!(text.contains("Does not take it: it takes one scale, 2, for all modules"), "{text}");
        assert!(!text.contains("vllm serve"), "{text}");
    }

    #[test]
    fn what_is_not_known_is_left_out_and_paths_of_a_machine_too() {
        let mut facts = facts(16);
        facts.config.base_model_name_or_path = Some("/data/models/base/".into());
        let text = Card { title: "x".into(), ..Card::default() }.markdown(&facts);
        assert!(text.contains("A LoRA adapter for `base`, revision"), "{text}");
        for absent in ["/data", "license", "language", "datasets", "base_model:", "Training"] {
            assert!(!text.contains(absent), "{absent} in {text}");
        }
    }
}
