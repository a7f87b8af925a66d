//! Seeded event generators: the same seed and start give the same bytes.

use std::time::{Duration, Instant};

pub mod file;
pub mod kafka;
pub mod music;
pub mod places;
pub mod server_status;

/// An event as it is produced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Events with one key go to one partition, in order.
    pub key: Option<String>,
    /// The record's value.
    pub value: Vec<u8>,
}

/// Waits until event number `produced` is due at `rate` events a second; 0 = at once.
#[expect(clippy::cast_precision_loss, reason = "a clock is not that exact")]
fn pace(began: Instant, produced: u64, rate: f64, stop: &dyn Fn() -> bool) {
    if rate <= 0.0 {
        return;
    }
    let due = Duration::from_secs_f64(produced as f64 / rate);
    while let Some(wait) = due.checked_sub(began.elapsed()).filter(|wait| *wait > Duration::from_millis(1)) {
        if stop() {
            return;
        }
        std::thread::sleep(wait.min(Duration::from_millis(50)));
    }
}
