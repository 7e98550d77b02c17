//! `greffon report`.

use anstream::println;

use crate::cli::ReportArgs;
use crate::error::TrainError;
use crate::report::{Planned, RunReport, page};
use crate::track::RunFolder;

pub(super) fn report(args: &ReportArgs) -> anyhow::Result<()> {
    let to = match (&args.to, args.runs.as_slice()) {
        (Some(to), _) => to.clone(),
        (None, [run]) => RunFolder::open(run.clone())?.report(),
        (None, runs) => {
            let count = runs.len();
            let reason = format!("a report of {count} runs has no folder of its own; name its file with --to");
            return Err(TrainError::Run(reason).into());
        }
    };
    // Before all that takes time.
    if !args.force && to.symlink_metadata().is_ok() {
        return Err(TrainError::from(adapters::AdapterError::Exists { path: to }).into());
    }
    let planned = args.plan.as_deref().map(Planned::read).transpose()?;
    let runs = args.runs.iter().map(|run| RunReport::read(run)).collect::<Result<Vec<_>, _>>()?;
    let text = page(&runs, planned.as_ref(), args.lang)?;
    adapters::write_atomic(&to, args.force, |out| out.write_all(text.as_bytes())).map_err(TrainError::from)?;
    println!("{}", to.display());
    Ok(())
}
