//! A frame of the dashboard.

use std::time::Duration;

use indicatif::HumanDuration;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Style, Stylize as _};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Chart, Dataset, Gauge, GraphType, Paragraph, Sparkline};

use super::State;
use crate::plan;
use crate::report::smoothed;

/// Rows of the figures, their border included.
const FIGURES: u16 = 10;
/// Columns of the figures.
const WIDTH: u16 = 44;

/// Draws a run as it stands.
pub(in crate::commands) fn draw(frame: &mut Frame<'_>, state: &State) {
    let rows = [Constraint::Length(1), Constraint::Length(1), Constraint::Min(FIGURES + 3), Constraint::Length(6)];
    let [head, progress, middle, notes] = Layout::vertical(rows).areas(frame.area());
    let title = Line::from(vec![Span::from(state.title.clone()).bold(), "  ".into(), state.doing.clone().into()]);
    frame.render_widget(title, head);
    draw_progress(frame, progress, state);
    let [losses, side] = Layout::horizontal([Constraint::Min(30), Constraint::Length(WIDTH)]).areas(middle);
    draw_losses(frame, losses, state);
    let [figures, speed] = Layout::vertical([Constraint::Length(FIGURES), Constraint::Min(3)]).areas(side);
    frame.render_widget(Paragraph::new(lines(state)).block(Block::bordered().title("now")), figures);
    draw_speed(frame, speed, state);
    let shown = state.notes.len().saturating_sub(usize::from(notes.height.saturating_sub(2)));
    let text: Vec<Line<'_>> = state.notes.iter().skip(shown).map(|note| Line::from(note.as_str())).collect();
    let block = Block::bordered().title("notes; q or Ctrl-C stops with everything saved");
    frame.render_widget(Paragraph::new(text).block(block), notes);
}

fn draw_progress(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let (step, total) = state.progress();
    let left = state.seconds_left().map(|seconds| HumanDuration(Duration::from_secs_f64(seconds)));
    let left = left.map_or_else(String::new, |left| format!(", {left} left"));
    let label = total.map_or_else(|| format!("step {step}{left}"), |total| format!("step {step} of {total}{left}"));
    let share = total.filter(|total| *total > 0).map_or(0.0, |total| step as f64 / total as f64);
    frame.render_widget(Gauge::default().ratio(share.clamp(0.0, 1.0)).label(label).cyan(), area);
}

/// The losses over the steps: each step's as dots, their running mean, and the validations.
fn draw_losses(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let raw: Vec<(f64, f64)> = state.steps.iter().map(|step| (step.step as f64, step.loss)).collect();
    let validations: Vec<(f64, f64)> =
        state.validations.iter().map(|record| (record.step as f64, record.validation_loss)).collect();
    let mean = smoothed(&raw);
    let block = Block::bordered().title("loss, nats per supervised token");
    let all = || raw.iter().chain(&validations).map(|(_, loss)| *loss);
    let (low, high) = (all().fold(f64::INFINITY, f64::min), all().fold(f64::NEG_INFINITY, f64::max));
    if !(low.is_finite() && high.is_finite()) {
        frame.render_widget(block, area);
        return;
    }
    let margin = 0.05 * (high - low).max(1e-3);
    let (low, high) = ((low - margin).max(0.0), high + margin);
    let (first, last) = (raw.first().map_or(0.0, |step| step.0), raw.last().map_or(1.0, |step| step.0).max(1.0));
    let line = |name: &'static str, style: Style, data| {
        Dataset::default().name(name).marker(Marker::Braille).graph_type(GraphType::Line).style(style).data(data)
    };
    let dots = Dataset::default().marker(Marker::Dot).graph_type(GraphType::Scatter).style(Style::new().dark_gray());
    let sets = vec![
        dots.data(&raw),
        line("training", Style::new().cyan(), &mean),
        line("validation", Style::new().yellow(), &validations),
    ];
    let chart = Chart::new(sets)
        .block(block)
        .x_axis(
            Axis::default()
                .bounds([first, last.max(first + 1.0)])
                .labels([format!("{first:.0}"), format!("{last:.0}")]),
        )
        .y_axis(Axis::default().bounds([low, high]).labels([format!("{low:.3}"), format!("{high:.3}")]));
    frame.render_widget(chart, area);
}

fn draw_speed(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let width = usize::from(area.width.saturating_sub(2));
    let last = &state.steps[state.steps.len().saturating_sub(width)..];
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the cast saturates; rates are positive"
    )]
    let rates: Vec<u64> = last.iter().map(|step| (step.tokens as f64 / step.seconds.max(1e-9)) as u64).collect();
    frame.render_widget(
        Sparkline::default().data(rates).cyan().block(Block::bordered().title("tokens/s, by step")),
        area,
    );
}

/// The figures of the last step.
fn lines(state: &State) -> Vec<Line<'static>> {
    let mut rows: Vec<(&str, String)> = Vec::new();
    if let Some(step) = state.steps.last() {
        rows.push(("loss", format!("{:.4}", step.loss)));
        rows.push(("learning rate", format!("{:.3e}, gradient norm {:.3}", step.learning_rate, step.gradient_norm)));
        if let Some(rate) = state.tokens_per_second() {
            rows.push(("speed", format!("{rate:.0} tokens/s")));
        }
        let planned = state.plan.as_ref().map(|plan| plan.checkpointing.memory.total());
        let planned = planned.map_or_else(String::new, |bytes| format!(", planned at most {}", plan::bytes(bytes)));
        if let Some(memory) = step.memory {
            rows.push(("memory", format!("{}{planned}", plan::bytes(memory))));
        }
        rows.push(("energy", format!("{:.3} Wh", 1e3 * step.kwh)));
    }
    let lowest = state.validations.iter().min_by(|a, b| a.validation_loss.total_cmp(&b.validation_loss));
    if let Some(best) = lowest {
        rows.push(("validation", format!("{:.4} after step {}", best.validation_loss, best.step)));
    }
    if let Some(record) = &state.forgetting {
        let verdict = if record.passed { "within limits" } else { "beyond limits" };
        let mean = record.average_difference.map_or_else(String::new, |d| format!(", tasks {:+.1}", 100.0 * d));
        rows.push(("forgetting", format!("{verdict}{mean}")));
        let kl: Vec<String> = record.kl.iter().map(|(lang, kl)| format!("{lang} {kl:.3}")).collect();
        if !kl.is_empty() {
            rows.push(("divergence", kl.join(", ")));
        }
    }
    rows.into_iter().map(|(name, value)| Line::from(vec![format!("{name:<14}").bold(), value.into()])).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::track::{ForgettingRecord, Record, StepRecord, ValidationRecord};

    fn step(step: u64, loss: f64) -> Record {
        Record::Step(StepRecord {
            step,
            loss,
            replay_loss: None,
            kl: None,
            penalty: None,
            gradient_norm: 1.25,
            learning_rate: 2e-4,
            tokens: 900,
            supervised_tokens: 100,
            seconds: 2.0,
            kwh: 1.5e-3,
            memory: Some(640_000_000),
            cpu: 0.9,
            ranks: None,
        })
    }

    fn drawn(state: &State, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, state)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn a_frame_has_the_figures_of_the_last_step_and_all_that_was_found() {
        let mut state = State::new("claims".to_owned());
        (1..=40).for_each(|number| state.add(step(number, 4.0 / number as f64)));
        state.add(Record::Validation(ValidationRecord { step: 40, validation_loss: 0.5, best: true, seconds: 1.0 }));
        state.add(Record::Forgetting(ForgettingRecord {
            step: 40,
            passed: false,
            average_difference: Some(-0.021),
            kl: BTreeMap::from([("fr".to_owned(), 0.13)]),
            forgetting_seconds: 3.0,
        }));
        state.note("a warning".to_owned());
        let frame = drawn(&state, 110, 30);
        for text in [
            "claims  training",
            "0.1000",
            "450 tokens/s",
            "640 MB",
            "1.500 Wh",
            "0.5000 after step 40",
            "beyond limits, tasks -2.1",
            "fr 0.130",
            "a warning",
        ] {
            assert!(frame.contains(text), "{text:?} is missing in\n{frame}");
        }
    }

    #[test]
    fn nothing_yet_and_a_small_terminal_are_drawn_too() {
        let mut state = State::new("claims".to_owned());
        for (width, height) in [(110, 30), (20, 5), (1, 1)] {
            drawn(&state, width, height);
        }
        state.add(step(1, 2.0));
        for (width, height) in [(110, 30), (20, 5), (1, 1)] {
            drawn(&state, width, height);
        }
    }
}
