//! The search: arms in the same time, the better ones combined and given more.

use serde::{Deserialize, Serialize};

use super::arms::combined;
use super::curve::Curve;
use super::{Arm, Trained, Tried};
use crate::error::TrainError;

/// What makes and asks runs.
pub trait Lab {
    /// What so many steps with these values take, as planned.
    ///
    /// # Errors
    /// When a value is not of the recipe, or the data cannot be read.
    fn planned(&mut self, set: &[String], steps: u64) -> Result<Planned, TrainError>;

    /// Trains with these values, for so many steps or for the recipe's own; the same call again takes what is there.
    ///
    /// # Errors
    /// Those of a run.
    fn train(&mut self, set: &[String], steps: Option<u64>) -> Result<Trained, TrainError>;

    /// The share of validation questions that a run answers exactly as expected.
    ///
    /// # Errors
    /// When the run cannot be read or asked.
    fn exact_match(&mut self, trained: &Trained) -> Result<f64, TrainError>;

    /// Tells what happens.
    fn tell(&mut self, tried: &Tried);

    /// Tells that a change is tried no more, and why.
    fn left_out(&mut self, arm: &Arm, error: &TrainError);
}

/// What a run takes, as planned, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Planned {
    /// Before the first step, in choosing examples.
    pub before: f64,
    /// In a step.
    pub of_step: f64,
}

/// What is looked for.
#[derive(Clone, Debug)]
pub struct Goal {
    /// The exact match that may be lost, as a share: 0.01 for a point.
    pub tolerance: f64,
    /// The parts of the full recipe's time that are tried, ascending, each below 1.
    pub parts: Vec<f64>,
    /// What the search may take, the full recipe included; `None` for anything.
    pub max_kwh: Option<f64>,
}

/// What was found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Found {
    /// The recipe as it is, in its own time.
    pub full: Tried,
    /// All that was tried, in order.
    pub tried: Vec<Tried>,
    /// The place in `tried` of the cheapest that is good enough.
    pub recommended: Option<usize>,
    /// What the search took, in kilowatt-hours.
    pub kwh: f64,
    /// The budget ended it.
    pub is_out_of_budget: bool,
}

/// Searches. `always` is set in all that is tried, since it costs nothing in quality.
///
/// # Errors
/// Those of the lab.
pub fn search(lab: &mut dyn Lab, always: &Arm, arms: &[Arm], goal: &Goal) -> Result<Found, TrainError> {
    let trained = lab.train(&[], None)?;
    let exact_match = Some(lab.exact_match(&trained)?);
    let full = Tried { arm: Arm::plain(), part: 1.0, trained, exact_match };
    lab.tell(&full);
    let mut found =
        Found { kwh: full.trained.kwh, full, tried: Vec::new(), recommended: None, is_out_of_budget: false };
    let mut candidates: Vec<Arm> =
        [always].into_iter().cloned().chain(arms.iter().map(|arm| always.with(arm))).collect();
    let plain = lab.planned(&[], found.full.trained.steps)?.of_step;
    let mut paces = Paces::default();
    for (rung, &part) in goal.parts.iter().enumerate() {
        // The last part is tried and asked in any case: a curve through few points may be wrong, and so may a loss.
        let is_last = rung + 1 == goal.parts.len();
        if !is_last && falls_short(&found, part) {
            continue;
        }
        let (mut tried, mut waiting, mut found_paces) = (Vec::new(), Vec::new(), Vec::new());
        for arm in &candidates {
            if goal.max_kwh.is_some_and(|most| found.kwh + part * found.full.trained.kwh > most) {
                found.is_out_of_budget = true;
                found.tried.append(&mut tried);
                return Ok(found);
            }
            let Some((steps, planned)) = steps(lab, arm, part, plain, &found.full, paces.of(arm))? else {
                waiting.push(arm.clone());
                continue;
            };
            let trained = match lab.train(&arm.set, Some(steps)) {
                // A rate that is too high, or what this base cannot be trained by, is no reason to end the search.
                Err(error) if arm != always && !error.is_stop() => {
                    lab.left_out(arm, &error);
                    continue;
                }
                trained => trained?,
            };
            found.kwh += trained.kwh;
            found_paces.push((arm.set.clone(), trained.seconds / planned));
            tried.push(Tried { arm: arm.clone(), part, trained, exact_match: None });
            lab.tell(&tried[tried.len() - 1]);
        }
        if tried.is_empty() {
            break;
        }
        paces.0.extend(found_paces);
        tried.sort_by(|a, b| a.trained.loss.total_cmp(&b.trained.loss));
        candidates = [next(always, &tried), waiting].concat();
        if is_last || is_worth_asking(&tried[0], &found.full) {
            let share = lab.exact_match(&tried[0].trained)?;
            tried[0].exact_match = Some(share);
            lab.tell(&tried[0]);
            if found.full.exact_match.is_some_and(|full| share >= full - goal.tolerance) {
                found.recommended = Some(found.tried.len());
                found.tried.append(&mut tried);
                return Ok(found);
            }
        }
        found.tried.append(&mut tried);
    }
    Ok(found)
}

/// How much longer arms took than planned from what the full recipe took, in shorter parts of its time: a plan is a model.
#[derive(Default)]
struct Paces(Vec<(Vec<String>, f64)>);

impl Paces {
    /// An arm's own, else the mean of all.
    fn of(&self, arm: &Arm) -> f64 {
        let own = self.0.iter().rev().find(|(set, _)| *set == arm.set).map(|(_, pace)| *pace);
        let mean = self.0.iter().map(|(_, pace)| pace).sum::<f64>() / self.0.len().max(1) as f64;
        own.unwrap_or(if self.0.is_empty() { 1.0 } else { mean })
    }
}

/// The steps that an arm makes in a part of the full recipe's time, and the seconds that the plan alone gives them: by what
/// it costs more or less than the recipe as it is, whose step is planned to take `plain` seconds, and by its pace. `None`
/// where choosing its examples alone takes more than half of that time.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a number of steps")]
fn steps(
    lab: &mut dyn Lab,
    arm: &Arm,
    part: f64,
    plain: f64,
    full: &Tried,
    pace: f64,
) -> Result<Option<(u64, f64)>, TrainError> {
    // How long a step is may depend on which examples the steps see.
    let guess = (full.trained.steps as f64 * part).round().max(1.0) as u64;
    let planned = lab.planned(&arm.set, guess)?;
    // A planned second, as the full recipe took it.
    let second = full.trained.seconds / (full.trained.steps as f64 * plain);
    let (before, of_step) = (planned.before * second, planned.of_step * second);
    let time = full.trained.seconds * part / pace;
    let steps = (((time - before) / of_step).round() as u64).max(1);
    Ok((before <= time / 2.0).then_some((steps, before + steps as f64 * of_step)))
}

/// What is tried for longer: those that beat what is always set, all at once, and the best alone.
fn next(always: &Arm, ranked: &[Tried]) -> Vec<Arm> {
    let better: Vec<&Arm> = ranked.iter().map(|tried| &tried.arm).take_while(|arm| *arm != always).collect();
    let best = ranked[0].arm.clone();
    combined(always, &better).into_iter().chain([best]).collect()
}

/// A loss so much above the full recipe's is not asked for its answers, and a part of the time for which the curve says so
/// is not tried: wide enough that a run whose answers are as good is not left out for its loss.
const HOPELESS: f64 = 1.2;

fn is_worth_asking(best: &Tried, full: &Tried) -> bool {
    best.trained.loss <= HOPELESS * full.trained.loss
}

/// Whether the curve of the best that was tried says that a part of the time will not do.
fn falls_short(found: &Found, part: f64) -> bool {
    let mut best: Vec<(f64, f64)> = Vec::new();
    for chunk in found.tried.chunk_by(|a, b| a.part.total_cmp(&b.part).is_eq()) {
        // The first of a part is its best.
        best.push((chunk[0].trained.seconds, chunk[0].trained.loss));
    }
    let curve = Curve::through(&best);
    curve.is_some_and(|curve| curve.at(part * found.full.trained.seconds) > HOPELESS * found.full.trained.loss)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A laboratory where the loss is a power law of the tokens seen, which some values change.
    struct Made {
        runs: usize,
        kwh_per_second: f64,
        /// How much longer a changed recipe takes than planned.
        late: f64,
    }

    impl Default for Made {
        fn default() -> Self {
            Self { runs: 0, kwh_per_second: 1e-3, late: 1.0 }
        }
    }

    impl Made {
        /// What the values do: seconds of a step, and how many examples' worth a step is.
        fn of(set: &[String]) -> (f64, f64) {
            let has = |key: &str| set.iter().any(|value| value.starts_with(key));
            let seconds = if has("share") { 0.4 } else { 1.0 };
            let worth = if has("better") { 2.0 } else { 1.0 } * if has("worse") { 0.5 } else { 1.0 };
            (seconds, worth)
        }
    }

    impl Lab for Made {
        fn planned(&mut self, set: &[String], _: u64) -> Result<Planned, TrainError> {
            let before = if set.iter().any(|value| value.starts_with("choose")) { 200.0 } else { 0.0 };
            Ok(Planned { before, of_step: Self::of(set).0 })
        }

        fn train(&mut self, set: &[String], steps: Option<u64>) -> Result<Trained, TrainError> {
            if set.iter().any(|value| value.starts_with("diverges")) {
                return Err(TrainError::Run("not finite".to_owned()));
            }
            self.runs += 1;
            let steps = steps.unwrap_or(1000);
            let (of_step, worth) = Self::of(set);
            let seconds = steps as f64 * of_step * if set.is_empty() { 1.0 } else { self.late };
            let loss = 0.2 + 3.0 * (steps as f64 * worth).powf(-0.5);
            Ok(Trained { folder: "run".into(), steps, seconds, kwh: seconds * self.kwh_per_second, loss })
        }

        fn exact_match(&mut self, trained: &Trained) -> Result<f64, TrainError> {
            Ok(1.0 - trained.loss)
        }

        fn tell(&mut self, _: &Tried) {}

        fn left_out(&mut self, arm: &Arm, error: &TrainError) {
            assert_eq!((arm.name.as_str(), error.to_string().as_str()), ("diverges", "not finite"));
        }
    }

    fn arms(names: &[&str]) -> Vec<Arm> {
        names.iter().map(|name| Arm { name: (*name).to_owned(), set: vec![format!("{name}=1")] }).collect()
    }

    fn goal(max_kwh: Option<f64>) -> Goal {
        Goal { tolerance: 0.01, parts: vec![0.0625, 0.125, 0.25, 0.5], max_kwh }
    }

    #[test]
    fn what_helps_is_combined_and_the_cheapest_that_is_good_enough_is_recommended() {
        let mut lab = Made::default();
        let found = search(&mut lab, &Arm::plain(), &arms(&["share", "better", "worse"]), &goal(None)).unwrap();
        let best = &found.tried[found.recommended.unwrap()];
        // Two and a half times the steps, each worth two: a fifth of the time would do, so a quarter is the first that does.
        assert_eq!((best.part, best.arm.set.len()), (0.25, 2), "{best:?}");
        assert!(best.trained.seconds < 0.26 * found.full.trained.seconds);
        assert!(best.exact_match.unwrap() >= found.full.exact_match.unwrap() - 0.01);
        assert!(found.tried.iter().filter(|tried| tried.part > 0.07).all(|tried| !tried.arm.name.contains("worse")));
        assert!(
            (found.kwh
                - 1e-3 * (found.full.trained.seconds + found.tried.iter().map(|t| t.trained.seconds).sum::<f64>()))
            .abs()
                < 1e-9
        );
    }

    #[test]
    fn what_is_always_set_is_in_all_that_is_tried_and_once() {
        let mut lab = Made::default();
        let always = arms(&["share"]).remove(0);
        let found =
            search(&mut lab, &always, &arms(&["better", "diverges", "better too", "worse"]), &goal(None)).unwrap();
        assert_eq!(found.full.arm, Arm::plain());
        assert!(found.tried.iter().all(|tried| tried.arm.set.iter().filter(|value| *value == "share=1").count() == 1));
        let best = &found.tried[found.recommended.unwrap()];
        assert_eq!(best.arm.set, ["share=1", "better=1", "better too=1"]);
        assert!(best.part < 0.5, "{best:?}");
    }

    #[test]
    fn what_takes_longer_than_planned_makes_fewer_steps_in_the_next_part() {
        let mut lab = Made { late: 1.25, ..Made::default() };
        let found = search(&mut lab, &arms(&["share"]).remove(0), &arms(&["better"]), &goal(None)).unwrap();
        let parts = |of: &Tried| of.trained.seconds / found.full.trained.seconds / of.part;
        let (first, later): (Vec<&Tried>, Vec<&Tried>) = found.tried.iter().partition(|tried| tried.part < 0.07);
        assert!(first.iter().all(|tried| (parts(tried) - 1.25).abs() < 0.02), "{first:?}");
        assert!(!later.is_empty() && later.iter().all(|tried| (parts(tried) - 1.0).abs() < 0.02), "{later:?}");
    }

    #[test]
    fn what_takes_long_before_its_first_step_waits_until_there_is_time_for_it() {
        let mut lab = Made::default();
        let found = search(&mut lab, &Arm::plain(), &arms(&["choose"]), &goal(None)).unwrap();
        let choosing: Vec<&Tried> = found.tried.iter().filter(|tried| tried.arm.name == "choose").collect();
        // 200 s are more than half of a quarter of the full recipe's 1000.
        assert_eq!(choosing.iter().map(|tried| (tried.part, tried.trained.steps)).collect::<Vec<_>>(), [(0.5, 300)]);
    }

    #[test]
    fn a_budget_ends_the_search_with_what_is_there() {
        let mut lab = Made::default();
        let found = search(&mut lab, &Arm::plain(), &arms(&["share", "better"]), &goal(Some(1.15))).unwrap();
        assert!(found.is_out_of_budget && found.kwh <= 1.15 && found.recommended.is_none(), "{found:?}");
        assert_eq!(lab.runs, 1 + found.tried.len());
    }

    #[test]
    fn where_nothing_helps_enough_nothing_is_recommended() {
        let mut lab = Made::default();
        let found = search(&mut lab, &Arm::plain(), &arms(&["worse"]), &goal(None)).unwrap();
        assert_eq!(found.recommended, None);
        assert_eq!(found.tried.last().map(|tried| tried.part), Some(0.5));
    }
}
