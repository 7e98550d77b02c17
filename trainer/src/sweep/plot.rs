//! The losses of a sweep over the values of each key, as SVG.

use plotters::prelude::*;

use super::Tried;
use super::space::Axis;
use crate::error::TrainError;

/// Pixels of a key's panel.
const PANEL: (u32, u32) = (460, 320);
const BEST: RGBColor = RGBColor(0, 114, 178);
const OTHER: RGBColor = RGBColor(153, 153, 153);

/// Draws one panel for each key: the lowest validation loss of every trial over its value. The first of `ranked` stands
/// out. `None` where no trial has a loss.
///
/// # Errors
/// [`TrainError::Run`] when the drawing fails.
pub fn svg(axes: &[Axis], ranked: &[Tried]) -> Result<Option<String>, TrainError> {
    let losses: Vec<(&Tried, f64)> = ranked.iter().filter_map(|tried| Some((tried, tried.best?.0))).collect();
    let all = || losses.iter().map(|(_, loss)| *loss);
    let (low, high) = (all().fold(f64::INFINITY, f64::min), all().fold(f64::NEG_INFINITY, f64::max));
    if losses.is_empty() || !(low.is_finite() && high.is_finite()) {
        return Ok(None);
    }
    let margin = ((high - low) * 0.08).max(1e-3);
    let mut text = String::new();
    let failed = |error: &dyn std::fmt::Display| TrainError::Run(format!("the plot cannot be drawn: {error}"));
    {
        let width = PANEL.0 * u32::try_from(axes.len()).unwrap_or(1);
        let root = SVGBackend::with_string(&mut text, (width, PANEL.1)).into_drawing_area();
        root.fill(&WHITE).map_err(|error| failed(&error))?;
        for ((index, axis), area) in axes.iter().enumerate().zip(root.split_evenly((1, axes.len()))) {
            let values = distinct(losses.iter().map(|(tried, _)| tried.trial.point[index].as_str()));
            let place = |value: &str| values.iter().position(|v| *v == value).unwrap_or(0) as f64;
            let mut chart = ChartBuilder::on(&area)
                .margin(12)
                .x_label_area_size(44)
                .y_label_area_size(58)
                .build_cartesian_2d(-0.5..values.len() as f64 - 0.5, low - margin..high + margin)
                .map_err(|error| failed(&error))?;
            chart
                .configure_mesh()
                .disable_x_mesh()
                .light_line_style(WHITE)
                .x_desc(axis.key.as_str())
                .y_desc(if index == 0 { "lowest validation loss" } else { "" })
                .x_labels(values.len().min(8))
                .x_label_formatter(&|x| label(&values, *x))
                .draw()
                .map_err(|error| failed(&error))?;
            let point = |(rank, (tried, loss)): (usize, &(&Tried, f64))| {
                let (color, size) = if rank == 0 { (BEST, 6) } else { (OTHER, 4) };
                Circle::new((place(&tried.trial.point[index]), *loss), size, color.filled())
            };
            // The best last, so that nothing lies on it.
            chart.draw_series(losses.iter().enumerate().rev().map(point)).map_err(|error| failed(&error))?;
        }
        root.present().map_err(|error| failed(&error))?;
    }
    Ok(Some(text))
}

/// The different values: numbers ascending, others as they come.
fn distinct<'a>(values: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut found: Vec<&str> = Vec::new();
    for value in values {
        if !found.contains(&value) {
            found.push(value);
        }
    }
    let numbers: Option<Vec<f64>> = found.iter().map(|value| value.parse().ok()).collect();
    if numbers.is_some() {
        found.sort_by(|a, b| a.parse::<f64>().unwrap_or(0.0).total_cmp(&b.parse().unwrap_or(0.0)));
    }
    found
}

/// The value at a place, where one is.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place among a few values")]
fn label(values: &[&str], x: f64) -> String {
    let near = (x - x.round()).abs() < 1e-6 && x >= 0.0;
    near.then(|| values.get(x.round() as usize).map(|value| (*value).to_owned())).flatten().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::Trial;

    #[test]
    fn every_trial_with_a_loss_is_a_point_in_each_panel() {
        let axes: Vec<Axis> = ["lora.rank=4,16,8", "train.schedule=cosine,linear"].map(|a| a.parse().unwrap()).into();
        let tried = |number: usize, rank: &str, schedule: &str, loss: Option<f64>| Tried {
            trial: Trial {
                number,
                point: vec![rank.to_owned(), schedule.to_owned()],
                max_steps: None,
                folder: "t".into(),
            },
            best: loss.map(|loss| (loss, 1)),
            tokens_per_second: None,
            within_limits: None,
            error: None,
        };
        let ranked =
            [tried(1, "16", "cosine", Some(1.0)), tried(2, "4", "linear", Some(1.2)), tried(3, "8", "linear", None)];
        let drawn = svg(&axes, &ranked).unwrap().unwrap();
        assert_eq!(drawn.matches("<circle").count(), 4);
        for text in ["lora.rank", "train.schedule", "cosine", "lowest validation loss"] {
            assert!(drawn.contains(text), "{text}");
        }
        assert_eq!(svg(&axes, &ranked[2..]).unwrap(), None);
        assert_eq!(distinct(["16", "4", "16", "8"].into_iter()), ["4", "8", "16"]);
    }
}
