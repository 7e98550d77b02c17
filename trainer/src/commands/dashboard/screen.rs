//! The terminal while the dashboard has it.

use std::io::{self, Stderr, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use ratatui::crossterm::{cursor, execute};

use super::{State, draw};

/// How often it is drawn.
const EVERY: Duration = Duration::from_millis(250);

/// What was told while a dashboard has the terminal; `None` while none has it.
static TOLD: Mutex<Option<Vec<String>>> = Mutex::new(None);

/// The terminal, drawn on by a thread of its own until it is dropped; then it is as it was.
pub(in crate::commands) struct Screen {
    shared: Arc<Mutex<Shared>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    state: State,
    /// How many of the lines that were told are among its notes.
    told: usize,
    over: bool,
}

impl Screen {
    /// Takes the terminal. `asked` is called when the user presses q or Ctrl-C.
    pub(in crate::commands) fn open(state: State, asked: impl Fn() + Send + 'static) -> io::Result<Self> {
        enable_raw_mode()?;
        // A panic would else leave the terminal as nobody can use it.
        let told = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            give_back();
            told(panic);
        }));
        execute!(io::stderr(), EnterAlternateScreen, cursor::Hide)?;
        *lock(&TOLD) = Some(Vec::new());
        let mut terminal = Terminal::new(CrosstermBackend::new(io::stderr()))?;
        let shared = Arc::new(Mutex::new(Shared { state, told: 0, over: false }));
        let drawn = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            while !lock(&drawn).over {
                if is_pressed_to_stop() {
                    asked();
                }
                show(&mut terminal, &drawn);
            }
        });
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Changes what is shown.
    pub(in crate::commands) fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut lock(&self.shared).state);
    }
}

fn show(terminal: &mut Terminal<CrosstermBackend<Stderr>>, shared: &Mutex<Shared>) {
    let mut shared = lock(shared);
    let told: Vec<String> = lock(&TOLD).iter().flatten().skip(shared.told).cloned().collect();
    shared.told += told.len();
    for line in told {
        shared.state.note(line);
    }
    // A frame that could not be drawn is made up for by the next.
    let _ = terminal.draw(|frame| draw(frame, &shared.state));
}

/// Waits for a key until the next frame is due.
fn is_pressed_to_stop() -> bool {
    if !event::poll(EVERY).unwrap_or(false) {
        return false;
    }
    match event::read() {
        Ok(Event::Key(key)) => {
            key.code == KeyCode::Char('q')
                || key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL)
        }
        _ => false,
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        lock(&self.shared).over = true;
        if let Some(thread) = self.thread.take() {
            // It ends with the frame under way; what it could say has been shown.
            let _ = thread.join();
        }
        give_back();
        for line in lock(&TOLD).take().unwrap_or_default() {
            let _ = writeln!(io::stderr(), "{line}");
        }
    }
}

fn give_back() {
    // There is nobody left to tell.
    let _ = execute!(io::stderr(), LeaveAlternateScreen, cursor::Show);
    let _ = disable_raw_mode();
}

/// Tells the user a line: in the dashboard, and again when it is gone; on standard error where there is none.
pub(in crate::commands) fn tell(line: &str) {
    match &mut *lock(&TOLD) {
        Some(told) => told.push(line.to_owned()),
        None => anstream::eprintln!("{line}"),
    }
}

/// Where the warnings of the libraries are written: a line is told when it is whole.
#[derive(Default)]
pub(in crate::commands) struct Warnings(Vec<u8>);

impl Write for Warnings {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Warnings {
    fn drop(&mut self) {
        String::from_utf8_lossy(&self.0).lines().for_each(tell);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
