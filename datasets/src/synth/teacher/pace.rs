//! How fast a teacher may be asked, and how long to wait before it is asked again.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The longest wait before another attempt.
const LONGEST: Duration = Duration::from_mins(1);

/// Lets requests go at even distances.
#[derive(Debug)]
pub(super) struct Pace {
    distance: Duration,
    next: Mutex<Instant>,
}

impl Pace {
    /// So many requests a minute; none for as many as there are.
    pub(super) fn new(requests_per_minute: Option<f64>) -> Self {
        let distance = requests_per_minute.map_or(Duration::ZERO, |count| Duration::from_secs_f64(60.0 / count));
        Self { distance, next: Mutex::new(Instant::now()) }
    }

    /// Waits for this request's turn.
    pub(super) fn wait(&self) {
        if self.distance.is_zero() {
            return;
        }
        let turn = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let turn = (*next).max(Instant::now());
            *next = turn + self.distance;
            turn
        };
        sleep(turn.saturating_duration_since(Instant::now()));
    }
}

/// The wait before an attempt, counted from 1: what the server asks for, else twice as long each time. `shift`, from 0 to
/// 1, spreads out those who wait at the same time.
pub(super) fn pause(base: Duration, attempt: u32, asked: Option<Duration>, shift: f64) -> Duration {
    let doubled = base.saturating_mul(2_u32.saturating_pow(attempt.saturating_sub(1)));
    asked.unwrap_or_else(|| doubled.mul_f64(0.5 + shift)).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_a_minute_and_a_server_may_ask_for_its_own() {
        let second = Duration::from_secs(1);
        assert_eq!(pause(second, 1, None, 0.5), second);
        assert_eq!(pause(second, 4, None, 0.5), 8 * second);
        assert_eq!(pause(second, 4, None, 0.0), 4 * second);
        assert_eq!(pause(second, 40, None, 1.0), LONGEST);
        assert_eq!(pause(second, 1, Some(7 * second), 0.1), 7 * second);
        assert_eq!(pause(second, 1, Some(3600 * second), 0.1), LONGEST);
    }

    #[test]
    fn requests_go_at_even_distances() {
        let pace = Pace::new(Some(6000.0));
        let started = Instant::now();
        (0..4).for_each(|_| pace.wait());
        assert!(started.elapsed() >= Duration::from_millis(30));
    }
}
