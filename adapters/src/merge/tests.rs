//! Combinations against PEFT (`scripts/fixtures/merge.py`), the statistics of our own masks, and what is refused.

use serde_json::Value;

use super::*;
use crate::SafetensorsFile;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/merge").join(name)
}

fn part(name: &str) -> Part {
    Part::read(&fixture(&format!("adapters/{name}"))).expect("the fixture is committed")
}

fn combination(method: Method, weights: &[f64]) -> Combination {
    Combination {
        method,
        weights: weights.to_vec(),
        density: method.prunes().then_some(0.5),
        majority_sign: MajoritySign::Total,
        rank: None,
        scale: 1.0,
        seed: 0,
    }
}

/// The combination that a case of `merge.json` describes.
fn described(case: &Value) -> (Vec<Part>, Combination) {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let parts: Vec<Part> = case["adapters"].as_array().expect("a list").iter().map(|name| part(&text(name))).collect();
    let weights = case["weights"].as_array().expect("a list").iter().map(|weight| weight.as_f64().expect("a number"));
    let combination = Combination {
        method: text(&case["combination_type"]).parse().expect("a known method"),
        weights: weights.collect(),
        density: case["density"].as_f64(),
        majority_sign: match case["majority_sign_method"].as_str() {
            Some("frequency") => MajoritySign::Frequency,
            _ => MajoritySign::Total,
        },
        rank: case["svd_rank"].as_u64().map(|rank| usize::try_from(rank).expect("small")),
        scale: 1.0,
        seed: 0,
    };
    (parts, combination)
}

#[track_caller]
fn assert_close(what: &str, got: &[f32], expected: &[f32]) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (at, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert!((got - expected).abs() <= 1e-5, "{what} at {at}: {got}, expected {expected}");
    }
}

#[test]
fn every_case_equals_peft() {
    let text = std::fs::read_to_string(fixture("merge.json")).expect("the fixture is committed");
    let cases: serde_json::Map<String, Value> = serde_json::from_str(&text).expect("JSON");
    assert_eq!(cases.len(), 14);
    for (name, case) in &cases {
        let expected = SafetensorsFile::open(fixture(&format!("{name}.safetensors"))).expect("the fixture");
        let (parts, combination) = described(case);
        let mut drawn = 0;
        let mut masks = |module: &str, matrix: &str, adapter, count| {
            drawn += 1;
            let mask = expected.f32(&format!("mask.{module}.{matrix}.{adapter}")).expect("PEFT drew a mask for it");
            assert_eq!(mask.len(), count);
            mask.iter().map(|keep| *keep > 0.5).collect::<Vec<bool>>()
        };
        let combined = combine_with(&parts, &combination, &mut masks).expect("it fits");
        let own: BTreeSet<String> = ["A", "B"]
            .into_iter()
            .flat_map(|side| {
                combined.pairs.keys().map(move |module| format!("base_model.model.{module}.lora_{side}.weight"))
            })
            .collect();
        let theirs: BTreeSet<String> = expected.names().map(str::to_owned).collect();
        let masked = theirs.difference(&own).filter(|name| name.starts_with("mask.")).count();
        assert_eq!(theirs.len(), own.len() + masked, "{name}: other matrices");
        assert_eq!(drawn, masked, "{name}: other masks");
        for (module, pair) in &combined.pairs {
            if combination.method == Method::Svd {
                // Singular vectors are only known up to their signs, the product is not.
                let theirs =
                    |side: &str| expected.f32(&format!("base_model.model.{module}.lora_{side}.weight")).unwrap();
                let theirs = LoraPair { a: theirs("A"), b: theirs("B"), ..pair.clone() };
                let difference = |own: &LoraPair, other: &LoraPair| {
                    let products =
                        update(&combined.config, own, module).into_iter().zip(update(&combined.config, other, module));
                    products.map(|(own, other)| (own - other).abs()).fold(0.0, f64::max)
                };
                let nothing = LoraPair { b: vec![0.0; pair.b.len()], ..pair.clone() };
                let largest = difference(&theirs, &nothing);
                assert!(difference(pair, &theirs) < 1e-6 * largest, "{name} {module}: not PEFT's product");
                continue;
            }
            for (side, values) in [("A", &pair.a), ("B", &pair.b)] {
                let key = format!("base_model.model.{module}.lora_{side}.weight");
                assert_close(&format!("{name} {key}"), values, &expected.f32(&key).expect("PEFT has it"));
            }
            assert!((combined.config.scaling(module).expect("a scale") - 1.0).abs() < 1e-12);
        }
        assert_eq!(
            (combined.config.r as u64, combined.config.lora_alpha),
            (case["r"].as_u64().unwrap(), case["lora_alpha"].as_f64().unwrap())
        );
        let TargetNames::Names(names) = &combined.config.target_modules else { panic!("{name}: a pattern") };
        assert_eq!(serde_json::to_value(names).unwrap(), case["target_modules"], "{name}");
        assert_eq!(combined.config.base_model_name_or_path.as_deref(), Some("tiny"));
        let folder = tempfile::tempdir().expect("a folder");
        combined.write(&folder.path().join("adapter"), false).expect("a sound adapter");
    }
    // PEFT's scale of a combination that begins with rsLoRA: the effect is doubled, and ours is not.
    assert_eq!(cases["one"]["scalings"], serde_json::json!([2.0]));
}

/// `scaling · B A` of a module, in double precision.
fn update(config: &AdapterConfig, pair: &LoraPair, module: &str) -> Vec<f64> {
    let scaling = config.scaling(module).expect("a scale");
    let cell = |at: usize| -> f64 {
        let (row, column) = (at / pair.in_features, at % pair.in_features);
        let term = |k| f64::from(pair.b[row * pair.rank + k]) * f64::from(pair.a[k * pair.in_features + column]);
        scaling * (0..pair.rank).map(term).sum::<f64>()
    };
    (0..pair.in_features * pair.out_features).map(cell).collect()
}

#[test]
fn a_concatenation_is_the_weighted_sum_of_the_updates_and_scale_multiplies_it() {
    let parts = [part("second"), part("other-rank"), part("first")];
    let weights = [0.7, -0.2, 1.5];
    let combined =
        combine(&parts, &Combination { scale: -2.5, ..combination(Method::Cat, &weights) }).expect("ranks may differ");
    for (module, pair) in &combined.pairs {
        let mut expected = vec![0.0; pair.in_features * pair.out_features];
        for (part, weight) in parts.iter().zip(weights) {
            if let Some(own) = part.adapter.pairs.get(module) {
                for (sum, value) in expected.iter_mut().zip(update(&part.adapter.config, own, module)) {
                    *sum += -2.5 * weight * value;
                }
            }
        }
        for (got, expected) in update(&combined.config, pair, module).iter().zip(expected) {
            assert!((got - expected).abs() < 1e-4, "{module}: {got}, expected {expected}");
        }
    }
}

#[test]
fn a_single_adapter_keeps_its_effect_times_its_weight() {
    for name in ["first", "second", "third", "other-rank"] {
        let own = part(name);
        let settings = Combination { scale: 0.5, ..combination(Method::Cat, &[-3.0]) };
        let combined = combine(std::slice::from_ref(&own), &settings).expect("one is enough");
        for (module, pair) in &combined.pairs {
            let before = update(&own.adapter.config, &own.adapter.pairs[module], module);
            for (got, before) in update(&combined.config, pair, module).iter().zip(before) {
                assert!((got + 1.5 * before).abs() < 1e-4, "{name} {module}: {got} of {before}");
            }
        }
    }
}

#[test]
fn singular_parts_up_to_the_sum_of_the_ranks_are_the_whole_update() {
    let parts = [part("second"), part("other-rank"), part("first")];
    let weights = [0.7, -0.2, 1.5];
    let cat = combine(&parts, &combination(Method::Cat, &weights)).expect("ranks may differ");
    let settings = Combination { rank: Some(usize::MAX), ..combination(Method::Svd, &weights) };
    let combined = combine(&parts, &settings).expect("ranks may differ");
    assert_eq!(combined.config.r, cat.config.r);
    for (module, pair) in &combined.pairs {
        for (got, expected) in
            update(&combined.config, pair, module).iter().zip(update(&cat.config, &cat.pairs[module], module))
        {
            assert!((got - expected).abs() < 1e-4, "{module}: {got}, expected {expected}");
        }
    }
}

/// An adapter of ones, so that what is dropped shows.
fn ones(in_features: usize, out_features: usize) -> Part {
    let lora = LoraConfig { rank: 4, alpha: 4.0, ..LoraConfig::default() };
    let (a, b) = (vec![1.0; 4 * in_features], vec![1.0; 4 * out_features]);
    let pair = LoraPair { rank: 4, in_features, out_features, a, b, magnitude: None };
    let pairs = BTreeMap::from([("model.layers.0.mlp.up_proj".to_owned(), pair)]);
    let config = AdapterConfig::new(&lora, "base", None);
    Part { path: "ones".into(), adapter: PeftAdapter { config, pairs, norms: BTreeMap::new() } }
}

#[test]
fn our_masks_keep_the_density_and_the_mean_and_follow_the_seed() {
    let parts = [ones(8192, 4096), ones(8192, 4096)];
    for density in [0.1, 0.5, 0.9] {
        let draw = |seed| {
            // The second adapter has no weight, so the first alone shows.
            let settings = Combination { density: Some(density), seed, ..combination(Method::DareLinear, &[1.0, 0.0]) };
            let mut combined = combine(&parts, &settings).expect("it fits");
            combined.pairs.pop_first().expect("one module").1
        };
        let pair = draw(1);
        for values in [&pair.a, &pair.b] {
            let count = values.len() as f64;
            let kept = values.iter().filter(|value| **value != 0.0).count() as f64 / count;
            // Five standard deviations.
            let allowed = 5.0 * (density * (1.0 - density) / count).sqrt();
            assert!((kept - density).abs() < allowed, "{kept} kept of {density}");
            let mean = values.iter().map(|value| f64::from(*value)).sum::<f64>() / count;
            assert!((mean - 1.0).abs() < allowed / density, "the mean is {mean}");
            // Neighbours fall independently: both stay with the square of the density.
            let both = values.windows(2).filter(|pair| pair[0] != 0.0 && pair[1] != 0.0).count() as f64 / count;
            assert!((both - density * density).abs() < 3.0 * allowed, "{both} neighbours kept of {density}");
        }
        assert_ne!(pair.a[..16384], pair.b[..], "each matrix has its own mask");
        assert_eq!(draw(1), pair);
        assert_ne!(draw(2), pair);
    }
}

#[test]
fn nothing_pruned_is_the_method_without_pruning() {
    let parts = [part("first"), part("second")];
    let weights = [0.7, 0.3];
    let plain = combine(&parts, &combination(Method::Linear, &weights)).expect("it fits");
    for method in [Method::DareLinear, Method::MagnitudePrune] {
        let settings = Combination { density: Some(1.0), ..combination(method, &weights) };
        assert_eq!(combine(&parts, &settings).expect("it fits"), plain, "{method}");
    }
}

#[track_caller]
fn refused(parts: &[Part], combination: &Combination) -> String {
    combine(parts, combination).expect_err("it does not fit").to_string()
}

#[test]
fn settings_out_of_range_are_refused() {
    let parts = [part("first"), part("second")];
    let settings = combination(Method::Ties, &[0.5, 0.5]);
    let check = |settings: Combination, expected: &str| assert_eq!(refused(&parts, &settings), expected);
    let weights = vec![0.5, 0.2, 0.3];
    check(
        Combination { weights, ..settings.clone() },
        "weights is [0.5, 0.2, 0.3], expected 2 numbers, one for each adapter",
    );
    check(
        Combination { weights: vec![f64::NAN, 1.0], ..settings.clone() },
        "weights is [NaN, 1.0], expected finite numbers",
    );
    for density in [-0.5, 0.0, 1.5, f64::NAN] {
        let expected = format!("density is {density}, expected a number above 0 to 1");
        check(Combination { density: Some(density), ..settings.clone() }, &expected);
    }
    let expected = "density is missing, expected the share of numbers that ties keeps, above 0 to 1";
    check(Combination { density: None, ..settings.clone() }, expected);
    let expected = "rank is 2, expected no rank, since ties does not choose it";
    check(Combination { rank: Some(2), ..settings.clone() }, expected);
    let svd = Combination { method: Method::Svd, density: None, rank: Some(0), ..settings.clone() };
    check(svd, "rank is 0, expected a rank of at least 1");
    let cat = Combination { method: Method::Cat, ..settings.clone() };
    check(cat, "density is 0.5, expected no density, since cat drops no numbers");
    for scale in [0.0, f64::INFINITY] {
        let expected = format!("scale is {scale}, expected a finite number that is not 0");
        check(Combination { scale, ..settings.clone() }, &expected);
    }
    assert_eq!(refused(&[], &settings), "adapter is missing, expected at least one adapter");
}

#[test]
fn adapters_that_do_not_fit_are_refused() {
    let (first, second) = (part("first"), part("second"));
    let settings = combination(Method::Linear, &[0.5, 0.5]);
    let check = |change: &dyn Fn(&mut Part), expected: &str| {
        let mut changed = second.clone();
        changed.path = "second".into();
        change(&mut changed);
        let mut first = first.clone();
        first.path = "first".into();
        first.adapter.config.revision = Some("v1".into());
        let said = refused(&[first, changed], &settings);
        assert!(said.starts_with("second: cannot be combined: ") && said.contains(expected), "{said}");
    };
    check(
        &|part| part.adapter.config.base_model_name_or_path = Some("other".into()),
        "base_model_name_or_path is \"other\", and \"tiny\"",
    );
    check(&|part| part.adapter.config.revision = Some("v2".into()), "its revision is \"v2\", and \"v1\"");
    check(&|part| part.adapter.config.use_dora = true, "it is a DoRA adapter");
    check(
        &|part| part.adapter.config.init_lora_weights = InitLoraWeights::Named("pissa".into()),
        "its initialisation, pissa, changed the base model",
    );
    check(
        &|part| {
            for pair in part.adapter.pairs.values_mut() {
                pair.in_features += 1;
            }
        },
        "self_attn.q_proj is 13 to 12, and 12 to 12 in first",
    );
    let ranks = [part("first"), part("other-rank")];
    let said = refused(&ranks, &settings);
    assert!(
        said.contains("q_proj has rank 2, and 4 in ") && said.ends_with("cat and svd take different ones"),
        "{said}"
    );
}

#[test]
fn an_adapter_that_names_no_base_takes_the_others() {
    let (mut first, mut second) = (part("first"), part("second"));
    first.adapter.config.base_model_name_or_path = None;
    second.adapter.config.revision = Some("v1".into());
    let combined = combine(&[first, second], &combination(Method::Cat, &[1.0, 1.0])).expect("nothing contradicts");
    assert_eq!(combined.config.base_model_name_or_path.as_deref(), Some("tiny"));
    assert_eq!(combined.config.revision.as_deref(), Some("v1"));
}

#[test]
fn a_pattern_among_the_targets_becomes_the_paths_of_the_modules() {
    let (first, mut second) = (part("first"), part("second"));
    second.adapter.config.target_modules = TargetNames::Pattern(r".*\.(q_proj|v_proj|up_proj)".into());
    let combined = combine(&[first, second], &combination(Method::Cat, &[1.0, 1.0])).expect("they fit");
    assert_eq!(combined.config.target_modules, TargetNames::Names(combined.pairs.keys().cloned().collect()));
    let folder = tempfile::tempdir().expect("a folder");
    combined.write(&folder.path().join("adapter"), false).expect("PEFT would load all of it");
}

#[test]
fn methods_have_pefts_names_and_others_are_refused_with_what_there_is() {
    for method in Method::ALL {
        assert_eq!(method.name().parse(), Ok(method));
    }
    assert_eq!("dare-ties".parse(), Ok(Method::DareTies));
    let said = |name: &str| name.parse::<Method>().expect_err("not a method");
    assert!(said("tie").ends_with("svd; did you mean `ties`?"), "{}", said("tie"));
    assert!(said("ties_svd").starts_with("the methods that prune dense updates are not supported; take svd"));
}
