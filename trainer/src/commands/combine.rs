//! The adapters of `greffon merge`: one as it is, several combined, written as an adapter or handed on to be folded.

use adapters::PeftAdapter;
use adapters::merge::{Combination, MajoritySign, Method, Part, combine};
use anstream::println;
use serde_json::json;

use super::output;
use super::verify;
use crate::cli::{MergeArgs, SignMethod};
use crate::error::TrainError;

/// The adapter that the arguments describe. Its path, for messages, is that of the first.
pub(super) fn adapter(args: &MergeArgs) -> Result<Part, TrainError> {
    let mut parts = args.adapters.iter().map(|folder| Part::read(folder)).collect::<Result<Vec<_>, _>>()?;
    let settings = &args.combine;
    #[expect(clippy::float_cmp, reason = "the default, which changes nothing")]
    let is_plain = settings.scale == 1.0 && settings.weights.is_empty() && settings.method != Method::Svd;
    if is_plain && parts.len() == 1 {
        verify::let_out(&args.adapters[0])?;
        return Ok(parts.remove(0));
    }
    let weights = if settings.weights.is_empty() {
        vec![1.0 / parts.len() as f64; parts.len()]
    } else {
        settings.weights.clone()
    };
    let combination = Combination {
        method: settings.method,
        weights,
        density: settings.density,
        majority_sign: match settings.majority_sign {
            SignMethod::Total => MajoritySign::Total,
            SignMethod::Frequency => MajoritySign::Frequency,
        },
        rank: settings.rank,
        scale: settings.scale,
        seed: settings.seed,
    };
    let adapter = combine(&parts, &combination)?;
    Ok(Part { path: parts.swap_remove(0).path, adapter })
}

/// Writes the adapter as a PEFT folder.
pub(super) fn write(args: &MergeArgs, adapter: &PeftAdapter) -> anyhow::Result<()> {
    adapter.write(&args.to, args.force)?;
    let PeftAdapter { config, pairs, .. } = adapter;
    let base = config.base_model_name_or_path.as_deref();
    let (to, rank, modules) = (args.to.display(), config.r, pairs.len());
    if args.json {
        let report = json!({
            "adapter": args.to,
            "adapters": args.adapters,
            "base": base,
            "revision": config.revision,
            "rank": rank,
            "modules": modules,
        });
        output::json(&report)?;
    } else {
        println!("wrote {to}: PEFT adapter, rank {rank}, {modules} modules, base {}", base.unwrap_or("unnamed"));
    }
    Ok(())
}
