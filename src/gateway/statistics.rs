//! Counts of the requests sent, for the progress display and the summary.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Counts of the requests sent.
#[derive(Debug)]
pub(crate) struct RequestStats {
    requests: AtomicU64,
    retries: AtomicU64,
    by_status: Box<[AtomicU64]>,
    /// How long answers took since this was taken last, in milliseconds.
    latencies: Mutex<Vec<f32>>,
}

/// The number of answers of which the time is kept, between two times that it is taken.
const MOST_LATENCIES: usize = 10_000;

impl Default for RequestStats {
    fn default() -> Self {
        Self {
            requests: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            by_status: (0..1000).map(|_| AtomicU64::new(0)).collect(),
            latencies: Mutex::default(),
        }
    }
}

impl RequestStats {
    /// Returns the number of all requests, including those that were never answered.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Returns how many of them were retries.
    pub(crate) fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    /// Returns how often each status was answered.
    pub(crate) fn by_status(&self) -> Vec<(u16, u64)> {
        (0_u16..)
            .zip(&self.by_status)
            .map(|(status, count)| (status, count.load(Ordering::Relaxed)))
            .filter(|(_, count)| *count > 0)
            .collect()
    }

    /// Returns how long answers took since this was called last, in milliseconds, in no particular order.
    pub(crate) fn take_latencies(&self) -> Vec<f32> {
        std::mem::take(
            &mut *self
                .latencies
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// Adds how long an answer took.
    pub(super) fn answered_after(&self, latency: Duration) {
        let mut latencies = self
            .latencies
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if latencies.len() < MOST_LATENCIES {
            latencies.push(latency.as_secs_f32() * 1000.0);
        }
    }

    pub(super) fn count(&self, status: Option<u16>, again: bool) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if again {
            self.retries.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(count) = status.and_then(|status| self.by_status.get(usize::from(status))) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}
