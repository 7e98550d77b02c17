//! A resolved recipe loads back to itself, from any folder.

use std::fs;

use adapters::{LoraConfig, TargetModule, Targets};
use datasets::{Criterion, DataConfig, DedupConfig, Format, HubSource, Overlong, SelectConfig, SourceConfig};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::super::{
    ActivationCheckpointing, Answers, ClusterConfig, DeviceConfig, EnergyConfig, EvalConfig, ForgettingConfig,
    LimitsConfig, MemorySize, MlflowConfig, ModelConfig, OrthogonalConfig, PlanConfig, PrometheusConfig, Recipe,
    ReplayConfig, Schedule, SuiteName, TrackingConfig, TrainConfig, WeightType,
};
use super::{SMALL, load_in};
use crate::cluster::Wire;
use crate::kernels::Kernels;

/// Texts that a careless writer of YAML gets wrong.
fn text() -> impl Strategy<Value = String> {
    let tricky = [
        "true",
        "no",
        "~",
        "null",
        "1e-4",
        "0x10",
        "012",
        "1_000",
        ".inf",
        "2026-11-22",
        "12:30",
        "- a",
        "a: b",
        "# a",
        "a #b",
        "*a",
        "&a",
        "!a",
        "%a",
        "@a",
        "`a`",
        "{context}",
        "[a]",
        "'",
        "\"",
        "\\",
        " a",
        "a ",
        "a\n",
        "\na",
        "a\n\n b\n",
        "a\tb",
        "\u{85}",
        "\u{2028}",
        "\u{feff}a",
        "\r\n",
        "é 💡",
        "---",
        "...",
        "<<",
        "=",
        "?",
        "|",
        ">",
        "Document :\n{context}\n\nQuestion : {question}",
        "\u{1b}[31m",
        "\0",
    ];
    prop_oneof![3 => select(tricky.to_vec()).prop_map(str::to_owned), 3 => "\\PC{1,40}", 1 => "(?s).{1,120}"]
}

fn path() -> impl Strategy<Value = String> {
    "/[a-zA-Z0-9_ é.:#'\"-]{1,12}/[a-z0-9]{1,8}(\\.jsonl)?".prop_filter("a step back", |path| !path.contains("/../"))
}

fn number(low: f64, high: f64) -> impl Strategy<Value = f64> {
    prop_oneof![
        low..high,
        Just(low),
        (-300.0..0.0).prop_map(move |exponent: f64| { (10f64.powf(exponent) * (high - low) + low).min(high) })
    ]
}

fn source() -> impl Strategy<Value = SourceConfig> {
    let hub = ("[a-z]{1,5}/[a-z]{1,5}", text(), text()).prop_map(|(dataset, revision, file)| HubSource {
        dataset,
        revision,
        file,
    });
    let place = prop_oneof![path().prop_map(|path| (Some(path.into()), None)), hub.prop_map(|hub| (None, Some(hub)))];
    let form = prop_oneof![
        select(vec![Format::Auto, Format::Messages, Format::Sharegpt, Format::PromptCompletion])
            .prop_map(|f| (f, None)),
        text().prop_map(|text| (Format::Squad, Some(format!("{}{{context}}", text.replace(['{', '}'], ""))))),
    ];
    (place, form, number(1e-3, 1000.0), option::of(1usize..)).prop_map(
        |((path, hub), (format, prompt), weight, limit)| SourceConfig {
            path,
            hub,
            format,
            weight,
            limit,
            prompt,
            licence: None,
        },
    )
}

fn data() -> impl Strategy<Value = DataConfig> {
    let lists = (vec(source(), 1..3), vec(source(), 0..2));
    let overlong = select(vec![Overlong::Drop, Overlong::Truncate, Overlong::Error]);
    let switches = (any::<bool>(), any::<bool>());
    let options = (number(0.0, 0.99), 2usize.., overlong, switches, option::of(text()), option::of(path()));
    (lists, options).prop_map(
        |((train, validation), (validation_fraction, max_length, overlong, switches, system_prompt, template))| {
            let (packing, cache) = switches;
            DataConfig {
                train,
                validation,
                validation_fraction,
                max_length,
                overlong,
                packing,
                share_prefix: packing.then_some(4),
                select: (!packing).then_some(SelectConfig { by: Criterion::Gradient, share: Some(0.25) }),
                system_prompt,
                chat_template: template.map(Into::into),
                cache,
                dedup: cache.then(DedupConfig::default),
                screen: None,
            }
        },
    )
}

fn lora() -> impl Strategy<Value = LoraConfig> {
    let targets = prop_oneof![
        Just(Targets::AllLinear),
        subsequence(TargetModule::all().collect::<Vec<_>>(), 1..=9).prop_map(Targets::Modules)
    ];
    (1usize..=512, number(1e-3, 1e6), number(0.0, 0.99), targets).prop_map(|(rank, alpha, dropout, targets)| {
        let mut lora = LoraConfig::default();
        (lora.rank, lora.alpha, lora.dropout, lora.targets) = (rank, alpha, dropout, targets);
        lora
    })
}

fn train() -> impl Strategy<Value = TrainConfig> {
    let schedule = select(vec![Schedule::Cosine, Schedule::Linear, Schedule::Constant]);
    let length = (any::<u64>(), number(1e-3, 1e4), option::of(1000u64..), option::of(0u64..1000));
    let batch = (1usize.., 1usize.., 1usize..);
    let rates = (number(1e-9, 1.0), number(0.0, 1.0), number(0.0, 1.0), number(0.0, 0.99), number(1e-12, 0.1));
    let every = (option::of(1u64..), option::of(1u64..));
    let checkpointing = {
        use ActivationCheckpointing::{Auto, Block, None};
        (select(vec![None, Block, Auto]), option::of((1u64..).prop_map(MemorySize::from_bytes)))
    };
    (length, batch, rates, every, (schedule, checkpointing), number(0.0, 1e9)).prop_map(
        |(length, batch, rates, every, (schedule, checkpointing), norm)| TrainConfig {
            seed: length.0,
            epochs: length.1,
            max_steps: length.2,
            global_batch_size: batch.0,
            micro_batch_size: batch.1,
            activation_checkpointing: checkpointing.0,
            memory: checkpointing.1,
            learning_rate: rates.0,
            schedule,
            warmup_ratio: rates.1,
            warmup_steps: length.3,
            weight_decay: rates.2,
            betas: [rates.3, 0.999],
            eps: rates.4,
            max_grad_norm: norm,
            eval_every: every.0,
            save_every: every.1,
            keep_checkpoints: batch.2,
            early_stopping: None,
        },
    )
}

fn plan() -> impl Strategy<Value = PlanConfig> {
    let watts = option::of(number(1e-3, 1e6));
    let device = (number(1e-3, 1e6), number(1e-3, 1e6), 1u64.., watts).prop_map(|(tflops, bandwidth, bytes, watts)| {
        DeviceConfig { tflops, bandwidth, memory: MemorySize::from_bytes(bytes), watts }
    });
    option::of(device).prop_map(|device| PlanConfig { device })
}

fn energy() -> impl Strategy<Value = EnergyConfig> {
    let country = option::of(select(vec!["FRA", "DEU"]));
    let watts = option::of(number(1.0, 1e4));
    (country, option::of(number(0.0, 5000.0)), number(1.0, 10.0), watts, option::of(number(1e-6, 1e6))).prop_map(
        |(country, grams_per_kwh, pue, cpu_watts, max_kwh)| EnergyConfig {
            country: country.map(str::to_owned),
            grams_per_kwh,
            pue,
            cpu_watts,
            max_kwh,
        },
    )
}

fn tracking() -> impl Strategy<Value = TrackingConfig> {
    let url = select(vec!["http://127.0.0.1:5000", "https://mlflow.example/team"]);
    let name = || "[a-zA-Z0-9][a-zA-Z0-9 ._-]{0,8}";
    let model = option::of((name(), option::of("[a-u][a-z_-]{0,8}")));
    let mlflow = (url, text(), option::of(name()), btree_map(name(), text(), 0..3), option::of(name()), model);
    let mlflow = (mlflow, any::<bool>()).prop_map(|((url, experiment, run_name, tags, parent, model), artifacts)| {
        let experiment = experiment.replace(char::is_control, "").trim().to_owned();
        MlflowConfig {
            url: url.to_owned(),
            experiment: if experiment.is_empty() { "null".to_owned() } else { experiment },
            run_name,
            tags,
            parent_run: parent.map(|parent| parent.replace([' ', '.'], "_")),
            artifacts: artifacts || model.is_some(),
            alias: model.as_ref().and_then(|(_, alias)| alias.clone()).filter(|alias| alias != "latest"),
            registered_model: model.map(|(name, _)| name),
        }
    });
    let prometheus = option::of(path())
        .prop_map(|path| path.map(|path| PrometheusConfig { textfile: format!("{path}.prom").into() }));
    (option::of(mlflow), prometheus).prop_map(|(mlflow, prometheus)| TrackingConfig { mlflow, prometheus })
}

fn forgetting() -> impl Strategy<Value = ForgettingConfig> {
    let suite = select(vec![SuiteName::Quick, SuiteName::Standard, SuiteName::French, SuiteName::None]);
    let share = || option::of(number(0.0, 0.99));
    let limits = (share(), share(), share(), share()).prop_map(|(task, average, bits_per_byte, kl)| LimitsConfig {
        task,
        average,
        bits_per_byte,
        kl,
    });
    let answers = select(vec![Answers::Own, Answers::Base]);
    let replay = (vec(source(), 1..2), number(1e-3, 4.0), number(1e-3, 10.0), answers, 1usize..).prop_map(
        |(sources, share, weight, answers, max_new_tokens)| ReplayConfig {
            sources,
            share,
            weight,
            answers,
            max_new_tokens,
        },
    );
    let orthogonal = (vec(path(), 1..2), number(1e-3, 10.0)).prop_map(|(adapters, weight)| OrthogonalConfig {
        adapters: adapters.into_iter().map(Into::into).collect(),
        weight,
    });
    let asked = (suite, vec(path(), 0..2), option::of((1u64.., any::<bool>())), number(0.5, 0.99));
    (asked, limits, option::of((replay, number(1e-3, 10.0))), number(0.0, 10.0), option::of(orthogonal)).prop_map(
        |((suite, probes, every, confidence), limits, replay, l2_weight, orthogonal)| ForgettingConfig {
            suite,
            probes: probes.into_iter().map(Into::into).collect(),
            every: every.map(|(steps, _)| steps),
            early_stop: every.is_some_and(|(_, early_stop)| early_stop),
            limits,
            confidence,
            kl_weight: replay.as_ref().map_or(0.0, |(_, weight)| *weight),
            replay: replay.map(|(replay, _)| replay),
            l2_weight,
            orthogonal,
        },
    )
}

fn recipe() -> impl Strategy<Value = Recipe> {
    let dtype = select(vec![WeightType::Stored, WeightType::F32, WeightType::Bf16, WeightType::F16, WeightType::Nf4]);
    let model = ("[a-z][a-z0-9]{0,8}/[a-zA-Z0-9_-]{1,8}", option::of(text()), option::of(path()), dtype).prop_map(
        |(base, revision, adapter, dtype)| ModelConfig { base, revision, adapter: adapter.map(Into::into), dtype },
    );
    let eval = (vec(source(), 0..2), 1usize.., 1usize.., number(0.0, 10.0), option::of(1usize..)).prop_map(
        |(test, max_new_tokens, batch_size, temperature, limit)| EvalConfig {
            test,
            max_new_tokens,
            batch_size,
            temperature,
            limit,
            group_by: limit.map(|limit| limit.to_string()).into_iter().collect(),
            num_fewshot: limit.unwrap_or(0) % 65,
        },
    );
    let device = select(vec!["flex", "cuda", "cuda:3", "vulkan:1", "webgpu", "libtorch"]);
    let kernels = select(vec![Kernels::Fused, Kernels::Bf16, Kernels::Reference]);
    let device = (device, kernels).prop_map(|(device, kernels)| {
        let is_written = kernels != Kernels::Bf16 || device == "flex";
        (device, if is_written { kernels } else { Kernels::Fused })
    });
    let cluster = select(vec![Wire::F32, Wire::Bf16]).prop_map(|gradients| ClusterConfig { gradients });
    (model, data(), lora(), train(), (eval, forgetting()), (device, cluster, energy(), (plan(), tracking())), path())
        .prop_map(|(model, data, lora, train, (eval, forgetting), rest, output)| {
            let ((device, kernels), cluster, energy, (plan, tracking)) = rest;
            Recipe {
                model,
                data,
                lora,
                train,
                eval,
                forgetting,
                device: device.to_owned(),
                kernels,
                cluster,
                energy,
                plan,
                tracking,
                output: output.into(),
            }
        })
}

proptest! {
    #[test]
    fn a_resolved_recipe_loads_back_to_itself(recipe in recipe()) {
        recipe.validate().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let yaml = recipe.resolved_yaml();
        let loaded = load_in(folder.path(), &yaml, &[]).map_err(|e| TestCaseError::fail(format!("{e}\n{yaml}")))?;
        prop_assert_eq!(loaded.recipe, recipe, "{}", yaml);
    }

    #[test]
    fn no_text_makes_loading_panic(text in "(?s).{0,200}", set in "\\PC{0,20}") {
        let folder = tempfile::tempdir().unwrap();
        let _ = load_in(folder.path(), &text, &[]);
        let _ = load_in(folder.path(), SMALL, &[&set]);
        let _ = load_in(folder.path(), SMALL, &[&format!("train.epochs={set}")]);
        let _ = load_in(folder.path(), format!("{SMALL}{text}"), &[]);
    }
}

#[test]
fn every_default_stands_in_the_resolved_recipe() {
    let first = tempfile::tempdir().unwrap();
    let second = tempfile::tempdir().unwrap();
    let recipe = load_in(first.path(), SMALL, &[]).unwrap().recipe;
    let yaml = recipe.resolved_yaml();
    let sections = serde_json::to_value(&recipe).unwrap();
    for (section, keys) in sections.as_object().unwrap() {
        assert!(yaml.contains(&format!("\n{section}:")), "{section}");
        for key in keys.as_object().into_iter().flatten().map(|(key, _)| key) {
            assert!(yaml.contains(&format!("\n  {key}:")), "{section}.{key}");
        }
    }
    for line in ["  learning_rate: 0.0002\n", "  targets: all-linear\n", "  max_steps: null\n", "device: flex\n"] {
        assert!(yaml.contains(line), "{line}");
    }
    assert_eq!(load_in(second.path(), &yaml, &[]).unwrap().recipe, recipe);
    fs::write(second.path().join("moved.yaml"), &yaml).unwrap();
    assert_eq!(Recipe::load(&second.path().join("moved.yaml"), &[]).unwrap().recipe, recipe);
}
