//! Quality against cost: what nothing else beats in both, and its plot.

use plotters::prelude::*;

use super::Tried;
use super::search::Found;
use crate::error::TrainError;

/// Pixels of a panel.
const PANEL: (u32, u32) = (520, 360);
const FULL: RGBColor = RGBColor(213, 94, 0);
const BEST: RGBColor = RGBColor(0, 114, 178);
const OTHER: RGBColor = RGBColor(153, 153, 153);

/// Those of `(cost, loss)` that no other is at most as costly and better, the cheapest first.
pub fn frontier(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut sorted = points.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let mut kept: Vec<(f64, f64)> = Vec::new();
    for point in sorted {
        if kept.last().is_none_or(|last| point.1 < last.1) {
            kept.push(point);
        }
    }
    kept
}

/// Draws the validation loss of all that was tried over its seconds and over its energy, with the frontier, the full recipe
/// and the recommended one.
///
/// # Errors
/// [`TrainError::Run`] when the drawing fails.
pub fn svg(found: &Found) -> Result<String, TrainError> {
    let failed = |error: &dyn std::fmt::Display| TrainError::Run(format!("the plot cannot be drawn: {error}"));
    let all: Vec<&Tried> = found.tried.iter().chain([&found.full]).collect();
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, (2 * PANEL.0, PANEL.1)).into_drawing_area();
        root.fill(&WHITE).map_err(|error| failed(&error))?;
        let seconds: fn(&Tried) -> f64 = |tried| tried.trained.seconds;
        let energy: fn(&Tried) -> f64 = |tried| 1e3 * tried.trained.kwh;
        for (area, (what, cost)) in root.split_evenly((1, 2)).iter().zip([("seconds", seconds), ("Wh", energy)]) {
            let points: Vec<(f64, f64)> = all.iter().map(|tried| (cost(tried), tried.trained.loss)).collect();
            let bounds = |of: fn(&(f64, f64)) -> f64| {
                let values = points.iter().map(of);
                let (low, high) = values.fold((f64::INFINITY, 0.0_f64), |(low, high), v| (low.min(v), high.max(v)));
                (low / 1.15, high * 1.15)
            };
            let ((left, right), (low, high)) = (bounds(|point| point.0), bounds(|point| point.1));
            let mut chart = ChartBuilder::on(area)
                .margin(14)
                .x_label_area_size(44)
                .y_label_area_size(58)
                .build_cartesian_2d((left..right).log_scale(), (low..high).log_scale())
                .map_err(|error| failed(&error))?;
            chart
                .configure_mesh()
                .light_line_style(WHITE)
                .x_desc(what)
                .y_desc("lowest validation loss")
                .draw()
                .map_err(|error| failed(&error))?;
            let line = PathElement::new(frontier(&points), BEST.stroke_width(2));
            chart.draw_series([line]).map_err(|error| failed(&error))?;
            let point = |tried: &&Tried| {
                let is_recommended =
                    found.recommended.is_some_and(|place| std::ptr::eq(*tried, &raw const found.tried[place]));
                let (color, size) = match (is_recommended, tried.part >= 1.0) {
                    (true, _) => (BEST, 7),
                    (_, true) => (FULL, 7),
                    _ => (OTHER, 4),
                };
                Circle::new((cost(tried), tried.trained.loss), size, color.filled())
            };
            chart.draw_series(all.iter().map(point)).map_err(|error| failed(&error))?;
        }
        root.present().map_err(|error| failed(&error))?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frontier_is_what_nothing_beats() {
        let points = [(3.0, 0.5), (1.0, 1.0), (2.0, 1.1), (4.0, 0.5), (1.0, 0.9)];
        assert_eq!(frontier(&points), [(1.0, 0.9), (3.0, 0.5)]);
        assert_eq!(frontier(&[]), []);
    }
}
