//! Plots as SVG whose colours are the page's: each ink is an attribute that the page's style gives another colour in the
//! dark.

use std::fmt::Write as _;

use plotters::prelude::*;
use serde::Serialize;

use super::series::{smoothed, thinned};
use super::words::Words;
use super::{RunReport, distinct_names};
use crate::error::TrainError;
use crate::language::Language;
use crate::track::StepRecord;

/// The size of a wide plot and of one of two in a row, in the units of its own; the page scales them by about a half.
const WIDE: (u32, u32) = (1480, 460);
const HALF: (u32, u32) = (740, 400);
/// Columns by which a curve is thinned: no more than a plot has pixels on most screens.
const COLUMNS: usize = 700;

/// Values from here on are not drawn.
const LARGEST: f64 = 1e300;

/// What lines and letters are drawn with: the colour in the light, which is also what the style knows it by, the colour
/// in the dark, and dashes.
struct Ink(RGBColor, &'static str, Option<&'static str>);

const GRID: Ink = Ink(RGBColor(0xe2, 0xe1, 0xdc), "#34332f", None);
const AXIS: Ink = Ink(RGBColor(0xb4, 0xb2, 0xa9), "#66645d", None);
const LETTERS: Ink = Ink(RGBColor(0x5f, 0x5e, 0x58), "#b9b7ae", None);
const LIMIT: Ink = Ink(RGBColor(0x72, 0x24, 0x3e), "#f0a3bb", Some("10 7"));
/// Behind its own smoothed curve.
const FAINT: Ink = Ink(RGBColor(0xb5, 0xd4, 0xf4), "#1f4a75", None);
/// Curves, in the order in which they are taken. Those after the first few are dashed too, so that paper tells them apart.
const CURVES: [Ink; 8] = [
    Ink(RGBColor(0x18, 0x5f, 0xa5), "#6fb1f0", None),
    Ink(RGBColor(0xb3, 0x5c, 0x00), "#f0a04b", None),
    Ink(RGBColor(0x0f, 0x6e, 0x56), "#4fc79f", None),
    Ink(RGBColor(0x8e, 0x3a, 0x9d), "#d593e2", None),
    Ink(RGBColor(0xa3, 0x2d, 0x2d), "#f08b8b", Some("14 6")),
    Ink(RGBColor(0x4a, 0x66, 0x10), "#a9cf5a", Some("14 6")),
    Ink(RGBColor(0x3c, 0x34, 0x89), "#a9a2f0", Some("4 5")),
    Ink(RGBColor(0x5a, 0x4a, 0x3a), "#cdb79f", Some("4 5")),
];

/// A plot in the page.
#[derive(Debug, Serialize)]
pub(super) struct Figure {
    title: String,
    unit: String,
    wide: bool,
    legend: Vec<Named>,
    svg: String,
}

/// A line of a legend.
#[derive(Debug, Serialize)]
struct Named {
    ink: String,
    name: String,
}

/// A curve.
struct Curve<'a> {
    name: String,
    ink: &'a Ink,
    points: Vec<(f64, f64)>,
    /// Its points are told apart.
    marked: bool,
}

/// What is drawn.
struct Plot<'a> {
    title: &'a str,
    unit: &'a str,
    curves: Vec<Curve<'a>>,
    /// A value that is not of the run, drawn across.
    limit: Option<(f64, &'a str)>,
    /// The value axis begins at 0.
    from_zero: bool,
    wide: bool,
}

impl Ink {
    fn name(&self) -> String {
        let RGBColor(red, green, blue) = self.0;
        format!("#{red:02X}{green:02X}{blue:02X}")
    }
}

/// The style that gives every ink its colour on the screen, by the light and in the dark.
pub(super) fn style() -> String {
    let inks = [&GRID, &AXIS, &LETTERS, &LIMIT, &FAINT].into_iter().chain(&CURVES);
    let (mut plain, mut dark) = (String::new(), String::new());
    for ink in inks {
        let Ink(_, in_the_dark, dashes) = ink;
        let name = ink.name();
        let _ = writeln!(dark, "  [stroke=\"{name}\"] {{ stroke: {in_the_dark}; }}");
        let _ = writeln!(dark, "  [fill=\"{name}\"] {{ fill: {in_the_dark}; }}");
        if let Some(dashes) = dashes {
            let _ = writeln!(plain, "[stroke=\"{name}\"] {{ stroke-dasharray: {dashes}; }}");
        }
    }
    format!("{plain}@media screen and (prefers-color-scheme: dark) {{\n{dark}}}\n")
}

/// The plots of one run that have something to show.
///
/// # Errors
/// [`TrainError::Run`] when one cannot be drawn.
pub(super) fn of_run(run: &RunReport, lang: Language) -> Result<Vec<Figure>, TrainError> {
    let words = lang.words();
    let plan = run.info.as_ref().and_then(|info| info.plan.as_ref());
    let predicted = plan.map(|plan| plan.checkpointing.memory.total() as f64 / 1e9);
    let [first, second, third, fourth, ..] = &CURVES;
    let curve = |name: &str, ink, points| Curve { name: name.to_owned(), ink, points, marked: false };
    // Each step, and through them the smoothed curve.
    let both = |name: (&str, &str), points: Vec<(f64, f64)>| {
        vec![curve(name.0, &FAINT, points.clone()), curve(name.1, first, smoothed(&points))]
    };
    let of = |value: &dyn Fn(&StepRecord) -> Option<f64>| -> Vec<(f64, f64)> {
        run.steps.iter().filter_map(|step| Some((step.step as f64, value(step)?))).collect()
    };
    let validation = run.validations.iter().map(|found| (found.step as f64, found.validation_loss)).collect();
    let mut losses = both((words.train_raw, words.train_smooth), of(&|step| Some(step.loss)));
    losses.push(Curve { marked: true, ..curve(words.validation, second, validation) });
    losses.push(curve(words.replay, third, smoothed(&of(&|step| step.replay_loss))));
    let speed = of(&|step| (step.seconds > 0.0).then(|| step.tokens as f64 / step.seconds));
    let divergence = of(&|step| step.kl);
    let plot = |title, unit, curves| Plot { title, unit, curves, limit: None, from_zero: true, wide: false };
    let plots = [
        Plot { from_zero: false, wide: true, ..plot(words.loss, words.loss_unit, losses) },
        plot(words.learning_rate, "", vec![curve(words.learning_rate, first, of(&|step| Some(step.learning_rate)))]),
        plot(words.tokens_per_second, "", both((words.each_step, words.smoothed), speed)),
        plot(words.gradient_norm, "", both((words.each_step, words.smoothed), of(&|step| Some(step.gradient_norm)))),
        Plot {
            limit: predicted.map(|bytes| (bytes, words.predicted_peak)),
            ..plot(
                words.memory,
                words.memory_unit,
                vec![curve(words.memory, first, of(&|step| step.memory.map(|bytes| bytes as f64 / 1e9)))],
            )
        },
        plot(words.energy, words.energy_unit, vec![curve(words.energy, first, of(&|step| Some(1e3 * step.kwh)))]),
        plot(words.kl, words.kl_unit, vec![curve(words.kl, fourth, smoothed(&divergence))]),
    ];
    plots.into_iter().filter_map(|plot| drawn(plot, lang, words).transpose()).collect()
}

/// The losses of several runs, each in one plot.
///
/// # Errors
/// As [`of_run`].
pub(super) fn of_runs(runs: &[RunReport], lang: Language) -> Result<Vec<Figure>, TrainError> {
    let words = lang.words();
    let names = distinct_names(runs);
    let plot = |title, marked: bool, of: &dyn Fn(&RunReport) -> Vec<(f64, f64)>| {
        let curve = |((run, name), ink)| Curve { name: String::clone(name), ink, points: of(run), marked };
        let curves = runs.iter().zip(&names).zip(CURVES.iter().cycle()).map(curve).collect();
        drawn(Plot { title, unit: words.loss_unit, curves, limit: None, from_zero: false, wide: true }, lang, words)
    };
    let validation = |run: &RunReport| run.validations.iter().map(|v| (v.step as f64, v.validation_loss)).collect();
    let training =
        |run: &RunReport| smoothed(&run.steps.iter().map(|step| (step.step as f64, step.loss)).collect::<Vec<_>>());
    let plots = [plot(words.validation_losses, true, &validation), plot(words.training_losses, false, &training)];
    plots.into_iter().filter_map(Result::transpose).collect()
}

/// Draws a plot; `None` where there is nothing to draw.
fn drawn(mut plot: Plot<'_>, lang: Language, words: &Words) -> Result<Option<Figure>, TrainError> {
    for curve in &mut plot.curves {
        // Beyond the largest, a span of two would be infinite.
        curve.points.retain(|(x, y)| x.is_finite() && y.abs() < LARGEST);
        curve.points = thinned(&curve.points, COLUMNS);
    }
    plot.curves.retain(|curve| !curve.points.is_empty());
    if plot.curves.is_empty() {
        return Ok(None);
    }
    let mut svg = String::new();
    let size = if plot.wide { WIDE } else { HALF };
    draw(&plot, SVGBackend::with_string(&mut svg, size), lang, words)
        .map_err(|error| TrainError::Run(format!("the plot of {} cannot be drawn: {error}", plot.title)))?;
    let mut legend: Vec<Named> =
        plot.curves.iter().map(|curve| Named { ink: curve.ink.name(), name: curve.name.clone() }).collect();
    legend.extend(plot.limit.map(|(_, name)| Named { ink: LIMIT.name(), name: name.to_owned() }));
    if legend.len() == 1 && plot.limit.is_none() && plot.curves[0].name == plot.title {
        legend.clear();
    }
    // The page sizes it, and tells its name to those who do not see it.
    let (width, height) = size;
    let opened = format!("<svg width=\"{width}\" height=\"{height}\" ");
    let svg = svg.replacen(&opened, "<svg role=\"img\" ", 1);
    let (title, unit) = (plot.title.to_owned(), plot.unit.to_owned());
    Ok(Some(Figure { title, unit, wide: plot.wide, legend, svg }))
}

fn draw(
    plot: &Plot<'_>,
    backend: SVGBackend<'_>,
    lang: Language,
    words: &Words,
) -> Result<(), Box<dyn std::error::Error>> {
    let points = || plot.curves.iter().flat_map(|curve| curve.points.iter().copied());
    let ends = |values: &mut dyn Iterator<Item = f64>| {
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
    };
    let (left, right) = ends(&mut points().map(|(x, _)| x));
    let beside = if right > left { 0.0 } else { (1e-6 * right.abs()).max(1.0) };
    let (left, right) = (left - beside, right + beside);
    let (low, high) = ends(&mut points().map(|(_, y)| y).chain(plot.limit.map(|(value, _)| value)));
    let low = if plot.from_zero { low.min(0.0) } else { low };
    let margin = if high > low { 0.06 * (high - low) } else { 0.1 * high.abs().max(1e-6) };
    let low = if plot.from_zero && low >= 0.0 { 0.0 } else { low - margin };
    let high = high + margin;

    let letters = ("sans-serif", 24).into_font().color(&LETTERS.0);
    let root = backend.into_drawing_area();
    let mut chart = ChartBuilder::on(&root)
        .margin_top(14)
        .margin_right(64)
        .x_label_area_size(62)
        .y_label_area_size(104)
        .build_cartesian_2d(left..right, low..high)?;
    let span = high - low;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .bold_line_style(ShapeStyle::from(&GRID.0).stroke_width(2))
        .light_line_style(TRANSPARENT)
        .y_max_light_lines(1)
        .axis_style(ShapeStyle::from(&AXIS.0).stroke_width(2))
        .label_style(letters.clone())
        .axis_desc_style(letters)
        .x_desc(words.step_axis)
        .x_labels(if plot.wide { 10 } else { 6 })
        .y_labels(6)
        .x_label_formatter(&|x| if (x - x.round()).abs() < 1e-6 { lang.number(*x, 0) } else { String::new() })
        .y_label_formatter(&|y| tick(*y, span, lang))
        .draw()?;
    if let Some((value, _)) = plot.limit {
        let style = ShapeStyle::from(&LIMIT.0).stroke_width(3);
        chart.draw_series([PathElement::new(vec![(left, value), (right, value)], style)])?;
    }
    for curve in &plot.curves {
        let width = if curve.ink.name() == FAINT.name() { 2 } else { 4 };
        let style = ShapeStyle::from(&curve.ink.0).stroke_width(width);
        chart.draw_series([PathElement::new(curve.points.clone(), style)])?;
        let few = curve.points.len() <= 60;
        if curve.marked && few || curve.points.len() == 1 {
            let mark = |point: &(f64, f64)| Circle::new(*point, 7, ShapeStyle::from(&curve.ink.0).filled());
            chart.draw_series(curve.points.iter().map(mark))?;
        }
    }
    root.present()?;
    Ok(())
}

/// The text at a mark of the value axis.
fn tick(value: f64, span: f64, lang: Language) -> String {
    if value.abs() < 1e-9 * span {
        return "0".to_owned();
    }
    if span < 5e-3 || value.abs() >= 1e6 {
        let text = format!("{value:.1e}").replace(".0e", "e").replace('-', "−");
        return if lang == Language::Fr { text.replace('.', ",") } else { text };
    }
    let decimals = [20.0, 2.0, 0.2, 0.02].into_iter().take_while(|from| span < *from).count();
    lang.number(value, decimals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_have_as_many_decimals_as_their_span_needs() {
        for (value, span, text) in [
            (2000.0, 3000.0, "2,000"),
            (2.0, 10.0, "2.0"),
            (0.25, 1.0, "0.25"),
            (0.0005, 0.001, "5e−4"),
            (0.0, 0.001, "0"),
            (2.5e7, 3e7, "2.5e7"),
        ] {
            assert_eq!(tick(value, span, Language::En), text);
        }
    }

    #[test]
    fn no_numbers_are_too_strange_to_be_drawn() {
        let strange = [1e308, -1e299, 1e299, 3e38, 1e-300, 5e-324, 0.0, -0.0, 1e17, 1e17 + 16.0];
        let steps = [1.0, 2.0, 1e9, u64::MAX as f64];
        for (step, other) in steps.iter().flat_map(|step| steps.map(|other| (*step, other))) {
            for (value, next) in strange.iter().flat_map(|value| strange.map(|next| (*value, next))) {
                for from_zero in [false, true] {
                    let points = vec![(step, value), (other, next)];
                    let curve = Curve { name: String::new(), ink: &CURVES[0], points, marked: true };
                    let limit = Some((1.0, ""));
                    let plot = Plot { title: "", unit: "", curves: vec![curve], limit, from_zero, wide: false };
                    drawn(plot, Language::Fr, Language::Fr.words()).unwrap();
                }
            }
        }
    }

    #[test]
    fn every_ink_has_a_colour_of_its_own_by_which_the_style_knows_it() {
        let mut names: Vec<String> =
            [&GRID, &AXIS, &LETTERS, &LIMIT, &FAINT].into_iter().chain(&CURVES).map(Ink::name).collect();
        let style = style();
        assert!(names.iter().all(|name| style.contains(&format!("[stroke=\"{name}\"]"))));
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 5 + CURVES.len());
    }

    #[test]
    fn a_plot_of_nothing_is_none_and_one_point_is_a_mark() {
        let plot = |points: Vec<(f64, f64)>| Plot {
            title: "loss",
            unit: "nats",
            curves: vec![Curve { name: "<loss>".to_owned(), ink: &CURVES[0], points, marked: false }],
            limit: None,
            from_zero: false,
            wide: false,
        };
        let words = Language::En.words();
        assert!(drawn(plot(vec![]), Language::En, words).unwrap().is_none());
        assert!(drawn(plot(vec![(1.0, f64::NAN)]), Language::En, words).unwrap().is_none());
        let one = drawn(plot(vec![(1.0, 2.0)]), Language::En, words).unwrap().unwrap();
        assert!(one.svg.starts_with("<svg role=\"img\" viewBox") && one.svg.contains("<circle"), "{}", one.svg);
        assert!(!one.svg.contains("<loss>"));
    }
}
